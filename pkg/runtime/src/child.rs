//! Both sides of a clone: the parent's handle ([`Child`]) and the child's link back ([`Link`]).

use std::{
    convert::Infallible,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

use husk_sys::{
    clone::{self, Alone, CloneOptions},
    fds, namespace, signal,
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::Mode,
    io::Errno,
    process::DumpableBehavior,
    thread::{ThreadNameSpaceType, UnshareFlags},
};

use crate::{
    Account, CgroupTarget, Error, Failure, Ready, Report, Result, Step,
    channel::{self, Message},
    failure::At,
    nsfd, stdio,
};

/// A process of ours. Dropping it before the gate was opened makes the child exit; it must be reaped in any case.
#[derive(Debug)]
pub struct Child {
    /// Process id in the caller's PID namespace. It stays this child's until the caller reaps it; [`Self::pidfd`] is what
    /// survives that.
    pub pid: u32,
    /// For epoll, signals and `waitid(P_PIDFD)`.
    pub pidfd: OwnedFd,
    socket: OwnedFd,
    state: State,
    /// Whether Ready is told to the caller. Pause has nothing to say between its birth and execve.
    tells_ready: bool,
    /// The socket of the successor that it may have.
    successor: Option<OwnedFd>,
    /// Whether it has yet to tell the listener of its filter.
    listens: bool,
}

/// Whether another process may take over from a child. Nobody but the first one may say so, once: its successor may be
/// seen by a container, and be made to speak by a tracer there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Succession {
    /// Never, or not any more.
    No,
    /// Once. The successor begins as soon as its parent knows of it: what it says must not overtake the news of it.
    Once,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Working,
    /// Set up: from here an EOF is a successful execve, or death by a signal, which the pidfd tells.
    Ready,
}

impl Child {
    /// Becomes readable when [`Self::read_report`] has something.
    pub fn report_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The next report, or `None` if there is none yet. Never blocks. After `Failed` or `Executed` there is none any
    /// more, and [`Self::report_fd`] need not be watched.
    ///
    /// # Errors
    /// When the parent cannot read its own socket.
    pub fn read_report(&mut self) -> Result<Option<Report>> {
        loop {
            match channel::receive(self.socket.as_fd()) {
                Ok(Some((Message::Ready { account, warnings }, terminal))) => {
                    (self.state, self.successor) = (State::Ready, None);
                    if self.tells_ready {
                        return Ok(Some(Report::Ready(Ready { account, terminal, warnings })));
                    }
                }
                Ok(Some((Message::Prepared, _))) => return Ok(Some(Report::Prepared)),
                Ok(Some((Message::Successor { pid }, pidfd))) => return self.follow(pid, pidfd).map(Some),
                Ok(Some((Message::Listener, listener))) => {
                    // Whoever may trace it in there may speak through it: more than the plan has is not taken.
                    let taken = listener.filter(|_| std::mem::take(&mut self.listens));
                    let intent = "receive the listener of a filter";
                    return taken
                        .map(Report::Listener)
                        .map(Some)
                        .ok_or(Error::Sys { intent, source: Errno::PROTO });
                }
                Ok(Some((Message::Failed(failure), _))) => return Ok(Some(Report::Failed(failure))),
                Ok(None) if self.state == State::Ready => return Ok(Some(Report::Executed)),
                Ok(None) => {
                    return Ok(Some(Report::Failed(Failure {
                        step: Step::Died,
                        object: String::new(),
                        errno: None,
                        detail: "it was killed before it was set up".to_owned(),
                    })));
                }
                Err(Errno::AGAIN) => return Ok(None),
                Err(source) => return Err(Error::Sys { intent: "read a child's report", source }),
            }
        }
    }

