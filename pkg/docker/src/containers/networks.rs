//! A container's places in networks.

use husk_model::HostPort;
use serde_json::{Map, Value};

use super::{record::Record, store::Store};

impl Store {
    /// Names and ids of its networks.
    pub(super) fn network_names(&self, record: &Record) -> Vec<String> {
        record
            .networks
            .iter()
            .flat_map(|(name, place)| [name.clone(), place.network_id.clone()])
            .filter(|text| !text.is_empty())
            .collect()
    }

    /// Its places in networks, as they are now.
    pub(super) fn places(&self, record: &Record) -> Map<String, Value> {
        let pod =
            record.state.run.as_ref().and_then(|run| run.pod.clone()).filter(|_| record.state.is_running());
        let status = pod.and_then(|pod| self.0.shared.engine.pod_status(pod.as_str()).ok());
        let mut places = Map::new();
        for (name, place) in &record.networks {
            let mut place = place.clone();
            if let Some(ip) =
                status.as_ref().and_then(|status| status.ips.iter().find(|ip| ip.is_ipv4()).copied())
            {
                place.ip_address = ip.to_string();
            }
            places.insert(name.clone(), serde_json::to_value(place).unwrap_or_default());
        }
        places
    }

    /// Ports of the node that lead to it.
    pub(super) fn bound_ports(&self, record: &Record) -> Vec<HostPort> {
        let pod =
            record.state.run.as_ref().and_then(|run| run.pod.clone()).filter(|_| record.state.is_running());
        let status = pod.and_then(|pod| self.0.shared.engine.pod_status(pod.as_str()).ok());
        status.map(|status| status.config.host_ports.clone()).unwrap_or_default()
    }
}
