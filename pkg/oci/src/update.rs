//! `update`: other limits for a running container.

use oci_spec::runtime::LinuxResources;
use serde_json::{Map, Value};

use crate::{Container, Error, Result, Status, group};

/// Limits to change, by their names in `linux.resources`; what is not in there stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Update(Map<String, Value>);

impl Update {
    /// Reads them as of `update --resources`.
    ///
    /// # Errors
    /// It is no such text.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let json = |source| Error::Json { path: "resources".into(), source };
        let mut map: Map<String, Value> = serde_json::from_slice(text).map_err(json)?;
        // Devices cannot be updated: somebody else may have changed them since (runc leaves them alone as well).
        map.remove("devices");
        if map.get("pids").is_some_and(|pids| pids.get("limit").is_none()) {
            map.remove("pids");
        }
        Ok(Self(map))
    }

    /// Adds one: `memory`, `limit`.
    pub fn set(&mut self, section: &str, name: &str, value: impl Into<Value>) {
        let section = self.0.entry(section).or_insert_with(|| Value::Object(Map::new()));
        if let Some(section) = section.as_object_mut() {
            section.insert(name.to_owned(), value.into());
        }
    }

    fn resources(&self) -> Result<LinuxResources> {
        let json = |source| Error::Json { path: "resources".into(), source };
        let resources = serde_json::from_value(Value::Object(self.0.clone())).map_err(json)?;
        Ok(group::with_limits_of_zero(resources))
    }
}

/// Sets other limits, and returns what this node cannot do of it.
///
/// # Errors
/// [`Error::NotRunning`]; a limit that cannot be enforced, after which the former ones are in force again.
pub fn update(container: &mut Container, update: &Update) -> Result<Vec<String>> {
    if container.status()? == Status::Stopped {
        return Err(Error::NotRunning);
    }
    let group = container.group()?.ok_or(Error::NotRunning)?;
    let wanted = update.resources()?;
    // One after the other: what is written down is what is in force.
    container.amend(|container| {
        let former = container.record.resources.clone();
        let with = merged(&former, update)?;
        let degraded = group.apply(&wanted).inspect_err(|_| {
            let mut former = former;
            former.set_devices(None);
            // The failure of the new ones is what is told.
            let _ = group.apply(&former);
        })?;
        container.record.resources = with;
        Ok(degraded.iter().map(ToString::to_string).collect())
    })
}

fn merged(former: &LinuxResources, update: &Update) -> Result<LinuxResources> {
    let json = |source| Error::Json { path: "resources".into(), source };
    let mut all = serde_json::to_value(former).map_err(json)?;
    merge(&mut all, &Value::Object(update.0.clone()));
    serde_json::from_value(all).map_err(json)
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_named_stays_and_devices_are_left_alone() {
        let mut all = json!({"memory": {"limit": 1, "swap": 2}, "cpu": {"shares": 5}});
        let mut update =
            Update::parse(br#"{"memory":{"limit":9},"devices":[{"allow":true}],"pids":{}}"#).unwrap();
        update.set("cpu", "quota", 7);
        merge(&mut all, &Value::Object(update.0.clone()));
        assert_eq!(all, json!({"memory": {"limit": 9, "swap": 2}, "cpu": {"shares": 5, "quota": 7}}));
        assert_eq!(update.resources().unwrap().memory().unwrap().limit(), Some(9));
    }
}
