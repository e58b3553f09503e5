//! Requests read as leniently as Go reads them.

use serde::{Deserialize, Deserializer};

/// Null is as if the field were not there.
pub(crate) fn null_is_absent<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Declares types of requests: each field with its type and its name in JSON, absent and null being the type's default.
macro_rules! request {
    ($($(#[$doc:meta])* struct $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty = $spelling:literal),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Default, PartialEq, serde::Deserialize, serde::Serialize)]
            #[serde(default)]
            pub(crate) struct $name {
                $(
                    $(#[$field_doc])*
                    #[serde(rename = $spelling, deserialize_with = "crate::api::null_is_absent")]
                    pub(crate) $field: $kind
                ),*
            }
        )*
    };
}
pub(crate) use request;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    request! {
        /// A request.
        struct Wanted {
            /// A name.
            name: String = "Name",
            /// Labels.
            labels: BTreeMap<String, String> = "Labels",
            /// A number, if any.
            limit: Option<i64> = "Limit",
        }
    }

    #[test]
    fn null_and_absent_are_the_same_and_what_is_unknown_is_ignored() {
        for text in ["{}", r#"{"Name":null,"Labels":null,"Limit":null,"Colour":[1,{}]}"#] {
            assert_eq!(serde_json::from_str::<Wanted>(text).unwrap(), Wanted::default(), "{text}");
        }
        let wanted: Wanted = serde_json::from_str(r#"{"Name":"a","Limit":3}"#).unwrap();
        assert_eq!((wanted.name.as_str(), wanted.limit), ("a", Some(3)));
        assert!(serde_json::from_str::<Wanted>(r#"{"Name":3}"#).is_err());
    }
}
