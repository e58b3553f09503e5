//! Clients attached to a running container: copies of its output, and their input to its stdin.

use std::{
    collections::VecDeque,
    os::fd::{AsFd, OwnedFd},
};

use rustix::io::Errno;

use crate::{
    clients::Caller,
    log::Stream,
    poll::{Interest, Key, Poller, Source},
};

/// Output kept for a client that is slower than the container. A client that falls further behind is cut off, since a
/// container does not wait for who only watches it, or is awaited, if that is what it asked for.
const BACKLOG: usize = 256 << 10;
/// Room that the pipe of an awaited client is given for the last of the output: whatever of it the container's pipe and the
/// backlog held (pipe-max-size, which no pipe exceeds without CAP_SYS_RESOURCE).
const LAST_ROOM: usize = 1 << 20;

/// One client.
#[derive(Debug)]
pub struct Attachment {
    pub key: Key,
    pub caller: Caller,
    pub stdin: Option<OwnedFd>,
    stdout: Option<Sink>,
    stderr: Option<Sink>,
    /// The container waits for it.
    awaited: bool,
}

#[derive(Debug)]
struct Sink {
    fd: OwnedFd,
    waiting: VecDeque<u8>,
    watched: bool,
}

/// The clients of one container.
#[derive(Debug, Default)]
pub struct Attachments(Vec<Attachment>);

impl Attachment {
    pub fn new(
        key: Key,
        caller: Caller,
        stdin: Option<OwnedFd>,
        stdout: Option<OwnedFd>,
        stderr: Option<OwnedFd>,
        awaited: bool,
    ) -> rustix::io::Result<Self> {
        for fd in [&stdin, &stdout, &stderr].into_iter().flatten() {
            rustix::io::ioctl_fionbio(fd, true)?;
        }
        let sink = |fd| Sink { fd, waiting: VecDeque::new(), watched: false };
        Ok(Self { key, caller, stdin, stdout: stdout.map(sink), stderr: stderr.map(sink), awaited })
    }

    fn sink(&mut self, stream: Stream) -> &mut Option<Sink> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    /// Sends what the client can still take and closes its descriptors.
    fn end(mut self, poller: &Poller) {
        let source = Source::AttachOutput(self.key);
        for stream in [Stream::Stdout, Stream::Stderr] {
            let awaited = self.awaited;
            if let Some(sink) = self.sink(stream) {
                if awaited && !sink.waiting.is_empty() {
                    // One that is no pipe has the room that it has.
                    let _ = rustix::pipe::fcntl_setpipe_size(&sink.fd, LAST_ROOM);
                }
                sink.flush(poller, source);
            }
            self.close(poller, stream);
        }
        if let Some(fd) = self.stdin.take() {
            poller.remove(fd.as_fd());
        }
    }

    fn close(&mut self, poller: &Poller, stream: Stream) {
        if let Some(sink) = self.sink(stream).take() {
            poller.remove(&sink.fd);
        }
    }
}

impl Sink {
    /// False when the client is gone or too slow.
    fn push(&mut self, poller: &Poller, source: Source, awaited: bool, mut bytes: &[u8]) -> bool {
        if self.waiting.is_empty() {
            match rustix::io::write(&self.fd, bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        self.waiting.extend(bytes);
        (awaited || self.waiting.len() <= BACKLOG) && self.watch(poller, source)
    }

    fn flush(&mut self, poller: &Poller, source: Source) -> bool {
        while !self.waiting.is_empty() {
            match rustix::io::write(&self.fd, self.waiting.as_slices().0) {
                Ok(count) => drop(self.waiting.drain(..count)),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        self.watch(poller, source)
    }

    fn watch(&mut self, poller: &Poller, source: Source) -> bool {
        let wanted = !self.waiting.is_empty();
        if wanted == self.watched {
            return true;
        }
        if wanted {
            if poller.add(&self.fd, source, Interest::Write).is_err() {
                return false;
            }
        } else {
            poller.remove(&self.fd);
            self.waiting = VecDeque::new();
        }
        self.watched = wanted;
        true
    }
}

impl Attachments {
    pub fn push(&mut self, attachment: Attachment) {
        self.0.push(attachment);
    }

    /// Gives output to everyone.
    pub fn output(&mut self, poller: &Poller, stream: Stream, bytes: &[u8]) {
        for attachment in &mut self.0 {
            let source = Source::AttachOutput(attachment.key);
            let awaited = attachment.awaited;
            let sink = attachment.sink(stream).as_mut();
            let alive = sink.is_none_or(|sink| sink.push(poller, source, awaited, bytes));
            if !alive {
                attachment.close(poller, stream);
            }
        }
    }

    /// Somebody whom the container waits for is behind.
    pub fn must_be_awaited(&self) -> bool {
        let is_behind = |sink: &Sink| sink.waiting.len() > BACKLOG;
        let awaited = self.0.iter().filter(|attachment| attachment.awaited);
        awaited.flat_map(|attachment| [&attachment.stdout, &attachment.stderr]).flatten().any(is_behind)
    }

    /// A client can take output again.
    pub fn writable(&mut self, poller: &Poller, key: Key) {
        let Some(attachment) = self.0.iter_mut().find(|attachment| attachment.key == key) else { return };
        for stream in [Stream::Stdout, Stream::Stderr] {
            let source = Source::AttachOutput(key);
            let alive = attachment.sink(stream).as_mut().is_none_or(|sink| sink.flush(poller, source));
            if !alive {
                attachment.close(poller, stream);
            }
        }
    }

    pub fn contains(&self, key: Key) -> bool {
        self.0.iter().any(|attachment| attachment.key == key)
    }

    pub fn stdin(&self, key: Key) -> Option<&OwnedFd> {
        self.0.iter().find(|attachment| attachment.key == key)?.stdin.as_ref()
    }

    /// Stops reading input from everybody.
    pub fn pause_input(&self, poller: &Poller) {
        for fd in self.0.iter().filter_map(|attachment| attachment.stdin.as_ref()) {
            poller.remove(fd);
        }
    }

    /// Reads it again.
    pub fn resume_input(&self, poller: &Poller) {
        for attachment in &self.0 {
            if let Some(fd) = &attachment.stdin {
                // Fails only without memory; the client can attach again.
                let _ = poller.add(fd, Source::AttachInput(attachment.key), Interest::Read);
            }
        }
    }

    pub fn close_stdin(&mut self, poller: &Poller, key: Key) {
        if let Some(attachment) = self.0.iter_mut().find(|attachment| attachment.key == key)
            && let Some(fd) = attachment.stdin.take()
        {
            poller.remove(fd.as_fd());
        }
    }

    /// Lets one client go, whose call nobody waits for any longer.
    pub fn detach(&mut self, poller: &Poller, caller: Caller) {
        while let Some(at) = self.0.iter().position(|attachment| attachment.caller == caller) {
            self.0.swap_remove(at).end(poller);
        }
    }

    /// Lets everybody go, with what they can take of what is still waiting; returns the callers to answer.
    pub fn finish(&mut self, poller: &Poller) -> Vec<Caller> {
        let mut callers = Vec::new();
        for attachment in self.0.drain(..) {
            callers.push(attachment.caller);
            attachment.end(poller);
        }
        callers
    }
}
