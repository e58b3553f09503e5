//! Whether there is a swarm: init, lock, unlock, leave.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use husk_model::chain;

use crate::{
    cluster::Init,
    error::{Result, SwarmError},
    ids,
    state::State,
    vault::{KeyFile, erase},
};

/// A swarm of this node, or none.
#[derive(Debug)]
pub struct Swarm {
    dir: PathBuf,
    phase: Mutex<Phase>,
}

#[derive(Debug)]
enum Phase {
    /// There is none.
    Out,
    /// Its records are sealed with a key that is not here.
    Locked(KeyFile),
    /// There is one.
    In(Box<State>),
    /// Its records cannot be read.
    Failed(String, KeyFile),
    /// It is being left.
    Leaving(KeyFile),
}

/// Whether there is one, as `docker info` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// There is none.
    Inactive,
    /// It needs its key.
    Locked,
    /// There is one.
    Active,
    /// Its records cannot be read.
    Failed,
    /// It is being left.
    Leaving,
}

/// A swarm that is being left: what has to go, then [`Swarm::gone`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "what the swarm had has to be removed, and the swarm then forgotten"]
pub struct Left {
    /// Id of the node, which its containers have as a label.
    pub node: String,
}

impl Swarm {
    /// Takes up what is in a directory. A swarm that was being made is none; one that cannot be read says so to whoever asks, as nothing
    /// else of the node needs it.
    pub fn open(dir: PathBuf) -> Self {
        let phase = Mutex::new(look(&dir));
        Self { dir, phase }
    }

    /// Whether there is one.
    pub fn status(&self) -> Status {
        match &*self.phase() {
            Phase::Out => Status::Inactive,
            Phase::Locked(_) => Status::Locked,
            Phase::In(_) => Status::Active,
            Phase::Failed(..) => Status::Failed,
            Phase::Leaving(_) => Status::Leaving,
        }
    }

    /// A look at it. The look holds a lock: it takes what it needs, and waits for nothing.
    ///
    /// # Errors
    /// [`SwarmError::NotManager`], [`SwarmError::Locked`], [`SwarmError::Leaving`].
    pub fn read<R>(&self, look: impl FnOnce(&State) -> R) -> Result<R> {
        self.change(|state| Ok(look(state)))
    }

    /// A change of it, under the same lock.
    ///
    /// # Errors
    /// As of [`Swarm::read`], and those of the change.
    pub fn change<R>(&self, change: impl FnOnce(&mut State) -> Result<R>) -> Result<R> {
        match &mut *self.phase() {
            Phase::In(state) => change(state),
            Phase::Out => Err(SwarmError::NotManager),
            Phase::Locked(_) => Err(SwarmError::Locked),
            Phase::Failed(reason, _) => Err(SwarmError::Failed(reason.clone())),
            Phase::Leaving(_) => Err(SwarmError::Leaving),
        }
    }

    /// Why its records cannot be read.
    pub fn failure(&self) -> Option<String> {
        match &*self.phase() {
            Phase::Failed(reason, _) => Some(reason.clone()),
            _ => None,
        }
    }

    /// Makes one. `own` is the node's address, `links` its interfaces. Returns the node's id.
    ///
    /// # Errors
    /// [`SwarmError::AlreadyIn`], [`SwarmError::Locked`], [`SwarmError::Leaving`], and those of what is wanted; then there is none.
    pub fn init(&self, init: Init, own: IpAddr, links: &[String]) -> Result<String> {
        let mut phase = self.phase();
        match &mut *phase {
            Phase::In(state) if init.force_new_cluster => {
                state.renew()?;
                return Ok(state.node.meta.id.clone());
            }
            Phase::In(_) => return Err(SwarmError::AlreadyIn),
            Phase::Locked(_) => return Err(SwarmError::Locked),
            Phase::Failed(reason, _) => return Err(SwarmError::Failed(reason.clone())),
            Phase::Leaving(_) => return Err(SwarmError::Leaving),
            Phase::Out => {}
        }
        let state = State::create(&self.dir, init, own, links)?;
        let id = state.node.meta.id.clone();
        *phase = Phase::In(Box::new(state));
        Ok(id)
    }

    /// Opens a locked one.
    ///
    /// # Errors
    /// [`SwarmError::NotManager`], [`SwarmError::NotLocked`], [`SwarmError::Wrong`], [`SwarmError::WrongKey`], and those of the disk.
    pub fn unlock(&self, key: &str) -> Result<()> {
        let mut phase = self.phase();
        let file = match &*phase {
            Phase::Locked(file) => file.clone(),
            Phase::In(_) => return Err(SwarmError::NotLocked),
            Phase::Out => return Err(SwarmError::NotManager),
            Phase::Failed(reason, _) => return Err(SwarmError::Failed(reason.clone())),
            Phase::Leaving(_) => return Err(SwarmError::Leaving),
        };
        let key = ids::parse_unlock_key(key)?;
        *phase = Phase::In(Box::new(State::open(&self.dir, file, Some(&key))?));
        Ok(())
    }

