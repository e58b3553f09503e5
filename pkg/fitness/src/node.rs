//! The rest of the node: programs, LSM, clock, limits, swap, other runtimes.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        net::UnixStream,
    },
    path::Path,
};

use husk_config::Config;
use husk_lsm::{AppArmor, Availability, selinux::SeLinux};
use rustix::process::{Resource, getrlimit};

use crate::{Check, words::read};

/// Seconds of 2025-01-01: certificates of today are not valid before.
const SANE: i64 = 1_735_689_600;
/// A descriptor or three for a pod and for a client.
const OPEN_FILES: u64 = 65_536;
/// What a node with 110 pods uses now and then.
const PIDS: u64 = 32_768;

pub(crate) fn checks(config: &Config) -> Vec<Check> {
    vec![programs(config), socket(config), lsm(), clock(), open_files(), pids(), swap(), runtimes(config)]
}

fn programs(config: &Config) -> Check {
    let broken = |path: &Path| match fs::metadata(path) {
        Ok(found) if found.is_file() && found.permissions().mode() & 0o111 != 0 => None,
        Ok(_) => Some(format!("{} is not executable", path.display())),
        Err(error) => Some(format!("{}: {error}", path.display())),
    };
    let broken: Vec<String> =
        [&config.runtime.podmon, &config.runtime.pause].into_iter().filter_map(|path| broken(path)).collect();
    match broken.is_empty() {
        true => Check::ok("programs", "husk-podmon and husk-pause are there"),
        false => Check::missing(
            "programs",
            broken.join("; "),
            "huskd does not start",
            "install husk as a whole, or set runtime.podmon and runtime.pause",
        ),
    }
}

fn socket(config: &Config) -> Check {
    let address = config.address.display();
    match UnixStream::connect(&config.address) {
        Ok(_) => Check::ok("socket", format!("somebody serves at {address} already: huskd, most likely")),
        Err(_) => Check::ok("socket", format!("{address} is free")),
    }
}

fn lsm() -> Check {
    let (apparmor, selinux) = (AppArmor::default().availability(), SeLinux::default().state());
    let found = format!("AppArmor {}, SELinux {}", apparmor.as_str(), selinux.as_str());
    match apparmor {
        Availability::NoParser => Check::warning(
            "LSM",
            found,
            "containers without a profile of their own run unconfined",
            "install the package apparmor, which has apparmor_parser",
        ),
        Availability::Absent | Availability::Enabled => Check::ok("LSM", found),
    }
}

fn clock() -> Check {
    let now = husk_node::now() / 1_000_000_000;
    if now < SANE {
        return Check::warning(
            "clock",
            format!("{now} seconds after 1970: it is not set"),
            "certificates of registries are not valid yet, so pulls fail, and times of pods are wrong",
            "set the clock, and install chrony or systemd-timesyncd",
        );
    }
    let keeps =
        ["/run/systemd/timesync/synchronized", "/run/chrony/chronyd.sock", "/run/ntpd.sock", "/run/chrony"];
    match keeps.iter().any(|path| Path::new(path).exists()) {
        true => Check::ok("clock", "set, and kept by a time service"),
        false => Check::ok("clock", "set (whether it is synchronized cannot be told here)"),
    }
}

fn open_files() -> Check {
    match getrlimit(Resource::Nofile).maximum {
        Some(hard) if hard < OPEN_FILES => Check::warning(
            "open files",
            format!("the hard limit is {hard}"),
            "a full node runs out of descriptors",
            "LimitNOFILE=1024:1048576 in huskd's unit, or ulimit -Hn (this is the limit of the calling shell)",
        ),
        Some(hard) => Check::ok("open files", format!("the hard limit is {hard}")),
        None => Check::ok("open files", "unlimited"),
    }
}

fn pids() -> Check {
    let value =
        |name: &str| read(&format!("/proc/sys/kernel/{name}")).and_then(|text| text.parse::<u64>().ok());
    let (pid_max, threads) = (value("pid_max").unwrap_or(0), value("threads-max").unwrap_or(0));
    let found = format!("kernel.pid_max is {pid_max}, kernel.threads-max is {threads}");
    match pid_max.min(threads) < PIDS {
        true => Check::warning(
            "processes",
            found,
            "a full node cannot start processes",
            "sysctl -w kernel.pid_max=4194304 kernel.threads-max=126000",
        ),
        false => Check::ok("processes", found),
    }
}

fn swap() -> Check {
    let swaps = read("/proc/swaps").unwrap_or_default().lines().skip(1).count();
    match swaps {
        0 => Check::ok("swap", "off"),
        _ => Check::warning(
            "swap",
            format!("{swaps} in use"),
            "a kubelet refuses to start unless it is configured for swap (failSwapOn: false)",
            "swapoff -a and remove it from /etc/fstab, or configure the kubelet",
        ),
    }
}

/// A kubelet takes the one runtime that it is told; with several on the node it is easily the wrong one.
fn runtimes(config: &Config) -> Check {
    const SOCKETS: &[(&str, &str)] = &[
        ("containerd", "/run/containerd/containerd.sock"),
        ("CRI-O", "/run/crio/crio.sock"),
        ("Docker", "/run/docker.sock"),
        ("cri-dockerd", "/run/cri-dockerd.sock"),
    ];
    let there = others(SOCKETS, &config.address);
    match there.is_empty() {
        true => Check::ok("other runtimes", "none answers"),
        false => Check::warning(
            "other runtimes",
            format!("{} answers", there.join(", ")),
            "kubelet and crictl may ask another runtime than husk",
            "containerRuntimeEndpoint: unix:///run/husk/husk.sock in the kubelet's configuration",
        ),
    }
}

/// Those that answer at another socket than husk's own, which may have the name of another's (a node of kind).
fn others<'a>(sockets: &[(&'a str, &str)], own: &Path) -> Vec<&'a str> {
    let file = |path: &Path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    let own = file(own);
    let answers =
        |path: &str| UnixStream::connect(path).is_ok() && (own.is_none() || file(Path::new(path)) != own);
    sockets.iter().filter(|(_, path)| answers(path)).map(|(name, _)| *name).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::symlink, net::UnixListener};

    use super::*;

    #[test]
    fn a_socket_that_is_husks_own_by_any_name_is_no_other_runtime() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let _listeners = ["own", "another"].map(|name| UnixListener::bind(path(name)).unwrap());
        symlink(path("own"), path("alias")).unwrap();
        let names = ["own", "alias", "another", "none"].map(|name| (name, path(name).display().to_string()));
        let sockets: Vec<(&str, &str)> = names.iter().map(|(name, path)| (*name, path.as_str())).collect();
        assert_eq!(others(&sockets, &path("own")), ["another"]);
        assert_eq!(others(&sockets, &path("alias")), ["another"]);
        assert_eq!(others(&sockets, &path("none")), ["own", "alias", "another"]);
    }
}
