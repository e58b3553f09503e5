//! JSON as Go's encoding/json reads it.
//!
//! Images and registries are written, served, scanned and signed by Go programs, so what counts of a document is what Go
//! makes of it: a null changes nothing, a name matches in any letter case, unknown names are passed over whatever they
//! hold, and a name that comes twice is read twice into the same value, where later parts win. Reading the same bytes
//! otherwise would not only refuse what works elsewhere; it would show this node another image than the scanner saw.
//! Strings that are not UTF-8 get replacement characters. Types are as strict as Go's: no number is a string.
//!
//! A value is decoded into an existing one, which is how Go gets these rules, and nothing that is not asked for is kept in
//! memory. Lists and maps are bounded.

use std::{collections::BTreeMap, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Most elements of a list or a map.
const ELEMENTS_MAX: usize = 16 << 10;

/// What can be read from JSON.
pub(crate) trait Decode {
    /// Reads a value into this one.
    fn decode<'de, D: Deserializer<'de>>(&mut self, from: D) -> Result<(), D::Error>;
}

/// What can be read from an object. Made by [`object!`](crate::json::object).
pub(crate) trait Fields {
    /// Reads the value of `name`, or passes it over.
    fn field<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error>;
}

/// Reads a document that is one value.
pub(crate) fn read<T: Decode + Default>(bytes: &[u8]) -> Result<T, String> {
    let (value, mut rest) = first(bytes)?;
    rest.end().map_err(|error| error.to_string())?;
    Ok(value)
}

/// Reads the first value and ignores what follows, as Go's stream decoder does.
pub(crate) fn read_first<T: Decode + Default>(bytes: &[u8]) -> Result<T, String> {
    Ok(first(bytes)?.0)
}

fn first<T: Decode + Default>(
    bytes: &[u8],
) -> Result<(T, serde_json::Deserializer<serde_json::de::SliceRead<'_>>), String> {
    if bytes.trim_ascii().is_empty() {
        return Err("it is empty".into());
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err("it begins with a byte order mark, which JSON does not have (RFC 8259, 8.1)".into());
    }
    let mut value = T::default();
    let mut from = serde_json::Deserializer::from_slice(bytes);
    value.decode(&mut from).map_err(|error| error.to_string())?;
    Ok((value, from))
}

/// Says how an object's names are read into a type's fields.
macro_rules! object {
    ($type:ty { $($name:literal => $field:ident),* $(,)? }) => {
        impl $crate::json::Fields for $type {
            fn field<'de, A: serde::de::MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
                $(if $crate::json::same_name(name, $name) {
                    return $crate::json::value($name, &mut self.$field, map);
                })*
                $crate::json::skip(map)
            }
        }
        impl $crate::json::Decode for $type {
            fn decode<'de, D: serde::Deserializer<'de>>(&mut self, from: D) -> Result<(), D::Error> {
                $crate::json::decode_object(self, from)
            }
        }
    };
}
pub(crate) use object;

/// Reads an object; null changes nothing.
pub(crate) fn decode_object<'de, T: Fields, D: Deserializer<'de>>(
    target: &mut T,
    from: D,
) -> Result<(), D::Error> {
    from.deserialize_option(ObjectOf(target))
}

/// Reads the value that comes next into `target`; errors tell its name.
pub(crate) fn value<'de, A: MapAccess<'de>>(
    name: &str,
    target: &mut impl Decode,
    map: &mut A,
) -> Result<(), A::Error> {
    map.next_value_seed(Seed(target)).map_err(|error| A::Error::custom(format_args!("{name}: {error}")))
}

/// Reads a list of strings, for which one string stands for a list of it.
pub(crate) fn decode_words<'de, D: Deserializer<'de>>(
    target: &mut Vec<String>,
    from: D,
) -> Result<(), D::Error> {
    from.deserialize_option(WordsOf(target))
}

/// Passes over the value that comes next.
pub(crate) fn skip<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value::<IgnoredAny>().map(drop)
}

/// Whether Go takes `found` for the field `name`: it compares in simple Unicode case folding, in which two letters beyond
/// ASCII equal letters within.
pub(crate) fn same_name(found: &str, name: &str) -> bool {
    let fold = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    found.chars().map(fold).eq(name.chars().map(fold))
}

/// Anything, which is not kept.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Anything;

struct Seed<'a, T>(&'a mut T);
struct ObjectOf<'a, T>(&'a mut T);
struct TextOf<'a>(&'a mut String);
struct NumberOf<'a>(&'a mut i64);
struct TruthOf<'a>(&'a mut bool);
struct ListOf<'a, T>(&'a mut Vec<T>);
struct WordsOf<'a>(&'a mut Vec<String>);
struct MapOf<'a, T>(&'a mut BTreeMap<String, T>);
struct MaybeOf<'a, T>(&'a mut Option<T>);

// === impl Decode ===

impl Decode for String {
    fn decode<'de, D: Deserializer<'de>>(&mut self, from: D) -> Result<(), D::Error> {
        from.deserialize_option(TextOf(self))
    }
}

