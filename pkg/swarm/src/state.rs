//! A swarm in memory, each change of it written before it is seen.

use std::{collections::BTreeMap, net::IpAddr, path::Path};

use crate::{
    cluster::{Cluster, ClusterSpec, Init, Rotate},
    error::{Result, SwarmError, cut},
    ids::KEY,
    node::{self, Node, NodeSpec},
    object::{Meta, find},
    payload::{self, Payload, PayloadKind, PayloadSpec},
    vault::{KeyFile, Vault},
};

const CLUSTER: &str = "cluster";
const NODES: &str = "nodes";
/// Most secrets, and most configs.
const MOST_PAYLOADS: usize = 500;
/// Most bytes of all secrets or all configs, in base 64, as memory has them.
const MOST_BYTES: usize = 64 << 20;

/// All of a swarm.
#[derive(Debug)]
pub struct State {
    /// The swarm itself.
    pub cluster: Cluster,
    /// Its node.
    pub node: Node,
    /// Secrets by id.
    pub secrets: BTreeMap<String, Payload>,
    /// Configs by id.
    pub configs: BTreeMap<String, Payload>,
    index: u64,
    vault: Vault,
}

impl State {
    /// Makes a swarm; what there is in the directory that is none is removed.
    ///
    /// # Errors
    /// As of [`Cluster::new`], and [`SwarmError::Disk`]; then there is none.
    pub(crate) fn create(dir: &Path, init: Init, own: IpAddr, links: &[String]) -> Result<Self> {
        let spec = NodeSpec { availability: init.availability.unwrap_or_default(), ..NodeSpec::default() };
        let cluster = Cluster::new(init, own, links, 1)?;
        let node = Node { meta: Meta::new(2), spec };
        let mut vault = Vault::create(dir, &node.meta.id)?;
        vault.put(CLUSTER, &cluster.meta.id, &cluster)?;
        vault.put(NODES, &node.meta.id, &node)?;
        vault.keep(cluster.unlock.as_ref())?;
        let (secrets, configs) = Default::default();
        Ok(Self { cluster, node, secrets, configs, index: 2, vault })
    }

    /// Reads a swarm.
    ///
    /// # Errors
    /// [`SwarmError::Locked`], [`SwarmError::WrongKey`], [`SwarmError::Disk`], [`SwarmError::Broken`].
    pub(crate) fn open(dir: &Path, file: KeyFile, unlock: Option<&[u8; KEY]>) -> Result<Self> {
        let was_locked = file.locked;
        let vault = file.open(dir, unlock)?;
        let lacks = |what: &str| SwarmError::Broken {
            path: dir.join(what),
            reason: "there is none".to_owned(),
            dir: dir.to_owned(),
        };
        let cluster: Cluster = vault.all(CLUSTER)?.pop().ok_or_else(|| lacks(CLUSTER))?;
        let node: Node = vault.all(NODES)?.pop().ok_or_else(|| lacks(NODES))?;
        let payloads = |kind: PayloadKind| -> Result<BTreeMap<String, Payload>> {
            let all: Vec<Payload> = vault.all(kind.plural())?;
            Ok(all.into_iter().map(|payload| (payload.meta.id.clone(), payload)).collect())
        };
        let (secrets, configs) = (payloads(PayloadKind::Secret)?, payloads(PayloadKind::Config)?);
        let metas = secrets.values().chain(configs.values()).map(|payload| &payload.meta);
        let index = metas.chain([&cluster.meta, &node.meta]).map(|meta| meta.version).max().unwrap_or(0);
        let mut state = Self { cluster, node, secrets, configs, index, vault };
        state.settle_lock(was_locked, unlock)?;
        Ok(state)
    }

    /// Makes the lock what it was before a change of it that huskd's end cut off: nobody was told of another key.
    fn settle_lock(&mut self, was_locked: bool, unlock: Option<&[u8; KEY]>) -> Result<()> {
        let wanted = self.cluster.unlock;
        match (was_locked, wanted) {
            (true, None) => self.vault.keep(None),
            (true, Some(key)) if Some(&key) == unlock => Ok(()),
            (false, None) => Ok(()),
            (true, Some(_)) | (false, Some(_)) => {
                let key = if was_locked { unlock.copied() } else { None };
                let version = self.next();
                let cluster = self.cluster.unlocked_by(key, version);
                self.put_cluster(cluster)
            }
        }
    }

    /// The version of the next change.
    fn next(&mut self) -> u64 {
        self.index += 1;
        self.index
    }

    pub(crate) fn key_file(&self) -> &KeyFile {
        self.vault.file()
    }

    fn put_cluster(&mut self, cluster: Cluster) -> Result<()> {
        self.vault.put(CLUSTER, &cluster.meta.id, &cluster)?;
        self.cluster = cluster;
        Ok(())
    }

    /// Changes the swarm's settings, tokens and keys.
    ///
    /// # Errors
    /// [`SwarmError::OutOfSequence`], [`SwarmError::Wrong`], [`SwarmError::Missing`], [`SwarmError::Disk`].
    pub fn update_cluster(&mut self, seen: u64, spec: ClusterSpec, rotate: Rotate) -> Result<()> {
        let version = self.next();
        let next = self.cluster.changed(seen, spec, rotate, version)?;
        // First the record: a key that is in force is known to whoever may ask for it.
        let before = self.cluster.clone();
        self.put_cluster(next)?;
        let kept = self.vault.keep(self.cluster.unlock.as_ref());
        if kept.is_err() {
            // The old key is in force. If it cannot be written down either, the next start does it.
            let _ = self.put_cluster(before);
        }
        kept
    }

