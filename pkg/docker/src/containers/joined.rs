//! What a container's start takes from other containers: namespaces that it joins (`--pid container:ID`, `--ipc container:ID`), and
//! links (`--link`) in Docker's default network.

use std::net::IpAddr;

use super::{
    container::Container,
    links::{self, Link},
    plan::{CONTAINER, Joined, Joins},
    record::{BRIDGE, Record},
    store::Store,
};
use crate::error::{Failure, Result};

/// How far an IPC namespace is looked for that one container has of another, which has it of another.
const FAR: usize = 16;

/// What a container in the default network learns of those that it is linked to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Linked {
    /// Lines of its hosts file.
    pub(super) hosts: Vec<(IpAddr, String)>,
    /// Variables, which beat none of its own.
    pub(super) env: Vec<(String, String)>,
}

impl Store {
    // === namespaces ===

    /// Whose namespaces a container joins.
    ///
    /// # Errors
    /// 404 for a container that is not there, 409 for one that does not run, or whose IPC is its own alone.
    pub(super) fn joined(&self, record: &Record) -> Result<Joined> {
        let host = &record.host;
        let pid = host.pid_mode.strip_prefix(CONTAINER).map(|other| self.pid_of(other));
        let ipc = host.ipc_mode.strip_prefix(CONTAINER).map(|other| self.ipc_of(other));
        Ok(Joined { pid: pid.transpose()?, ipc: ipc.transpose()? })
    }

    fn pid_of(&self, other: &str) -> Result<Joins> {
        let (theirs, id) = self.find(other)?.going().map_err(|_| not_running("PID", other))?;
        Ok(if theirs.host.pid_mode == "host" { Joins::Node } else { Joins::Container(id) })
    }

    fn ipc_of(&self, other: &str) -> Result<Joins> {
        let mut name = other.to_owned();
        for _ in 0..FAR {
            let (theirs, id) = self.find(&name)?.going().map_err(|_| not_running("IPC", &name))?;
            match theirs.host.ipc_mode.as_str() {
                "host" => return Ok(Joins::Node),
                "shareable" => return Ok(Joins::Container(id)),
                mode => match mode.strip_prefix(CONTAINER) {
                    Some(next) => next.clone_into(&mut name),
                    None => break,
                },
            }
        }
        Err(Failure::conflict(format!(
            "cannot join IPC of container {}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)",
            cut(&name)
        )))
    }

    // === links ===

    /// Of a container that is about to start. Links to containers that are no more are none.
    ///
    /// # Errors
    /// 409 for one that does not run.
    pub(super) fn linked(&self, container: &Container, record: &Record) -> Result<Linked> {
        let mut linked = Linked::default();
        if record.host.network_mode != BRIDGE || !record.networks.contains_key(BRIDGE) {
            return Ok(linked);
        }
        for link in links::of(&record.host)? {
            let Ok(other) = self.find(&link.target) else { continue };
            let theirs = other.record();
            if !theirs.state.is_running() || other.id == container.id {
                return Err(Failure::conflict(format!(
                    "Cannot link to a non running container: /{} AS /{}/{}",
                    theirs.name, record.name, link.alias
                )));
            }
            let Some(ip) = self.address_in(&theirs, BRIDGE) else { continue };
            linked.hosts.push((ip, links::host_names(&link, &theirs)));
            linked.env.extend(links::variables(&link, ip, record, &theirs));
        }
        Ok(linked)
    }

    /// Takes a link away, from the next start on: `/web/database`.
    ///
    /// # Errors
    /// 404 when there is none.
    pub(super) async fn unlink(&self, path: &str) -> Result<()> {
        let none =
            || Failure::not_found(format!("no such link: {}", path.chars().take(200).collect::<String>()));
        let (owner, alias) = path.trim_matches('/').split_once('/').ok_or_else(none)?;
        let container = self.find(owner)?;
        let _turn = container.turn().await;
        let is_it = |text: &String| Link::parse(text).is_ok_and(|link| link.alias == alias);
        if !container.record().host.links.iter().flatten().any(is_it) {
            return Err(none());
        }
        let without = |record: &mut Record| {
            record.host.links.iter_mut().for_each(|links| links.retain(|text| !is_it(text)));
        };
        container.change(without).map(drop)
    }
}

fn not_running(what: &str, other: &str) -> Failure {
    Failure::conflict(format!("cannot join {what} of a non running container: {}", cut(other)))
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}
