//! Profile files: the OCI form, and Docker's, which adds `archMap`, single names and conditional rules.

use husk_node::KernelVersion;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompBuilder, LinuxSeccompFilterFlag,
    LinuxSyscall, LinuxSyscallBuilder,
};
use serde::Deserialize;

use super::Context;
use crate::{Error, Result};

/// A profile file. Unknown fields (comments, for example) are ignored, as every runtime does.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    default_action: LinuxSeccompAction,
    default_errno_ret: Option<u32>,
    architectures: Option<Vec<Arch>>,
    arch_map: Option<Vec<ArchMap>>,
    flags: Option<Vec<LinuxSeccompFilterFlag>>,
    listener_path: Option<String>,
    syscalls: Option<Vec<Rule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: Arch,
    #[serde(default)]
    sub_architectures: Option<Vec<Arch>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    name: Option<String>,
    names: Option<Vec<String>>,
    action: LinuxSeccompAction,
    errno_ret: Option<u32>,
    args: Option<Vec<LinuxSeccompArg>>,
    includes: Option<Condition>,
    excludes: Option<Condition>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// Reads a localhost profile and resolves its conditional parts for `context`.
///
/// # Errors
/// [`Error::Json`] when it has neither form, [`Error::Invalid`] when it says two contradicting things, and
/// [`Error::Unsupported`] for a listener.
pub fn parse(json: &[u8], context: &Context) -> Result<LinuxSeccomp> {
    let file: File = serde_json::from_slice(json).map_err(Error::Json)?;
    if file.listener_path.is_some_and(|path| !path.is_empty()) {
        return Err(Error::Unsupported("listenerPath (a seccomp listener)"));
    }
    let mut syscalls = Vec::new();
    for rule in file.syscalls.unwrap_or_default() {
        let applies = rule.includes.as_ref().map_or(Ok(true), |includes| includes.all(context))?
            && !rule.excludes.as_ref().map_or(Ok(false), |excludes| excludes.any(context))?;
        let syscall = rule.into_oci()?;
        if applies {
            syscalls.push(syscall);
        }
    }
    let mut profile = LinuxSeccompBuilder::default().default_action(file.default_action).syscalls(syscalls);
    if let Some(errno) = file.default_errno_ret {
        profile = profile.default_errno_ret(errno);
    }
    if let Some(archs) = architectures(file.architectures, file.arch_map, context)? {
        profile = profile.architectures(archs);
    }
    if let Some(flags) = file.flags {
        profile = profile.flags(flags);
    }
    profile.build().map_err(|err| Error::Invalid(err.to_string()))
}

/// `archMap` names, for each native architecture, those that its kernel runs as well.
fn architectures(
    list: Option<Vec<Arch>>,
    map: Option<Vec<ArchMap>>,
    context: &Context,
) -> Result<Option<Vec<Arch>>> {
    let list = list.filter(|list| !list.is_empty());
    let Some(map) = map.filter(|map| !map.is_empty()) else {
        return Ok(list);
    };
    if list.is_some() {
        return Err(Error::Invalid("has both architectures and archMap".to_owned()));
    }
    let native = context.family.native();
    Ok(map.into_iter().find(|entry| context.family.resolve(entry.architecture) == Some(native)).map(
        |entry| {
            let mut archs = vec![entry.architecture];
            archs.extend(entry.sub_architectures.unwrap_or_default());
            archs
        },
    ))
}

impl Rule {
    fn into_oci(self) -> Result<LinuxSyscall> {
        let names = match (self.name, self.names.unwrap_or_default()) {
            (Some(name), names) if !name.is_empty() && names.is_empty() => vec![name],
            (Some(name), names) if !name.is_empty() => {
                return Err(Error::Invalid(format!("a rule has both name {name:?} and names {names:?}")));
            }
            (_, names) => names,
        };
        let mut syscall = LinuxSyscallBuilder::default().names(names).action(self.action);
        if let Some(errno) = self.errno_ret {
            syscall = syscall.errno_ret(errno);
        }
        if let Some(args) = self.args.filter(|args| !args.is_empty()) {
            syscall = syscall.args(args);
        }
        syscall.build().map_err(|err| Error::Invalid(err.to_string()))
    }
}