    /// A new version of the swarm that is otherwise the same: what is left of a cluster that forces itself new.
    ///
    /// # Errors
    /// [`SwarmError::Disk`].
    pub(crate) fn renew(&mut self) -> Result<()> {
        let version = self.next();
        self.put_cluster(self.cluster.renewed(version))
    }

    /// The node, by id, `self`, host name or its own name.
    ///
    /// # Errors
    /// [`SwarmError::Absent`].
    pub fn find_node(&self, wanted: &str, hostname: &str) -> Result<&Node> {
        let Node { meta, spec } = &self.node;
        let is_it = wanted == "self"
            || wanted == hostname
            || (!wanted.is_empty() && (meta.id.starts_with(wanted) || spec.name == wanted));
        if is_it { Ok(&self.node) } else { Err(SwarmError::Absent { what: "node", name: cut(wanted) }) }
    }

    /// Changes what the node shall be.
    ///
    /// # Errors
    /// [`SwarmError::OutOfSequence`], [`SwarmError::Wrong`], [`SwarmError::Disk`].
    pub fn update_node(&mut self, seen: u64, spec: NodeSpec) -> Result<()> {
        self.node.meta.check(seen)?;
        node::check(&spec)?;
        let version = self.next();
        let node = Node { meta: self.node.meta.next(version), spec };
        self.vault.put(NODES, &node.meta.id, &node)?;
        self.node = node;
        Ok(())
    }

    /// Refuses to remove the node: it is the last manager.
    ///
    /// # Errors
    /// Always.
    pub fn remove_node(&self, wanted: &str, hostname: &str) -> Result<()> {
        let id = &self.find_node(wanted, hostname)?.meta.id;
        Err(SwarmError::wrong(format!(
            "node {id} is a cluster manager and is a member of the raft cluster. It must be demoted to worker before removal, and the last manager cannot be: leave the swarm instead"
        )))
    }

    // === secrets and configs ===

    /// All of a kind, by id.
    pub fn payloads(&self, kind: PayloadKind) -> &BTreeMap<String, Payload> {
        match kind {
            PayloadKind::Secret => &self.secrets,
            PayloadKind::Config => &self.configs,
        }
    }

    fn payloads_mut(&mut self, kind: PayloadKind) -> &mut BTreeMap<String, Payload> {
        match kind {
            PayloadKind::Secret => &mut self.secrets,
            PayloadKind::Config => &mut self.configs,
        }
    }

    /// One by id, name or the beginning of an id.
    ///
    /// # Errors
    /// [`SwarmError::Absent`], [`SwarmError::Ambiguous`].
    pub fn find_payload(&self, kind: PayloadKind, wanted: &str) -> Result<&Payload> {
        find(kind.word(), self.payloads(kind), wanted, |payload| &payload.spec.name)
    }

    /// Makes one. Returns its id.
    ///
    /// # Errors
    /// [`SwarmError::Exists`], [`SwarmError::TooMany`], [`SwarmError::Wrong`], [`SwarmError::Missing`], [`SwarmError::Disk`].
    pub fn create_payload(&mut self, kind: PayloadKind, spec: PayloadSpec) -> Result<String> {
        payload::check(kind, &spec)?;
        let all = self.payloads(kind);
        if all.values().any(|other| other.spec.name == spec.name) {
            return Err(SwarmError::Exists { what: kind.word(), name: spec.name });
        }
        if all.len() >= MOST_PAYLOADS {
            return Err(SwarmError::TooMany { what: kind.plural(), most: MOST_PAYLOADS });
        }
        let bytes: usize = all.values().map(|other| other.spec.data.len()).sum();
        if bytes + spec.data.len() > MOST_BYTES {
            return Err(SwarmError::Full { what: kind.plural(), most: MOST_BYTES });
        }
        let version = self.next();
        let made = Payload { meta: Meta::new(version), spec };
        let id = made.meta.id.clone();
        self.vault.put(kind.plural(), &id, &made)?;
        self.payloads_mut(kind).insert(id.clone(), made);
        Ok(id)
    }

    /// Changes the labels of one.
    ///
    /// # Errors
    /// [`SwarmError::Absent`], [`SwarmError::OutOfSequence`], [`SwarmError::Wrong`], [`SwarmError::Disk`].
    pub fn update_payload(
        &mut self,
        kind: PayloadKind,
        wanted: &str,
        seen: u64,
        spec: &PayloadSpec,
    ) -> Result<()> {
        let now = self.find_payload(kind, wanted)?.clone();
        now.meta.check(seen)?;
        payload::check_update(kind, &now.spec, spec)?;
        let version = self.next();
        let next = Payload {
            meta: now.meta.next(version),
            spec: PayloadSpec { labels: spec.labels.clone(), ..now.spec },
        };
        let id = next.meta.id.clone();
        self.vault.put(kind.plural(), &id, &next)?;
        self.payloads_mut(kind).insert(id, next);
        Ok(())
    }

    /// Removes one. Returns it.
    ///
    /// # Errors
    /// [`SwarmError::Absent`], [`SwarmError::InUse`], [`SwarmError::Disk`].
    pub fn remove_payload(&mut self, kind: PayloadKind, wanted: &str) -> Result<Payload> {
        let payload = self.find_payload(kind, wanted)?.clone();
        self.vault.remove(kind.plural(), &payload.meta.id)?;
        self.payloads_mut(kind).remove(&payload.meta.id);
        Ok(payload)
    }
}
