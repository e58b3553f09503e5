//! `GET /containers/{id}/logs`: the log that the monitor writes, as Docker sends it.
//!
//! A log with limits is several files ([`log_files`](super::log_files)); their lines are [`log_lines`](super::log_lines)'.

use std::{io::SeekFrom, os::unix::fs::FileExt, path::PathBuf, sync::Arc};

use husk_model::UnixNanos;
use rustix::fs::inotify;
use tokio::{
    fs::File,
    io::{AsyncRead, AsyncReadExt, AsyncSeekExt, AsyncWrite, unix::AsyncFd},
};

use super::{
    container::Container,
    log_files::{After, LogFile, LogFiles},
    log_lines::{self, Line},
    record::Phase,
    store::Store,
};
use crate::{
    error::{Failure, Result},
    http::{Answer, Call, Frames, MULTIPLEXED, Output, Pieces, RAW, Version, frame, streamed_as},
    threads, when,
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

    fn wants(&self, line: &Line<'_>) -> bool {
        let stream = if line.output == Output::Err { self.stderr } else { self.stdout };
        stream && self.since.is_none_or(|since| line.at().is_none_or(|at| at >= since))
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
    match wanted.follow {
        true => send_following(container, wanted, sink).await,
        false => send_now(&LogFiles::of(container), wanted, sink).await,
    }
}

/// Sends what there is now, however fast more comes.
async fn send_now(files: &LogFiles, wanted: &Wanted, sink: &mut impl Sink) -> std::io::Result<()> {
    let Some(last) = files.youngest().await? else { return Ok(()) };
    let length = last.file.metadata().await?.len();
    // Open to the end, so that no other gets its inode, and it can be read when it is not kept any more.
    let held = LogFile { file: last.file.try_clone().await?, inode: last.inode };
    let oldest = match wanted.tail {
        Some(lines) => Some(tail_start(files, last, length, lines).await?),
        None => files.oldest().await?,
    };
    let (mut current, mut rest) = (oldest, Vec::new());
    loop {
        // All those that were before it are gone, and it too.
        let is_before =
            |file: &LogFile, inodes: &[u64]| file.inode == held.inode || inodes.contains(&held.inode);
        let inodes = files.inodes().await;
        let Some(LogFile { mut file, inode }) = current.filter(|file| is_before(file, &inodes)) else {
            let mut file = held.file;
            file.rewind().await?;
            return pump(&mut file.take(length), &mut rest, wanted, sink).await.map(drop);
        };
        if inode == held.inode {
            let left = length.saturating_sub(file.stream_position().await?);
            return pump(&mut file.take(left), &mut rest, wanted, sink).await.map(drop);
        }
        if !pump(&mut file, &mut rest, wanted, sink).await? {
            return Ok(());
        }
        current = match files.after(inode).await? {
            After::Next(next) => Some(next),
            After::Lost(next) => {
                rest.clear();
                Some(next)
            }
            After::Nothing => None,
        };
    }
}

/// Sends what there is, and what comes, until the container has ended.
async fn send_following(container: &Container, wanted: &Wanted, sink: &mut impl Sink) -> std::io::Result<()> {
    // Before the first look, so that what comes after it is an event.
    let changes = Changes::of(container.dir.clone())?;
    let mut ends = container.ends();
    let files = LogFiles::of(container);
    let mut current = match (wanted.tail, files.youngest().await?) {
        (Some(lines), Some(youngest)) => {
            let length = youngest.file.metadata().await?.len();
            Some(tail_start(&files, youngest, length, lines).await?)
        }
        _ => files.oldest().await?,
    };
    let mut rest = Vec::new();
    loop {
        // Seen before the read: what an ended container wrote is in the file.
        let is_over = container.record().state.phase != Phase::Running;
        if let Some(LogFile { file, inode }) = &mut current {
            if !pump(file, &mut rest, wanted, sink).await? {
                return Ok(());
            }
            let next = files.after(*inode).await?;
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
    file: &mut (impl AsyncRead + Unpin),
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
            if wanted.wants(&line) {
                sink.put(line.output, &line.shown(wanted.timestamps)).await?;
            }
        }
        rest.drain(..from);
        if rest.len() > LONGEST {
            return Err(std::io::Error::other("a line of the log is too long to be one"));
        }
    }
}

/// The file in which the last `lines` begin, at its place there; `youngest` counts up to `length`.
async fn tail_start(
    files: &LogFiles,
    youngest: LogFile,
    length: u64,
    lines: u64,
) -> std::io::Result<LogFile> {
    let (mut left, mut found, mut length) = (lines, youngest, length);
    loop {
        let (from, count) = tail_of(&found.file, length, left).await?;
        found.file.seek(SeekFrom::Start(from)).await?;
        if count >= left {
            return Ok(found);
        }
        left -= count;
        let Some(older) = files.before(found.inode).await? else { return Ok(found) };
        length = older.file.metadata().await?.len();
        found = older;
    }
}

/// Where the last `lines` of the beginning of a file begin, and how many it has of these.
async fn tail_of(file: &File, length: u64, lines: u64) -> std::io::Result<(u64, u64)> {
    let file = file.try_clone().await?.into_std().await;
    let walked = threads::walk(move |is_wanted| {
        log_lines::tail(|piece, at| file.read_exact_at(piece, at), length, lines, is_wanted)
    });
    walked.await.map_err(|failure| std::io::Error::other(failure.message().to_owned()))?
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
        std::fs::write(dir.path().join("log"), log).unwrap();
        let mut written = Vec::new();
        let mut frames = Frames::new(&mut written, false);
        send_now(&LogFiles::in_dir(dir.path()), wanted, &mut frames).await.unwrap();
        String::from_utf8(written).unwrap()
    }

    /// Whoever reads a line makes the container write another, into the next file.
    struct Writing<'a> {
        dir: &'a std::path::Path,
        read: Vec<String>,
    }

    impl Sink for Writing<'_> {
        async fn put(&mut self, _: Output, bytes: &[u8]) -> std::io::Result<()> {
            self.read.push(String::from_utf8(bytes.to_vec()).unwrap());
            assert!(self.read.len() < 100, "it never ends");
            let at = |name: &str| self.dir.join(name);
            let line = format!("2026-01-02T03:04:09Z stdout F more {}\n", self.read.len());
            let mut log = std::fs::OpenOptions::new().append(true).create(true).open(at("log"))?;
            std::io::Write::write_all(&mut log, line.as_bytes())?;
            std::fs::rename(at("log.1"), at("log.2"))?;
            std::fs::rename(at("log"), at("log.1"))?;
            std::fs::write(at("log"), line)
        }
    }

    #[tokio::test]
    async fn who_does_not_follow_gets_what_there_was_however_fast_more_comes_and_older_files_go() {
        for tail in [None, Some(1), Some(2), Some(3), Some(99)] {
            let dir = tempfile::tempdir().unwrap();
            for (name, text) in [("log.2", "a"), ("log.1", "b"), ("log", "c")] {
                std::fs::write(dir.path().join(name), format!("2026-01-02T03:04:05Z stdout F {text}\n"))
                    .unwrap();
            }
            let mut sink = Writing { dir: dir.path(), read: Vec::new() };
            let wanted = Wanted { tail, ..Wanted::all(true, true) };
            send_now(&LogFiles::in_dir(dir.path()), &wanted, &mut sink).await.unwrap();
            let begin = tail.map_or(0, |tail: u64| 3usize.saturating_sub(tail as usize));
            assert_eq!(sink.read.first(), Some(&format!("{}\n", ["a", "b", "c"][begin])), "{tail:?}");
            assert_eq!(sink.read.last().map(String::as_str), Some("c\n"), "{:?}", sink.read);
        }
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
