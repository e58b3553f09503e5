//! The Docker Engine API: its socket and its door, opened when the engine knows its pods.

use std::{error::Error, pin::Pin, sync::Arc};

use husk_build::BuilderConfig;
use husk_config::{Config, DockerConfig};
use husk_docker::{Door, DoorParts};
use husk_images::ImageStore;
use husk_model::Door as Of;
use husk_network::Network;
use husk_pods::Engine;
use nix::unistd::{Gid, Group};
use tokio::{net::UnixListener, sync::oneshot, task::JoinHandle};
use tracing::info;

use crate::{cgroup, settings, socket};

/// The group that gets the socket where nobody says otherwise, as with dockerd.
const GROUP: &str = "docker";

/// Resolves when the daemon shall end.
pub(crate) type Stop = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What the door is made of.
pub(crate) fn parts(
    config: &Config,
    wanted: &DockerConfig,
    (engine, images, network): (&Arc<Engine>, &Arc<ImageStore>, &Arc<Network>),
) -> DoorParts {
    let root = config.root.join("docker");
    let builder = BuilderConfig {
        program: wanted.buildkitd.clone(),
        runtime: wanted.oci.clone(),
        root: root.join("buildkit"),
        run: config.state.join("builder"),
        namespaces: settings::network_config(config).netns_dir(),
        cgroup: format!("{}/build", cgroup_parent(config)),
    };
    DoorParts {
        engine: engine.through(Of::Docker),
        images: Arc::clone(images),
        network: Arc::clone(network),
        root,
        builder,
    }
}

/// Where the builder's cgroups are. The builder makes its own, so a slice, in which systemd alone makes some, is not for it.
fn cgroup_parent(config: &Config) -> String {
    match config.cgroup.parent.as_deref() {
        Some(parent) if !parent.ends_with(".slice") => format!("/{}", parent.trim_matches('/')),
        _ => cgroup::DEFAULT_PATH.to_owned(),
    }
}

/// Opens the door and serves it, until the stop that is returned resolves: it is `stop`, and tells the door as well.
pub(crate) async fn open(
    config: &DockerConfig,
    parts: DoorParts,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(JoinHandle<()>, Stop), Box<dyn Error>> {
    let address = config.address.display();
    let wrap = |error| format!("docker.address {address}: {error}");
    let group = group(config.group.as_deref())?;
    let door = Door::open(parts).await?;
    let listener = socket::bind(&config.address, config.mode, group).map_err(wrap)?;
    listener.set_nonblocking(true).map_err(wrap)?;
    let listener = UnixListener::from_std(listener).map_err(wrap)?;
    info!(%address, "the Docker Engine API is served; whoever may connect is root on this node");
    let (tell, told) = oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        // An error is the sender's end, which means the same.
        door.serve(listener, async { drop(told.await) }).await;
    });
    let stop = Box::pin(async move {
        stop.await;
        drop(tell);
    });
    Ok((serving, stop))
}

/// The group by name or number, or the usual one if the node has it.
fn group(wanted: Option<&str>) -> Result<Option<Gid>, Box<dyn Error>> {
    let Some(wanted) = wanted else {
        return Ok(Group::from_name(GROUP)?.map(|group| group.gid));
    };
    if let Ok(number) = wanted.parse() {
        return Ok(Some(Gid::from_raw(number)));
    }
    let group = Group::from_name(wanted)?.ok_or_else(|| {
        format!("docker.group {wanted:?}: this node has no such group; make it (groupadd --system {wanted}) or name another")
    })?;
    Ok(Some(group.gid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_a_number_or_a_name_that_the_node_has() {
        assert_eq!(group(Some("12345")).unwrap(), Some(Gid::from_raw(12345)));
        assert_eq!(group(Some("root")).unwrap(), Some(Gid::from_raw(0)));
        assert!(group(Some("nobody-has-this")).unwrap_err().to_string().contains("groupadd"));
    }
}
