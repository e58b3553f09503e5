//! What clients are told of the builder's worker.
//!
//! buildx decides by a worker's labels what the daemon behind it can do: one with a snapshotter's label is taken for a dockerd on containerd's image
//! store, which keeps indexes with attestations and pushes by itself. husk's store is like the other one: results are images, and the client asks the daemon to push them.

use std::net::IpAddr;

use bytes::Bytes;

use crate::wire::{self, Field};

/// Fields of a ListWorkersResponse and of its records.
const RECORD: u32 = 1;
const LABELS: u32 = 2;

const SNAPSHOTTER: &str = "org.mobyproject.buildkit.worker.snapshotter";
/// What `host-gateway` means to clients.
const GATEWAY: &str = "org.mobyproject.buildkit.worker.moby.host-gateway-ip";

/// The answer to a client that asks for workers.
///
/// # Errors
/// When it is no answer.
pub(crate) fn described(message: &Bytes, gateway: Option<IpAddr>) -> Result<Vec<u8>, prost::DecodeError> {
    let mut changed = Vec::new();
    for field in wire::fields(message)? {
        match &field.content {
            Some(record) if field.tag == RECORD => {
                changed.push(wire::field(RECORD, &worker(record, gateway)?));
            }
            _ => changed.push(field),
        }
    }
    Ok(wire::join(&changed))
}

fn worker(record: &Bytes, gateway: Option<IpAddr>) -> Result<Vec<u8>, prost::DecodeError> {
    let fields = wire::fields(record)?;
    let mut labels = wire::map(&fields, LABELS)?;
    labels.remove(SNAPSHOTTER);
    if let Some(gateway) = gateway {
        labels.insert(GATEWAY.to_owned(), gateway.to_string());
    }
    let mut changed: Vec<Field> = fields.into_iter().filter(|field| field.tag != LABELS).collect();
    changed.extend(wire::of_map(LABELS, &labels));
    Ok(wire::join(&changed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_has_its_labels_but_for_the_snapshotters() {
        let labels = [(SNAPSHOTTER.to_owned(), "overlayfs".to_owned()), ("a".to_owned(), "b".to_owned())];
        let mut record = vec![wire::field(1, b"id")];
        record.extend(wire::of_map(LABELS, &labels.into()));
        record.push(wire::field(3, b"platform"));
        let message = wire::join(&[wire::field(RECORD, &wire::join(&record))]);
        let told = described(&message.into(), Some([172, 17, 0, 1].into())).unwrap();
        let told = wire::fields(&told.into()).unwrap();
        let told = wire::fields(told[0].content.as_ref().unwrap()).unwrap();
        assert_eq!((wire::text(&told, 1), wire::text(&told, 3)), ("id".to_owned(), "platform".to_owned()));
        let labels = wire::map(&told, LABELS).unwrap();
        assert_eq!(labels.keys().collect::<Vec<_>>(), ["a", GATEWAY]);
        assert_eq!(labels[GATEWAY], "172.17.0.1");
    }
}
