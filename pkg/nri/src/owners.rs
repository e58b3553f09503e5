//! Which plugin set what: two that set the same thing are a conflict, whatever the values.

use std::collections::BTreeMap;

use husk_proto::nri::{self, Field};

use crate::NriError;

/// Who set what, by container.
#[derive(Debug, Default)]
pub(crate) struct Owners(BTreeMap<String, BTreeMap<(i32, String), String>>);

impl Owners {
    /// Notes that `plugin` sets a field; `key` is empty for one that has no entries.
    pub(crate) fn claim(
        &mut self,
        container: &str,
        field: Field,
        key: &str,
        plugin: &str,
    ) -> Result<(), NriError> {
        let fields = self.0.entry(container.to_owned()).or_default();
        let owner = fields.entry((field.into(), key.to_owned())).or_insert_with(|| plugin.to_owned());
        if owner == plugin {
            return Ok(());
        }
        Err(NriError::Conflict {
            first: owner.clone(),
            second: plugin.to_owned(),
            field: format!("{} {key}", field.as_str_name()).trim_end().to_owned(),
            container: container.to_owned(),
        })
    }

    /// Notes that a plugin takes a field's value away: whoever set it does not own it any more.
    pub(crate) fn clear(&mut self, container: &str, field: Field, key: &str) {
        if let Some(fields) = self.0.get_mut(container) {
            fields.remove(&(field.into(), key.to_owned()));
        }
    }

    /// As validators want it.
    pub(crate) fn to_plugin(&self) -> nri::OwningPlugins {
        let mut owners = nri::OwningPlugins::default();
        for (container, fields) in &self.0 {
            let entry = owners.owners.entry(container.clone()).or_default();
            for ((field, key), plugin) in fields {
                if key.is_empty() {
                    entry.simple.insert(*field, plugin.clone());
                } else {
                    let entries = entry.compound.entry(*field).or_default();
                    entries.owners.insert(key.clone(), plugin.clone());
                }
            }
        }
        owners
    }
}
