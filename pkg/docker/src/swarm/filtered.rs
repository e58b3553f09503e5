//! Filters of the swarm's lists: ids and names by their beginnings, `names` whole, and labels.

use std::collections::BTreeMap;

use crate::filters::Filters;

/// Whether an object is wanted.
pub(super) fn suits(filters: &Filters, id: &str, name: &str, labels: &BTreeMap<String, String>) -> bool {
    let begins = |key: &str, value: &str| {
        !filters.has(key) || filters.values(key).any(|beginning| value.starts_with(beginning))
    };
    begins("id", id) && begins("name", name) && filters.is("names", name) && filters.labels_suit(labels)
}
