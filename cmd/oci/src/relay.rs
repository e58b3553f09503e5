//! What goes between a container's terminal and the streams of whoever called us.
//!
//! ```text
//! terminal ──▶ shown ──▶ standard output
//! terminal ◀── typed ◀── standard input
//! ```
//!
//! Each way holds what it has read until it is written, and is read no further while it is full; neither ever waits for the other, or
//! for anybody. An end is waited for only while something is to be done there, so one that has hung up is no reason to look again and
//! again. The terminal is held open from the container's side too: that all of the container have closed it is no hangup, and who
//! opens it again is shown.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
};

use rustix::{
    event::PollFlags,
    fs::{FileType, Mode, OFlags},
    io::Errno,
    net::SendFlags,
    pty::{OpenptFlags, ioctl_tiocgptpeer},
    termios::isatty,
};

/// Most that one way holds.
const FULL: usize = 64 << 10;
/// Most that is written at once to what cannot be asked not to wait: a pipe that is ready takes it (PIPE_BUF).
const CHUNK: usize = 4096;

/// One end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The container's terminal.
    Terminal,
    /// Our standard input.
    Input,
    /// Our standard output.
    Output,
}

/// Both ways.
pub(crate) struct Relay {
    terminal: OwnedFd,
    /// The container's side of it, where the kernel gives it (Linux 4.13).
    _held: Option<OwnedFd>,
    input: Stream,
    output: Stream,
    shown: Flow,
    typed: Flow,
}

impl Relay {
    /// Between a terminal and two streams.
    ///
    /// # Errors
    /// Those of fcntl(2).
    pub(crate) fn new(terminal: OwnedFd, input: BorrowedFd<'_>, output: BorrowedFd<'_>) -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&terminal)?;
        rustix::fs::fcntl_setfl(&terminal, flags | OFlags::NONBLOCK)?;
        let held =
            ioctl_tiocgptpeer(&terminal, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).ok();
        let (input, output) = (Stream::of(input, OFlags::RDONLY)?, Stream::of(output, OFlags::WRONLY)?);
        Ok(Self { terminal, _held: held, input, output, shown: Flow::default(), typed: Flow::default() })
    }

    /// The terminal, for its size.
    pub(crate) fn terminal(&self) -> BorrowedFd<'_> {
        self.terminal.as_fd()
    }

    /// Each end at which something is to be done, and what.
    pub(crate) fn awaited(&self) -> Vec<(End, PollFlags)> {
        let mut terminal = PollFlags::empty();
        terminal.set(PollFlags::IN, self.shown.takes());
        terminal.set(PollFlags::OUT, self.typed.gives());
        let of = |wanted: bool, flag| if wanted { flag } else { PollFlags::empty() };
        let all = [
            (End::Terminal, terminal),
            (End::Input, of(self.typed.takes(), PollFlags::IN)),
            (End::Output, of(self.shown.gives(), PollFlags::OUT)),
        ];
        all.into_iter().filter(|(_, flags)| !flags.is_empty()).collect()
    }

    /// What to wait at.
    pub(crate) fn fd(&self, end: End) -> BorrowedFd<'_> {
        match end {
            End::Terminal => self.terminal.as_fd(),
            End::Input => self.input.fd.as_fd(),
            End::Output => self.output.fd.as_fd(),
        }
    }

    /// Does what can be done at an end that is ready.
    pub(crate) fn serve(&mut self, end: End) {
        match end {
            End::Terminal => {
                self.typed.give(|bytes| rustix::io::write(&self.terminal, bytes));
                self.show();
            }
            End::Input => drop(self.typed.take(|space| rustix::io::read(&self.input.fd, space))),
            End::Output => self.shown.give(|bytes| self.output.write(bytes)),
        }
        if !self.typed.writes {
            // One that has gone is told nothing any more.
            self.typed.reads = false;
        }
    }

    /// Reads what the terminal has, as far as there is room, and returns how much that was.
    pub(crate) fn show(&mut self) -> usize {
        self.shown.take(|space| rustix::io::read(&self.terminal, space))
    }
}

/// One way.
struct Flow {
    held: Vec<u8>,
    /// Whether there may be more to read.
    reads: bool,
    /// Whether there is somebody to write to. What is read for nobody is forgotten: a container whose output nobody reads runs on.
    writes: bool,
}

impl Default for Flow {
    fn default() -> Self {
        Self { held: Vec::new(), reads: true, writes: true }
    }
}

