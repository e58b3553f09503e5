//! One layer from its bytes to its directory, streamed once:
//!
//! ```text
//! download ─chunks─▶ [thread: sha256 of the blob → inflate] ─256 KiB blocks─▶ [thread: sha256 of the archive → unpack]
//! ```
//!
//! Both channels are bounded, so a slow disk slows the download and memory stays constant. Inflating costs more than
//! everything else together; it has a thread to itself.

use std::{
    fs::{self, File},
    io::{self, BufRead, Read},
    sync::mpsc as blocking,
};

use bytes::Bytes;
use husk_model::Digest;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use crate::{
    DiffId, confine, inflate,
    stop::Stop,
    unpack::{Destination, UnpackError, Unpacked, limits::Meter, unpack},
};

/// Size of a block between the two threads.
const BLOCK: usize = 256 << 10;
/// Blocks under way between them.
pub(crate) const BLOCKS: usize = 4;
/// Bytes that are still read of a layer that failed, to tell a damaged one from a wrong one. A layer may be declared as
/// long as one likes, so not all of it.
const REST_MAX: u64 = 16 << 20;

/// Where the bytes of a layer come from.
pub(crate) enum Source {
    /// A download, and who counts what has come. The channel ends early when the download fails.
    Channel(mpsc::Receiver<Bytes>, Box<dyn FnMut(u64) + Send>),
    /// A file of an archive, and who wants to know how far it is.
    File(io::Take<File>, Box<dyn FnMut(u64) + Send>),
    /// An archive that is put together while it is read, likewise.
    Stream(Box<dyn Read + Send>, Box<dyn FnMut(u64) + Send>),
}

impl Source {
    fn next(&mut self) -> io::Result<Option<Bytes>> {
        match self {
            Self::Channel(chunks, count) => {
                Ok(chunks.blocking_recv().inspect(|chunk| count(chunk.len() as u64)))
            }
            Self::File(file, progress) => piece(file, progress),
            Self::Stream(stream, progress) => piece(stream, progress),
        }
    }
}

fn piece(input: &mut dyn Read, progress: &mut dyn FnMut(u64)) -> io::Result<Option<Bytes>> {
    let mut chunk = Vec::with_capacity(BLOCK);
    input.take(BLOCK as u64).read_to_end(&mut chunk)?;
    progress(chunk.len() as u64);
    Ok((!chunk.is_empty()).then(|| chunk.into()))
}

/// What a layer must turn out to be.
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    /// Digest of the bytes as they come; `None` for an archive that does not say.
    pub(crate) blob: Option<Digest>,
    /// Their number, likewise.
    pub(crate) size: Option<u64>,
    /// Digest of the unpacked archive; `None` for one that is made here.
    pub(crate) diff_id: Option<DiffId>,
}

/// Unpacks a layer and verifies it; the digest of its archive, and what it took. Nothing of it may be used unless this succeeds.
/// Blocks; run it on a blocking thread. Ends within a block on both threads when `stop` is set.
pub(crate) fn run(
    source: Source,
    expected: &Expected,
    destination: &Destination,
    meter: Meter,
    stop: &Stop,
) -> Result<(DiffId, Unpacked, Meter), UnpackError> {
    let (filled, blocks) = blocking::sync_channel::<Vec<u8>>(BLOCKS);
    let (recycle, empty) = blocking::channel::<Vec<u8>>();
    let (blob, applied) = std::thread::scope(|scope| {
        let unpacker =
            std::thread::Builder::new().name("husk-unpack".into()).spawn_scoped(scope, move || {
                let mut input = Blocks::new(blocks, recycle, stop);
                // The thread is this layer's own and ends with it, so it needs nothing else of the node.
                let result = confine::to_layer(destination)
                    .and_then(|_confined| unpack(&mut input, destination, None, meter, stop));
                (result, DiffId::new(Digest::from_sha256(&input.hash.finalize().into())))
            });
        let mut blob = Blob::new(source, stop.clone());
        let inflated = inflated(&mut blob, stop, filled, &empty);
        // The rest is read even after a failure: a damaged blob shows as an odd archive first, and the digest tells.
        let drained = blob.drain();
        let applied = match unpacker.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok((result, diff_id))) => result.map(|unpacked| (unpacked, diff_id)),
            Ok(Err(_)) => Err(UnpackError::Interrupted),
            Err(source) => {
                Err(UnpackError::Io { step: "start a thread for", path: "unpacking".into(), source })
            }
        };
        let applied = match (inflated, applied) {
            // The unpacker sees the end of a damaged stream as a truncated archive; the cause is the stream.
            (Err(error), Err(UnpackError::Tar(_)) | Ok(_)) => Err(error),
            (_, applied) => applied,
        };
        (drained.map(|whole| (blob, whole)), applied)
    });
    // Made for every layer, because a confined thread could not; few need it.
    let _in_use = fs::remove_dir(&destination.aside);
    if stop.is_set() {
        return Err(UnpackError::Interrupted);
    }
    let (blob, whole) = blob?;
    if !whole {
        let too_large =
            UnpackError::TooLarge { of: "layer", limit: REST_MAX, what: "bytes after its archive" };
        return Err(applied.err().unwrap_or(too_large));
    }
    blob.verify(expected)?;
    let ((unpacked, meter), diff_id) = applied?;
    match &expected.diff_id {
        Some(expected) if *expected != diff_id => Err(UnpackError::Digest {
            what: "unpacked archive (diff id)",
            expected: expected.digest().clone(),
            actual: diff_id.digest().clone(),
        }),
        _ => Ok((diff_id, unpacked, meter)),
    }
}

