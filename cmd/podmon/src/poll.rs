//! Waiting: epoll for descriptors, an ordered set for deadlines.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::{
        Timespec,
        epoll::{self, CreateFlags, Event, EventData, EventFlags},
    },
    io::Errno,
};

/// Names a container, an exec or a connection inside this process. Never reused, so that an event that was fetched
/// before its object went away finds nothing.
pub type Key = u32;

macro_rules! sources {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// What a descriptor that became ready, or a deadline that passed, belongs to.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Source {
            $($(#[$doc])* $name(Key),)*
        }

        impl Source {
            fn to_u64(self) -> u64 {
                match self { $(Self::$name(key) => ($number << 32) | u64::from(key),)* }
            }

            fn from_u64(value: u64) -> Option<Self> {
                let key = value as u32;
                match value >> 32 { $($number => Some(Self::$name(key)),)* _ => None }
            }
        }
    };
}

sources! {
    /// The listening socket.
    Listener = 0,
    /// The signalfd that tells of children.
    Signals = 1,
    /// A client.
    Connection = 2,
    /// The report socket of pause.
    PauseReport = 3,
    /// The sandbox's cgroup may be empty now, or has to be killed on.
    PauseCgroup = 4,
    /// The report socket of a container's init.
    InitReport = 5,
    /// A container's stdout or terminal.
    InitStdout = 6,
    /// A container's stderr.
    InitStderr = 7,
    /// A container's stdin or terminal can be written to.
    InitStdin = 8,
    /// Deadline: a container's grace is over.
    InitGrace = 9,
    /// Deadline: an ended container's output is not waited for any longer.
    InitDrain = 10,
    /// A container's cgroup may be empty now, or has to be killed on.
    InitCgroup = 11,
    /// The report socket of an exec.
    ExecReport = 12,
    /// Its stdout.
    ExecStdout = 13,
    /// Its stderr.
    ExecStderr = 14,
    /// Deadline: its time is up.
    ExecTimeout = 15,
    /// Deadline: its output is not waited for any longer.
    ExecDrain = 16,
    /// Deadline: the record of a container could not be written and is tried again.
    InitRecord = 20,
    /// Deadline: that of the sandbox.
    PauseRecord = 21,
    /// An attached client sent input or closed.
    AttachInput = 17,
    /// An attached client can take output again.
    AttachOutput = 18,
    /// Deadline: cgroups of a container's execs may be empty now.
    ExecCgroups = 19,
    /// The cgroup of an exec may be empty now, or has to be killed on.
    ExecCgroup = 22,
}

/// What to wait for on a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Input, or the other end's close.
    Read,
    /// Room for output.
    Write,
    /// Either.
    Both,
    /// A change of what a file of the kernel says.
    Change,
}

impl Interest {
    fn flags(self) -> EventFlags {
        match self {
            Interest::Read => EventFlags::IN,
            Interest::Write => EventFlags::OUT,
            Interest::Both => EventFlags::IN | EventFlags::OUT,
            Interest::Change => EventFlags::PRI,
        }
    }
}

/// The one place where this process waits.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
    due: BTreeSet<(Instant, u64)>,
    deadlines: BTreeMap<u64, Instant>,
}

/// Events taken per wait. A few, so that a flood on one descriptor cannot starve the others for long.
const BATCH: usize = 16;

impl Poller {
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, due: BTreeSet::new(), deadlines: BTreeMap::new() })
    }

    pub fn add(&self, fd: impl AsFd, source: Source, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, EventData::new_u64(source.to_u64()), interest.flags())?)
    }

    pub fn modify(&self, fd: impl AsFd, source: Source, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, fd, EventData::new_u64(source.to_u64()), interest.flags())?)
    }

    /// To be called before the descriptor is closed: a child that has not yet executed its command holds a copy, which
    /// would keep the registration alive.
    pub fn remove(&self, fd: impl AsFd) {
        // Fails only for a descriptor that was never added.
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Sets or moves a deadline.
    pub fn set_deadline(&mut self, source: Source, at: Instant) {
        self.clear_deadline(source);
        self.deadlines.insert(source.to_u64(), at);
        self.due.insert((at, source.to_u64()));
    }

    pub fn deadline(&self, source: Source) -> Option<Instant> {
        self.deadlines.get(&source.to_u64()).copied()
    }

    pub fn clear_deadline(&mut self, source: Source) {
        if let Some(at) = self.deadlines.remove(&source.to_u64()) {
            self.due.remove(&(at, source.to_u64()));
        }
    }

    /// Waits for something to happen and returns what did. Passed deadlines are cleared.
    pub fn wait(&mut self) -> io::Result<Vec<Source>> {
        let timeout = self.due.first().map(|(at, _)| timespec(at.saturating_duration_since(Instant::now())));
        let empty = Event { flags: EventFlags::empty(), data: EventData::new_u64(u64::MAX) };
        let mut events = [empty; BATCH];
        let count = match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
            Ok(count) => count,
            Err(Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        let mut sources: Vec<Source> = Vec::with_capacity(count + 2);
        sources.extend(events[..count].iter().filter_map(|event| Source::from_u64({ event.data }.u64())));
        let now = Instant::now();
        while let Some(&(at, value)) = self.due.first() {
            if at > now {
                break;
            }
            self.due.pop_first();
            self.deadlines.remove(&value);
            sources.extend(Source::from_u64(value));
        }
        Ok(sources)
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: duration.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_come_in_order_and_a_moved_one_comes_once() {
        let mut poller = Poller::new().unwrap();
        let now = Instant::now();
        poller.set_deadline(Source::InitGrace(1), now + Duration::from_secs(100));
        poller.set_deadline(Source::ExecTimeout(2), now);
        poller.set_deadline(Source::InitGrace(1), now);
        assert_eq!(poller.wait().unwrap(), [Source::InitGrace(1), Source::ExecTimeout(2)]);
        assert_eq!(poller.deadline(Source::InitGrace(1)), None);
    }

    #[test]
    fn a_readable_pipe_is_reported_with_its_source_until_it_is_removed() {
        let mut poller = Poller::new().unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        poller.add(&read, Source::ExecStderr(7), Interest::Read).unwrap();
        rustix::io::write(&write, b"x").unwrap();
        assert_eq!(poller.wait().unwrap(), [Source::ExecStderr(7)]);
        poller.remove(&read);
        poller.set_deadline(Source::Signals(0), Instant::now());
        assert_eq!(poller.wait().unwrap(), [Source::Signals(0)]);
    }
}
