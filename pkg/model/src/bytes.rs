//! Bytes in JSON: as text where they are UTF-8, else as a list of numbers.

use serde::{Deserialize, Deserializer, Serializer};

#[derive(Deserialize)]
#[serde(untagged)]
enum Either {
    Text(String),
    Bytes(Vec<u8>),
}

pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    match std::str::from_utf8(bytes) {
        Ok(text) => serializer.serialize_str(text),
        Err(_) => serializer.collect_seq(bytes),
    }
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    Ok(match Either::deserialize(deserializer)? {
        Either::Text(text) => text.into_bytes(),
        Either::Bytes(bytes) => bytes,
    })
}

#[cfg(test)]
mod tests {
    use crate::EnvVar;

    #[test]
    fn what_is_written_is_read_again_and_text_stays_text() {
        for (value, json) in [(&b"caf\xc3\xa9"[..], r#""café""#), (b"", r#""""#), (b"a\xff", "[97,255]")] {
            let variable = EnvVar { key: "A".to_owned(), value: value.to_vec() };
            let text = serde_json::to_string(&variable).unwrap();
            assert_eq!(text, format!(r#"{{"key":"A","value":{json}}}"#));
            assert_eq!(serde_json::from_str::<EnvVar>(&text).unwrap(), variable);
        }
    }
}