impl Condition {
    /// Whether everything it names is so.
    fn all(&self, context: &Context) -> Result<bool> {
        Ok(self.caps.iter().flatten().all(|capability| context.has(capability))
            && self.arches.as_deref().is_none_or(|arches| arches.is_empty() || is_named(arches, context))
            && self.kernel_is_enough(context)?.unwrap_or(true))
    }

    /// Whether anything it names is so.
    fn any(&self, context: &Context) -> Result<bool> {
        Ok(self.caps.iter().flatten().any(|capability| context.has(capability))
            || self.arches.as_deref().is_some_and(|arches| is_named(arches, context))
            || self.kernel_is_enough(context)?.unwrap_or(false))
    }

    fn kernel_is_enough(&self, context: &Context) -> Result<Option<bool>> {
        let Some(wanted) = self.min_kernel.as_deref().filter(|wanted| !wanted.is_empty()) else {
            return Ok(None);
        };
        let wanted = KernelVersion::parse(wanted)
            .ok_or_else(|| Error::Invalid(format!("minKernel {wanted:?} is not of the form 4.8")))?;
        Ok(Some(context.kernel >= wanted))
    }
}

fn is_named(arches: &[String], context: &Context) -> bool {
    arches.iter().any(|arch| arch == context.family.docker_name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Family;

    fn names(json: &str, capabilities: &[&str], release: &str) -> Vec<String> {
        let context = Context::of(Family::X86, capabilities, release);
        let profile = parse(json.as_bytes(), &context).unwrap();
        profile.syscalls().iter().flatten().flat_map(|rule| rule.names().clone()).collect()
    }

    const DOCKER: &str = r#"{
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
                    {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]}],
        "syscalls": [
            {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW", "args": null, "comment": "", "includes": {}, "excludes": {}},
            {"name": "ptrace", "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"], "arches": ["s390"]},
             "args": [{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]},
            {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "x32"]}},
            {"names": ["cacheflush"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm", "arm64"]}}
        ]}"#;

    #[test]
    fn conditional_rules_depend_on_capabilities_architecture_and_kernel() {
        assert_eq!(names(DOCKER, &["CHOWN"], "6.1.0-9"), ["read", "write", "ptrace", "clone", "arch_prctl"]);
        assert_eq!(names(DOCKER, &["CAP_SYS_ADMIN"], "4.7"), ["read", "write", "mount", "arch_prctl"]);
        assert_eq!(names(DOCKER, &["sys_admin"], "5.0")[2..4], ["ptrace", "mount"]);
    }

    #[test]
    fn the_architecture_map_gives_the_native_entry() {
        let context = Context::of(Family::Arm, [""; 0], "6.1");
        let profile = parse(DOCKER.as_bytes(), &context).unwrap();
        assert_eq!(profile.architectures().as_deref(), Some(&[Arch::ScmpArchAarch64, Arch::ScmpArchArm][..]));
        assert_eq!(profile.default_errno_ret(), Some(38));
    }

    #[test]
    fn a_contradicting_or_unsupported_file_is_refused() {
        let context = Context::of(Family::X86, [""; 0], "6.1");
        for bad in [
            "",
            "[]",
            r#"{"defaultAction":"SCMP_ACT_PERHAPS"}"#,
            r#"{"syscalls":[]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],
                "archMap":[{"architecture":"SCMP_ARCH_X86_64"}]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","names":["b"],"action":"SCMP_ACT_ERRNO"}]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["b"],"action":"SCMP_ACT_ERRNO",
                "includes":{"minKernel":"new"}}]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/run/agent.sock"}"#,
        ] {
            assert!(parse(bad.as_bytes(), &context).is_err(), "{bad}");
        }
    }
}