impl Decode for i64 {
    fn decode<'de, D: Deserializer<'de>>(&mut self, from: D) -> Result<(), D::Error> {
        from.deserialize_option(NumberOf(self))
    }
}

impl Decode for bool {
    fn decode<'de, D: Deserializer<'de>>(&mut self, from: D) -> Result<(), D::Error> {
        from.deserialize_option(TruthOf(self))
    }
}

impl<T: Decode + Default> Decode for Vec<T> {
    fn decode<'de, D: Deserializer<'de>>(&mut self, from: D) -> Result<(), D::Error> {
        from.deserialize_option(ListOf(self))
    }
}

impl<T: Decode + Default> Decode for BTreeMap<String, T> {
    fn decode<'de, D: Deserializer<'de>>(&mut self, from: D) -> Result<(), D::Error> {
        from.deserialize_option(MapOf(self))
    }
}

/// What Go has as a pointer: null makes it absent.
impl<T: Decode + Default> Decode for Option<T> {
    fn decode<'de, D: Deserializer<'de>>(&mut self, from: D) -> Result<(), D::Error> {
        from.deserialize_option(MaybeOf(self))
    }
}

impl Decode for Anything {
    fn decode<'de, D: Deserializer<'de>>(&mut self, from: D) -> Result<(), D::Error> {
        from.deserialize_ignored_any(IgnoredAny).map(drop)
    }
}

impl<'de, T: Decode> DeserializeSeed<'de> for Seed<'_, T> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        self.0.decode(from)
    }
}

// === impl Visitor ===

/// Null, and how a value that is not null is read.
macro_rules! nullable {
    ($this:ident, $null:block, $read:ident) => {
        type Value = ();
        fn visit_none<E: Error>($this) -> Result<(), E> {
            $null
            Ok(())
        }
        fn visit_unit<E: Error>($this) -> Result<(), E> {
            $null
            Ok(())
        }
        fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
            from.$read(self)
        }
    };
}

impl<'de, T: Fields> Visitor<'de> for ObjectOf<'_, T> {
    nullable!(self, {}, deserialize_map);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = next_name(&mut map)? {
            self.0.field(&name, &mut map)?;
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for TextOf<'_> {
    nullable!(self, {}, deserialize_bytes);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        text.clone_into(self.0);
        Ok(())
    }

    fn visit_bytes<E: Error>(self, text: &[u8]) -> Result<(), E> {
        *self.0 = String::from_utf8_lossy(text).into_owned();
        Ok(())
    }
}

impl<'de> Visitor<'de> for NumberOf<'_> {
    nullable!(self, {}, deserialize_i64);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number of 64 bits")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        *self.0 = number;
        Ok(())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        *self.0 = i64::try_from(number)
            .map_err(|_| E::custom(format_args!("{number} is not a whole number of 64 bits")))?;
        Ok(())
    }
}

impl<'de> Visitor<'de> for TruthOf<'_> {
    nullable!(self, {}, deserialize_bool);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true or false")
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<(), E> {
        *self.0 = truth;
        Ok(())
    }
}

impl<'de, T: Decode + Default> Visitor<'de> for ListOf<'_, T> {
    nullable!(
        self,
        {
            self.0.clear();
        },
        deserialize_seq
    );

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        // Elements of a list that comes twice are read over those of the first.
        let mut at = 0;
        loop {
            let mut fresh = T::default();
            let target = self.0.get_mut(at).unwrap_or(&mut fresh);
            let read = items.next_element_seed(Seed(target));
            if read.map_err(|error| A::Error::custom(format_args!("entry {at}: {error}")))?.is_none() {
                self.0.truncate(at);
                return Ok(());
            }
            if at == self.0.len() {
                self.0.push(fresh);
            }
            at += 1;
            if at > ELEMENTS_MAX {
                return Err(A::Error::custom(format_args!("a list of more than {ELEMENTS_MAX} entries")));
            }
        }
    }
}

impl<'de> Visitor<'de> for WordsOf<'_> {
    // The format hands strings and lists alike to those who ask for bytes.
    nullable!(
        self,
        {
            self.0.clear();
        },
        deserialize_bytes
    );

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of strings")
    }

    fn visit_bytes<E: Error>(self, text: &[u8]) -> Result<(), E> {
        *self.0 = vec![String::from_utf8_lossy(text).into_owned()];
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<(), A::Error> {
        ListOf(self.0).visit_seq(items)
    }
}

impl<'de, T: Decode + Default> Visitor<'de> for MapOf<'_, T> {
    nullable!(
        self,
        {
            self.0.clear();
        },
        deserialize_map
    );

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = next_name(&mut map)? {
            let mut item = T::default();
            value(&name, &mut item, &mut map)?;
            self.0.insert(name, item);
            if self.0.len() > ELEMENTS_MAX {
                return Err(A::Error::custom(format_args!("an object of more than {ELEMENTS_MAX} names")));
            }
        }
        Ok(())
    }
}

