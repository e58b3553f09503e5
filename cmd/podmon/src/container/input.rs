//! What attached clients type: into the container's stdin or terminal, as fast as the container takes it.

use husk_proto::podmon::error::Code;
use rustix::{io::Errno, termios::Winsize};

use super::{Container, Phase};
use crate::{
    core::Core,
    fault::{Outcome, fault, os_fault},
    poll::{Interest, Key, Source},
};

impl Container {
    /// An attached client sent input or closed its side.
    pub fn on_input(&mut self, core: &mut Core, client: Key) {
        let Some(fd) = self.attachments.stdin(client) else { return };
        match rustix::io::read(fd, &mut core.scratch[..]) {
            Ok(count) if count > 0 => {
                let input = core.scratch[..count].to_vec();
                self.backlog.extend_from_slice(&input);
                self.flush_input(core);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(_) | Err(_) => {
                self.attachments.close_stdin(&core.poller, client);
                // "stdin_once": the first client's end of input is the container's.
                if self.stdin_once && !self.tty {
                    self.close_stdin(core);
                }
            }
        }
    }

    /// The container takes input again.
    pub fn on_stdin_room(&mut self, core: &mut Core) {
        self.flush_input(core);
    }

    /// Writes what is waiting. While some is, no more is read from the clients.
    fn flush_input(&mut self, core: &mut Core) {
        let Some(stdin) = &self.stdin else {
            self.backlog = Vec::new();
            return;
        };
        let mut written = 0;
        let mut broken = false;
        while written < self.backlog.len() && !broken {
            match rustix::io::write(stdin, &self.backlog[written..]) {
                Ok(count) => written += count,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                // The container closed its end.
                Err(_) => broken = true,
            }
        }
        self.backlog.drain(..written);
        if broken {
            self.close_stdin(core);
        }
        self.watch_input(core);
    }

    /// Waits either for room in the container or for more from the clients, never both.
    fn watch_input(&mut self, core: &mut Core) {
        let full = !self.backlog.is_empty();
        if full == self.backlog_watched {
            return;
        }
        let Some(stdin) = &self.stdin else { return };
        if full {
            // Fails only without memory; then the input waits for the next byte.
            let _ = core.poller.add(stdin, Source::InitStdin(self.key), Interest::Write);
            self.attachments.pause_input(&core.poller);
        } else {
            core.poller.remove(stdin);
            self.backlog = Vec::new();
            self.attachments.resume_input(&core.poller);
        }
        self.backlog_watched = full;
    }

    /// Ends the container's input.
    pub fn close_stdin(&mut self, core: &mut Core) {
        if let Some(stdin) = self.stdin.take() {
            core.poller.remove(&stdin);
        }
        self.backlog = Vec::new();
        if std::mem::take(&mut self.backlog_watched) {
            self.attachments.resume_input(&core.poller);
        }
    }

    /// ResizeTerminal.
    pub fn resize(&self, rows: u32, columns: u32) -> Outcome<()> {
        let terminal = self.stdin.as_ref().filter(|_| self.tty && self.phase != Phase::Exited);
        let terminal =
            terminal.ok_or_else(|| fault(Code::FailedPrecondition, "the container has no terminal"))?;
        let side = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
        let size = Winsize { ws_row: side(rows), ws_col: side(columns), ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(terminal, size)
            .map_err(|error| os_fault("resize terminal", "", &error.into()))
    }
}
