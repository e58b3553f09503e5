//! The file of a log, and the one that follows it when it is rotated.

use std::{
    fs::File as StdFile,
    io::{self, SeekFrom},
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use husk_proto::admin::LogsResponse;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
};

use super::line;

/// Bytes read at once.
const PIECE: usize = 64 << 10;
/// Longest line; the monitor cuts at 16 KiB. What is longer is shown in pieces.
const LONGEST: usize = 1 << 20;
/// How much of a file's end is searched for the beginning of its last lines.
const REACH: u64 = 64 << 20;

/// A log that is read from its beginning or its last lines on.
pub(super) struct LogFile {
    directory: OwnedFd,
    path: PathBuf,
    file: File,
    /// Read and not given out yet.
    rest: Vec<u8>,
}

impl LogFile {
    /// Opens `path` below `directory`.
    pub(super) fn open(directory: &Path, path: &str) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        let directory = rustix::fs::open(directory, flags, Mode::empty())?;
        let path = PathBuf::from(path);
        let file = below(&directory, &path)?;
        Ok(Self { directory, path, file: File::from_std(file), rest: Vec::new() })
    }

    /// Goes to where its last lines begin.
    pub(super) async fn seek_tail(&mut self, lines: u64) -> io::Result<()> {
        let length = self.file.seek(SeekFrom::End(0)).await?;
        let mut reach = PIECE as u64;
        loop {
            let from = length.saturating_sub(reach);
            self.file.seek(SeekFrom::Start(from)).await?;
            let mut bytes = Vec::new();
            (&mut self.file).take(length - from).read_to_end(&mut bytes).await?;
            let (found, start) = line::last_lines(&bytes, lines);
            if found || from == 0 || reach >= REACH {
                self.file.seek(SeekFrom::Start(from + start as u64)).await?;
                return Ok(());
            }
            reach = reach.saturating_mul(4).min(REACH);
        }
    }

    /// The next whole line; none where nothing more is written yet.
    pub(super) async fn next(&mut self) -> io::Result<Option<LogsResponse>> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.rest[searched..].iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.rest.drain(..=searched + at).collect();
                line.pop();
                return Ok(Some(line::parse(&line)));
            }
            if self.rest.len() >= LONGEST {
                let line = line::parse(&std::mem::take(&mut self.rest));
                return Ok(Some(LogsResponse { partial: true, ..line }));
            }
            searched = self.rest.len();
            self.rest.reserve(PIECE);
            if (&mut self.file).take(PIECE as u64).read_buf(&mut self.rest).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Whether its place has another file by now, which is read from then on. This one was read to its end.
    pub(super) fn goes_on_in_another(&mut self) -> io::Result<bool> {
        let next = match below(&self.directory, &self.path) {
            Ok(next) => next,
            // Between being moved away and being made anew.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let identity = |stat: &std::fs::Metadata| (stat.dev(), stat.ino());
        let own = rustix::fs::fstat(&self.file)?;
        if identity(&next.metadata()?) == (own.st_dev, own.st_ino) {
            return Ok(false);
        }
        self.file = File::from_std(next);
        self.rest.clear();
        Ok(true)
    }
}

/// A regular file below a directory, on the way to which there is no link.
fn below(directory: &OwnedFd, path: &Path) -> io::Result<StdFile> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let file = StdFile::from(rustix::fs::openat2(directory, path, flags, Mode::empty(), resolve)?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("is not a regular file")),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    async fn rest(log: &mut LogFile) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = log.next().await.unwrap() {
            lines.push(String::from_utf8(line.line).unwrap());
        }
        lines
    }

    fn text(words: &[&str]) -> String {
        words.iter().map(|word| format!("1970-01-01T00:00:01Z stdout F {word}\n")).collect()
    }

    #[tokio::test]
    async fn lines_come_whole_from_the_tail_on_and_across_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        fs::write(&path, text(&["one", "two"]) + "1970-01-01T00:00:01Z stdout F th").unwrap();
        let mut log = LogFile::open(dir.path(), "0.log").unwrap();
        log.seek_tail(2).await.unwrap();
        assert_eq!(rest(&mut log).await, ["one", "two"]);
        let whole = text(&["one", "two", "three"]);
        fs::write(&path, &whole).unwrap();
        assert_eq!(rest(&mut log).await, ["three"]);
        assert!(!log.goes_on_in_another().unwrap());
        fs::rename(&path, dir.path().join("0.log.1")).unwrap();
        assert!(!log.goes_on_in_another().unwrap(), "not made anew yet");
        fs::write(&path, text(&["four"])).unwrap();
        assert!(log.goes_on_in_another().unwrap());
        assert_eq!(rest(&mut log).await, ["four"]);
    }

    #[tokio::test]
    async fn links_and_what_is_no_file_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("secret"), text(&["secret"])).unwrap();
        let logs = dir.path().join("logs");
        fs::create_dir(&logs).unwrap();
        symlink("../secret", logs.join("link")).unwrap();
        symlink("..", logs.join("up")).unwrap();
        fs::create_dir(logs.join("directory")).unwrap();
        for path in ["link", "up/secret", "../secret", "directory", "/etc/passwd"] {
            assert!(LogFile::open(&logs, path).is_err(), "{path}");
        }
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_shown_in_pieces() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("0.log"), vec![b'x'; 3 * LONGEST / 2]).unwrap();
        let mut log = LogFile::open(dir.path(), "0.log").unwrap();
        let piece = log.next().await.unwrap().unwrap();
        assert!(piece.partial && piece.line.len() <= LONGEST + PIECE, "{}", piece.line.len());
        assert!(log.next().await.unwrap().is_none());
    }
}