impl<'de, T: Decode + Default> Visitor<'de> for MaybeOf<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or null")
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        *self.0 = None;
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        *self.0 = None;
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        self.0.get_or_insert_default().decode(from)
    }
}

fn next_name<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<String>, A::Error> {
    struct Name(String);
    impl<'de> DeserializeSeed<'de> for &mut Name {
        type Value = ();
        fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
            from.deserialize_bytes(TextOf(&mut self.0))
        }
    }
    let mut name = Name(String::new());
    Ok(map.next_key_seed(&mut name)?.map(|()| name.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq)]
    struct Inner {
        name: String,
        size: i64,
    }
    object!(Inner { "name" => name, "size" => size });

    #[derive(Debug, Default, PartialEq)]
    struct Outer {
        text: String,
        inner: Inner,
        maybe: Option<Inner>,
        truth: bool,
        list: Vec<Inner>,
        labels: BTreeMap<String, String>,
    }
    object!(Outer {
        "text" => text,
        "inner" => inner,
        "maybe" => maybe,
        "truth" => truth,
        "list" => list,
        "Labels" => labels,
    });

    fn outer(text: &str) -> Outer {
        read(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn null_changes_nothing_and_makes_lists_and_maps_absent() {
        assert_eq!(
            outer(r#"{"text":null,"inner":null,"maybe":null,"truth":null,"list":null,"labels":null}"#),
            Outer::default()
        );
        let kept = outer(r#"{"text":"a","text":null,"inner":{"name":"n"},"inner":null,"labels":{"a":null}}"#);
        assert_eq!((kept.text.as_str(), kept.inner.name.as_str()), ("a", "n"));
        assert_eq!(kept.labels["a"], "");
        assert_eq!(outer(r#"{"list":[null,{"size":1}],"maybe":{}}"#).list.len(), 2);
        assert_eq!(outer("null"), Outer::default());
    }

    #[test]
    fn names_match_in_any_letter_case_and_unknown_ones_are_passed_over() {
        let big = format!(
            r#"{{"TEXT":"a","Li\u017ft":[{{"S\u0049ZE":2}}],"else":[1e999,-{0},{{"a":{0}.5e-3}}],"x":"\ud800"}}"#,
            "9".repeat(400)
        );
        let found = outer(&big);
        assert_eq!((found.text.as_str(), found.list[0].size), ("a", 2));
        let deep = format!(r#"{{"deep":{}{},"text":"b"}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(outer(&deep).text, "b");
    }

    #[test]
    fn what_comes_twice_is_read_twice_into_the_same_value() {
        let found = outer(
            r#"{"inner":{"name":"a","size":1},"INNER":{"name":"b"},"list":[{"name":"x","size":3},{}],"list":[{"name":"y"}],
                "labels":{"a":"1","b":"2"},"Labels":{"a":"3"}}"#,
        );
        assert_eq!(found.inner, Inner { name: "b".into(), size: 1 });
        assert_eq!(found.list, [Inner { name: "y".into(), size: 3 }]);
        assert_eq!(found.labels.into_values().collect::<Vec<_>>(), ["3", "2"]);
    }

    #[test]
    fn strings_that_are_not_unicode_get_replacement_characters() {
        assert_eq!(outer(r#"{"text":"a\ud800b"}"#).text.chars().next(), Some('a'));
        assert_eq!(read::<Outer>(b"{\"text\":\"a\xffb\"}").unwrap().text, "a\u{fffd}b");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (text, parts) in [
            (r#"{"inner":{"size":"1"}}"#, vec!["inner: size: ", "string", "line 1"]),
            (r#"{"inner":{"size":1e3}}"#, vec!["size"]),
            (r#"{"inner":{"size":9223372036854775808}}"#, vec!["9223372036854775808"]),
            (r#"{"inner":{"size":99999999999999999999999}}"#, vec!["size"]),
            (r#"{"text":5}"#, vec!["text: ", "expected a string"]),
            (r#"{"truth":1}"#, vec!["truth: ", "expected true or false"]),
            (r#"{"list":{}}"#, vec!["list: ", "expected a list"]),
            (r#"{"list":[{},{"name":[]}]}"#, vec!["list: entry 1: name: "]),
            ("", vec!["empty"]),
            ("\u{feff}{}", vec!["byte order mark"]),
            ("{} {}", vec!["trailing"]),
            ("[]", vec!["expected an object"]),
        ] {
            let error = read::<Outer>(text.as_bytes()).unwrap_err();
            assert!(parts.iter().all(|part| error.contains(part)), "{text}: {error}");
            assert_eq!(
                error.matches(" at line ").count(),
                usize::from(!parts.contains(&"empty") && !parts.contains(&"byte order mark")),
                "{error}"
            );
        }
        assert!(read_first::<Outer>(b"{} trailing").is_ok());
        let many = format!(r#"{{"list":[{}]}}"#, vec!["{}"; 20_000].join(","));
        assert!(read::<Outer>(many.as_bytes()).unwrap_err().contains("16384"));
    }
}