    /// As [`Self::read_report`], for a caller that has nothing else to do: waits for one. What a child that moved left is
    /// reaped.
    ///
    /// # Errors
    /// As [`Self::read_report`].
    pub fn await_report(&mut self) -> Result<Report> {
        loop {
            match self.read_report()? {
                Some(Report::Moved { .. }) | None => {}
                Some(report) => return Ok(report),
            }
            match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(source) => return Err(Error::Sys { intent: "wait for a child's report", source }),
            }
        }
    }

    /// Takes the successor for the child, once, and lets it begin.
    fn follow(&mut self, pid: u32, pidfd: Option<OwnedFd>) -> Result<Report> {
        let (Some(socket), Some(pidfd)) = (self.successor.take(), pidfd) else {
            return Err(Error::Sys { intent: "receive the successor of a child", source: Errno::PROTO });
        };
        (self.pid, self.pidfd) = (pid, pidfd);
        let former = std::mem::replace(&mut self.socket, socket);
        // If it is gone already, its end tells.
        let _ = channel::send_go(self.socket.as_fd());
        Ok(Report::Moved { former })
    }

    /// Lets a [`Report::Ready`] container go on to `execve`, a [`Report::Prepared`] one to its root, or a pause in a user
    /// namespace begin. Exec'd processes have a gate only if they are held.
    ///
    /// # Errors
    /// `EPIPE` when the child is gone.
    pub fn open_gate(&mut self) -> io::Result<()> {
        Ok(channel::send_go(self.socket.as_fd())?)
    }

    /// The user namespace the child is in. It must not have been reaped.
    ///
    /// # Errors
    /// Those of opening `/proc/<pid>/ns/user`.
    pub fn user_namespace(&self) -> Result<OwnedFd> {
        nsfd::user_of(self.pid)
    }
}

// === the child's side ===

/// How to clone a child.
pub(crate) struct Launch<'plan> {
    pub namespaces: UnshareFlags,
    /// Whose PID namespace the child is born in; none is the caller's.
    pub pid_namespace_of: Option<BorrowedFd<'plan>>,
    pub cgroup: &'plan CgroupTarget,
    /// Asked for another v2 group when that one takes no processes, since it hands controllers down.
    pub elsewhere: &'plan mut dyn FnMut() -> Option<OwnedFd>,
    /// Descriptors of the plan that the child uses; all others are closed in it.
    pub keep: Vec<RawFd>,
    pub tells_ready: bool,
    pub succession: Succession,
    /// Whether it tells the listener of its filter.
    pub listens: bool,
}

/// The child's end of the report socket.
pub(crate) struct Link {
    socket: OwnedFd,
    /// That of a successor.
    next: Option<OwnedFd>,
    alone: Alone,
    /// Whether a failure that the parent is not there to hear is told on standard error.
    speaks: bool,
    /// The parent's mode mask. Its own is empty.
    parents_umask: Mode,
}

impl Link {
    pub(crate) fn ready(
        &self,
        account: &Account,
        warnings: Vec<String>,
        terminal: Option<BorrowedFd<'_>>,
    ) -> Result<(), Failure> {
        let message = Message::Ready { account: account.clone(), warnings };
        channel::send(self.socket.as_fd(), &message, terminal).at(Step::Gate, "")
    }

    /// Tells the parent that the namespaces and mounts are there, and waits for its word.
    pub(crate) fn prepared(&self) -> Result<(), Failure> {
        channel::send(self.socket.as_fd(), &Message::Prepared, None).at(Step::Gate, "")?;
        self.wait_gate()
    }

    /// Hands over the listener of the filter that was loaded.
    pub(crate) fn listener(&self, listener: &OwnedFd) -> Result<(), Failure> {
        channel::send(self.socket.as_fd(), &Message::Listener, Some(listener.as_fd()))
            .at(Step::Seccomp, "listener")
    }

    /// Waits for the parent's word. A parent that died or dropped us gives none: then there is nobody to report to.
    pub(crate) fn wait_gate(&self) -> Result<(), Failure> {
        if !channel::wait_go(self.socket.as_fd()).at(Step::Gate, "")? {
            clone::exit(1);
        }
        Ok(())
    }

    /// Leaves the rest to a new process, in new namespaces and in the PID namespace that children go to, a child of our
    /// parent's, and ends this one. The new one begins when the parent knows of it.
    pub(crate) fn succeed(
        &mut self,
        namespaces: UnshareFlags,
        body: impl FnOnce(&mut Self) -> Result<Infallible, Failure>,
    ) -> Result<Infallible, Failure> {
        let next = self.next.take().ok_or(Errno::PROTO).at(Step::Prepare, "a successor")?;
        let alone = self.alone;
        // It owns the successor's socket: our copy closes with it when the clone returns.
        let sibling = || -> Infallible {
            self.socket = next;
            let session = rustix::process::setsid().at(Step::Prepare, "session");
            // Not before the parent knows of us: it would take what we say, and our predecessor's end, for the same process's.
            match session.and_then(|_| self.wait_gate()).and_then(|()| body(self)) {
                Ok(never) => never,
                Err(failure) => self.fail(failure),
            }
        };
        let successor =
            clone::sibling(&alone, namespaces, sibling).at(Step::Namespaces, "of the container")?;
        let message = Message::Successor { pid: successor.pid };
        // When nobody is there to be told, the successor finds nobody at its gate either.
        let _ = channel::send(self.socket.as_fd(), &message, Some(successor.pidfd.as_fd()));
        clone::exit(0)
    }

