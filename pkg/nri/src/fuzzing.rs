//! Doors for test/fuzz: what reads a plugin's bytes, one function each. Panics are findings.

use husk_proto::nri;
use oci_spec::runtime::Spec;
use prost::Message as _;

use crate::{
    Adjusted, NriError,
    frame::{Reader, encode},
    merge::Merge,
};

/// Reads a plugin's trunk; the contents of its messages, until the end or the first error.
///
/// # Panics
/// When a message is not what its own encoding says.
pub async fn trunk(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut reader = Reader::new(bytes);
    let mut contents = Vec::new();
    while let Ok(Some(message)) = reader.next().await {
        let again = Reader::new(&encode(&message)[..]).next().await;
        assert_eq!(again.ok().flatten().as_ref(), Some(&message), "a message is read as another");
        contents.push(message.content);
    }
    contents
}

/// Puts a plugin's answer to CreateContainer into a spec; `None` when it is no such message.
pub fn adjust(answer: &[u8], spec: Spec) -> Option<Result<Adjusted, NriError>> {
    let response = nri::CreateContainerResponse::decode(answer).ok()?;
    let mut merge = Merge::new("c", spec);
    Some(merge.apply("10-plugin", response).map(|()| merge.finish()))
}
