//! Network classes and priorities (v1) and RDMA objects.

use std::collections::HashMap;

use oci_spec::runtime::{LinuxNetwork, LinuxRdma};

use super::Apply;
use crate::{Controller, Error, Result};

impl Apply<'_> {
    pub(super) fn network(&mut self, network: &LinuxNetwork) -> Result<()> {
        if let Some(class) = network.class_id()
            && let Some(home) = self.prefer(Controller::NetCls, "network.classID")
        {
            home.write("net_cls.classid", &class.to_string())?;
        }
        for priority in network.priorities().as_deref().unwrap_or_default() {
            check_name("network.priorities", priority.name())?;
            let Some(home) = self.prefer(Controller::NetPrio, "network.priorities") else {
                return Ok(());
            };
            let value = format!("{} {}", priority.name(), priority.priority());
            home.write("net_prio.ifpriomap", &value)?;
        }
        Ok(())
    }

    pub(super) fn rdma(&mut self, limits: &HashMap<String, LinuxRdma>) -> Result<()> {
        for (device, limit) in limits {
            check_name("rdma", device)?;
            let Some(home) = self.prefer(Controller::Rdma, "rdma") else {
                return Ok(());
            };
            let number =
                |value: Option<u32>| value.map_or_else(|| "max".to_owned(), |value| value.to_string());
            let value = format!(
                "{device} hca_handle={} hca_object={}",
                number(limit.hca_handles()),
                number(limit.hca_objects())
            );
            home.write("rdma.max", &value)?;
        }
        Ok(())
    }
}

/// A device name is one word of a line in the kernel's file.
fn check_name(setting: &'static str, name: &str) -> Result<()> {
    if !name.is_empty() && name.len() < 64 && name.chars().all(|c| c.is_ascii_graphic() && c != '=') {
        return Ok(());
    }
    let reason = format!("{:?} is not a device name", name.chars().take(64).collect::<String>());
    Err(Error::InvalidValue { setting, reason })
}
