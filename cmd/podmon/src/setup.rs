//! Making this process a monitor: session, subreaper, signals, limits, identity.

use std::{fs, io, os::fd::OwnedFd, path::Path};

use husk_model::MonitorRecord;
use husk_proto::podmon;
use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use rustix::{
    fs::Mode,
    process::{DumpableBehavior, Resource, Rlimit},
};

use crate::record;

/// Name of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Takes the program that we run out of everybody's reach, our children's containers above all ([`husk_sys::program`]), and
/// puts /dev/null where its mount was handed over.
pub fn withdraw_program() -> io::Result<()> {
    // Started from /proc/self/fd/1, the kernel calls us "1".
    rustix::thread::set_name(c"husk-podmon")?;
    let lent = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    let null = fs::File::options().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&null)?;
    husk_sys::program::withdraw(lent).map_err(io::Error::other)
}

/// Detaches from the daemon that started us.
pub fn detach(nofile_soft: Option<u64>) -> io::Result<()> {
    // Fails when we lead a session already, which is as good.
    let _ = rustix::process::setsid();
    // What a container leaves behind comes to us, not to the node's init, so it is reaped and no pid is reused unseen.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    // Our memory and /proc entries are nobody's business (CVE-2016-9962: a process inside reaching the runtime).
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    rustix::process::chdir("/")?;
    if let Some(soft) = nofile_soft {
        let limit = rustix::process::getrlimit(Resource::Nofile);
        let current = Some(limit.maximum.map_or(soft, |hard| soft.min(hard)));
        rustix::process::setrlimit(Resource::Nofile, Rlimit { current, maximum: limit.maximum })?;
    }
    Ok(())
}

/// Blocks every signal and returns a descriptor that tells of children. A stop of the daemon's unit sends SIGTERM to
/// the main process only (KillMode=process); one that reaches us all the same must not end the pod: `Shutdown` does.
pub fn signals() -> io::Result<SignalFd> {
    SigSet::all().thread_block()?;
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    Ok(SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

/// Takes the socket from descriptor 0 and puts /dev/null there, so that nothing inherits it.
pub fn take_stdin() -> io::Result<OwnedFd> {
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let null = fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(socket)
}

/// Makes sure that the pod's listening socket is a socket and never holds the loop up.
pub fn check_listener(listener: &OwnedFd) -> io::Result<()> {
    rustix::net::sockopt::socket_type(listener)?;
    Ok(rustix::io::ioctl_fionbio(listener, true)?)
}

/// Writes monitor.json, by which a later daemon knows us.
pub fn announce(pod_dir: &Path) -> io::Result<()> {
    let record = MonitorRecord {
        protocol: podmon::PROTOCOL,
        version: VERSION.into(),
        process: husk_node::process::identify(std::process::id())?,
        boot_id: husk_node::boot_id()?,
    };
    record::write(pod_dir, "monitor.json", &record)
}

/// What the pod's cgroup is marked with: whose it is. A path alone would not do, for the same one may mean another
/// directory in another mount namespace.
pub fn mark(pod_dir: &Path) -> Result<String, Box<dyn std::error::Error>> {
    let namespace = fs::read_link("/proc/self/ns/mnt")?;
    Ok(husk_model::group_mark(&namespace.to_string_lossy(), pod_dir))
}
