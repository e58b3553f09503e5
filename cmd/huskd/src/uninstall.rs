//! `huskd uninstall`: takes from the node what huskd made on it and keeps from one run to the next: the embedded network, what is
//! left of pods' networks, images, writable layers, records, the socket.
//!
//! Only what huskd makes by name is removed, so a directory that somebody else uses as well keeps what is theirs. It is refused while
//! a huskd has the directories, and while there are records of pods: their monitors run on without huskd, and nobody would end them.

use std::{
    error::Error,
    ffi::CString,
    fs, io,
    path::{Path, PathBuf},
};

use husk_cgroup::{CgroupPath, Hierarchy};
use husk_config::Config;
use husk_model::PodSandboxId;
use husk_network::Network;
use husk_sys::tree;
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::{cgroup, directories, settings, socket};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What huskd makes in the root directory and in the state directory, the lock last.
const OF_ROOT: [&str; 6] = ["images", "containers", "network", "docker", "trash", directories::LOCK];
const OF_STATE: [&str; 4] = ["pods", "netns", "trash", directories::LOCK];

/// Removes it, or without `yes` tells what would go.
///
/// # Errors
/// When a huskd runs or pods are on record, and of the first step that fails; a repetition goes on from there.
pub(crate) fn run(config: &Config, yes: bool) -> Result<()> {
    let _lock = directories::hold(config).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => "huskd runs; stop it first (systemctl disable --now husk)".to_owned(),
        _ => error.to_string(),
    })?;
    refuse_pods(&config.state)?;
    let (bridge, table) = (&config.network.bridge, &config.network.nft_table);
    if !yes {
        println!("would be removed:");
        println!("  the bridge {bridge} and the nftables table inet {table}, if they are there");
        parts(config).iter().for_each(|path| println!("  {}", path.display()));
        println!("nothing was changed; --yes removes it");
        return Ok(());
    }
    leave_network(config)?;
    println!("removed the bridge {bridge} and the nftables table inet {table}");
    remove_group(config)?;
    socket::remove_stale(&config.address)
        .map_err(|error| format!("{}: {error}", config.address.display()))?;
    if let Some(docker) = &config.docker {
        socket::remove_stale(&docker.address)
            .map_err(|error| format!("{}: {error}", docker.address.display()))?;
    }
    for path in parts(config) {
        remove(&path).map_err(|error| format!("remove {}: {error}", path.display()))?;
        println!("removed {}", path.display());
    }
    for dir in [&config.root, &config.state] {
        match fs::remove_dir(dir) {
            Ok(()) => println!("removed {}", dir.display()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => println!("kept {}: {error}", dir.display()),
        }
    }
    Ok(())
}

/// A pod has its directory from before anything of it is made until after everything of it is gone.
fn refuse_pods(state: &Path) -> Result<()> {
    let dir = state.join("pods");
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("{}: {error}", dir.display()).into()),
    };
    let is_pod = |name: &str| name.parse::<PodSandboxId>().is_ok();
    let pods = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_pod)).count();
    match pods {
        0 => Ok(()),
        _ => Err(format!(
            "{pods} pods are in {}; start huskd, remove them (crictl rmp --all --force), and stop it again",
            dir.display()
        )
        .into()),
    }
}

/// Everything of [`OF_ROOT`] and [`OF_STATE`] that is there.
fn parts(config: &Config) -> Vec<PathBuf> {
    let of_root = OF_ROOT.iter().map(|name| config.root.join(name));
    let of_state = OF_STATE.iter().map(|name| config.state.join(name));
    of_root.chain(of_state).filter(|path| path.symlink_metadata().is_ok()).collect()
}

/// Undoes what is recorded of pods' networks (CNI plugins' parts too), then deletes the bridge and the table.
fn leave_network(config: &Config) -> Result<()> {
    let mut network_config = settings::network_config(config);
    network_config.netns_pool = 0;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let network = Network::start(network_config).await?;
        let report = network.gc(&Default::default()).await;
        // Their records say how to undo them, so they must not go before.
        if !report.failures.is_empty() {
            return Err(format!(
                "cannot take back the network: {}; mend that, or give up what the records in {} name by removing them",
                report.failures.join("; "),
                config.root.join("network/pods").display()
            )
            .into());
        }
        network.dismantle().await?;
        network.shutdown();
        Ok::<_, Box<dyn Error>>(())
    })
}

/// Removes the parent that pods have by default, which is husk's own. A configured one may be somebody else's as well.
fn remove_group(config: &Config) -> Result<()> {
    if config.cgroup.parent.is_some() {
        return Ok(());
    }
    let path = CgroupPath::parse(cgroup::DEFAULT_PATH)?;
    match Hierarchy::detect()?.open(&path) {
        Ok(group) => {
            if !group.remove_if_empty()? {
                println!("kept the cgroup {}: it has processes", cgroup::DEFAULT_PATH);
            }
            Ok(())
        }
        Err(husk_cgroup::Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Removes a tree, which may be a container's: however deep, and following nothing.
fn remove(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = openat(CWD, parent, flags, Mode::empty())?;
    Ok(tree::remove(parent, &CString::new(name.as_encoded_bytes())?)?)
}
