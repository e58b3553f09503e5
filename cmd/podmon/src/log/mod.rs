//! Container logs in the CRI format: `<RFC3339Nano> <stdout|stderr> <P|F> <content>\n`.
//!
//! [`split`] finds the lines of a stream, `husk_node::Stamp` formats the time, [`file`](mod@file) is the file on disk. Both
//! streams of a container go through one [`Log`] in the order in which their bytes arrive.

pub mod file;
mod split;

use std::{io, path::PathBuf};

use husk_model::LogLimits;
use husk_node::Stamp;
use split::{Splitter, Tag};

pub use file::LogPath;

/// Which of a container's streams a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Also everything a terminal shows.
    Stdout,
    Stderr,
}

impl Stream {
    /// Both of them.
    pub const BOTH: [Self; 2] = [Stream::Stdout, Stream::Stderr];

    fn name(self) -> &'static [u8] {
        match self {
            Stream::Stdout => b"stdout",
            Stream::Stderr => b"stderr",
        }
    }
}

/// Formatted bytes are handed to the kernel when a batch reaches this size.
const BATCH: usize = 16 << 10;

/// The log of one container.
#[derive(Debug)]
pub struct Log<W = std::fs::File> {
    sink: Sink<W>,
    splitters: [Splitter; 2],
    stamp: Stamp,
}

/// What a log is written to.
pub trait LogFile: io::Write + Sized {
    /// Opens it, making it if needed.
    fn open(path: &LogPath) -> io::Result<Self>;

    /// Its bytes.
    fn size(&self) -> u64;

    /// Removes the last `count` bytes.
    fn cut(&mut self, count: u64) -> io::Result<()>;
}

impl LogFile for std::fs::File {
    fn open(path: &LogPath) -> io::Result<Self> {
        path.open()
    }

    fn size(&self) -> u64 {
        self.metadata().map_or(0, |metadata| metadata.len())
    }

    fn cut(&mut self, count: u64) -> io::Result<()> {
        let length = self.metadata()?.len();
        self.set_len(length.saturating_sub(count))
    }
}

/// The file with what could not be written.
#[derive(Debug)]
struct Sink<W> {
    path: Option<LogPath>,
    file: Option<W>,
    /// When another file is begun.
    limits: Option<LogLimits>,
    /// Bytes in the file since it was opened, with those that it had; counted where there is a limit.
    size: u64,
    /// The rest of a line of which a part is in the file already. It must come before anything else, or the file would
    /// hold a line that no reader understands.
    torn: Vec<u8>,
    /// How much of that line is in the file.
    torn_written: u64,
    dropped: u64,
}

impl Log {
    /// A log that is not opened yet; without a path it discards everything.
    pub fn new(path: Option<LogPath>, limits: Option<LogLimits>) -> Self {
        let sink = Sink { path, limits, ..Sink::new(None) };
        Self { sink, splitters: Default::default(), stamp: Stamp::default() }
    }

    /// Opens the file, making it if needed. Also replaces an open file by a new one at the same path: lines written so
    /// far are in the old one, a line of which only a part has arrived will be in the new one.
    pub fn open(&mut self) -> io::Result<()> {
        self.sink.open()
    }

    /// Where it is written.
    pub fn path(&self) -> Option<PathBuf> {
        self.sink.path.as_ref().map(LogPath::full)
    }
}

impl<W: LogFile> Log<W> {
    /// Takes bytes of a stream and writes the lines they complete. Never fails: what the disk does not take is counted
    /// and dropped, whole lines at a time.
    pub fn feed(&mut self, stream: Stream, bytes: &[u8], batch: &mut Vec<u8>) {
        if self.sink.file.is_none() {
            return;
        }
        let (sink, stamp) = (&mut self.sink, &mut self.stamp);
        self.splitters[stream as usize].feed(bytes, |tag, parts| {
            sink.make_room(batch);
            append(batch, stamp, stream, tag, parts);
            if batch.len() >= BATCH {
                sink.write(batch);
            }
        });
        sink.write(batch);
    }

    /// The stream has ended: what is left of it has no newline, so it is a partial line (tag P), as in containerd.
    pub fn finish(&mut self, stream: Stream, batch: &mut Vec<u8>) {
        let rest = self.splitters[stream as usize].finish();
        if !rest.is_empty() {
            append(batch, &mut self.stamp, stream, Tag::Partial, [&rest, &[]]);
        }
        self.sink.write(batch);
    }

    /// Nothing more will come. The file ends with a whole line.
    pub fn end(&mut self) {
        self.sink.settle();
        self.sink.file = None;
    }

    /// Bytes that could not be written.
    pub fn dropped(&self) -> u64 {
        self.sink.dropped
    }
}

