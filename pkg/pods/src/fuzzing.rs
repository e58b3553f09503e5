//! Doors for test/fuzz: huskd's records on disk.

use serde::{Serialize, de::DeserializeOwned};

use crate::records::{ContainerFile, PodFile};

/// Reads each kind of record.
///
/// # Panics
/// When a record that was read is not what it was once it is written.
pub fn records(text: &[u8]) {
    again::<PodFile>(text);
    again::<ContainerFile>(text);
}

fn again<T: Serialize + DeserializeOwned>(text: &[u8]) {
    let Ok(record) = serde_json::from_slice::<T>(text) else { return };
    let Ok(first) = serde_json::to_vec(&record) else { return };
    let read = serde_json::from_slice::<T>(&first);
    let second = read.ok().and_then(|record| serde_json::to_vec(&record).ok());
    assert_eq!(second.as_ref(), Some(&first), "a record changes by being written");
}
