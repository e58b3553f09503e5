//! Copying between a client's connection and a container's or a command's streams.

use std::{
    io,
    os::fd::OwnedFd,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use husk_model::Streams;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, unix::AsyncFd};

use crate::http::{Frames, Output, Presence};

/// Bytes copied at once.
const PIECE: usize = 32 << 10;
/// How long a container may take to read what a client said that has gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// A client that is attached with the next start: the ends of its pipes for the monitor, and whom to tell that it begins or will not.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// For the monitor.
    pub(crate) theirs: Streams<OwnedFd>,
    /// Told when the container has ended and everything is in the pipes; dropped when it does not start.
    pub(crate) over: tokio::sync::oneshot::Sender<()>,
}

/// Which streams a client wants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wants {
    /// Its input goes in.
    pub(crate) stdin: bool,
    /// Output comes out.
    pub(crate) stdout: bool,
    /// Errors come out.
    pub(crate) stderr: bool,
}

/// Our ends of pipes.
#[derive(Debug)]
pub(crate) struct Ours {
    /// Written.
    pub(crate) stdin: Option<Pipe>,
    /// Read.
    pub(crate) stdout: Option<Pipe>,
    /// Read.
    pub(crate) stderr: Option<Pipe>,
}

/// Makes the pipes for a client.
///
/// # Errors
/// Too many descriptors.
pub(crate) fn pipes(wants: Wants) -> io::Result<(Ours, Streams<OwnedFd>)> {
    let mut ours = Ours { stdin: None, stdout: None, stderr: None };
    let mut theirs = Streams::default();
    if wants.stdin {
        let (read, write) = io::pipe()?;
        (ours.stdin, theirs.stdin) = (Some(Pipe::new(write.into())?), Some(read.into()));
    }
    if wants.stdout {
        let (read, write) = io::pipe()?;
        (ours.stdout, theirs.stdout) = (Some(Pipe::new(read.into())?), Some(write.into()));
    }
    if wants.stderr {
        let (read, write) = io::pipe()?;
        (ours.stderr, theirs.stderr) = (Some(Pipe::new(read.into())?), Some(write.into()));
    }
    Ok((ours, theirs))
}

/// One end of a pipe, or a terminal's master.
#[derive(Debug)]
pub(crate) struct Pipe(AsyncFd<OwnedFd>);

impl Pipe {
    /// Takes over a descriptor.
    ///
    /// # Errors
    /// It cannot be polled.
    // Deprecated because a type's `as_raw_fd` may lie; an OwnedFd's does not. The new name is an unsafe function.
    #[allow(deprecated)]
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self(AsyncFd::new(fd)?))
    }
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut ready = std::task::ready!(self.0.poll_read_ready(cx))?;
            let read = ready.try_io(|fd| {
                let into = buf.initialize_unfilled();
                Ok(rustix::io::read(fd.get_ref(), into)?)
            });
            match read {
                Ok(Ok(count)) => {
                    buf.advance(count);
                    return Poll::Ready(Ok(()));
                }
                // A terminal that nobody has open any more reads so.
                Ok(Err(error)) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = std::task::ready!(self.0.poll_write_ready(cx))?;
            match ready.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), bytes)?)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(written) => return Poll::Ready(written),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// How the copying of input ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Typed {
    /// The client has nothing more to say.
    End,
    /// It typed the keys that let go.
    Detached,
}

/// Copies what a client types, until its end or until it types the keys that let go, which do not arrive.
///
/// What a client said before it went is given to a container that reads it soon; the rest is dropped with the client.
pub(crate) async fn copy_input(
    from: impl AsyncRead + Unpin,
    to: Option<Pipe>,
    keys: Option<DetachKeys>,
    presence: &Presence,
) -> Typed {
    let copied = copy_typed(from, to, keys);
    tokio::pin!(copied);
    tokio::select! {
        typed = &mut copied => typed,
        () = presence.gone() => tokio::time::timeout(PATIENCE, copied).await.unwrap_or(Typed::End),
    }
}

async fn copy_typed(
    mut from: impl AsyncRead + Unpin,
    mut to: Option<Pipe>,
    keys: Option<DetachKeys>,
) -> Typed {
    let mut keys = keys;
    let mut piece = vec![0; PIECE];
    loop {
        let count = match from.read(&mut piece).await {
            Ok(0) | Err(_) => return Typed::End,
            Ok(count) => count,
        };
        let (bytes, detached) = match &mut keys {
            Some(keys) => keys.pass(&piece[..count]),
            None => (piece[..count].to_vec(), false),
        };
        if let Some(pipe) = &mut to
            && pipe.write_all(&bytes).await.is_err()
        {
            // Nobody reads it any more; the client may type on.
            to = None;
        }
        if detached {
            return Typed::Detached;
        }
    }
}

/// Copies output to a client, in frames or as it is, until both streams have ended or the client is gone.
pub(crate) async fn copy_output<W: AsyncWrite + Unpin>(
    mut stdout: Option<Pipe>,
    mut stderr: Option<Pipe>,
    frames: &mut Frames<W>,
) -> io::Result<()> {
    let (mut out, mut err) = (vec![0; PIECE], vec![0; PIECE]);
    loop {
        // Reading is cancel-safe; writing a frame is not, and is never raced.
        let (output, read) = match (&mut stdout, &mut stderr) {
            (None, None) => return Ok(()),
            (Some(pipe), None) => (Output::Out, pipe.read(&mut out).await),
            (None, Some(pipe)) => (Output::Err, pipe.read(&mut err).await),
            (Some(a), Some(b)) => tokio::select! {
                read = a.read(&mut out) => (Output::Out, read),
                read = b.read(&mut err) => (Output::Err, read),
            },
        };
        let (slot, bytes) = match output {
            Output::Err => (&mut stderr, &err),
            _ => (&mut stdout, &out),
        };
        match read {
            Ok(0) | Err(_) => *slot = None,
            Ok(count) => frames.write(output, &bytes[..count]).await?,
        }
    }
}

