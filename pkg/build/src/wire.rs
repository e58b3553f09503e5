//! Protobuf at the level of fields: a message is changed in one field and stays what it was in all others, also in those that husk does not
//! know.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::{
    Message,
    encoding::{self, DecodeContext, WireType},
};

/// A field of a message: its number, and its bytes with what stands before them.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    /// The number.
    pub(crate) tag: u32,
    /// Tag, length and content.
    whole: Bytes,
    /// Content of a field that has a length.
    pub(crate) content: Option<Bytes>,
}

/// The fields of a message, in order.
///
/// # Errors
/// When it is no message.
pub(crate) fn fields(message: &Bytes) -> Result<Vec<Field>, prost::DecodeError> {
    let (mut rest, mut fields) = (message.clone(), Vec::new());
    while !rest.is_empty() {
        let from = message.len() - rest.len();
        let (tag, wire_type) = encoding::decode_key(&mut rest)?;
        let before = message.len() - rest.len();
        encoding::skip_field(wire_type, tag, &mut rest, DecodeContext::default())?;
        let to = message.len() - rest.len();
        let content = (wire_type == WireType::LengthDelimited)
            .then(|| {
                let mut content = message.slice(before..to);
                encoding::decode_varint(&mut content).map(|_| content)
            })
            .transpose()?;
        fields.push(Field { tag, whole: message.slice(from..to), content });
    }
    Ok(fields)
}

/// A message of these fields.
pub(crate) fn join(fields: &[Field]) -> Vec<u8> {
    fields.iter().flat_map(|field| field.whole.iter().copied()).collect()
}

/// A field with this content.
pub(crate) fn field(tag: u32, content: &[u8]) -> Field {
    let mut whole = Vec::with_capacity(content.len() + 8);
    encoding::encode_key(tag, WireType::LengthDelimited, &mut whole);
    encoding::encode_varint(content.len() as u64, &mut whole);
    whole.extend_from_slice(content);
    Field { tag, whole: whole.into(), content: Some(Bytes::copy_from_slice(content)) }
}

/// A field that is a message of ours.
pub(crate) fn embedded(tag: u32, message: &impl Message) -> Field {
    field(tag, &message.encode_to_vec())
}

/// Text of a field, the last one of this number.
pub(crate) fn text(fields: &[Field], tag: u32) -> String {
    let last = fields.iter().rev().find(|field| field.tag == tag);
    let content = last.and_then(|field| field.content.clone()).unwrap_or_default();
    String::from_utf8_lossy(&content).into_owned()
}

/// The map of strings that the fields of this number are.
///
/// # Errors
/// When an entry is no message.
pub(crate) fn map(fields: &[Field], tag: u32) -> Result<BTreeMap<String, String>, prost::DecodeError> {
    let mut map = BTreeMap::new();
    for entry in fields.iter().filter(|field| field.tag == tag).filter_map(|field| field.content.as_ref()) {
        let parts = self::fields(entry)?;
        map.insert(text(&parts, 1), text(&parts, 2));
    }
    Ok(map)
}

/// Fields of this number that are a map of strings.
pub(crate) fn of_map(tag: u32, map: &BTreeMap<String, String>) -> Vec<Field> {
    let entry = |(key, value): (&String, &String)| {
        field(tag, &join(&[field(1, key.as_bytes()), field(2, value.as_bytes())]))
    };
    map.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use husk_proto::buildkit::{Exporter, SolveRequest};

    use super::*;

    #[test]
    fn a_message_that_is_taken_apart_and_joined_is_what_it_was() {
        let known = SolveRequest {
            r#ref: "r".into(),
            exporters: vec![Exporter {
                r#type: "moby".into(),
                attrs: [("name".to_owned(), "x".to_owned())].into(),
            }],
            ..SolveRequest::default()
        };
        let mut bytes = known.encode_to_vec();
        // What a later version may have: a number, a fixed one, a message.
        encoding::encode_key(99, WireType::Varint, &mut bytes);
        encoding::encode_varint(7, &mut bytes);
        encoding::encode_key(100, WireType::SixtyFourBit, &mut bytes);
        bytes.extend([1; 8]);
        bytes.extend(join(&[field(101, b"later")]));
        let bytes = Bytes::from(bytes);
        let fields = fields(&bytes).unwrap();
        assert_eq!(join(&fields), bytes);
        assert_eq!(text(&fields, 1), "r");
        assert_eq!(text(&fields, 101), "later");
    }

    #[test]
    fn a_map_survives_its_fields() {
        let map: BTreeMap<_, _> = [("a".to_owned(), "b".to_owned()), (String::new(), "c".to_owned())].into();
        assert_eq!(self::map(&of_map(7, &map), 7).unwrap(), map);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bytes in
            [&b"\x0a\xff"[..], b"\x0a\x05ab", b"\x07", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"]
        {
            assert!(fields(&Bytes::copy_from_slice(bytes)).is_err(), "{bytes:?}");
        }
    }
}
