//! `GET /containers/json`.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::{
    container::Container,
    inspect::mount,
    ports,
    record::{Phase, Record},
    store::Store,
};
use crate::{error::Result, filters::Filters, http::Call, when};

/// What a list can be narrowed down to.
const KNOWN: &[&str] = &[
    "ancestor",
    "before",
    "expose",
    "exited",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "label!",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];

impl Store {
    /// The list.
    ///
    /// # Errors
    /// 400 for a filter that is none.
    pub(super) async fn list(&self, call: &Call) -> Result<Value> {
        let filters = Filters::of(&call.query, KNOWN)?;
        let limit = call.query.number::<i64>("limit")?.and_then(|limit| usize::try_from(limit).ok());
        let limit = limit.filter(|limit| *limit > 0);
        let all = call.query.flag("all") || limit.is_some() || filters.has("status") || filters.has("exited");
        let (before, since) = (self.moment(&filters, "before")?, self.moment(&filters, "since")?);
        let mut listed = Vec::new();
        for container in self.all() {
            let record = container.record();
            let shown = (all || record.state.is_running())
                && before.is_none_or(|before| record.created < before)
                && since.is_none_or(|since| record.created > since)
                && filters.is("health", container.health().map_or("none", |health| health.status()))
                && self.suits(&record, &filters);
            if shown {
                listed.push(self.summary(&container, call.query.flag("size")).await);
            }
            if limit.is_some_and(|limit| listed.len() == limit) {
                break;
            }
        }
        Ok(listed.into())
    }

    fn moment(&self, filters: &Filters, key: &str) -> Result<Option<i64>> {
        filters.single(key)?.map(|name| Ok(self.find(name)?.record().created)).transpose()
    }

    fn suits(&self, record: &Record, filters: &Filters) -> bool {
        let state = &record.state;
        let status = filters.is("status", state.status());
        let exited = !filters.has("exited")
            || state.phase == Phase::Exited && filters.is("exited", &state.exit_code.to_string());
        let name = filters.suits("name", &record.name) || filters.suits("name", &format!("/{}", record.name));
        let has = |key: &str, texts: &[&str]| {
            !filters.has(key) || filters.values(key).any(|wanted| texts.contains(&wanted))
        };
        let volumes: Vec<&str> = record
            .mounts
            .iter()
            .flat_map(|point| [point.name.as_str(), point.destination.as_str()])
            .filter(|text| !text.is_empty())
            .collect();
        let networks: Vec<String> = self.network_names(record);
        let networks: Vec<&str> = networks.iter().map(String::as_str).collect();
        let ports_suit = |key: &str, have: Vec<ports::Port>| {
            !filters.has(key)
                || filters.values(key).any(|wanted| {
                    ports::Port::parse_range(wanted)
                        .is_ok_and(|mut wanted| wanted.any(|port| have.contains(&port)))
                })
        };
        let published = || {
            let ports = ports::wanted(&record.config, &record.host).unwrap_or_default();
            ports
                .iter()
                .map(|port| ports::Port { number: port.container_port, protocol: port.protocol })
                .collect()
        };
        status
            && exited
            && name
            && filters.suits("id", &record.id)
            && filters.labels_suit(&record.config.labels)
            && has("volume", &volumes)
            && has("network", &networks)
            && ports_suit("expose", ports::exposed(&record.config).unwrap_or_default())
            && ports_suit("publish", published())
            && self.descends(record, filters)
    }

    /// Whether it is of one of the images named.
    fn descends(&self, record: &Record, filters: &Filters) -> bool {
        if !filters.has("ancestor") {
            return true;
        }
        let images = &self.0.shared.images;
        let own = images.resolve(record.image.as_str());
        filters.values("ancestor").any(|name| {
            let Some(ancestor) = images.resolve(name) else { return false };
            ancestor.id == record.image
                || own.as_ref().is_some_and(|own| {
                    own.layers.starts_with(&ancestor.layers) && !ancestor.layers.is_empty()
                })
        })
    }

