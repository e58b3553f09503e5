//! What a container writes: read to its end, into its log and to whoever is attached.

use std::os::fd::OwnedFd;

use crate::{
    attach::Attachments,
    core::Core,
    fault::{Outcome, os_fault},
    log::{Log, Stream},
    poll::{Key, Source},
    stdio::ReadEnd,
};

/// The container's output.
#[derive(Debug)]
pub struct Output {
    log: Log,
    streams: [Option<ReadEnd>; 2],
}

impl Output {
    /// Of a container that has no streams yet.
    pub fn new(log: Log) -> Self {
        Self { log, streams: [None, None] }
    }

    /// Starts reading a stream.
    pub fn watch(&mut self, core: &Core, key: Key, fd: OwnedFd, stream: Stream) -> Outcome<()> {
        let source = match stream {
            Stream::Stdout => Source::InitStdout(key),
            Stream::Stderr => Source::InitStderr(key),
        };
        let end =
            ReadEnd::watch(core, fd, stream, source).map_err(|error| os_fault("watch output", "", &error))?;
        self.streams[stream as usize] = Some(end);
        Ok(())
    }

    /// Reads what is there. `last`: all that an ended container can have left.
    pub fn pump(&mut self, core: &mut Core, clients: &mut Attachments, stream: Stream, last: bool) {
        let slot = &mut self.streams[stream as usize];
        if let Some(end) = slot
            && !end.pump(core, &mut self.log, clients, last)
            && let Some(end) = slot.take()
        {
            end.close(core, &mut self.log);
        }
    }

    /// Nobody is awaited any more.
    pub fn resume(&mut self, core: &Core) {
        for end in self.streams.iter_mut().flatten() {
            end.resume(core);
        }
    }

    /// Reads what an ended container has left.
    pub fn read_rest(&mut self, core: &mut Core, clients: &mut Attachments) {
        for stream in Stream::BOTH {
            self.pump(core, clients, stream, true);
        }
    }

    /// Reads what has come, and stops.
    pub fn cut(&mut self, core: &mut Core, clients: &mut Attachments) {
        for stream in Stream::BOTH {
            self.pump(core, clients, stream, false);
            if let Some(end) = self.streams[stream as usize].take() {
                end.close(core, &mut self.log);
            }
        }
    }

    /// Everything was read.
    pub fn is_over(&self) -> bool {
        self.streams.iter().all(Option::is_none)
    }

    /// Opens the log, or opens it anew.
    pub fn open_log(&mut self) -> Outcome<()> {
        let path = self.log.path().unwrap_or_default();
        self.log.open().map_err(|error| os_fault("open log", path.to_string_lossy(), &error))
    }

    /// Nothing more will come.
    pub fn end_log(&mut self) {
        self.log.end();
    }

    /// Log bytes that could not be written.
    pub fn dropped(&self) -> u64 {
        self.log.dropped()
    }
}
