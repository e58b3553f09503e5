//! Plugins that lie in the plugin directory: huskd starts them, and they end with their connection.
//!
//! The socket is the plugin's descriptor 0. NRI names it by number in `NRI_PLUGIN_SOCKET`; containerd uses 3, which takes code
//! between fork and exec, and that huskd does not run.

use std::{
    fs, io,
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    path::Path,
    process::Stdio,
    sync::Arc,
};

use tokio::{net::UnixStream, process::Command};
use tracing::warn;

use crate::{
    Nri, StartError,
    join::{Identity, Launched, join},
};

/// Starts them all and waits until each is in or has failed; one that fails is logged.
pub(crate) async fn all(nri: &Arc<Nri>) -> Result<(), StartError> {
    let dir = &nri.config.plugin_dir;
    let names = executables(dir).map_err(|source| StartError { path: dir.clone(), source })?;
    for name in names {
        match launch(nri, &name) {
            Ok((socket, launched)) => join(nri, socket, Some(launched)).await,
            Err(error) => warn!(plugin = name, %error, "cannot launch an NRI plugin"),
        }
    }
    Ok(())
}

/// Names of the directory's executable files, in order. No directory is no plugin.
fn executables(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        let executable = fs::metadata(entry.path())
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
        if executable && let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn launch(nri: &Nri, name: &str) -> io::Result<(UnixStream, Launched)> {
    let identity =
        Identity::of_file(name).map_err(|reason| io::Error::new(io::ErrorKind::InvalidInput, reason))?;
    let config = config(&nri.config.plugin_config_dir, &identity)?;
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let process = Command::new(nri.config.plugin_dir.join(name))
        .env_clear()
        .env("NRI_PLUGIN_NAME", &identity.base)
        .env("NRI_PLUGIN_IDX", &identity.index)
        .env("NRI_PLUGIN_SOCKET", "0")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    Ok((UnixStream::from_std(ours)?, Launched { identity, config, process }))
}

/// The plugin's configuration: `NN-name.conf`, else `name.conf`, else none.
fn config(dir: &Path, identity: &Identity) -> io::Result<String> {
    for name in [identity.name(), identity.base.clone()] {
        match fs::read_to_string(dir.join(format!("{name}.conf"))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            text => return text,
        }
    }
    Ok(String::new())
}