/// Inflates what comes into blocks until its end or until the unpacker has gone.
pub(crate) fn inflated(
    input: &mut dyn BufRead,
    stop: &Stop,
    filled: blocking::SyncSender<Vec<u8>>,
    empty: &blocking::Receiver<Vec<u8>>,
) -> Result<(), UnpackError> {
    let mut stream = inflate::decoder(input, stop).map_err(UnpackError::Decompress)?;
    loop {
        let mut block = empty.try_recv().unwrap_or_default();
        block.resize(BLOCK, 0);
        let mut have = 0;
        while have < BLOCK {
            stop.check().map_err(UnpackError::Decompress)?;
            match stream.read(&mut block[have..]) {
                Ok(0) => break,
                Ok(length) => have += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(UnpackError::Decompress(error)),
            }
        }
        block.truncate(have);
        if have == 0 || filled.send(block).is_err() {
            return Ok(());
        }
    }
}

/// The bytes of the layer as they come, hashed and counted.
struct Blob {
    source: Source,
    current: Bytes,
    hash: Sha256,
    size: u64,
    stop: Stop,
}

impl Blob {
    fn new(source: Source, stop: Stop) -> Self {
        Self { source, current: Bytes::new(), hash: Sha256::new(), size: 0, stop }
    }

    fn advance(&mut self) -> io::Result<()> {
        while self.current.is_empty() {
            self.stop.check()?;
            let Some(chunk) = self.source.next()? else { return Ok(()) };
            self.hash.update(&chunk);
            self.size += chunk.len() as u64;
            self.current = chunk;
        }
        Ok(())
    }

    /// Reads the rest, so that the digest covers it; says whether that was all of it.
    fn drain(&mut self) -> Result<bool, UnpackError> {
        let end = self.size.saturating_add(REST_MAX);
        while self.size < end {
            self.current = Bytes::new();
            self.advance().map_err(|source| UnpackError::Io {
                step: "read",
                path: "the layer".into(),
                source,
            })?;
            if self.current.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn verify(self, expected: &Expected) -> Result<(), UnpackError> {
        if let Some(size) = expected.size.filter(|size| *size != self.size) {
            return Err(UnpackError::Length { what: "layer", expected: size, actual: self.size });
        }
        let actual = Digest::from_sha256(&self.hash.finalize().into());
        match &expected.blob {
            Some(digest) if *digest != actual => {
                Err(UnpackError::Digest { what: "layer", expected: digest.clone(), actual })
            }
            _ => Ok(()),
        }
    }
}

impl Read for Blob {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(out.len());
        out[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Blob {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.advance()?;
        Ok(&self.current)
    }

    fn consume(&mut self, length: usize) {
        // `split_to` panics beyond the end, which a correct reader never asks for.
        let length = length.min(self.current.len());
        drop(self.current.split_to(length));
    }
}

/// The unpacker's end: blocks in, hashed; used ones go back.
pub(crate) struct Blocks {
    blocks: blocking::Receiver<Vec<u8>>,
    recycle: blocking::Sender<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
    hash: Sha256,
    stop: Stop,
}

impl Blocks {
    /// Takes blocks, and gives used ones back to be filled again.
    pub(crate) fn new(
        blocks: blocking::Receiver<Vec<u8>>,
        recycle: blocking::Sender<Vec<u8>>,
        stop: &Stop,
    ) -> Self {
        Self { blocks, recycle, current: Vec::new(), at: 0, hash: Sha256::new(), stop: stop.clone() }
    }
}

impl Read for Blocks {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(out.len());
        out[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Blocks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at < self.current.len() {
            return Ok(&self.current[self.at..]);
        }
        self.stop.check()?;
        if let Ok(block) = self.blocks.recv() {
            self.hash.update(&block);
            // The other side may be done; then the block is simply freed.
            let _gone = self.recycle.send(std::mem::replace(&mut self.current, block));
            self.at = 0;
        }
        Ok(&self.current[self.at..])
    }

    fn consume(&mut self, length: usize) {
        self.at += length;
    }
}