/// The keys that let go of a container: `ctrl-p,ctrl-q`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DetachKeys {
    keys: Vec<u8>,
    /// How many of them were typed and are held back.
    typed: usize,
}

impl DetachKeys {
    /// `a`, `ctrl-x`, `ctrl-@`… with commas between; empty is the usual pair. `None` for what is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = if text.is_empty() { "ctrl-p,ctrl-q" } else { text };
        let key = |name: &str| match (name.strip_prefix("ctrl-"), name.as_bytes()) {
            (Some(rest), _) => match rest.as_bytes() {
                [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
                [sign @ (b'@' | b'[' | b'\\' | b']' | b'^' | b'_')] => Some(sign - b'@'),
                _ => None,
            },
            (None, [byte]) => Some(*byte),
            (None, _) => None,
        };
        let keys = text.split(',').map(key).collect::<Option<Vec<u8>>>()?;
        (keys.len() <= 16).then_some(Self { keys, typed: 0 })
    }

    /// What of the bytes goes on, and whether the keys are complete.
    fn pass(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            if self.keys[self.typed] == byte {
                self.typed += 1;
                if self.typed == self.keys.len() {
                    self.typed = 0;
                    return (passed, true);
                }
                continue;
            }
            passed.extend(&self.keys[..self.typed]);
            self.typed = usize::from(self.keys[0] == byte && self.keys.len() > 1);
            if self.typed == 0 {
                passed.push(byte);
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixStream;

    use super::*;
    use crate::http::Hijacked;

    #[test]
    fn keys_are_named_as_docker_names_them() {
        assert_eq!(DetachKeys::parse("").unwrap().keys, [16, 17]);
        assert_eq!(DetachKeys::parse("ctrl-a,d").unwrap().keys, [1, b'd']);
        assert_eq!(DetachKeys::parse("ctrl-\\").unwrap().keys, [28]);
        for wrong in ["ctrl-", "ab", "ctrl-1", "a,,b"] {
            assert_eq!(DetachKeys::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_keys_let_go_and_only_whole_do_they_not_arrive() {
        let mut keys = DetachKeys::parse("ctrl-p,ctrl-q").unwrap();
        assert_eq!(keys.pass(b"ls\n"), (b"ls\n".to_vec(), false));
        assert_eq!(keys.pass(b"\x10"), (Vec::new(), false), "held back");
        assert_eq!(keys.pass(b"x"), (b"\x10x".to_vec(), false), "and given when it was none");
        assert_eq!(keys.pass(b"a\x10\x10\x11b"), (b"a\x10".to_vec(), true));
    }

    #[tokio::test]
    async fn both_outputs_arrive_in_frames_of_their_own() {
        let wants = Wants { stdin: false, stdout: true, stderr: true };
        let (ours, theirs) = pipes(wants).unwrap();
        rustix::io::write(theirs.stdout.as_ref().unwrap(), b"out").unwrap();
        rustix::io::write(theirs.stderr.as_ref().unwrap(), b"err").unwrap();
        drop(theirs);
        let mut written = Vec::new();
        copy_output(ours.stdout, ours.stderr, &mut Frames::new(&mut written, true)).await.unwrap();
        let mut frames: Vec<_> = written.chunks(11).collect();
        frames.sort();
        assert_eq!(frames, [&b"\x01\0\0\0\0\0\0\x03out"[..], b"\x02\0\0\0\0\0\0\x03err"]);
    }

    fn connection() -> (UnixStream, Hijacked) {
        let (client, server) = UnixStream::pair().unwrap();
        (client, Hijacked::new(server, bytes::Bytes::new()))
    }

    /// More than a pipe has room for.
    const MUCH: usize = 150 << 10;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_goes_is_not_kept_by_what_nobody_reads() {
        let (ours, theirs) = pipes(Wants { stdin: true, stdout: false, stderr: false }).unwrap();
        let (mut client, io) = connection();
        let copied = copy_input(io.reader, ours.stdin, None, &io.presence);
        let goes = async move {
            client.write_all(&vec![b'x'; MUCH]).await.unwrap();
            drop(client);
        };
        assert_eq!(tokio::join!(copied, goes).0, Typed::End);
        drop(theirs);
    }

    #[tokio::test]
    async fn what_a_client_said_before_it_went_arrives() {
        let (ours, theirs) = pipes(Wants { stdin: true, stdout: false, stderr: false }).unwrap();
        let (mut client, io) = connection();
        client.write_all(&vec![b'x'; MUCH]).await.unwrap();
        drop(client);
        let mut container = std::fs::File::from(theirs.stdin.unwrap());
        let reading =
            tokio::task::spawn_blocking(move || std::io::copy(&mut container, &mut std::io::sink()));
        assert_eq!(copy_input(io.reader, ours.stdin, None, &io.presence).await, Typed::End);
        assert_eq!(reading.await.unwrap().unwrap(), MUCH as u64);
    }

    #[tokio::test]
    async fn input_arrives_until_the_keys() {
        let (ours, theirs) = pipes(Wants { stdin: true, stdout: false, stderr: false }).unwrap();
        let (_client, io) = connection();
        let input = &b"echo\n\x10\x11more"[..];
        let typed = copy_input(input, ours.stdin, DetachKeys::parse(""), &io.presence).await;
        assert_eq!(typed, Typed::Detached);
        let mut text = [0; 16];
        let count = rustix::io::read(theirs.stdin.unwrap(), &mut text).unwrap();
        assert_eq!(&text[..count], b"echo\n");
    }
}