impl<W: LogFile> Sink<W> {
    fn new(file: Option<W>) -> Self {
        Self { path: None, file, limits: None, size: 0, torn: Vec::new(), torn_written: 0, dropped: 0 }
    }

    fn open(&mut self) -> io::Result<()> {
        if let Some(path) = &self.path {
            let file = W::open(path)?;
            self.replace(file);
        }
        Ok(())
    }

    fn replace(&mut self, file: W) {
        self.settle();
        self.size = if self.limits.is_some() { file.size() } else { 0 };
        self.file = Some(file);
    }

    /// Begins another file where this one, with what is about to be written, is as large as it may be.
    fn make_room(&mut self, batch: &mut Vec<u8>) {
        let Some(limits) = self.limits else { return };
        if self.size + batch.len() as u64 >= limits.size {
            self.write(batch);
            self.settle();
            let rotated = self.path.as_ref().map_or(Ok(()), |path| path.rotate(limits.files));
            // Where the disk does not let it, the log grows on, and it is tried again when as much has come.
            if rotated.and_then(|()| self.open()).is_err() {
                self.size = 0;
            }
        }
    }

    /// Leaves the file with whole lines: the torn one is completed, or else taken away.
    fn settle(&mut self) {
        self.write(&mut Vec::new());
        if !self.torn.is_empty()
            && let Some(file) = &mut self.file
            && file.cut(self.torn_written).is_ok()
        {
            self.dropped += self.torn_written + self.torn.len() as u64;
        }
        self.torn = Vec::new();
    }

    /// Writes a batch of whole lines and empties it.
    fn write(&mut self, batch: &mut Vec<u8>) {
        if let Some(file) = &mut self.file {
            let torn = push(file, &self.torn);
            self.torn.drain(..torn);
            self.torn_written += torn as u64;
            self.size += torn as u64;
            if self.torn.is_empty() {
                let written = push(file, batch);
                self.size += written as u64;
                if written < batch.len() {
                    self.tear(batch, written);
                }
            } else {
                self.dropped += batch.len() as u64;
            }
        }
        batch.clear();
    }

    /// Of a batch only `written` bytes could be written: a line that was cut is kept, the ones after it are lost.
    fn tear(&mut self, batch: &[u8], written: usize) {
        let newline = |byte: &u8| *byte == b'\n';
        let begin = batch[..written].iter().rposition(newline).map_or(0, |at| at + 1);
        let end = batch[written..].iter().position(newline).map_or(batch.len(), |at| written + at + 1);
        let cut = if begin == written { written } else { end };
        self.torn = batch[written..cut].to_vec();
        self.torn_written = (written - begin) as u64;
        self.dropped += (batch.len() - cut) as u64;
    }
}

/// Writes until everything is written or the file takes no more (ENOSPC, EDQUOT, EIO...); returns how much it took.
fn push(file: &mut impl io::Write, bytes: &[u8]) -> usize {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => break,
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    written
}

