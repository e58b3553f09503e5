//! A layer between its unpacking and its use.

use std::sync::Arc;

use husk_model::Digest;

use crate::{
    ImageError, Result,
    pipeline::{self, Expected, Source},
    stop::Stop,
    store::{LayerRecord, Loose, Pin, Shared},
    unpack::{Limits, Unpacked},
};

/// Bounds of one layer: far above what images have, far below what fills a node unseen.
const LIMITS: Limits = Limits { bytes: 512 << 30, entries: 8 << 20 };

/// An unpacked, verified layer that belongs to nobody yet; dropping it deletes its files.
pub(crate) struct Unclaimed {
    shared: Arc<Shared>,
    number: Option<u64>,
    unpacked: Unpacked,
}

impl Unclaimed {
    /// Gives the layer to the store.
    pub(crate) fn claim(mut self, shared: &Arc<Shared>, diff_id: &Digest, chain: &Digest) -> Arc<Pin> {
        let Unpacked { bytes, inodes, archive, opaque, implicit, links } = std::mem::take(&mut self.unpacked);
        let number = self.number.take().unwrap_or_default();
        let record = LayerRecord { number, diff_id: diff_id.clone(), bytes, inodes, archive, opaque };
        shared.add_layer(record, Loose { implicit, links }, chain.as_str())
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.shared.discard(number);
        }
    }
}

/// Unpacks and verifies a layer into a directory of its own. Blocks until that is done or `stop` is set.
pub(crate) fn unpack(
    shared: &Arc<Shared>,
    source: Source,
    expected: &Expected,
    blob: &Digest,
    stop: &Stop,
) -> Result<Unclaimed> {
    let (number, destination) = shared.new_layer()?;
    let mut unclaimed =
        Unclaimed { shared: Arc::clone(shared), number: Some(number), unpacked: Unpacked::default() };
    unclaimed.unpacked = pipeline::run(source, expected, &destination, LIMITS, stop)
        .map_err(|source| ImageError::Layer { digest: blob.clone(), source })?;
    Ok(unclaimed)
}

/// Returns what a pull's buffers took to the kernel, in the background.
pub(crate) fn give_memory_back() {
    drop(tokio::task::spawn_blocking(husk_sys::memory::trim));
}