    /// One line of the list.
    pub(super) async fn summary(&self, container: &Arc<Container>, with_size: bool) -> Value {
        let record = container.record();
        let words = super::merge::command(&record.config).unwrap_or_default();
        let mut value = json!({
            "Id": record.id,
            "Names": [format!("/{}", record.name)],
            "Image": record.config.image,
            "ImageID": record.image.as_str(),
            "Command": words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
            "Created": record.created / 1_000_000_000,
            "Ports": self.port_lines(&record),
            "Labels": record.config.labels,
            "State": record.state.status(),
            "Status": status_line(container, &record),
            "HostConfig": { "NetworkMode": record.host.network_mode },
            "NetworkSettings": { "Networks": self.places(&record) },
            "Mounts": record.mounts.iter().filter(|point| point.kind != "tmpfs").map(mount).collect::<Vec<_>>(),
        });
        if with_size {
            let size = self.written(container).await;
            let image = self.0.shared.images.resolve(record.image.as_str()).map_or(0, |image| image.size);
            value["SizeRw"] = size.into();
            value["SizeRootFs"] = (size + image).into();
        }
        value
    }

    fn port_lines(&self, record: &Record) -> Vec<Value> {
        if !record.state.is_running() {
            return Vec::new();
        }
        let mut exposed: BTreeMap<ports::Port, bool> = ports::exposed(&record.config)
            .unwrap_or_default()
            .into_iter()
            .map(|port| (port, false))
            .collect();
        let mut lines = Vec::new();
        for bound in self.bound_ports(record) {
            let port = ports::Port { number: bound.container_port, protocol: bound.protocol };
            exposed.insert(port, true);
            lines.push(json!({
                "IP": bound.host_ip.map_or_else(|| "0.0.0.0".to_owned(), |ip| ip.to_string()),
                "PrivatePort": port.number,
                "PublicPort": bound.host_port,
                "Type": ports::protocol_name(port.protocol),
            }));
        }
        let rest = exposed.into_iter().filter(|(_, bound)| !bound);
        lines.extend(rest.map(
            |(port, _)| json!({ "PrivatePort": port.number, "Type": ports::protocol_name(port.protocol) }),
        ));
        lines
    }
}

/// A word of a command, in quotes where it has blanks, as dockerd shows it.
fn quoted(word: &str) -> String {
    match word.contains(' ') {
        true => format!("'{}'", word.replace('\'', "\\'")),
        false => word.to_owned(),
    }
}

/// `Up 3 minutes`, `Exited (0) 2 hours ago`.
fn status_line(container: &Container, record: &Record) -> String {
    let state = &record.state;
    let now = husk_node::now();
    let since = |at: i64| spoken(now.saturating_sub(at).max(0) / 1_000_000_000);
    match state.phase {
        Phase::Created => "Created".to_owned(),
        Phase::Running if state.paused => format!("Up {} (Paused)", since(state.started_at)),
        Phase::Running => match container.health().map(|health| health.status()) {
            None => format!("Up {}", since(state.started_at)),
            Some("starting") => format!("Up {} (health: starting)", since(state.started_at)),
            Some(status) => format!("Up {} ({status})", since(state.started_at)),
        },
        Phase::Restarting => format!("Restarting ({}) {} ago", state.exit_code, since(state.finished_at)),
        Phase::Exited => format!("Exited ({}) {} ago", state.exit_code, since(state.finished_at)),
        Phase::Removing => "Removal In Progress".to_owned(),
    }
}

/// A duration as people say it (Go's units.HumanDuration).
fn spoken(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        120..2760 => format!("{minutes} minutes"),
        2760..5400 => "About an hour".to_owned(),
        5400..172_800 => format!("{hours} hours"),
        172_800..1_209_600 => format!("{} days", hours / 24),
        1_209_600..5_184_000 => format!("{} weeks", hours / 24 / 7),
        5_184_000..63_072_000 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// When a container was made, for `until`.
pub(super) fn made_before(record: &Record, until: Option<&str>) -> Result<bool> {
    let Some(text) = until else { return Ok(true) };
    let until = when::moment(text, husk_node::now())
        .ok_or_else(|| crate::error::Failure::bad(format!("until: {text:?} is no time")))?;
    Ok(record.created < until)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_spoken() {
        for (seconds, expected) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (45, "45 seconds"),
            (61, "About a minute"),
            (150, "2 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (86_400 * 3, "3 days"),
            (86_400 * 21, "3 weeks"),
        ] {
            assert_eq!(spoken(seconds), expected);
        }
    }
}
