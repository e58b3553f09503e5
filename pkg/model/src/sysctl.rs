//! Kernel parameters of a pod: only those that a namespace of its own has for itself. All others are the node's.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Parameters of an IPC namespace besides those below `fs/mqueue`: `ipc_sysctls` of ipc/ipc_sysctl.c, Linux 6.18. The three
/// `*_next_id` exist with CONFIG_CHECKPOINT_RESTORE; ipc_namespaces(7) leaves them out.
const IPC: [&str; 12] = [
    "kernel/auto_msgmni",
    "kernel/msg_next_id",
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/sem_next_id",
    "kernel/shm_next_id",
    "kernel/shm_rmid_forced",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
];

/// The kind of namespace that has a parameter for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SysctlOwner {
    /// `net/…`: a network namespace shows those only that are its own.
    Network,
    /// System V IPC, and `fs/mqueue/…` as a whole (`mq_sysctls` of ipc/mq_sysctl.c).
    Ipc,
    /// `kernel/domainname` (kernel/utsname_sysctl.c). Not `kernel/hostname`, for which a pod's request has a field.
    Uts,
}

/// The name of a namespaced kernel parameter. Two spellings of one name are equal. On disk and on the way to a monitor it
/// is text with dots: `net.ipv4.ip_forward`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sysctl {
    /// Below /proc/sys.
    path: String,
    owner: SysctlOwner,
}

/// Why a text is not the name of a parameter that a pod may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSysctl {
    /// Nothing below /proc/sys is called so.
    #[error("is not the name of a kernel parameter")]
    Malformed,
    /// No namespace has it.
    #[error("is not a parameter of the pod's namespaces; setting it would change the node")]
    OfTheNode,
}

impl Sysctl {
    /// `net.ipv4.ip_unprivileged_port_start`.
    pub fn unprivileged_port_start() -> Self {
        Self { path: "net/ipv4/ip_unprivileged_port_start".to_owned(), owner: SysctlOwner::Network }
    }

    /// `net.ipv4.ping_group_range`.
    pub fn ping_group_range() -> Self {
        Self { path: "net/ipv4/ping_group_range".to_owned(), owner: SysctlOwner::Network }
    }

    /// Path below /proc/sys: relative, each part a plain name.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whose it is.
    pub fn owner(&self) -> SysctlOwner {
        self.owner
    }
}

impl FromStr for Sysctl {
    type Err = InvalidSysctl;

    /// Judges the very path that will be written, so no spelling gets around it (CVE-2022-0811 smuggled a second sysctl
    /// into the first).
    fn from_str(name: &str) -> Result<Self, InvalidSysctl> {
        let path = path(name).ok_or(InvalidSysctl::Malformed)?;
        let owner = owner(&path).ok_or(InvalidSysctl::OfTheNode)?;
        Ok(Self { path, owner })
    }
}

impl TryFrom<String> for Sysctl {
    type Error = InvalidSysctl;
    fn try_from(name: String) -> Result<Self, InvalidSysctl> {
        name.parse()
    }
}

impl From<Sysctl> for String {
    fn from(sysctl: Sysctl) -> String {
        swapped(&sysctl.path)
    }
}

impl fmt::Display for Sysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&swapped(&self.path))
    }
}

/// As sysctl(8): if the first separator is a dot, dots separate and slashes stand for dots
/// (`net.ipv4.conf.eth0/1.forwarding`); if it is a slash, both stand for themselves.
fn path(name: &str) -> Option<String> {
    let path = match name.find(['.', '/']).map(|at| name.as_bytes()[at])? {
        b'/' => name.to_owned(),
        _ => swapped(name),
    };
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte);
    (path.split('/').all(plain) && path.bytes().all(letters)).then_some(path)
}

/// From the spelling with dots to the one with slashes, and back.
fn swapped(name: &str) -> String {
    let swap = |letter| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    name.chars().map(swap).collect()
}

fn owner(path: &str) -> Option<SysctlOwner> {
    match path {
        _ if path.starts_with("net/") => Some(SysctlOwner::Network),
        _ if path.starts_with("fs/mqueue/") || IPC.contains(&path) => Some(SysctlOwner::Ipc),
        "kernel/domainname" => Some(SysctlOwner::Uts),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str) -> Result<Sysctl, InvalidSysctl> {
        name.parse()
    }

    #[test]
    fn each_parameter_has_the_namespace_that_the_kernel_gives_it() {
        for (name, path, owner) in [
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward", SysctlOwner::Network),
            ("net/ipv4/conf/eth0.1/forwarding", "net/ipv4/conf/eth0.1/forwarding", SysctlOwner::Network),
            ("net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding", SysctlOwner::Network),
            ("kernel.sem", "kernel/sem", SysctlOwner::Ipc),
            ("kernel/msg_next_id", "kernel/msg_next_id", SysctlOwner::Ipc),
            ("kernel.shm_next_id", "kernel/shm_next_id", SysctlOwner::Ipc),
            ("fs.mqueue.msg_max", "fs/mqueue/msg_max", SysctlOwner::Ipc),
            ("kernel.domainname", "kernel/domainname", SysctlOwner::Uts),
        ] {
            let sysctl = parse(name).unwrap();
            assert_eq!((sysctl.path(), sysctl.owner()), (path, owner), "{name}");
        }
    }

    #[test]
    fn those_that_husk_sets_itself_are_what_their_names_say() {
        assert_eq!(parse("net.ipv4.ip_unprivileged_port_start"), Ok(Sysctl::unprivileged_port_start()));
        assert_eq!(parse("net.ipv4.ping_group_range"), Ok(Sysctl::ping_group_range()));
    }

    #[test]
    fn no_spelling_reaches_a_parameter_of_the_node() {
        for name in
            ["kernel.core_pattern", "vm.overcommit_memory", "fs.file-max", "kernel.hostname", "fs.mqueue"]
        {
            assert_eq!(parse(name), Err(InvalidSysctl::OfTheNode), "{name:?}");
        }
        for name in [
            "",
            "net",
            "kernel",
            "net..x",
            "net/../kernel/core_pattern",
            "net.ipv4/../../kernel/core_pattern",
            "kernel.shm_rmid_forced+kernel.core_pattern",
            "kernel.shm_rmid_forced=1\nkernel.core_pattern",
            "kernel.sem\nkernel.core_pattern",
            "net.ipv4.x\0",
            "/proc/sys/net/x",
            "/etc/passwd",
        ] {
            assert_eq!(parse(name), Err(InvalidSysctl::Malformed), "{name:?}");
        }
    }

    #[test]
    fn both_spellings_are_one_name_which_is_written_with_dots() {
        let (dots, slashes) =
            (parse("net.ipv4.conf.eth0/1.forwarding"), parse("net/ipv4/conf/eth0.1/forwarding"));
        assert_eq!(dots, slashes);
        let text = serde_json::to_string(&slashes.unwrap()).unwrap();
        assert_eq!(text, "\"net.ipv4.conf.eth0/1.forwarding\"");
        assert_eq!(serde_json::from_str::<Sysctl>(&text).unwrap(), dots.unwrap());
    }
}