    /// As [`Self::succeed`], where others may see the new process: it has the report socket, the standard streams and `keep`
    /// open, and nothing else.
    pub(crate) fn appear(
        &mut self,
        keep: Vec<RawFd>,
        body: impl FnOnce(&mut Self) -> Result<Infallible, Failure>,
    ) -> Result<Infallible, Failure> {
        self.hold_only(keep)?;
        self.succeed(UnshareFlags::empty(), body)
    }

    /// Lets go of all descriptors but `keep`, the standard streams and our own: whoever may look at the process finds nothing of the
    /// node (the class of CVE-2024-21626). Their owners must not be dropped afterwards.
    pub(crate) fn hold_only(&self, mut keep: Vec<RawFd>) -> Result<(), Failure> {
        keep.push(self.socket.as_raw_fd());
        keep.extend(self.next.as_ref().map(AsRawFd::as_raw_fd));
        fds::close_all_but(&mut keep).at(Step::Prepare, "")
    }

    /// The mode mask of the parent, for what is run in its name.
    pub(crate) fn parents_umask(&self) -> Mode {
        self.parents_umask
    }

    /// For a child that may outlive its parent: from here on it says on standard error what it cannot tell anybody.
    pub(crate) fn speak_up(&mut self) {
        self.speaks = true;
    }

    fn fail(&self, failure: Failure) -> ! {
        let text = self.speaks.then(|| format!("{failure}\n"));
        // The parent sees an EOF, which it takes for a death, if it cannot be told.
        let told = channel::send(self.socket.as_fd(), &Message::Failed(failure), None);
        if let (Err(_), Some(text)) = (told, text) {
            let _ = rustix::io::write(rustix::stdio::stderr(), text.as_bytes());
        }
        clone::exit(1)
    }
}

/// How often another group is looked for: whoever is asked may name one that hands controllers down by then.
const MAX_MOVES: usize = 4;

/// For a child whose group is its own: there is no other.
pub(crate) fn nowhere_else() -> Option<OwnedFd> {
    None
}

/// Clones a child that runs `body`, which either becomes another program or returns why not.
pub(crate) fn launch(
    launch: Launch<'_>,
    body: impl FnOnce(&mut Link) -> Result<Infallible, Failure>,
) -> Result<Child> {
    let sys = |intent| move |source| Error::Sys { intent, source };
    let pair = || channel::pair().map_err(sys("make the report socket"));
    let (parent_end, child_end) = pair()?;
    let (successor, next) = match launch.succession {
        Succession::Once => pair().map(|(parent_end, child_end)| (Some(parent_end), Some(child_end)))?,
        Succession::No => (None, None),
    };
    let (namespaces, elsewhere) = (launch.namespaces, launch.elsewhere);
    let (cgroup, mut keep) = (launch.cgroup, launch.keep);
    keep.extend(cgroup.procs.iter().map(AsRawFd::as_raw_fd));
    keep.push(child_end.as_raw_fd());
    keep.extend(next.as_ref().map(AsRawFd::as_raw_fd));
    signal::survey();
    // The closure owns the child's ends: the parent's copies close with it when the clone returns.
    let mut child = Some(move |alone| -> Infallible {
        let parents_umask = rustix::process::umask(Mode::empty());
        let mut link = Link { socket: child_end, next, alone, speaks: false, parents_umask };
        let failure = match prepare(&mut keep, cgroup).and_then(|()| body(&mut link)) {
            Ok(never) => match never {},
            Err(failure) => failure,
        };
        link.fail(failure)
    });
    let mut attempt = |into_cgroup: Option<BorrowedFd<'_>>| {
        let child = |alone| match child.take() {
            Some(child) => child(alone),
            None => clone::exit(1),
        };
        clone::clone(CloneOptions { namespaces, into_cgroup }, child)
    };
    let cloned = in_pid_namespace(launch.pid_namespace_of, || {
        let mut cloned = attempt(cgroup.unified.as_ref().map(AsFd::as_fd));
        for _ in 0..MAX_MOVES {
            match &cloned {
                Err(error) if error.errno() == Errno::BUSY => {}
                _ => break,
            }
            let Some(other) = elsewhere() else { break };
            cloned = attempt(Some(other.as_fd()));
        }
        cloned.map_err(|source| Error::Call { intent: "clone the child", source })
    })?;
    // Our copies of its ends.
    drop(child);
    Ok(Child {
        pid: cloned.pid,
        pidfd: cloned.pidfd,
        socket: parent_end,
        state: State::Working,
        tells_ready: launch.tells_ready,
        successor,
        listens: launch.listens,
    })
}

