//! Files that clients send: kept where nobody sees them, and gone with this process.
//!
//! buildkitd takes for an archive what begins with a whole entry of tar within 1024 bytes, or with the magic of a compression (`dockerui.isArchive`);
//! everything else it takes for a Dockerfile. An archive in the form of pax (Python writes it) begins with an entry about an entry, which is longer.
//! So a plain archive is kept as gzip without compression, which costs five bytes in 64 KiB.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use flate2::{Compression, write::GzEncoder};
use rustix::fs::{CWD, Mode, OFlags};

use crate::error::{BuildError, Result};

/// Bytes of an archive that a client may send.
const MAX: u64 = 1 << 36;
/// Bytes between two looks at how full the disk is.
const LOOK: u64 = 16 << 20;

/// How compressed archives begin: gzip, bzip2, xz, zstd.
const MAGICS: [&[u8]; 4] = [&[0x1f, 0x8b, 8], b"BZh", b"\xfd7zXZ\0", &[0x28, 0xb5, 0x2f, 0xfd]];
/// Bytes of the longest.
const MAGIC_MAX: usize = 6;

/// Where bytes go.
#[derive(Debug)]
enum Form {
    /// Too few have come to tell.
    Unknown(File, Vec<u8>),
    /// They are compressed.
    Compressed(File),
    /// They are not.
    Plain(Box<GzEncoder<File>>),
}

/// A file that is being written, without a name.
#[derive(Debug)]
pub struct Spool {
    form: Option<Form>,
    directory: PathBuf,
    size: u64,
    looked: u64,
}

impl Spool {
    pub(crate) fn new(directory: &Path) -> Result<Self> {
        std::fs::create_dir_all(directory).map_err(BuildError::file("make", directory))?;
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::openat(CWD, directory, flags, Mode::from_raw_mode(0o600));
        let file = file.map_err(io::Error::from).map_err(BuildError::file("make a file in", directory))?;
        Ok(Self {
            form: Some(Form::Unknown(file.into(), Vec::new())),
            directory: directory.to_owned(),
            size: 0,
            looked: 0,
        })
    }

    /// Takes bytes.
    ///
    /// # Errors
    /// [`BuildError::File`] when the disk is full, or nearly; [`BuildError::Request`] for more than 64 GiB.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.size += bytes.len() as u64;
        self.looked += bytes.len() as u64;
        if self.size > MAX {
            return Err(BuildError::Request("the build's files are more than 64 GiB".to_owned()));
        }
        if self.looked >= LOOK {
            self.looked = 0;
            self.leave_room().map_err(BuildError::file("write to", &self.directory))?;
        }
        self.put(bytes).map_err(BuildError::file("write to", &self.directory))
    }

    fn leave_room(&self) -> io::Result<()> {
        match &self.form {
            Some(Form::Unknown(file, _) | Form::Compressed(file)) => leave_room(file),
            Some(Form::Plain(encoder)) => leave_room(encoder.get_ref()),
            None => Ok(()),
        }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.form.take() {
            Some(Form::Unknown(file, mut head)) => {
                head.extend_from_slice(bytes);
                self.form = Some(if head.len() < MAGIC_MAX {
                    Form::Unknown(file, head)
                } else {
                    begun(file, &head)?
                });
                Ok(())
            }
            Some(Form::Compressed(mut file)) => {
                file.write_all(bytes)?;
                self.form = Some(Form::Compressed(file));
                Ok(())
            }
            Some(Form::Plain(mut encoder)) => {
                encoder.write_all(bytes)?;
                self.form = Some(Form::Plain(encoder));
                Ok(())
            }
            None => Err(io::Error::other("an earlier piece of it could not be written")),
        }
    }

    /// The file, for whoever reads it.
    ///
    /// # Errors
    /// [`BuildError::File`] when what is left of it cannot be written.
    pub fn finish(mut self) -> Result<Arc<File>> {
        let mut finish = || match self.form.take() {
            Some(Form::Unknown(file, head)) => match begun(file, &head)? {
                Form::Plain(encoder) => encoder.finish(),
                Form::Compressed(file) | Form::Unknown(file, _) => Ok(file),
            },
            Some(Form::Compressed(file)) => Ok(file),
            Some(Form::Plain(encoder)) => encoder.finish(),
            None => Err(io::Error::other("an earlier piece of it could not be written")),
        };
        finish().map(Arc::new).map_err(BuildError::file("write to", &self.directory))
    }
}

/// The form of what begins so, with that written.
fn begun(mut file: File, head: &[u8]) -> io::Result<Form> {
    if MAGICS.iter().any(|magic| head.starts_with(magic)) {
        file.write_all(head)?;
        return Ok(Form::Compressed(file));
    }
    let mut encoder = GzEncoder::new(file, Compression::none());
    encoder.write_all(head)?;
    Ok(Form::Plain(Box::new(encoder)))
}

/// Sees that a hundredth of the disk stays free.
pub(crate) fn leave_room(file: impl AsFd) -> io::Result<()> {
    let disk = rustix::fs::fstatvfs(file)?;
    if disk.f_bavail < disk.f_blocks / 100 {
        return Err(io::Error::new(io::ErrorKind::StorageFull, "a hundredth of the disk stays free"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use flate2::read::GzDecoder;

    use super::*;

    fn spooled(pieces: &[&[u8]]) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(dir.path()).unwrap();
        for piece in pieces {
            spool.write(piece).unwrap();
        }
        let file = spool.finish().unwrap();
        let mut content = Vec::new();
        (&*file).rewind().unwrap();
        (&*file).read_to_end(&mut content).unwrap();
        content
    }

    #[test]
    fn a_plain_archive_is_given_a_magic() {
        for pieces in [&[&b"a"[..], b"bc", b"defghi", b"j"][..], &[b"ab"], &[]] {
            let content = spooled(pieces);
            assert!(content.starts_with(MAGICS[0]));
            let mut plain = Vec::new();
            GzDecoder::new(&content[..]).read_to_end(&mut plain).unwrap();
            assert_eq!(plain, pieces.concat());
        }
    }

    #[test]
    fn a_compressed_one_stays_as_it_came() {
        for magic in MAGICS {
            let whole = [magic, b"whatever follows"].concat();
            assert_eq!(spooled(&[&whole[..1], &whole[1..4], &whole[4..]]), whole);
        }
    }
}
