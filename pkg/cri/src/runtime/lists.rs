//! Lists: what a filter means, and how a long one is streamed.

use std::{
    collections::{BTreeMap, HashMap},
    pin::Pin,
};

use futures_util::Stream;
use tonic::Status;

pub(crate) type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Objects in one message of a streamed list: far below the message limit, even with large annotations.
const BATCH: usize = 256;

/// Cuts a list for a streamed answer (KEP-5825): no batch is empty, nothing comes twice.
pub(crate) fn batches<T>(mut items: Vec<T>) -> impl Iterator<Item = Vec<T>> {
    std::iter::from_fn(move || {
        let rest = if items.len() > BATCH { items.split_off(BATCH) } else { Vec::new() };
        let batch = std::mem::replace(&mut items, rest);
        (!batch.is_empty()).then_some(batch)
    })
}

/// The label selector and id rules of every filter: labels must match exactly, an id may be a prefix.
pub(super) fn labelled(wanted: &HashMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_streamed_list_loses_and_repeats_nothing() {
        for length in [0, 1, BATCH, BATCH + 1, 3 * BATCH] {
            let parts: Vec<Vec<usize>> = batches((0..length).collect()).collect();
            assert!(parts.iter().all(|part| !part.is_empty() && part.len() <= BATCH));
            assert!(parts.concat().into_iter().eq(0..length), "{length}");
        }
    }
}
