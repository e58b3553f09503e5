//! `GET /containers/{id}/logs`: the log that the monitor writes, as Docker sends it.
//!
//! The monitor's lines are the CRI's: `<time> <stdout|stderr> <P|F> <bytes>`, where F had a line feed behind it and P goes on. A log with
//! limits is several files ([`log_files`](super::log_files)).

use std::{io::SeekFrom, path::PathBuf, sync::Arc};

use husk_model::UnixNanos;
use rustix::fs::inotify;
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt, AsyncWrite, unix::AsyncFd},
};

use super::{
    container::Container,
    log_files::{After, LogFile, LogFiles},
    record::Phase,
    store::Store,
};
use crate::{
    error::{Failure, Result},
    http::{Answer, Call, Frames, MULTIPLEXED, Output, Pieces, RAW, Version, frame, streamed_as},
    when,
};

/// Bytes read at once.
const PIECE: usize = 64 << 10;
/// Longest line of ours; the monitor cuts at 16 KiB. What is longer is not a log.
const LONGEST: usize = 1 << 20;

/// What of a log is wanted.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    stdout: bool,
    stderr: bool,
    timestamps: bool,
    since: Option<UnixNanos>,
    until: Option<UnixNanos>,
    /// So many lines of the end; all without.
    tail: Option<u64>,
    follow: bool,
}

impl Wanted {
    /// All that there is.
    pub(super) fn all(stdout: bool, stderr: bool) -> Self {
        Self { stdout, stderr, timestamps: false, since: None, until: None, tail: None, follow: false }
    }

    fn of(call: &Call) -> Result<Self> {
        let query = &call.query;
        let now = husk_node::now();
        let moment = |key: &str| match query.get(key).filter(|text| *text != "0") {
            None => Ok(None),
            Some(text) => when::moment(text, now).map(Some).ok_or_else(|| {
                Failure::bad(format!("{key}: {:?} is no time", text.chars().take(80).collect::<String>()))
            }),
        };
        let wanted = Self {
            stdout: query.flag("stdout"),
            stderr: query.flag("stderr"),
            timestamps: query.flag("timestamps"),
            since: moment("since")?,
            until: moment("until")?,
            // Anything that is no number is all, as in dockerd.
            tail: query.get("tail").and_then(|text| text.parse().ok()),
            follow: query.flag("follow"),
        };
        match wanted.stdout || wanted.stderr {
            true => Ok(wanted),
            false => Err(Failure::bad("Bad parameters: you must choose at least one stream")),
        }
    }
}

impl Store {
    /// Answers a request for logs.
    ///
    /// # Errors
    /// 400 for what is no time or no stream, 501 for a container that has no log.
    pub(super) fn logs(&self, container: &Arc<Container>, call: &Call) -> Result<Answer> {
        let wanted = Wanted::of(call)?;
        let record = container.record();
        if record.host.log_config.kind == "none" {
            return Err(Failure::missing("configured logging driver does not support reading"));
        }
        let multiplexed = !record.config.tty;
        let kind = match multiplexed && call.version >= Version::v1(42) {
            true => MULTIPLEXED,
            false => RAW,
        };
        let (pieces, answer) = streamed_as(kind);
        let (container, shared) = (Arc::clone(container), Arc::clone(&self.0.shared));
        tokio::spawn(async move {
            let mut sink = PieceSink { pieces: &pieces, multiplexed };
            let sent = send(&container, &wanted, &mut sink);
            tokio::select! {
                _ = sent => {}
                () = pieces.closed() => {}
                () = shared.closed() => {}
            }
        });
        Ok(answer)
    }
}

/// Sends what is in the log now, for an attach.
///
/// # Errors
/// When the client is gone or the log cannot be read.
pub(super) async fn send_all<W: AsyncWrite + Unpin>(
    container: &Container,
    wanted: Wanted,
    frames: &mut Frames<W>,
) -> std::io::Result<()> {
    send(container, &wanted, frames).await
}

/// Where lines go.
trait Sink {
    async fn put(&mut self, output: Output, bytes: &[u8]) -> std::io::Result<()>;
}

impl<W: AsyncWrite + Unpin> Sink for Frames<W> {
    async fn put(&mut self, output: Output, bytes: &[u8]) -> std::io::Result<()> {
        self.write(output, bytes).await
    }
}

struct PieceSink<'a> {
    pieces: &'a Pieces,
    multiplexed: bool,
}

impl Sink for PieceSink<'_> {
    async fn put(&mut self, output: Output, bytes: &[u8]) -> std::io::Result<()> {
        let piece = match self.multiplexed {
            true => [&frame(output, u32::try_from(bytes.len()).unwrap_or(u32::MAX))[..], bytes].concat(),
            false => bytes.to_vec(),
        };
        self.pieces.send(piece).await.map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    }
}

