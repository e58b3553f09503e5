//! What is told of a container, and what is written down.

use std::{io, time::Instant};

use husk_model::{ContainerRecord, Exit};
use husk_proto::podmon;

use super::Container;
use crate::{
    core::Core,
    journal::journal,
    poll::Source,
    record::{self, to_proto},
};

const FILE: &str = "state.json";

impl Container {
    /// As GetState tells it.
    pub fn state(&self) -> podmon::ContainerState {
        let process = self.init.process();
        podmon::ContainerState {
            container_id: self.id.clone(),
            pid: process.pid,
            start_time: process.start_time,
            started_at: self.life.started_at().unwrap_or(0),
            exit: self.life.told_exit().map(to_proto),
            user: Some(self.user_message()),
            log_dropped_bytes: self.output.dropped(),
            cgroup_path: self.cgroup_path.clone(),
            created_at: self.created_at,
        }
    }

    pub(super) fn created(&mut self) -> podmon::ContainerCreated {
        let process = self.init.process();
        podmon::ContainerCreated {
            pid: process.pid,
            start_time: process.start_time,
            user: Some(self.user_message()),
            degraded: std::mem::take(&mut self.degraded),
            steps: self.steps.take(),
        }
    }

    pub(super) fn started(&self, started_at: i64) -> podmon::ContainerStarted {
        podmon::ContainerStarted { container_id: self.id.clone(), started_at, steps: Vec::new() }
    }

    pub(super) fn exited(&self, exit: &Exit) -> podmon::ContainerExited {
        podmon::ContainerExited { container_id: self.id.clone(), exit: Some(to_proto(exit)) }
    }

    fn user_message(&self) -> podmon::ResolvedUser {
        let user = &self.execs.account.user;
        podmon::ResolvedUser { uid: user.uid, gid: user.gid, groups: user.groups.clone() }
    }

    /// Writes down what is known of it, and again a while later when the disk is full.
    pub fn write_record(&self, core: &mut Core) {
        let Ok(id) = self.id.parse() else { return };
        let user = &self.execs.account.user;
        let record = ContainerRecord {
            id,
            process: self.init.process(),
            created_at: self.created_at,
            started_at: self.life.started_at().unwrap_or(0),
            exit: self.life.exit().cloned(),
            user: husk_model::ResolvedUser { uid: user.uid, gid: user.gid, groups: user.groups.clone() },
            cgroup_path: self.cgroup_path.clone(),
            log_dropped_bytes: self.output.dropped(),
        };
        let dir = core.pod_dir.join("containers").join(&self.id);
        let written = std::fs::create_dir_all(&dir).and_then(|()| record::write(&dir, FILE, &record));
        if let Err(error) = written {
            journal!("write the state of {}: {error}", self.id);
            core.poller.set_deadline(Source::InitRecord(self.key), Instant::now() + record::RETRY);
        }
    }

    /// Deletes it.
    pub(super) fn forget_record(&self, core: &mut Core) {
        core.poller.clear_deadline(Source::InitRecord(self.key));
        let record = core.pod_dir.join("containers").join(&self.id).join(FILE);
        if let Err(error) = std::fs::remove_file(&record)
            && error.kind() != io::ErrorKind::NotFound
        {
            journal!("remove {}: {error}", record.display());
        }
    }
}
