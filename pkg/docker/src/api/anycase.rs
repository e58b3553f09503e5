//! Names of fields in any case.
//!
//! Go's decoder (`encoding/json`) takes `detachKeys` for `DetachKeys` where the exact spelling is not there, and of a field that is there twice
//! the last. Clients rely on it: docker-py spells this one so.

use serde::{
    Deserializer,
    de::{
        DeserializeOwned, Error as _, IntoDeserializer, Visitor,
        value::{MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_json::{Error, Value};

/// Values that a document may have. One takes two bytes as text and up to a hundred and fifty as a tree, so a body's length alone is no bound.
/// The longest configurations of containers have some thousands.
const MOST: usize = 1 << 16;

/// Reads a document as Go does.
///
/// # Errors
/// It is no JSON, or not of the form of `T`, or has more than 65536 values.
pub(crate) fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    if values_at_most(bytes) > MOST {
        return Err(Error::custom(format_args!("it has more than {MOST} values")));
    }
    from_value(serde_json::from_slice(bytes)?)
}

/// No document of these bytes has more values: each but the outermost follows a bracket or a comma, a field's with its key.
fn values_at_most(bytes: &[u8]) -> usize {
    let (mut values, mut in_string, mut escaped) = (1, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' | b',' if !in_string => values += 1,
            _ => {}
        }
    }
    values
}

/// Reads a value as Go does.
///
/// # Errors
/// It is not of the form of `T`.
pub(crate) fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    T::deserialize(AnyCase(value))
}

/// A value of which the fields of structs are found in any case. Keys of maps stay as they are.
struct AnyCase(Value);

impl<'de> Deserializer<'de> for AnyCase {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(values) => visitor.visit_seq(SeqDeserializer::new(values.into_iter().map(AnyCase))),
            Value::Object(fields) => visitor.visit_map(MapDeserializer::new(
                fields.into_iter().map(|(name, value)| (name, AnyCase(value))),
            )),
            plain => plain.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let Value::Object(fields) = self.0 else { return self.deserialize_any(visitor) };
        let mut known = serde_json::Map::with_capacity(fields.len());
        let (exact, others): (Vec<_>, Vec<_>) =
            fields.into_iter().partition(|(name, _)| names.contains(&name.as_str()));
        for (name, value) in exact {
            known.insert(name, value);
        }
        for (name, value) in others {
            if let Some(meant) = names.iter().find(|known| known.eq_ignore_ascii_case(&name))
                && !known.contains_key(*meant)
            {
                known.insert((*meant).to_owned(), value);
            }
        }
        Self(Value::Object(known)).deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, Error> for AnyCase {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::api::request;

    request! {
        /// A field of the other.
        struct Inner {
            /// A text.
            ip_address: String = "IPAddress",
        }

        /// A request.
        struct Outer {
            /// A text.
            detach_keys: String = "DetachKeys",
            /// Labels.
            labels: BTreeMap<String, String> = "Labels",
            /// Of a struct.
            inner: Option<Inner> = "Inner",
            /// Of several.
            all: Vec<Inner> = "All",
            /// A number, if any.
            limit: Option<i64> = "Limit",
        }
    }

    fn read(text: &str) -> Outer {
        from_slice(text.as_bytes()).unwrap()
    }

    #[test]
    fn fields_are_found_in_any_case_at_every_depth() {
        let outer = read(
            r#"{"detachKeys":"a","LABELS":{"Name":"x","name":"y"},"inner":{"ipaddress":"1"},"all":[{"IpAddress":"2"}],"limit":null}"#,
        );
        assert_eq!(outer.detach_keys, "a");
        assert_eq!(outer.labels.len(), 2, "names of labels are not fields");
        assert_eq!(outer.inner.unwrap().ip_address, "1");
        assert_eq!(outer.all[0].ip_address, "2");
        assert_eq!(outer.limit, None);
    }

    #[test]
    fn the_exact_spelling_wins_and_the_last_of_two() {
        assert_eq!(read(r#"{"detachkeys":"a","DetachKeys":"b","DETACHKEYS":"c"}"#).detach_keys, "b");
        assert_eq!(read(r#"{"Limit":1,"Limit":2}"#).limit, Some(2));
    }

    #[test]
    fn what_a_tree_would_make_large_is_refused_and_what_is_long_is_not() {
        for (count, is_read) in [(MOST - 2, true), (MOST + 1, false)] {
            for one in ["0", "{}", "\"\""] {
                let text = format!("[{}]", vec![one; count].join(","));
                let values = text.matches(|c| "[{,".contains(c)).count();
                let read = from_slice::<Vec<Value>>(text.as_bytes());
                assert_eq!(read.is_ok(), is_read && values < MOST, "{count} times {one}");
            }
        }
        let long = format!(r#"{{"detachKeys":"{}\\\"{}"}}"#, "[{,".repeat(MOST), ",".repeat(MOST));
        assert_eq!(read(&long).detach_keys.len(), 4 * MOST + 2);
        assert!(values_at_most(br#"{"a":[1,{"b":2}],"c":{"d":[[]]}}"#) >= 9);
    }

    #[test]
    fn what_has_the_wrong_form_is_refused() {
        for text in [r#"{"limit":"1"}"#, r#"{"all":{}}"#, r#"{"labels":{"a":1}}"#, "[1]", "1", "{"] {
            assert!(from_slice::<Outer>(text.as_bytes()).is_err(), "{text}");
        }
    }
}
