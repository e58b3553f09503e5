//! A layer between its unpacking and its use.

use std::{
    io::{self, BufRead, BufReader, Read},
    path::PathBuf,
    sync::Arc,
};

use husk_model::Digest;
use sha2::{Digest as _, Sha256};

use crate::{
    DiffId, ImageError, Result,
    archive::Replay,
    compose, confine,
    ids::ChainId,
    pipeline::{self, Expected, Source},
    stop::Stop,
    store::{BlobSource, LayerRecord, Loose, Pin, Shared},
    unpack::{
        Destination, UnpackError, Unpacked,
        limits::{Budget, Meter},
        unpack as unpack_archive,
    },
};

/// An unpacked, verified layer that belongs to nobody yet; dropping it deletes its files.
pub(crate) struct Unclaimed {
    shared: Arc<Shared>,
    number: Option<u64>,
    unpacked: Unpacked,
    diff_id: Option<DiffId>,
    sources: Vec<BlobSource>,
}

impl Unclaimed {
    fn new(shared: &Arc<Shared>) -> Result<(Self, Destination)> {
        let (number, destination) = shared.new_layer()?;
        let shared = Arc::clone(shared);
        let unpacked = Unpacked::default();
        let unclaimed = Self { shared, number: Some(number), unpacked, diff_id: None, sources: Vec::new() };
        Ok((unclaimed, destination))
    }

    /// The digest of its archive.
    pub(crate) fn diff_id(&self) -> Option<&DiffId> {
        self.diff_id.as_ref()
    }

    /// Notes where the bytes that it was made of came from.
    pub(crate) fn came_from(mut self, source: BlobSource) -> Self {
        self.sources.push(source);
        self
    }

    /// Gives the layer to the store.
    pub(crate) fn claim(mut self, shared: &Arc<Shared>, diff_id: &DiffId, chain: &ChainId) -> Arc<Pin> {
        let (record, loose) = self.release(diff_id);
        let number = record.number;
        let pin = shared.add_layer(record, loose, chain);
        shared.made(number);
        pin
    }

    /// The layer's record; the files are the caller's from now on, who says so with [`Shared::made`] once a record names them.
    pub(crate) fn release(&mut self, diff_id: &DiffId) -> (LayerRecord, Loose) {
        let Unpacked { bytes, inodes, archive, opaque, implied, unsure } = std::mem::take(&mut self.unpacked);
        let number = self.number.take().unwrap_or_default();
        let (diff_id, sources) = (diff_id.clone(), std::mem::take(&mut self.sources));
        let record = LayerRecord { number, diff_id, bytes, inodes, archive, opaque, sources };
        (record, Loose { implied, unsure })
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.shared.discard(number);
            self.shared.made(number);
        }
    }
}

/// Unpacks and verifies a layer into a directory of its own, at the expense of `image`. Blocks until that is done or
/// `stop` is set.
pub(crate) fn unpack(
    shared: &Arc<Shared>,
    source: Source,
    expected: &Expected,
    blob: &Digest,
    image: &Budget,
    stop: &Stop,
) -> Result<Unclaimed> {
    let (mut unclaimed, destination) = Unclaimed::new(shared)?;
    let fail = |source| ImageError::Layer { digest: blob.clone(), source };
    let (diff_id, unpacked, meter) =
        pipeline::run(source, expected, &destination, Meter::new(image), stop).map_err(fail)?;
    meter.keep();
    (unclaimed.unpacked, unclaimed.diff_id) = (unpacked, Some(diff_id));
    Ok(unclaimed)
}

/// Unpacks a layer of the store once more, into a new directory, from its record and files: now that the layers below are
/// known (`lowers`, topmost first), names resolve through them. Blocks until that is done or `stop` is set.
pub(crate) fn unpack_again(
    shared: &Arc<Shared>,
    record: &LayerRecord,
    lowers: &[PathBuf],
    stop: &Stop,
) -> Result<Unclaimed> {
    let (mut unclaimed, destination) = Unclaimed::new(shared)?;
    let again = || -> Result<Unpacked, UnpackError> {
        let replay = Replay::open(&shared.destination(record.number)).map_err(UnpackError::replay)?;
        let mut input = Hashed { input: BufReader::with_capacity(BUFFER, replay), hash: Sha256::new() };
        let below = Some(compose::roots(lowers)?);
        let meter = Meter::new(&Budget::default());
        let _confined = confine::to_layer(&destination)?;
        let (unpacked, meter) = unpack_archive(&mut input, &destination, below, meter, stop)?;
        meter.keep();
        let actual = Digest::from_sha256(&input.hash.finalize().into());
        if actual != *record.diff_id.digest() {
            let expected = record.diff_id.digest().clone();
            return Err(UnpackError::Digest { what: "stored layer", expected, actual });
        }
        Ok(Unpacked { implied: Vec::new(), unsure: false, ..unpacked })
    };
    let unpacked = std::thread::scope(|scope| {
        // A thread of the layer's own, as in a pull.
        let thread = std::thread::Builder::new().name("husk-unpack".into()).spawn_scoped(scope, again);
        match thread.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(UnpackError::Interrupted),
            Err(source) => Err(UnpackError::replay(source)),
        }
    });
    unclaimed.unpacked =
        unpacked.map_err(|source| ImageError::Layer { digest: record.diff_id.digest().clone(), source })?;
    unclaimed.sources.clone_from(&record.sources);
    Ok(unclaimed)
}

/// Bytes read at once.
const BUFFER: usize = 256 << 10;

/// Hashes what is consumed.
struct Hashed<R> {
    input: BufReader<R>,
    hash: Sha256,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.len().min(out.len());
        out[..length].copy_from_slice(&self.input.buffer()[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl<R: Read> BufRead for Hashed<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    fn consume(&mut self, length: usize) {
        self.hash.update(&self.input.buffer()[..length]);
        self.input.consume(length);
    }
}

/// Returns what a pull's buffers took to the kernel, in the background.
pub(crate) fn give_memory_back() {
    drop(tokio::task::spawn_blocking(husk_sys::memory::trim));
}