impl Flow {
    fn takes(&self) -> bool {
        self.reads && self.held.len() < FULL
    }

    fn gives(&self) -> bool {
        self.writes && !self.held.is_empty()
    }

    /// Reads once. EIO is the end of a terminal.
    fn take(&mut self, read: impl FnOnce(&mut [u8]) -> rustix::io::Result<usize>) -> usize {
        let before = self.held.len();
        if !self.takes() {
            return 0;
        }
        self.held.resize(FULL, 0);
        let outcome = read(&mut self.held[before..]);
        let count = outcome.unwrap_or(0);
        self.reads = match outcome {
            Ok(count) => count > 0,
            Err(errno) => matches!(errno, Errno::AGAIN | Errno::INTR),
        };
        self.held.truncate(if self.writes { before + count } else { 0 });
        count
    }

    /// Writes once.
    fn give(&mut self, write: impl FnOnce(&[u8]) -> rustix::io::Result<usize>) {
        if !self.gives() {
            return;
        }
        match write(&self.held) {
            Ok(count) => drop(self.held.drain(..count)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => {
                self.writes = false;
                self.held.clear();
            }
        }
    }
}

/// A stream of ours that nobody is waited for at.
struct Stream {
    fd: OwnedFd,
    kind: FileType,
    /// Whether the description is ours alone, and so can be one that does not wait.
    own: bool,
}

impl Stream {
    /// Whoever else has the stream has not asked for one that does not wait: pipes and terminals are opened once more for that.
    fn of(stream: BorrowedFd<'_>, access: OFlags) -> io::Result<Self> {
        let kind = FileType::from_raw_mode(rustix::fs::fstat(stream)?.st_mode);
        let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let again = || {
            let path = format!("/proc/self/fd/{}", stream.as_raw_fd());
            rustix::fs::open(path, flags, Mode::empty()).ok()
        };
        let own = (kind == FileType::Fifo || isatty(stream)).then(again).flatten();
        Ok(match own {
            Some(fd) => Self { fd, kind, own: true },
            None => Self { fd: rustix::io::fcntl_dupfd_cloexec(stream, 3)?, kind, own: false },
        })
    }

