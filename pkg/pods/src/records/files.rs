//! The records themselves: a pod and a container as huskd writes them down.

use std::{net::IpAddr, sync::Arc};

use husk_life::PodRecordLife;
use husk_model::{
    ContainerConfig, ContainerId, ContainerMetadata, Digest, History, ImageId, PodConfig, PodMetadata,
    PodSandboxId, Resources, Signal, UnixNanos,
};
use serde::{Deserialize, Serialize};

/// Version of the records; raised when an older huskd could misread a newer one's.
pub(crate) const FORMAT: u32 = 1;

/// A pod as huskd knows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PodFile {
    /// The first field: see `Records::refuse_newer`.
    pub(crate) format: u32,
    pub(crate) boot_id: String,
    pub(crate) id: PodSandboxId,
    pub(crate) config: Arc<PodConfig>,
    pub(crate) created_at: UnixNanos,
    pub(crate) ips: Vec<IpAddr>,
    /// Its cgroup, relative to the hierarchy's root. Empty in records of versions that had the cgroupfs driver only.
    #[serde(default)]
    pub(crate) cgroup_path: String,
    /// Its SELinux level, which no other pod gets; none on a node without SELinux.
    #[serde(default)]
    pub(crate) selinux_level: Option<String>,
    /// How it came to be and why it is to end, as far as that was known when the state was recorded.
    #[serde(default, skip_serializing_if = "History::is_empty")]
    pub(crate) history: History,
    /// Its state. Absent in records of versions before 0.2, which had the two fields below.
    #[serde(default)]
    life: Option<PodRecordLife>,
    /// The state as a huskd before 0.2 reads it, should one come back: everything was built.
    complete: bool,
    /// Likewise: StopPodSandbox has run to its end.
    stopped: bool,
}

impl PodFile {
    /// Of a pod that is about to be made.
    pub(crate) fn new(
        boot_id: &str,
        id: &PodSandboxId,
        config: &Arc<PodConfig>,
        created_at: UnixNanos,
    ) -> Self {
        Self {
            format: FORMAT,
            boot_id: boot_id.to_owned(),
            id: id.clone(),
            config: Arc::clone(config),
            created_at,
            ips: Vec::new(),
            cgroup_path: String::new(),
            selinux_level: None,
            history: History::default(),
            life: Some(PodRecordLife::Making),
            complete: false,
            stopped: false,
        }
    }

    /// Stands in for a record that cannot be read: enough to report and remove the pod.
    pub(crate) fn unreadable(boot_id: &str, id: &PodSandboxId) -> Self {
        let config = PodConfig::named(PodMetadata {
            name: "unreadable".to_owned(),
            uid: id.to_string(),
            namespace: "husk-unreadable".to_owned(),
            attempt: 0,
        });
        // Clients refuse a creation time of 0.
        let mut file = Self::new(boot_id, id, &Arc::new(config), 1);
        file.set_life(PodRecordLife::Ready);
        file
    }

    /// The recorded state.
    pub(crate) fn life(&self) -> PodRecordLife {
        match (self.life, self.complete, self.stopped) {
            (Some(life), _, _) => life,
            (None, false, _) => PodRecordLife::Making,
            (None, true, false) => PodRecordLife::Ready,
            (None, true, true) => PodRecordLife::Stopped { at: None },
        }
    }

    /// Puts a state on record.
    pub(crate) fn set_life(&mut self, life: PodRecordLife) {
        self.life = Some(life);
        self.complete = life != PodRecordLife::Making;
        self.stopped = matches!(life, PodRecordLife::Stopped { .. });
    }
}

/// A container as huskd knows it. Its state is in its monitor's record (`state.json`); this one tells what is being made from what
/// is made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ContainerFile {
    /// The first field, as in [`PodFile`].
    pub(crate) format: u32,
    pub(crate) id: ContainerId,
    pub(crate) config: Arc<ContainerConfig>,
    pub(crate) image_id: ImageId,
    pub(crate) image_ref: String,
    /// Empty in records of versions before 0.2, which did not look for it.
    #[serde(default)]
    pub(crate) image_name: String,
    /// Images of the image volumes, in the order of the request's mounts.
    #[serde(default)]
    pub(crate) image_volumes: Vec<ImageId>,
    pub(crate) created_at: UnixNanos,
    pub(crate) log_path: String,
    pub(crate) resources: Resources,
    pub(crate) stop_signal: Signal,
    pub(crate) cgroup_path: String,
    /// How it came to be.
    #[serde(default, skip_serializing_if = "History::is_empty")]
    pub(crate) history: History,
    /// Everything was built; otherwise an attempt was interrupted.
    pub(crate) complete: bool,
}

impl ContainerFile {
    /// Stands in for a record that cannot be read: enough to report and remove the container.
    pub(crate) fn unreadable(id: &ContainerId) -> Self {
        let metadata = ContainerMetadata { name: format!("unreadable-{}", &id.as_str()[..12]), attempt: 0 };
        let unknown = || "unknown".to_owned();
        let config = ContainerConfig {
            user_specified_image: unknown(),
            ..ContainerConfig::named(metadata, unknown())
        };
        Self {
            format: FORMAT,
            id: id.clone(),
            config: Arc::new(config),
            image_id: ImageId::new(Digest::from_sha256(&[0; 32])),
            image_ref: unknown(),
            image_name: unknown(),
            image_volumes: Vec::new(),
            // Clients refuse a creation time of 0.
            created_at: 1,
            log_path: String::new(),
            resources: Resources::default(),
            stop_signal: Signal::TERM,
            cgroup_path: String::new(),
            history: History::default(),
            complete: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> PodFile {
        PodFile::unreadable("boot", &PodSandboxId::generate())
    }

    #[test]
    fn a_record_of_a_version_without_states_is_read_by_its_two_fields() {
        let old = |complete: bool, stopped: bool| {
            let mut json = serde_json::to_value(file()).unwrap();
            let fields = json.as_object_mut().unwrap();
            fields.remove("life");
            fields.insert("complete".into(), complete.into());
            fields.insert("stopped".into(), stopped.into());
            serde_json::from_value::<PodFile>(json).unwrap().life()
        };
        assert_eq!(old(false, false), PodRecordLife::Making);
        assert_eq!(old(true, false), PodRecordLife::Ready);
        assert_eq!(old(true, true), PodRecordLife::Stopped { at: None });
    }

    #[test]
    fn a_version_without_states_reads_what_it_knows_of_every_state() {
        for (life, complete, stopped) in [
            (PodRecordLife::Making, false, false),
            (PodRecordLife::Ready, true, false),
            (PodRecordLife::Stopping, true, false),
            (PodRecordLife::Stopped { at: Some(3) }, true, true),
        ] {
            let mut file = file();
            file.set_life(life);
            let json = serde_json::to_value(&file).unwrap();
            assert_eq!(
                (json["complete"].as_bool(), json["stopped"].as_bool()),
                (Some(complete), Some(stopped))
            );
            assert_eq!(serde_json::from_value::<PodFile>(json).unwrap().life(), life);
        }
    }
}