    /// Begins to leave, or goes on with it: from here on there is no swarm for anybody who asks.
    ///
    /// # Errors
    /// [`SwarmError::NotIn`], [`SwarmError::LastManager`], [`SwarmError::Locked`] without force, [`SwarmError::Disk`].
    pub fn leave(&self, force: bool) -> Result<Left> {
        let mut phase = self.phase();
        let mut file = match &*phase {
            Phase::Out => return Err(SwarmError::NotIn),
            Phase::In(_) if !force => return Err(SwarmError::LastManager),
            Phase::Locked(_) if !force => return Err(SwarmError::Locked),
            Phase::Failed(reason, _) if !force => return Err(SwarmError::Failed(reason.clone())),
            Phase::Failed(_, file) | Phase::Leaving(file) | Phase::Locked(file) => file.clone(),
            Phase::In(state) => state.key_file().clone(),
        };
        file.leave(&self.dir)?;
        let left = Left { node: file.node.clone() };
        *phase = Phase::Leaving(file);
        Ok(left)
    }

    /// One whose leaving a former daemon began.
    pub fn half_left(&self) -> Option<Left> {
        match &*self.phase() {
            Phase::Leaving(file) => Some(Left { node: file.node.clone() }),
            Phase::Out | Phase::Locked(_) | Phase::In(_) | Phase::Failed(..) => None,
        }
    }

