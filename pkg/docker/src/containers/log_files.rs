//! The files of a log: `log`, and before it `log.1`, `log.2`, ..., into which the monitor renames it when it has become long enough.
//!
//! A reader has one of them open and goes from each to the next younger one. A file is known by its inode: its name may change between
//! two looks at it.

use std::{io, os::unix::fs::MetadataExt, path::PathBuf};

use tokio::fs::File;

use super::{container::Container, record::LOG};

/// More than any log has files.
const MOST: u32 = 1 << 16;

/// Where the files are.
#[derive(Debug, Clone)]
pub(super) struct LogFiles {
    dir: PathBuf,
}

/// One of them, open.
#[derive(Debug)]
pub(super) struct LogFile {
    /// To be read.
    pub(super) file: File,
    /// Which one it is.
    pub(super) inode: u64,
}

/// What comes after a file.
#[derive(Debug)]
pub(super) enum After {
    /// It is the one that is written.
    Nothing,
    /// This one.
    Next(LogFile),
    /// It is not among those that are kept any more; this is the oldest of them.
    Lost(LogFile),
}

impl LogFiles {
    /// Those of a container.
    pub(super) fn of(container: &Container) -> Self {
        Self { dir: container.dir.clone() }
    }

    /// Those in a directory.
    #[cfg(test)]
    pub(super) fn in_dir(dir: &std::path::Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    fn path(&self, number: u32) -> PathBuf {
        match number {
            0 => self.dir.join(LOG),
            number => self.dir.join(format!("{LOG}.{number}")),
        }
    }

    /// One by its number; 0 is the one that is written.
    ///
    /// # Errors
    /// Those of opening it.
    async fn open(&self, number: u32) -> io::Result<Option<LogFile>> {
        match File::open(self.path(number)).await {
            Ok(file) => {
                let inode = file.metadata().await?.ino();
                Ok(Some(LogFile { file, inode }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The one that is written, or the last that was.
    ///
    /// # Errors
    /// As [`LogFiles::open`].
    pub(super) async fn youngest(&self) -> io::Result<Option<LogFile>> {
        loop {
            let Some(&(number, _)) = self.numbers().await.first() else { return Ok(None) };
            // It may have been renamed since.
            if let Some(youngest) = self.open(number).await? {
                return Ok(Some(youngest));
            }
        }
    }

    /// What comes before one that is open; `None` when that is the oldest, or not kept any more.
    ///
    /// # Errors
    /// As [`LogFiles::open`].
    pub(super) async fn before(&self, inode: u64) -> io::Result<Option<LogFile>> {
        loop {
            let numbers = self.numbers().await;
            let at = numbers.iter().position(|(_, other)| *other == inode);
            let Some(&(number, wanted)) = at.and_then(|at| numbers.get(at + 1)) else { return Ok(None) };
            // As in [`LogFiles::after`].
            if let Some(before) = self.open(number).await?.filter(|before| before.inode == wanted) {
                return Ok(Some(before));
            }
        }
    }

    /// Those that are kept, the youngest first.
    pub(super) async fn inodes(&self) -> Vec<u64> {
        self.numbers().await.into_iter().map(|(_, inode)| inode).collect()
    }

    /// The oldest.
    ///
    /// # Errors
    /// As [`LogFiles::open`].
    pub(super) async fn oldest(&self) -> io::Result<Option<LogFile>> {
        loop {
            let Some(&(number, _)) = self.numbers().await.last() else { return Ok(None) };
            // It may have gone since.
            if let Some(oldest) = self.open(number).await? {
                return Ok(Some(oldest));
            }
        }
    }

    /// What comes after one that is open, so that no other gets its inode; between its renaming and the next one, nothing.
    ///
    /// # Errors
    /// As [`LogFiles::open`].
    pub(super) async fn after(&self, inode: u64) -> io::Result<After> {
        loop {
            let numbers = self.numbers().await;
            let (number, wanted) = match numbers.iter().position(|(_, other)| *other == inode) {
                Some(0) => return Ok(After::Nothing),
                Some(at) => numbers[at - 1],
                None => return Ok(self.oldest().await?.map_or(After::Nothing, After::Lost)),
            };
            // What was renamed between the look and this has another number now, and is looked for again.
            if let Some(next) = self.open(number).await?.filter(|next| next.inode == wanted) {
                return Ok(After::Next(next));
            }
        }
    }

    /// Which there are, the youngest first, with their inodes.
    async fn numbers(&self) -> Vec<(u32, u64)> {
        let files = self.clone();
        let look = move || {
            let inode =
                |number| std::fs::metadata(files.path(number)).ok().map(|metadata| (number, metadata.ino()));
            let mut numbers: Vec<_> = inode(0).into_iter().collect();
            numbers.extend((1..MOST).map_while(inode));
            // One that was renamed during the look is seen twice.
            numbers.dedup_by_key(|(_, inode)| *inode);
            numbers
        };
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_goes_from_the_oldest_to_the_one_that_is_written_whatever_is_renamed_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let (files, at) = (LogFiles::in_dir(dir.path()), |name: &str| dir.path().join(name));
        assert!(files.oldest().await.unwrap().is_none());
        for name in ["log.2", "log.1", "log"] {
            std::fs::write(at(name), name).unwrap();
        }
        let oldest = files.oldest().await.unwrap().unwrap();
        // log.2 goes, as the monitor rotates, while it is open.
        std::fs::rename(at("log.1"), at("log.2")).unwrap();
        std::fs::rename(at("log"), at("log.1")).unwrap();
        let After::Lost(second) = files.after(oldest.inode).await.unwrap() else { panic!("it is gone") };
        assert_eq!(second.file.metadata().await.unwrap().len(), 5, "the former log.1");
        let After::Next(third) = files.after(second.inode).await.unwrap() else { panic!("there is a next") };
        assert!(matches!(files.after(third.inode).await.unwrap(), After::Nothing), "`log` is not there yet");
        std::fs::write(at("log"), "new").unwrap();
        let After::Next(fourth) = files.after(third.inode).await.unwrap() else { panic!("there is a next") };
        assert!(matches!(files.after(fourth.inode).await.unwrap(), After::Nothing));
    }
}