async fn send(container: &Container, wanted: &Wanted, sink: &mut impl Sink) -> std::io::Result<()> {
    // Before the first look, so that what comes after it is an event.
    let changes = if wanted.follow { Some(Changes::of(container.dir.clone())?) } else { None };
    let mut ends = container.ends();
    let files = LogFiles::of(container);
    // Who does not follow gets what there is now, however fast more comes.
    let last = files.open(0).await?.map(|file| file.inode);
    let mut current = match wanted.tail {
        Some(lines) => tail_start(&files, lines).await?,
        None => files.oldest().await?,
    };
    let mut rest = Vec::new();
    loop {
        // Seen before the read: what an ended container wrote is in the file.
        let is_over = container.record().state.phase != Phase::Running;
        if let Some(LogFile { file, inode }) = &mut current {
            if !pump(file, &mut rest, wanted, sink).await? {
                return Ok(());
            }
            let is_last = changes.is_none() && last == Some(*inode);
            let next = if is_last { After::Nothing } else { files.after(*inode).await? };
            if let After::Next(next) | After::Lost(next) = next {
                // What was written to it between our read and its renaming.
                if !pump(file, &mut rest, wanted, sink).await? {
                    return Ok(());
                }
                rest.clear();
                current = Some(next);
                continue;
            }
        }
        let Some(changes) = &changes else { return Ok(()) };
        if is_over || ends.borrow().gone {
            return Ok(());
        }
        tokio::select! {
            changed = changes.next() => changed?,
            changed = ends.changed() => if changed.is_err() { return Ok(()) },
        }
        if current.is_none() {
            current = files.oldest().await?;
        }
    }
}

/// Sends what there is; false when nothing after it is wanted.
async fn pump(
    file: &mut File,
    rest: &mut Vec<u8>,
    wanted: &Wanted,
    sink: &mut impl Sink,
) -> std::io::Result<bool> {
    let mut piece = vec![0; PIECE];
    loop {
        let count = file.read(&mut piece).await?;
        if count == 0 {
            return Ok(true);
        }
        rest.extend_from_slice(&piece[..count]);
        let mut from = 0;
        while let Some(length) = rest[from..].iter().position(|byte| *byte == b'\n') {
            let line = &rest[from..from + length];
            from += length + 1;
            let Some(line) = Line::parse(line) else { continue };
            if let (Some(until), Some(at)) = (wanted.until, line.at())
                && at > until
            {
                return Ok(false);
            }
            if line.is_wanted(wanted) {
                sink.put(line.output, &line.shown(wanted.timestamps)).await?;
            }
        }
        rest.drain(..from);
        if rest.len() > LONGEST {
            return Err(std::io::Error::other("a line of the log is too long to be one"));
        }
    }
}

/// One line of the file.
struct Line<'a> {
    time: &'a str,
    output: Output,
    /// A line feed followed.
    whole: bool,
    bytes: &'a [u8],
}

impl<'a> Line<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let time = std::str::from_utf8(parts.next()?).ok()?;
        let output = match parts.next()? {
            b"stdout" => Output::Out,
            b"stderr" => Output::Err,
            _ => return None,
        };
        let whole = parts.next()? == b"F";
        Some(Self { time, output, whole, bytes: parts.next().unwrap_or_default() })
    }

    fn at(&self) -> Option<UnixNanos> {
        when::nanos(self.time)
    }

    fn is_wanted(&self, wanted: &Wanted) -> bool {
        let stream = if self.output == Output::Err { wanted.stderr } else { wanted.stdout };
        stream && wanted.since.is_none_or(|since| self.at().is_none_or(|at| at >= since))
    }

    fn shown(&self, timestamps: bool) -> Vec<u8> {
        let mut shown = Vec::with_capacity(self.bytes.len() + 40);
        if timestamps {
            // In UTC, whatever zone the node is in.
            let time = self.at().map(when::text).unwrap_or_else(|| self.time.to_owned());
            shown.extend(time.as_bytes());
            shown.push(b' ');
        }
        shown.extend(self.bytes);
        if self.whole {
            shown.push(b'\n');
        }
        shown
    }
}

/// The file in which the last `lines` begin, at its place there.
async fn tail_start(files: &LogFiles, lines: u64) -> std::io::Result<Option<LogFile>> {
    let (mut left, mut found) = (lines, None::<LogFile>);
    for number in 0.. {
        let Some(mut open) = files.open(number).await? else {
            // While it is being renamed, none has the first name.
            if number == 0 { continue } else { break }
        };
        // Renamed since it was looked at.
        if found.as_ref().is_some_and(|found| found.inode == open.inode) {
            continue;
        }
        let (from, count) = tail_of(&mut open.file, left).await?;
        open.file.seek(SeekFrom::Start(from)).await?;
        found = Some(open);
        if count >= left {
            break;
        }
        left -= count;
    }
    Ok(found)
}