/// Runs `clone` with the thread's children going to another PID namespace, and puts that right afterwards.
fn in_pid_namespace<T>(of: Option<BorrowedFd<'_>>, clone: impl FnOnce() -> Result<T>) -> Result<T> {
    let Some(of) = of else { return clone() };
    let call = |intent| move |source| Error::Call { intent, source };
    let own = clone::own_pidfd().map_err(call("open the monitor's own pidfd"))?;
    namespace::join(of, ThreadNameSpaceType::PROCESS_ID).map_err(call("enter the PID namespace"))?;
    let result = clone();
    // Joining the namespace one is a member of is always permitted to whoever could leave it.
    namespace::join(own, ThreadNameSpaceType::PROCESS_ID).map_err(call("leave the PID namespace"))?;
    result
}

/// First steps of every child.
fn prepare(keep: &mut [RawFd], cgroup: &CgroupTarget) -> Result<(), Failure> {
    // First of all, so that no descriptor of another pod's process stays open while this one waits.
    fds::close_all_but(keep).at(Step::Prepare, "")?;
    // Nobody inside may trace us or reach us through /proc/<pid> before execve (CVE-2019-5736 and its kin).
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).at(Step::Prepare, "dumpable")?;
    signal::reset();
    rustix::process::setsid().at(Step::Prepare, "session")?;
    for procs in &cgroup.procs {
        rustix::io::write(procs, b"0").at(Step::Cgroup, "tasks or cgroup.procs")?;
    }
    stdio::null_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_child_said_is_heard_though_it_ended_before_its_gate() {
        let (socket, child_end) = channel::pair().unwrap();
        let pidfd = child_end.try_clone().unwrap();
        let mut child = Child {
            pid: 1,
            pidfd,
            socket,
            state: State::Working,
            tells_ready: false,
            successor: None,
            listens: false,
        };
        let said = Failure::because(Step::Namespaces, "/nonexistent/netns", "not there");
        channel::send(child_end.as_fd(), &Message::Failed(said.clone()), None).unwrap();
        child.open_gate().unwrap();
        child.pidfd = std::fs::File::open("/dev/null").unwrap().into();
        drop(child_end);
        assert!(
            matches!(child.read_report(), Ok(Some(Report::Failed(heard))) if heard.object == said.object)
        );
        assert!(child.open_gate().is_err(), "it is gone");
    }

    #[test]
    fn a_child_has_one_successor_which_has_none() {
        let ((socket, first), (successor, second)) = (channel::pair().unwrap(), channel::pair().unwrap());
        let pidfd = first.try_clone().unwrap();
        let (state, successor) = (State::Working, Some(successor));
        let mut child = Child { pid: 1, pidfd, socket, state, tells_ready: true, successor, listens: false };
        let announce = |socket: &OwnedFd, pid| {
            channel::send(socket.as_fd(), &Message::Successor { pid }, Some(first.as_fd())).unwrap();
        };
        announce(&first, 2);
        assert!(matches!(child.read_report(), Ok(Some(Report::Moved { .. }))));
        assert!(channel::wait_go(second.as_fd()).unwrap(), "it begins");
        announce(&second, 3);
        assert!(child.read_report().is_err(), "a tracer may speak through it");
        assert_eq!(child.pid, 2);
        // What the predecessor still has open is nothing to the successor's end.
        child.state = State::Ready;
        drop(second);
        assert!(matches!(child.read_report(), Ok(Some(Report::Executed))));
    }

    #[test]
    fn a_listener_is_taken_once_and_only_of_a_filter_that_has_one() {
        let hear = |listens, times| {
            let (socket, child_end) = channel::pair().unwrap();
            let pidfd = child_end.try_clone().unwrap();
            let (state, tells_ready, successor) = (State::Working, true, None);
            let mut child = Child { pid: 1, pidfd, socket, state, tells_ready, successor, listens };
            for _ in 0..times {
                channel::send(child_end.as_fd(), &Message::Listener, Some(child_end.as_fd())).unwrap();
            }
            (0..times)
                .map(|_| matches!(child.read_report(), Ok(Some(Report::Listener(_)))))
                .collect::<Vec<_>>()
        };
        assert_eq!(hear(true, 2), [true, false]);
        assert_eq!(hear(false, 1), [false]);
    }
}
