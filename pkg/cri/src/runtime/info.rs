//! Version, health and what the kubelet must match.

use std::collections::HashMap;

use husk_network::PodCidr;
use husk_node::KernelVersion;
use husk_proto::cri::v1;
use serde_json::json;
use tonic::Status;

use super::RuntimeApi;
use crate::{API_VERSION, convert::invalid, status::status as status_of};

/// mount_setattr(2), which makes mounts read-only with everything below them, came with Linux 5.12.
const RECURSIVE_READ_ONLY_SINCE: KernelVersion = KernelVersion::new(5, 12);

pub(super) async fn version(
    _api: &RuntimeApi,
    _request: v1::VersionRequest,
) -> Result<v1::VersionResponse, Status> {
    Ok(v1::VersionResponse {
        version: "0.1.0".to_owned(),
        runtime_name: "husk".to_owned(),
        runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
        runtime_api_version: API_VERSION.to_owned(),
    })
}

fn condition(kind: &str, ready: bool, reason: &str, message: &str) -> v1::RuntimeCondition {
    v1::RuntimeCondition {
        r#type: kind.to_owned(),
        status: ready,
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}

pub(super) async fn status(
    api: &RuntimeApi,
    request: v1::StatusRequest,
) -> Result<v1::StatusResponse, Status> {
    let network = api.network.status();
    let features = v1::RuntimeHandlerFeatures {
        recursive_read_only_mounts: KernelVersion::running() >= RECURSIVE_READ_ONLY_SINCE,
        user_namespaces: api.engine.user_namespaces().is_ok(),
    };
    let mut info = HashMap::new();
    if request.verbose {
        let facts = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "cgroup": api.engine.hierarchy().version().as_str(),
            "apparmor": api.engine.apparmor().availability().as_str(),
            "selinux": api.engine.selinux().state().as_str(),
            "cgroup_driver": if api.engine.has_systemd_driver() { "systemd" } else { "cgroupfs" },
            // Not `stateDir`, where others have the root filesystems of containers: husk has their layers in `root`.
            "root": api.engine.root_dir(),
            "state": api.engine.state_dir(),
            "userNamespaces": api.engine.user_namespaces().err().unwrap_or("supported"),
            "network": format!("{:?}", network.provider),
            "podSubnets": api.network.subnets().iter().map(ToString::to_string).collect::<Vec<_>>(),
            "pods": api.engine.list_pods().len(),
            "containers": api.engine.list_containers().len(),
            "images": api.images.list().len(),
        });
        info.insert("config".to_owned(), facts.to_string());
    }
    Ok(v1::StatusResponse {
        status: Some(v1::RuntimeStatus {
            conditions: vec![
                condition("RuntimeReady", true, "", ""),
                condition("NetworkReady", network.ready, &network.reason, &network.message),
            ],
        }),
        info,
        runtime_handlers: std::iter::once(String::new())
            .chain(api.handlers.iter().cloned())
            .map(|name| v1::RuntimeHandler { name, features: Some(features) })
            .collect(),
        features: Some(v1::RuntimeFeatures {
            supplemental_groups_policy: true,
            user_namespaces_host_network: api.engine.user_namespaces().is_ok(),
            mount_options: true,
        }),
    })
}

/// The pod CIDR is all there is to update. None of it is fine: the kubelet knows none before the node is registered.
pub(super) async fn update_runtime_config(
    api: &RuntimeApi,
    request: v1::UpdateRuntimeConfigRequest,
) -> Result<v1::UpdateRuntimeConfigResponse, Status> {
    let network = request.runtime_config.and_then(|config| config.network_config).unwrap_or_default();
    if !network.pod_cidr.is_empty() {
        let field = "runtime_config.network_config.pod_cidr";
        let cidr: PodCidr = network.pod_cidr.parse().map_err(|reason: String| invalid(field, reason))?;
        api.network.set_pod_cidr(cidr).await.map_err(status_of)?;
    }
    Ok(v1::UpdateRuntimeConfigResponse {})
}

pub(super) async fn runtime_config(
    api: &RuntimeApi,
    _request: v1::RuntimeConfigRequest,
) -> Result<v1::RuntimeConfigResponse, Status> {
    let driver = match api.engine.has_systemd_driver() {
        true => v1::CgroupDriver::Systemd,
        false => v1::CgroupDriver::Cgroupfs,
    };
    let linux = v1::LinuxRuntimeConfiguration { cgroup_driver: driver.into() };
    Ok(v1::RuntimeConfigResponse { linux: Some(linux) })
}