fn append(batch: &mut Vec<u8>, stamp: &mut Stamp, stream: Stream, tag: Tag, parts: [&[u8]; 2]) {
    batch.extend_from_slice(stamp.now());
    batch.push(b' ');
    batch.extend_from_slice(stream.name());
    batch.extend_from_slice(match tag {
        Tag::Full => b" F ",
        Tag::Partial => b" P ",
    });
    for part in parts {
        batch.extend_from_slice(part);
    }
    batch.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with so many bytes left; `room` may be raised later.
    struct Disk {
        data: Vec<u8>,
        room: usize,
    }

    impl io::Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.room == 0 {
                return Err(io::Error::from_raw_os_error(28));
            }
            let count = bytes.len().min(self.room);
            self.data.extend_from_slice(&bytes[..count]);
            self.room -= count;
            Ok(count)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl LogFile for Disk {
        fn open(_: &LogPath) -> io::Result<Self> {
            Ok(Self { data: Vec::new(), room: usize::MAX })
        }
        fn size(&self) -> u64 {
            self.data.len() as u64
        }
        fn cut(&mut self, count: u64) -> io::Result<()> {
            self.data.truncate(self.data.len() - count as usize);
            Ok(())
        }
    }

    fn log(room: usize) -> Log<Disk> {
        let disk = Disk { data: Vec::new(), room };
        Log { sink: Sink::new(Some(disk)), splitters: Default::default(), stamp: Stamp::default() }
    }

    /// What a CRI log reader makes of it: lines as (stream, tag, content). Panics on a malformed one.
    fn parse(data: &[u8]) -> Vec<(String, String, String)> {
        let text = std::str::from_utf8(data).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "{text:?}");
        let line = |line: &str| {
            let mut fields = line.splitn(4, ' ');
            let time = fields.next().unwrap();
            assert_eq!((time.len(), &time[19..20], &time[29..]), (30, ".", "Z"), "{line:?}");
            let mut field = || fields.next().unwrap().to_owned();
            (field(), field(), field())
        };
        text.lines().map(line).collect()
    }

    fn contents(log: &Log<Disk>) -> Vec<(String, String, String)> {
        parse(&log.sink.file.as_ref().unwrap().data)
    }

    fn line(stream: &str, tag: &str, content: &str) -> (String, String, String) {
        (stream.into(), tag.into(), content.into())
    }

    #[test]
    fn both_streams_are_interleaved_in_the_order_of_arrival_and_each_keeps_its_own_partial_line() {
        let mut log = log(usize::MAX);
        let batch = &mut Vec::new();
        log.feed(Stream::Stdout, b"one\ntw", batch);
        log.feed(Stream::Stderr, b"error\n", batch);
        log.feed(Stream::Stdout, b"o\nrest", batch);
        log.finish(Stream::Stdout, batch);
        log.finish(Stream::Stderr, batch);
        let expected = [
            line("stdout", "F", "one"),
            line("stderr", "F", "error"),
            line("stdout", "F", "two"),
            line("stdout", "P", "rest"),
        ];
        assert_eq!(contents(&log), expected);
    }

    #[test]
    fn a_full_disk_loses_whole_lines_counts_them_and_goes_on_when_there_is_room_again() {
        let mut log = log(60);
        let batch = &mut Vec::new();
        log.feed(Stream::Stdout, b"first\nsecond\nthird\n", batch);
        log.feed(Stream::Stdout, b"fourth\n", batch);
        assert!(log.dropped() > 0);
        log.sink.file.as_mut().unwrap().room = usize::MAX;
        log.feed(Stream::Stdout, b"fifth\n", batch);
        let expected = ["first", "second", "fifth"].map(|content| line("stdout", "F", content));
        assert_eq!(contents(&log), expected);
        let lost = |content: &str| 30 + " stdout F ".len() + content.len() + 1;
        assert_eq!(log.dropped(), (lost("third") + lost("fourth")) as u64);
    }

    #[test]
    fn a_line_that_could_never_be_completed_is_taken_away_at_the_end() {
        let mut log = log(60);
        let batch = &mut Vec::new();
        log.feed(Stream::Stdout, b"first\nsecond\n", batch);
        assert!(!log.sink.torn.is_empty());
        log.sink.settle();
        assert_eq!(contents(&log), [line("stdout", "F", "first")]);
        assert_eq!(log.dropped(), (30 + " stdout F ".len() + "second".len() + 1) as u64);
    }

    #[test]
    fn a_log_with_a_limit_goes_on_in_another_file_and_keeps_as_many_as_are_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let path = LogPath::new(dir.path().to_str().unwrap(), "log").unwrap();
        let limits = Some(LogLimits { size: 400, files: 2 });
        let mut log: Log = Log::new(Some(path.clone()), limits);
        log.open().unwrap();
        let batch = &mut Vec::new();
        // One read of many lines, which is cut between lines all the same.
        let text: String = (0..100).map(|n| format!("line {n}\n")).collect();
        log.feed(Stream::Stdout, text.as_bytes(), batch);
        let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
        let (older, newer) = (parse(&read("log.1")), parse(&read("log")));
        assert!(
            read("log").len() < 500 && read("log.1").len() < 500,
            "a file is as long as is allowed, and a line"
        );
        let numbers: Vec<String> = older.into_iter().chain(newer).map(|(_, _, content)| content).collect();
        let last: Vec<String> = (100 - numbers.len()..100).map(|n| format!("line {n}")).collect();
        assert_eq!(numbers, last, "the last of them, each once");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
        // What another run finds counts too.
        let mut log: Log = Log::new(Some(path), limits);
        log.open().unwrap();
        assert_eq!(log.sink.size, read("log").len() as u64);
    }

    #[test]
    fn a_reopen_in_the_middle_of_a_line_loses_and_repeats_nothing() {
        let mut log = log(usize::MAX);
        let batch = &mut Vec::new();
        log.feed(Stream::Stdout, b"old\nhal", batch);
        let old = log.sink.file.take().unwrap();
        log.sink.replace(Disk { data: Vec::new(), room: usize::MAX });
        log.feed(Stream::Stdout, b"f\n", batch);
        assert_eq!(parse(&old.data), [line("stdout", "F", "old")]);
        assert_eq!(contents(&log), [line("stdout", "F", "half")]);
    }
}
