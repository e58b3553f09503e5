//! The part of a container's set-up that happens inside its namespaces: mounts, devices, masks, the root, the user, the gate. It is
//! the same for a container of a pod and for one that stands alone, which has a few steps more ([`Alone`]).

use std::{
    convert::Infallible,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    path::Path,
};

use husk_model::{IdMaps, Stdio, UserRequest};
use husk_sys::{
    mount,
    mount::{Attr, Change},
    root::{Node, Root},
};
use oci_spec::runtime::{LinuxDevice, Spec};
use rustix::fs::Mode;

use crate::{
    Account, Failure, Identity, Step,
    child::Link,
    failure::At,
    process::{self, Confined, Program},
    rootfs::{
        attach, dev,
        mask::{self, Covers},
        pivot,
        planned::Planned,
    },
    stdio,
    terminal::{self, Terminal},
    user, userns,
};

/// What a container that stands alone does besides what one of a pod does.
pub(crate) trait Alone {
    /// Before the root is entered: hooks of the node, by the caller, and those in its namespaces. Then the labels that hooks are not
    /// to have.
    fn before_root(&self, link: &Link, root: &Root, program: &Program) -> Result<(), Failure>;

    /// Before the user changes: what takes the privileges of the node.
    fn schedule(&self) -> Result<(), Failure>;

    /// Waits for the start, and runs the last hooks.
    fn start(&self, link: &mut Link, confined: &Confined) -> Result<(), Failure>;

    /// How many descriptors behind the first three its program gets.
    fn inherited(&self) -> u32;

    /// What it waits at.
    fn waits_at(&self) -> BorrowedFd<'_>;

    /// Whether its root is entered by pivot_root(2).
    fn pivots(&self) -> bool;
}

/// What is to be built.
pub(crate) struct Interior<'plan> {
    pub(crate) spec: &'plan Spec,
    pub(crate) who: Who<'plan>,
    /// Of its user namespace.
    pub(crate) mappings: Option<&'plan IdMaps>,
    pub(crate) stdio: &'plan Stdio<OwnedFd>,
    pub(crate) readonly: bool,
    /// Others are in its PID namespace already, and see nothing of it before it is confined.
    pub(crate) joins: bool,
    /// The steps of one that has no pod.
    pub(crate) alone: Option<&'plan dyn Alone>,
}

/// Who it runs as.
pub(crate) enum Who<'plan> {
    Request(&'plan UserRequest),
    Identity(&'plan Identity),
}

/// What it is built of, in the container's own mount namespace.
pub(crate) struct Materials {
    /// Its root, attached.
    pub(crate) root: Root,
    pub(crate) mounts: Vec<Planned>,
    /// The pod's shared memory.
    pub(crate) shm: Option<OwnedFd>,
    /// Of a PID namespace that others are in.
    pub(crate) procfs: Option<OwnedFd>,
    pub(crate) covers: Covers,
    /// What could not be done so far and was left out.
    pub(crate) warnings: Vec<String>,
}

impl Interior<'_> {
    /// From the mounts to execve.
    pub(crate) fn build(
        &self,
        program: Program,
        link: &mut Link,
        materials: Materials,
    ) -> Result<Infallible, Failure> {
        let Materials { root, mounts, shm, procfs, covers, mut warnings } = materials;
        let bare = self.alone.is_some() && !mounts.iter().any(|mount| mount.destination == Path::new("/dev"));
        let attached = attach::all(&root, mounts, shm, procfs)?;
        let of_root = bare.then(|| dev::of_root(&root)).transpose()?;
        let own_dev = attached.dev.as_ref().or(of_root.as_ref());
        if let Some(dev) = own_dev {
            dev::furnish(&root, dev, self.devices())?;
        }
        if let Some(alone) = &self.alone {
            alone.before_root(link, &root, &program)?;
        }
        let account = self.account(&root)?;
        let terminal = self.terminal(&root, own_dev.is_some())?;
        root.ensure(&program.cwd, Node::Directory, Mode::from_raw_mode(0o755))
            .at(Step::WorkDir, program.cwd.display())?;
        attach::finish(attached)?;
        self.restrict(&root, &covers)?;
        self.enter(&root)?;
        match &terminal {
            Some(terminal) => terminal.install(account.user.uid)?,
            None => stdio::install(self.stdio, &root, &account.user)?,
        }
        // Who is told that we are ready may look at what we hold.
        drop((root, covers, of_root));
        let inherited = self.alone.map_or(0, Alone::inherited);
        if let Some(alone) = &self.alone {
            alone.schedule()?;
        }
        let (mut confined, warning) = program.confine(&account, inherited)?;
        warnings.extend(warning);
        let mut shown: Vec<RawFd> =
            terminal.iter().flat_map(Terminal::descriptors).map(|fd| fd.as_raw_fd()).collect();
        shown.extend(process::inherited(inherited));
        let rest = |link: &mut Link| {
            if let Some(terminal) = &terminal {
                terminal.control()?;
            }
            confined.restrict()?;
            if self.alone.is_some() {
                confined.find()?;
            }
            confined.listen(link)?;
            link.ready(&account, warnings, terminal.as_ref().map(|terminal| terminal.master.as_fd()))?;
            link.wait_gate()?;
            if let Some(alone) = &self.alone {
                // What the caller holds of it is not the container's.
                drop(terminal);
                alone.start(link, &confined)?;
            }
            confined.execute()
        };
        if self.joins {
            return link.appear(shown, rest);
        }
        if let Some(alone) = &self.alone {
            // It may wait for its start for long, and others of the container may be there meanwhile.
            shown.push(alone.waits_at().as_raw_fd());
            link.hold_only(shown)?;
        }
        rest(link)
    }

    fn devices(&self) -> &[LinuxDevice] {
        self.spec.linux().as_ref().and_then(|linux| linux.devices().as_deref()).unwrap_or_default()
    }

    fn account(&self, root: &Root) -> Result<Account, Failure> {
        let account = match self.who {
            Who::Request(request) => user::resolve(root, request)?,
            Who::Identity(identity) => user::identify(root, identity)?,
        };
        if let Some(mappings) = self.mappings {
            userns::check_user(mappings, &account.user)?;
        }
        Ok(account)
    }

    fn terminal(&self, root: &Root, own_dev: bool) -> Result<Option<Terminal>, Failure> {
        let Stdio::Terminal(size) = self.stdio else { return Ok(None) };
        let terminal = terminal::open(root, *size)?;
        if own_dev {
            dev::console(root, terminal.slave.as_fd())?;
        }
        Ok(Some(terminal))
    }

    fn restrict(&self, root: &Root, covers: &Covers) -> Result<(), Failure> {
        let Some(linux) = self.spec.linux() else { return Ok(()) };
        mask::readonly(root, linux.readonly_paths().as_deref().unwrap_or_default())?;
        mask::hide(root, linux.masked_paths().as_deref().unwrap_or_default(), covers)
    }

    fn enter(&self, root: &Root) -> Result<(), Failure> {
        match &self.alone {
            Some(alone) if !alone.pivots() => pivot::enter_without_pivot(root)?,
            _ => pivot::enter(root)?,
        }
        if self.readonly {
            mount::change(root, false, Change::set(Attr::MOUNT_ATTR_RDONLY)).at(Step::Readonly, "/")?;
        }
        let linux = self.spec.linux().as_ref();
        let propagation = linux.and_then(|linux| linux.rootfs_propagation().as_deref());
        pivot::propagate(root, propagation.unwrap_or_default())
    }
}