/// Where the last `lines` of a file begin, and how many it has of these.
async fn tail_of(file: &mut File, lines: u64) -> std::io::Result<(u64, u64)> {
    let length = file.seek(SeekFrom::End(0)).await?;
    let mut reach = PIECE as u64;
    loop {
        let from = length.saturating_sub(reach);
        file.seek(SeekFrom::Start(from)).await?;
        let mut bytes = Vec::new();
        (&mut *file).take(length - from).read_to_end(&mut bytes).await?;
        let (count, start) = last_lines(&bytes, lines);
        if count == lines && start != 0 || from == 0 {
            return Ok((from + start as u64, count));
        }
        reach = reach.saturating_mul(4);
    }
}

/// How many of the last lines are in the end of a file, and where they begin in it; 0 where more of them may come before.
fn last_lines(bytes: &[u8], lines: u64) -> (u64, usize) {
    let mut count = 0;
    let mut end = bytes.len();
    while let Some(feed) = bytes[..end].iter().rposition(|byte| *byte == b'\n') {
        let begin = bytes[..feed].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let is_whole = Line::parse(&bytes[begin..feed]).is_none_or(|line| line.whole);
        // What goes on in the next line is one with it; the very last may go on for ever.
        if is_whole || end == bytes.len() {
            if count == lines {
                return (count, feed + 1);
            }
            count += 1;
        }
        end = begin;
    }
    (count, 0)
}

/// Tells that files of a directory were written, or appeared.
struct Changes(AsyncFd<std::os::fd::OwnedFd>);

impl Changes {
    // As in `streams`: deprecated for types that are no OwnedFd.
    #[allow(deprecated)]
    fn of(dir: PathBuf) -> std::io::Result<Self> {
        let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let events =
            inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
        inotify::add_watch(&fd, dir, events)?;
        Ok(Self(AsyncFd::new(fd)?))
    }

    /// Something has changed since the last time. Cancel-safe.
    async fn next(&self) -> std::io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            let mut events = [0; 4096];
            match ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut events[..])?)) {
                Ok(read) => return read.map(drop),
                Err(_would_block) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &[u8] = b"2026-01-02T03:04:05.000000001Z stdout F one\n2026-01-02T03:04:06Z stderr F two\n\
        2026-01-02T03:04:07Z stdout P thr\n2026-01-02T03:04:07Z stdout F ee\n2026-01-02T03:04:08Z stdout P end\n";

    async fn sent(log: &[u8], wanted: &Wanted) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, log).unwrap();
        let mut file = File::open(&path).await.unwrap();
        if let Some(tail) = wanted.tail {
            let (from, _) = tail_of(&mut file, tail).await.unwrap();
            file.seek(SeekFrom::Start(from)).await.unwrap();
        }
        let mut written = Vec::new();
        let mut frames = Frames::new(&mut written, false);
        pump(&mut file, &mut Vec::new(), wanted, &mut frames).await.unwrap();
        String::from_utf8(written).unwrap()
    }

    #[tokio::test]
    async fn lines_come_with_what_they_had_behind_them() {
        let all = Wanted::all(true, true);
        assert_eq!(sent(LOG, &all).await, "one\ntwo\nthree\nend");
        assert_eq!(sent(LOG, &Wanted { stdout: false, ..all.clone() }).await, "two\n");
        let timed = sent(LOG, &Wanted { timestamps: true, stderr: false, ..all }).await;
        assert!(timed.starts_with("2026-01-02T03:04:05.000000001Z one\n"), "{timed}");
    }

    #[tokio::test]
    async fn the_tail_is_counted_in_whole_lines() {
        let all = Wanted::all(true, true);
        for (tail, expected) in
            [(0, ""), (1, "end"), (2, "three\nend"), (3, "two\nthree\nend"), (99, "one\ntwo\nthree\nend")]
        {
            assert_eq!(sent(LOG, &Wanted { tail: Some(tail), ..all.clone() }).await, expected, "{tail}");
        }
        let long: Vec<u8> =
            (0..20_000).flat_map(|n| format!("2026-01-02T03:04:05Z stdout F {n}\n").into_bytes()).collect();
        let last = sent(&long, &Wanted { tail: Some(5000), ..all }).await;
        assert_eq!((last.lines().count(), last.lines().next()), (5000, Some("15000")));
    }

    #[tokio::test]
    async fn moments_bound_what_is_sent() {
        let all = Wanted::all(true, true);
        let at = when::nanos("2026-01-02T03:04:06Z");
        assert_eq!(sent(LOG, &Wanted { since: at, ..all.clone() }).await, "two\nthree\nend");
        assert_eq!(sent(LOG, &Wanted { until: at, ..all }).await, "one\ntwo\n");
    }
}