    /// Forgets a swarm that was left, once what it had is gone.
    ///
    /// # Errors
    /// [`SwarmError::Disk`].
    pub fn gone(&self, _: &Left) -> Result<()> {
        let mut phase = self.phase();
        if let Phase::Leaving(_) = &*phase {
            erase(&self.dir)?;
            *phase = Phase::Out;
        }
        Ok(())
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is in a directory.
fn look(dir: &Path) -> Phase {
    let failed = |error: SwarmError, file| Phase::Failed(chain(&error), file);
    match KeyFile::read(dir) {
        Err(error) => failed(error, KeyFile::unknown()),
        Ok(None) => erase(dir).map_or_else(|error| failed(error, KeyFile::unknown()), |()| Phase::Out),
        Ok(Some(file)) if file.leaving => Phase::Leaving(file),
        Ok(Some(file)) if file.locked => Phase::Locked(file),
        Ok(Some(file)) => match State::open(dir, file.clone(), None) {
            Ok(state) => Phase::In(Box::new(state)),
            Err(error) => failed(error, file),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cluster::Rotate,
        node::{Availability, NodeSpec, Role},
        payload::PayloadKind,
    };

    fn open(dir: &Path) -> Swarm {
        Swarm::open(dir.join("swarm"))
    }

    fn init(swarm: &Swarm, text: &str) -> Result<String> {
        swarm.init(serde_json::from_str(text).unwrap(), "127.0.0.1".parse().unwrap(), &[])
    }

    fn payload(name: &str) -> crate::PayloadSpec {
        serde_json::from_str(&format!(r#"{{"Name":"{name}","Data":"eA=="}}"#)).unwrap()
    }

    #[test]
    fn a_swarm_and_what_it_has_outlive_the_daemon_until_it_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let swarm = open(dir.path());
        assert!(matches!(swarm.read(|_| ()), Err(SwarmError::NotManager)));
        assert!(matches!(swarm.leave(true), Err(SwarmError::NotIn)));
        let node = init(&swarm, "{}").unwrap();
        assert!(matches!(init(&swarm, "{}"), Err(SwarmError::AlreadyIn)));
        let id = swarm.change(|state| state.create_payload(PayloadKind::Secret, payload("a"))).unwrap();
        let again = open(dir.path());
        let seen = again.read(|state| {
            assert_eq!(state.find_payload(PayloadKind::Secret, "a").unwrap().meta.id, id);
            (state.node.meta.id.clone(), state.cluster.meta.version)
        });
        assert_eq!(seen.unwrap().0, node);
        assert!(matches!(again.leave(false), Err(SwarmError::LastManager)));
        let left = again.leave(true).unwrap();
        assert_eq!(left.node, node);
        assert!(matches!(init(&again, "{}"), Err(SwarmError::Leaving)));
        let third = open(dir.path());
        assert_eq!(third.half_left(), Some(left.clone()), "whoever comes next goes on");
        third.gone(&left).unwrap();
        assert_eq!(third.status(), Status::Inactive);
        assert!(!dir.path().join("swarm").exists());
    }

    #[test]
    fn a_locked_swarm_is_opened_by_the_key_that_was_told_last() {
        let dir = tempfile::tempdir().unwrap();
        let swarm = open(dir.path());
        init(&swarm, r#"{"AutoLockManagers":true}"#).unwrap();
        let first = swarm.read(|state| state.cluster.unlock_key()).unwrap();
        assert!(matches!(swarm.unlock(&first), Err(SwarmError::NotLocked)));
        let rotate = Rotate { unlock: true, ..Rotate::default() };
        let seen = swarm.read(|state| state.cluster.meta.version).unwrap();
        swarm.change(|state| state.update_cluster(seen, Default::default(), rotate)).unwrap();
        let second = swarm.read(|state| state.cluster.unlock_key()).unwrap();
        let again = open(dir.path());
        assert_eq!(again.status(), Status::Locked);
        assert!(matches!(again.read(|_| ()), Err(SwarmError::Locked)));
        assert!(matches!(again.unlock(&first), Err(SwarmError::WrongKey)));
        again.unlock(&second).unwrap();
        assert_eq!(again.read(|state| state.cluster.unlock_key()).unwrap(), second);
        assert!(open(dir.path()).leave(true).is_ok(), "a locked one can be left");
    }

    #[test]
    fn a_key_that_nobody_was_told_does_not_lock() {
        let dir = tempfile::tempdir().unwrap();
        let swarm = open(dir.path());
        init(&swarm, r#"{"AutoLockManagers":true}"#).unwrap();
        let told = swarm.read(|state| state.cluster.unlock_key()).unwrap();
        // As if huskd had ended between the record and the key.
        let key = std::fs::read(dir.path().join("swarm/key.json")).unwrap();
        let rotate = Rotate { unlock: true, ..Rotate::default() };
        swarm.change(|state| state.update_cluster(1, Default::default(), rotate)).unwrap();
        std::fs::write(dir.path().join("swarm/key.json"), key).unwrap();
        let again = open(dir.path());
        again.unlock(&told).unwrap();
        assert_eq!(again.read(|state| state.cluster.unlock_key()).unwrap(), told);
        let third = open(dir.path());
        third.unlock(&told).unwrap();
    }

    #[test]
    fn an_object_changes_only_from_the_version_that_was_seen() {
        let dir = tempfile::tempdir().unwrap();
        let swarm = open(dir.path());
        init(&swarm, r#"{"Availability":"pause"}"#).unwrap();
        let node = swarm.read(|state| state.node.clone()).unwrap();
        assert_eq!(node.spec.availability, Availability::Pause);
        let named = NodeSpec { name: "n1".into(), ..node.spec.clone() };
        swarm.change(|state| state.update_node(node.meta.version, named.clone())).unwrap();
        let late = swarm.change(|state| state.update_node(node.meta.version, named.clone()));
        assert!(matches!(late, Err(SwarmError::OutOfSequence)));
        let seen = swarm.read(|state| state.find_node("n1", "host").unwrap().meta.version).unwrap();
        assert!(seen > node.meta.version);
        let demoted = NodeSpec { role: Role::Worker, ..named };
        assert!(swarm.change(|state| state.update_node(seen, demoted)).is_err());
        for wanted in ["self", "host", &node.meta.id] {
            assert!(matches!(
                swarm.read(|state| state.remove_node(wanted, "host")).unwrap(),
                Err(SwarmError::Wrong(_))
            ));
        }
    }

    #[test]
    fn a_swarm_that_cannot_be_read_says_why_and_can_be_left() {
        let dir = tempfile::tempdir().unwrap();
        init(&open(dir.path()), "{}").unwrap();
        for broken in ["key.json", "nodes"] {
            let path = dir.path().join("swarm").join(broken);
            let path = if path.is_dir() {
                std::fs::read_dir(path).unwrap().next().unwrap().unwrap().path()
            } else {
                path
            };
            let whole = std::fs::read(&path).unwrap();
            std::fs::write(&path, b"no record").unwrap();
            let swarm = open(dir.path());
            assert_eq!(swarm.status(), Status::Failed);
            assert!(swarm.failure().unwrap().contains(&*path.to_string_lossy()));
            assert!(matches!(init(&swarm, "{}"), Err(SwarmError::Failed(_))));
            assert!(matches!(swarm.leave(false), Err(SwarmError::Failed(_))));
            std::fs::write(&path, whole).unwrap();
            assert_eq!(open(dir.path()).status(), Status::Active, "mended");
        }
        std::fs::write(dir.path().join("swarm/key.json"), b"no record").unwrap();
        let swarm = open(dir.path());
        let left = swarm.leave(true).unwrap();
        swarm.gone(&left).unwrap();
        init(&swarm, "{}").unwrap();
    }

    #[test]
    fn a_name_is_one_objects() {
        let dir = tempfile::tempdir().unwrap();
        let swarm = open(dir.path());
        init(&swarm, "{}").unwrap();
        let kind = PayloadKind::Config;
        let make = |name| swarm.change(|state| state.create_payload(kind, payload(name)));
        let id = make("a").unwrap();
        assert!(matches!(make("a"), Err(SwarmError::Exists { .. })));
        swarm.change(|state| state.remove_payload(kind, &id[..12])).unwrap();
        assert!(matches!(
            swarm.change(|state| state.remove_payload(kind, &id)),
            Err(SwarmError::Absent { .. })
        ));
        make("a").unwrap();
    }
}
