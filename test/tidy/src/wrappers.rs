//! Libraries that only some crates may use: the others get what they do through these.
//!
//! The same as `wrappers` of cargo-deny, which `make deny` asks; here it costs nothing and runs with every change.

use crate::workspace::Package;

/// A library and the crates that may depend on it.
const WRAPPERS: [(&str, &[&str]); 7] = [
    // Raw system calls are at the kernel's edge.
    ("libc", &["husk-sys"]),
    ("landlock", &["husk-sys"]),
    // gRPC is at the doors, and in what speaks through them.
    ("tonic", &["husk-proto", "husk-telemetry", "husk-cri", "husk-operator", "huskd", "husk", "husk-e2e"]),
    ("reqwest", &["husk-images"]),
    ("redb", &["husk-images"]),
    ("rtnetlink", &["husk-network"]),
    ("zbus", &["husk-systemd"]),
];

/// Crates that may not know of a runtime for tasks: the monitor and all that it links, and what only computes.
const SYNCHRONOUS: [&str; 14] = [
    "husk-cdi",
    "husk-cgroup",
    "husk-config",
    "husk-life",
    "husk-model",
    "husk-pause",
    "husk-podmon",
    "husk-proto",
    "husk-runtime",
    "husk-seccomp",
    "husk-spec",
    "husk-stats",
    "husk-sys",
    "husk-test-support",
];

/// Dependencies on a wrapped library from elsewhere. Those of tests alone do not count.
pub fn bypassed(packages: &[Package]) -> Vec<String> {
    let mut offenders = Vec::new();
    for Package { name, dependencies, .. } in packages {
        for (library, homes) in WRAPPERS {
            if dependencies.iter().any(|dependency| dependency == library) && !homes.contains(&name.as_str())
            {
                offenders.push(format!("{name} depends on {library}, which is for {}", homes.join(", ")));
            }
        }
        if SYNCHRONOUS.contains(&name.as_str()) && dependencies.iter().any(|dependency| dependency == "tokio")
        {
            offenders.push(format!("{name} depends on tokio and is to stay synchronous"));
        }
    }
    offenders
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bypassed_by(name: &str, library: &str) -> Vec<String> {
        let package =
            Package { name: name.to_owned(), dependencies: vec![library.to_owned()], ..Package::default() };
        bypassed(&[package])
    }

    #[test]
    fn a_wrapped_library_is_used_by_its_wrapper_only() {
        assert!(bypassed_by("husk-sys", "libc").is_empty());
        assert_eq!(bypassed_by("husk-pods", "libc"), ["husk-pods depends on libc, which is for husk-sys"]);
    }

    #[test]
    fn what_only_computes_knows_no_tasks() {
        assert!(bypassed_by("husk-pods", "tokio").is_empty());
        assert_eq!(
            bypassed_by("husk-spec", "tokio"),
            ["husk-spec depends on tokio and is to stay synchronous"]
        );
    }
}
