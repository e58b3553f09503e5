//! A layer as the compressed blob that it is pushed as: made again from its files, the same whenever it is made by this version, in a file
//! that has no name.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
    sync::Arc,
};

use flate2::{Compression, write::GzEncoder};
use husk_model::{Digest, ImageId};
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};
use sha2::{Digest as _, Sha256};

use crate::{
    ImageError, Result,
    archive::reproduce,
    registry::Content,
    stop::Stop,
    store::LayerRecord,
    unpack::{Destination, space::Space},
};

/// Makes the blob of a layer in `spool`. `progress` is told the bytes of the archive done.
pub(super) fn make(
    image: &ImageId,
    record: &LayerRecord,
    layer: &Destination,
    spool: &Path,
    progress: &dyn Fn(u64),
    stop: &Stop,
) -> Result<Content> {
    let broken = |reason: String| ImageError::Export {
        image: image.clone(),
        layer: record.diff_id.digest().clone(),
        reason,
    };
    let file = nameless(spool).map_err(ImageError::store("make a file in", spool))?;
    let spooled = Spooled {
        out: BufWriter::with_capacity(256 << 10, file),
        hash: Sha256::new(),
        size: 0,
        space: Space::default(),
    };
    let mut archive = Archive {
        out: GzEncoder::new(spooled, Compression::default()),
        hash: Sha256::new(),
        done: 0,
        progress,
        stop,
    };
    reproduce(layer, &mut archive).map_err(|error| match error.kind() {
        io::ErrorKind::StorageFull => ImageError::store("write a blob in", spool)(error),
        _ => broken(format!("its blob cannot be made: {error}")),
    })?;
    let actual = Digest::from_sha256(&archive.hash.finalize().into());
    if actual != *record.diff_id.digest() {
        return Err(broken(format!(
            "its files on disk were changed (digest {actual} now); remove the image and pull it again"
        )));
    }
    let written = archive.out.finish().and_then(|mut spooled| spooled.flush().map(|()| spooled));
    let Spooled { out, hash, size, .. } = written.map_err(ImageError::store("write a blob in", spool))?;
    let file =
        out.into_inner().map_err(|error| ImageError::store("write a blob in", spool)(error.into_error()))?;
    Ok(Content { digest: Digest::from_sha256(&hash.finalize().into()), size, file: Arc::new(file) })
}

/// A blob of bytes that are at hand.
pub(super) fn of(bytes: &[u8], spool: &Path) -> Result<Content> {
    let fail = || ImageError::store("write a blob in", spool);
    let mut file = nameless(spool).map_err(fail())?;
    file.write_all(bytes).map_err(fail())?;
    let digest = Digest::from_sha256(&Sha256::digest(bytes).into());
    Ok(Content { digest, size: bytes.len() as u64, file: Arc::new(file) })
}

/// A file that is gone when nobody has it open, whatever becomes of this process.
fn nameless(directory: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(directory, flags, Mode::from_raw_mode(0o600)) {
        Ok(file) => Ok(file.into()),
        // Not every filesystem has them.
        Err(Errno::OPNOTSUPP | Errno::ISDIR) => {
            let name = format!("blob-{}-{:?}", std::process::id(), std::thread::current().id());
            let path = directory.join(name.replace(['(', ')'], ""));
            let file = File::options().read(true).write(true).create_new(true).open(&path)?;
            std::fs::remove_file(&path)?;
            Ok(file)
        }
        Err(errno) => Err(errno.into()),
    }
}

/// The archive: hashed on its way to be compressed.
struct Archive<'a, W: Write> {
    out: GzEncoder<W>,
    hash: Sha256,
    done: u64,
    progress: &'a dyn Fn(u64),
    stop: &'a Stop,
}

impl<W: Write> Write for Archive<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stop.check()?;
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.done += written as u64;
        (self.progress)(self.done);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The blob: hashed and counted on its way to the disk, which it shall not fill.
struct Spooled {
    out: BufWriter<File>,
    hash: Sha256,
    size: u64,
    space: Space,
}

impl Write for Spooled {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let full = |error| io::Error::new(io::ErrorKind::StorageFull, error);
        self.space.check(self.out.get_ref(), self.size, 0).map_err(full)?;
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use super::*;

    #[test]
    fn a_blob_in_the_spool_has_no_name_and_its_own_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let content = of(b"config", dir.path()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let (mut text, mut file) = (String::new(), &*content.file);
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), content.size), ("config", 6));
    }
}
