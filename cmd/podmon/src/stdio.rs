//! One stream of a container's output: read to their end, into the log and to whoever is attached.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use crate::{
    attach::Attachments,
    core::Core,
    log::{Log, Stream},
    poll::{Interest, Source},
};

/// The monitor's end of one stream.
#[derive(Debug)]
pub struct ReadEnd {
    fd: OwnedFd,
    stream: Stream,
    source: Source,
    /// Nothing is read, because a client is awaited.
    paused: bool,
}

/// Reads per event. A flood must not keep the other descriptors waiting.
const BURST: usize = 8;
/// Reads at the end of a container: what its largest pipe can hold (pipe-max-size, 1 MiB). Whoever holds the other end
/// besides it may go on writing for ever.
const LAST_BURST: usize = 64;

impl ReadEnd {
    /// Starts reading a stream.
    pub fn watch(core: &Core, fd: OwnedFd, stream: Stream, source: Source) -> std::io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        core.poller.add(&fd, source, Interest::Read)?;
        Ok(Self { fd, stream, source, paused: false })
    }

    /// Copies what is there; false at the end of the stream. `last`: all that an ended container can have left.
    pub fn pump(
        &mut self,
        core: &mut Core,
        log: &mut Log,
        attachments: &mut Attachments,
        last: bool,
    ) -> bool {
        for _ in 0..if last { LAST_BURST } else { BURST } {
            if !last && attachments.must_be_awaited() {
                self.pause(core);
                return true;
            }
            match rustix::io::read(&self.fd, &mut core.scratch[..]) {
                Ok(0) => return false,
                Ok(count) => {
                    log.feed(self.stream, &core.scratch[..count], &mut core.batch);
                    attachments.output(&core.poller, self.stream, &core.scratch[..count]);
                }
                Err(Errno::AGAIN) => return true,
                Err(Errno::INTR) => {}
                // A terminal whose last user closed it reads as EIO.
                Err(_) => return false,
            }
        }
        true
    }

    fn pause(&mut self, core: &Core) {
        if !self.paused {
            core.poller.remove(&self.fd);
            self.paused = true;
        }
    }

    /// Reads on, if it was paused. What has come meanwhile is an event.
    pub fn resume(&mut self, core: &Core) {
        if self.paused {
            // Fails only without memory; the next client that is done tries again.
            self.paused = core.poller.add(&self.fd, self.source, Interest::Read).is_err();
        }
    }

    /// Stops reading; the rest of the last line goes to the log.
    pub fn close(self, core: &mut Core, log: &mut Log) {
        if !self.paused {
            core.poller.remove(&self.fd);
        }
        log.finish(self.stream, &mut core.batch);
    }
}