    fn write(&self, bytes: &[u8]) -> rustix::io::Result<usize> {
        match self.kind {
            FileType::Socket => rustix::net::send(&self.fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
            FileType::RegularFile => rustix::io::write(&self.fd, bytes),
            _ if self.own => rustix::io::write(&self.fd, bytes),
            _ => rustix::io::write(&self.fd, &bytes[..bytes.len().min(CHUNK)]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read as _, io::Write as _, thread};

    use rustix::{
        event::{PollFd, Timespec, poll},
        pipe::{PipeFlags, pipe_with},
        pty::{grantpt, openpt, unlockpt},
        termios::{OptionalActions, tcgetattr, tcsetattr},
    };

    use super::*;

    /// More than all buffers on the way together.
    const MUCH: usize = 1 << 20;

    /// A terminal: our side, and the container's.
    fn terminal() -> (OwnedFd, OwnedFd) {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let slave = container_side(&master);
        let mut raw = tcgetattr(&slave).unwrap();
        raw.make_raw();
        tcsetattr(&slave, OptionalActions::Now, &raw).unwrap();
        (master, slave)
    }

    fn container_side(master: &OwnedFd) -> OwnedFd {
        ioctl_tiocgptpeer(master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap()
    }

    fn pipe() -> (OwnedFd, OwnedFd) {
        pipe_with(PipeFlags::CLOEXEC).unwrap()
    }

    /// Serves until `end` is readable.
    fn relay_until(relay: &mut Relay, end: &OwnedFd) {
        loop {
            let awaited = relay.awaited();
            let mut fds = vec![PollFd::new(end, PollFlags::IN)];
            fds.extend(awaited.iter().map(|(end, flags)| PollFd::from_borrowed_fd(relay.fd(*end), *flags)));
            poll(&mut fds, None).unwrap();
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(fds);
            awaited
                .iter()
                .zip(&ready[1..])
                .filter(|(_, ready)| **ready)
                .for_each(|((end, _), _)| relay.serve(*end));
            if ready[0] {
                return;
            }
        }
    }

    /// Serves until nothing is left to be done. Whoever looks again and again at what has hung up never comes to an end.
    fn relay_all(relay: &mut Relay) {
        for _ in 0..1000 {
            let awaited = relay.awaited();
            let of = |(end, flags): &(End, PollFlags)| PollFd::from_borrowed_fd(relay.fd(*end), *flags);
            let mut fds: Vec<PollFd<'_>> = awaited.iter().map(of).collect();
            if poll(&mut fds, Some(&Timespec::default())).unwrap() == 0 {
                return;
            }
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(fds);
            awaited.iter().zip(ready).filter(|(_, ready)| *ready).for_each(|((end, _), _)| relay.serve(*end));
        }
        panic!("it spins");
    }

    fn read_now(fd: &OwnedFd) -> Vec<u8> {
        rustix::fs::fcntl_setfl(fd, OFlags::NONBLOCK).unwrap();
        let mut bytes = vec![0; FULL];
        let count = rustix::io::read(fd, &mut bytes).unwrap_or(0);
        bytes.truncate(count);
        bytes
    }

    /// Who writes without reading is read though much is typed to it, and the other way round.
    #[test]
    fn neither_way_waits_for_the_other() {
        let (master, slave) = terminal();
        let ((input, typist), (reader, output)) = (pipe(), pipe());
        let mut relay = Relay::new(master, input.as_fd(), output.as_fd()).unwrap();
        let (ends, end) = pipe();
        let container = thread::spawn(move || {
            let mut slave = File::from(slave);
            slave.write_all(&vec![b'o'; MUCH]).unwrap();
            let mut typed = vec![0; MUCH];
            slave.read_exact(&mut typed).unwrap();
            assert!(typed.iter().all(|byte| *byte == b't'));
            drop(end);
            slave
        });
        let typist = thread::spawn(move || File::from(typist).write_all(&vec![b't'; MUCH]).unwrap());
        let reader = thread::spawn(move || {
            let mut shown = vec![0; MUCH];
            File::from(reader).read_exact(&mut shown).unwrap();
            assert!(shown.iter().all(|byte| *byte == b'o'));
        });
        relay_until(&mut relay, &ends);
        container.join().unwrap();
        typist.join().unwrap();
        reader.join().unwrap();
    }

    #[test]
    fn a_reader_that_does_not_read_holds_up_nothing_but_what_is_shown() {
        let (master, slave) = terminal();
        let ((input, typist), (reader, output)) = (pipe(), pipe());
        let mut relay = Relay::new(master, input.as_fd(), output.as_fd()).unwrap();
        rustix::fs::fcntl_setfl(&slave, OFlags::RDWR | OFlags::NONBLOCK).unwrap();
        while rustix::io::write(&slave, &[b'o'; 4096]).is_ok() {
            relay_all(&mut relay);
        }
        rustix::io::write(&typist, b"typed").unwrap();
        relay_all(&mut relay);
        assert_eq!(read_now(&slave), b"typed");
        drop(reader);
        relay_all(&mut relay);
        rustix::io::write(&slave, b"for nobody").unwrap();
        relay_all(&mut relay);
        assert!(!relay.awaited().iter().any(|(end, _)| *end == End::Output));
    }

    #[test]
    fn who_has_closed_the_terminal_may_open_it_again() {
        let (master, slave) = terminal();
        let ((input, typist), (reader, output)) = (pipe(), pipe());
        let mut relay = Relay::new(master, input.as_fd(), output.as_fd()).unwrap();
        rustix::io::write(&slave, b"first").unwrap();
        drop(slave);
        relay_all(&mut relay);
        assert_eq!(read_now(&reader), b"first");
        let again = container_side(&relay.terminal);
        rustix::io::write(&again, b"second").unwrap();
        rustix::io::write(&typist, b"typed").unwrap();
        relay_all(&mut relay);
        assert_eq!((read_now(&reader), read_now(&again)), (b"second".to_vec(), b"typed".to_vec()));
    }

    #[test]
    fn an_end_that_is_over_is_not_waited_for() {
        let (master, slave) = terminal();
        let ((input, typist), (_reader, output)) = (pipe(), pipe());
        let mut relay = Relay::new(master, input.as_fd(), output.as_fd()).unwrap();
        drop(typist);
        relay_all(&mut relay);
        assert_eq!(relay.awaited(), [(End::Terminal, PollFlags::IN)]);
        // As on a kernel that does not give the container's side.
        relay._held = None;
        drop(slave);
        relay_all(&mut relay);
        assert_eq!(relay.awaited(), []);
    }
}
