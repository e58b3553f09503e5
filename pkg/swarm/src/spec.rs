//! How specifications are read and shown: null is as if a field were not there, and what is empty is left out, as Go's `omitempty` does.

use serde::{Deserialize, Deserializer};

/// Null is the default.
pub(crate) fn null_is_absent<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Whether it says nothing.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Declares what clients want: in brackets fields that are always shown, then those that are left out when they are empty.
macro_rules! spec {
    ($($(#[$doc:meta])* struct $name:ident {
        $([ $($(#[$always_doc:meta])* $always:ident: $always_kind:ty = $always_spelling:literal),* $(,)? ])?
        $($(#[$field_doc:meta])* $field:ident: $kind:ty = $spelling:literal),* $(,)?
    })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
            #[serde(default)]
            pub struct $name {
                $($(
                    $(#[$always_doc])*
                    #[serde(rename = $always_spelling, deserialize_with = "crate::spec::null_is_absent")]
                    pub $always: $always_kind,
                )*)?
                $(
                    $(#[$field_doc])*
                    #[serde(
                        rename = $spelling,
                        deserialize_with = "crate::spec::null_is_absent",
                        skip_serializing_if = "crate::spec::is_default"
                    )]
                    pub $field: $kind,
                )*
            }
        )*
    };
}
pub(crate) use spec;

#[cfg(test)]
mod tests {
    spec! {
        /// Something.
        struct Wanted {
            [
                /// Shown.
                count: u64 = "Count",
            ]
            /// Left out.
            name: String = "Name",
            /// Left out where it is not said, and shown where it is 0.
            limit: Option<u64> = "Limit",
        }
    }

    #[test]
    fn what_says_nothing_is_left_out_and_what_is_said_stays() {
        let shown =
            |text: &str| serde_json::to_string(&serde_json::from_str::<Wanted>(text).unwrap()).unwrap();
        assert_eq!(shown(r#"{"Name":null,"Count":null,"Other":1}"#), r#"{"Count":0}"#);
        assert_eq!(shown(r#"{"Name":"a","Limit":0}"#), r#"{"Count":0,"Name":"a","Limit":0}"#);
    }
}
