//! What attached clients type: into the container's stdin or terminal, as fast as the container takes it.

use std::os::fd::OwnedFd;

use husk_proto::podmon::error::Code;
use rustix::{io::Errno, termios::Winsize};

use crate::{
    attach::{Attachment, Attachments},
    core::Core,
    fault::{Outcome, fault, os_fault},
    poll::{Interest, Key, Source},
};

/// The container's input.
#[derive(Debug)]
pub struct Input {
    /// The container's.
    key: Key,
    /// Write end of its stdin, or its terminal; none once it is closed.
    fd: Option<OwnedFd>,
    kind: Kind,
    /// What the container has not taken yet.
    backlog: Vec<u8>,
    /// Whether room for it is waited for.
    watched: bool,
}

/// What its other end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A pipe that stays open when clients go.
    Pipe,
    /// A pipe that ends with the first client's input ("stdin_once").
    PipeOnce,
    Terminal,
}

impl Input {
    /// A terminal's descriptor comes later.
    pub fn new(key: Key, kind: Kind, fd: Option<OwnedFd>) -> Self {
        Self { key, fd, kind, backlog: Vec::new(), watched: false }
    }

    pub fn is_terminal(&self) -> bool {
        self.kind == Kind::Terminal
    }

    /// The container's terminal is there.
    pub fn set_terminal(&mut self, terminal: OwnedFd) {
        self.fd = Some(terminal);
    }

    /// Whether more is read from the clients now. While something waits for the container, what clients type stays with them: no
    /// more of it than one read is ever held here, and none is lost when another client ends the input.
    fn is_open(&self) -> bool {
        !self.watched
    }

    /// A client is attached: it is heard from now on, or once there is room for more.
    pub fn admit(&self, core: &Core, client: &Attachment) -> std::io::Result<()> {
        match &client.stdin {
            Some(fd) if self.is_open() => {
                core.poller.add(fd, Source::AttachInput(client.key), Interest::Read)
            }
            _ => Ok(()),
        }
    }

    /// A client sent something or closed its side.
    pub fn receive(&mut self, core: &mut Core, clients: &mut Attachments, client: Key) {
        // The event was fetched together with that of the client whose input waits now; it comes again.
        if !self.is_open() {
            return;
        }
        let Some(fd) = clients.stdin(client) else { return };
        match rustix::io::read(fd, &mut core.scratch[..]) {
            Ok(count) if count > 0 => {
                self.backlog.extend_from_slice(&core.scratch[..count]);
                self.flush(core, clients);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(_) | Err(_) => {
                clients.close_stdin(&core.poller, client);
                if self.kind == Kind::PipeOnce {
                    self.close(core, clients);
                }
            }
        }
    }

    /// Writes what is waiting. While some is, no more is read from the clients.
    pub fn flush(&mut self, core: &Core, clients: &Attachments) {
        let Some(fd) = &self.fd else {
            self.backlog = Vec::new();
            return;
        };
        let mut written = 0;
        let mut broken = false;
        while written < self.backlog.len() && !broken {
            match rustix::io::write(fd, &self.backlog[written..]) {
                Ok(count) => written += count,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                // The container closed its end.
                Err(_) => broken = true,
            }
        }
        self.backlog.drain(..written);
        if broken {
            self.close(core, clients);
        }
        self.watch(core, clients);
    }

    /// Waits either for room in the container or for more from the clients, never both.
    fn watch(&mut self, core: &Core, clients: &Attachments) {
        let full = !self.backlog.is_empty();
        if full == self.watched {
            return;
        }
        let Some(fd) = &self.fd else { return };
        if full {
            if core.poller.add(fd, Source::InitStdin(self.key), Interest::Write).is_err() {
                // Only without memory. Nobody would ever tell of room again.
                self.close(core, clients);
                return;
            }
            clients.pause_input(&core.poller);
        } else {
            core.poller.remove(fd);
            self.backlog = Vec::new();
            clients.resume_input(&core.poller);
        }
        self.watched = full;
    }

    /// Ends the container's input.
    pub fn close(&mut self, core: &Core, clients: &Attachments) {
        if let Some(fd) = self.fd.take() {
            core.poller.remove(&fd);
        }
        self.backlog = Vec::new();
        if std::mem::take(&mut self.watched) {
            clients.resume_input(&core.poller);
        }
    }

    /// Sets the size of its terminal.
    pub fn resize(&self, rows: u32, columns: u32) -> Outcome<()> {
        let terminal = self.fd.as_ref().filter(|_| self.is_terminal());
        let terminal =
            terminal.ok_or_else(|| fault(Code::FailedPrecondition, "the container has no terminal"))?;
        let side = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
        let size = Winsize { ws_row: side(rows), ws_col: side(columns), ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(terminal, size)
            .map_err(|error| os_fault("resize terminal", "", &error.into()))
    }
}
