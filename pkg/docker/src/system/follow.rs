//! `GET /events`: what happened and what happens.

use std::sync::Arc;

use husk_model::UnixNanos;
use hyper::header::ACCEPT;
use serde_json::{Value, json};
use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::{
    door::Parts,
    error::{Failure, Result},
    events::{Event, Subject},
    filters::Filters,
    http::{Answer, Call, Pieces, Version, streamed_as},
    when,
};

const KNOWN: [&str; 14] = [
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

/// How documents are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// One after the other, each on its line.
    Lines(&'static str),
    /// RFC 7464: a record separator before each.
    Sequence,
}

/// The formats that a client may ask for (API 1.52).
const FORMATS: [(&str, Format); 4] = [
    ("application/json-seq", Format::Sequence),
    ("application/x-ndjson", Format::Lines("application/x-ndjson")),
    ("application/jsonl", Format::Lines("application/jsonl")),
    ("application/json", Format::Lines("application/json")),
];

impl Format {
    /// The first of the client's that is one of ours.
    fn accepted(accept: Option<&str>) -> Self {
        let wanted = accept
            .unwrap_or_default()
            .split(',')
            .map(|kind| kind.split(';').next().unwrap_or_default().trim());
        wanted
            .filter_map(|kind| FORMATS.iter().find(|(name, _)| *name == kind))
            .map(|(_, format)| *format)
            .next()
            .unwrap_or(Self::Lines("application/json"))
    }
}

/// What is wanted of the events.
struct Wanted {
    filters: Filters,
    since: Option<UnixNanos>,
    until: Option<UnixNanos>,
    format: Format,
    /// With the fields that 1.22 replaced and 1.52 dropped.
    legacy: bool,
}

pub(super) fn follow(door: &Arc<Parts>, call: &Call) -> Result<Answer> {
    let now = husk_node::now();
    let moment = |key| match call.query.get(key) {
        None => Ok(None),
        Some(text) => when::moment(text, now).map(Some).ok_or_else(|| {
            Failure::bad(format!("{key}: {:?} is no time", text.chars().take(80).collect::<String>()))
        }),
    };
    let wanted = Wanted {
        filters: Filters::of(&call.query, &KNOWN)?,
        since: moment("since")?,
        until: moment("until")?,
        format: Format::accepted(call.header(&ACCEPT)),
        legacy: call.version < Version::v1(52),
    };
    if let (Some(since), Some(until)) = (wanted.since, wanted.until)
        && since > until
    {
        return Err(Failure::bad(format!(
            "`since` time ({}) cannot be after `until` time ({})",
            when::text(since),
            when::text(until)
        )));
    }
    let (pieces, answer) = streamed_as(match wanted.format {
        Format::Lines(kind) => kind,
        Format::Sequence => "application/json-seq",
    });
    // Before the answer: what happens from its head on must be in it.
    let (kept, new) = door.events.follow();
    let door = Arc::clone(door);
    tokio::spawn(async move {
        let closed = pieces.clone();
        tokio::select! {
            () = tell(wanted, kept, new, pieces) => {}
            () = closed.closed() => {}
            () = door.closed() => {}
        }
    });
    Ok(answer)
}

async fn tell(wanted: Wanted, kept: Vec<Arc<Event>>, mut new: Receiver<Arc<Event>>, pieces: Pieces) {
    if wanted.since.is_some() || wanted.until.is_some() {
        let after = |event: &&Arc<Event>| wanted.since.is_none_or(|since| event.at >= since);
        for event in kept.iter().filter(after) {
            if wanted.ends_before(event) || wanted.send(event, &pieces).await.is_err() {
                return;
            }
        }
    }
    let until = async {
        match wanted.until {
            None => std::future::pending().await,
            Some(until) => {
                let left = until.saturating_sub(husk_node::now());
                tokio::time::sleep(std::time::Duration::from_nanos(left.try_into().unwrap_or(0))).await;
            }
        }
    };
    tokio::pin!(until);
    loop {
        let event = tokio::select! {
            // Those of the time before the end are told, though it has come.
            biased;
            event = new.recv() => event,
            () = &mut until => return,
        };
        match event {
            Ok(event) if wanted.ends_before(&event) => return,
            Ok(event) => {
                if wanted.send(&event, &pieces).await.is_err() {
                    return;
                }
            }
            // It must not take the rest for all there is.
            Err(RecvError::Lagged(_)) => return pieces.break_off().await,
            Err(RecvError::Closed) => return,
        }
    }
}

impl Wanted {
    fn ends_before(&self, event: &Event) -> bool {
        self.until.is_some_and(|until| event.at > until)
    }

    async fn send(&self, event: &Event, pieces: &Pieces) -> Result<(), ()> {
        if !suits(&self.filters, event) {
            return Ok(());
        }
        let mut bytes = Vec::new();
        if self.format == Format::Sequence {
            bytes.push(0x1e);
        }
        bytes.extend(document(event, self.legacy).to_string().into_bytes());
        bytes.push(b'\n');
        pieces.send(bytes).await.map_err(|_| ())
    }
}

/// An event in Docker's spelling.
fn document(event: &Event, legacy: bool) -> Value {
    let Event { at, subject, action, id, attributes } = event;
    let mut document = json!({
        "Type": subject.as_str(),
        "Action": action,
        "Actor": { "ID": id, "Attributes": attributes },
        "scope": subject.scope(),
        "time": at.div_euclid(1_000_000_000),
        "timeNano": at,
    });
    if legacy && matches!(subject, Subject::Container | Subject::Image) {
        document["status"] = action.as_str().into();
        document["id"] = id.as_str().into();
        if let Some(image) = attributes.get("image") {
            document["from"] = image.as_str().into();
        }
    }
    document
}

/// Whether an event is among those that are wanted, as dockerd's `daemon/events` decides it.
fn suits(filters: &Filters, event: &Event) -> bool {
    let kind = event.subject.as_str();
    filters.is("type", kind)
        && filters.is("scope", event.subject.scope())
        && suits_action(filters, &event.action)
        && filters.labels_suit(&event.attributes)
        && suits_image(filters, event)
        && ["container", "volume", "network", "daemon", "plugin", "node", "service", "secret", "config"]
            .into_iter()
            .all(|about| suits_object(filters, about, event))
}

/// `exec_start` and `health_status` mean those with any command or state after the colon.
fn suits_action(filters: &Filters, action: &str) -> bool {
    let beginning = action.split(':').next().unwrap_or_default();
    !filters.has("event") || filters.values("event").any(|wanted| wanted == action || wanted == beginning)
}

/// An event about a container and so on has its id or name with this beginning.
fn suits_object(filters: &Filters, about: &str, event: &Event) -> bool {
    let name = event.attributes.get("name").map_or("", String::as_str);
    let is = |wanted: &str| {
        about == event.subject.as_str() && (event.id.starts_with(wanted) || name.starts_with(wanted))
            // What happens to a container in a network is told as the network's.
            || about == "container" && event.attributes.get("container").is_some_and(|id| id.starts_with(wanted))
    };
    !filters.has(about) || filters.values(about).any(is)
}

fn suits_image(filters: &Filters, event: &Event) -> bool {
    let attribute = if event.subject == Subject::Image { "name" } else { "image" };
    let image = event.attributes.get(attribute).map_or("", String::as_str);
    let is = |wanted: &str| {
        [event.id.as_str(), image].into_iter().any(|have| have == wanted || without_tag(have) == wanted)
    };
    !filters.has("image") || filters.values("image").any(is)
}

fn without_tag(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::required::assert_whole, http::Query};

    fn event(subject: Subject, action: &str, attributes: &[(&str, &str)]) -> Event {
        let attributes = attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Event {
            at: 1_500_000_000,
            subject,
            action: action.to_owned(),
            id: "abc".to_owned(),
            attributes: attributes.collect(),
        }
    }

    #[test]
    fn an_event_is_written_in_dockers_spelling() {
        let event = event(Subject::Container, "start", &[("image", "busybox"), ("name", "web")]);
        assert_eq!(
            document(&event, false),
            json!({
                "Type": "container",
                "Action": "start",
                "Actor": { "ID": "abc", "Attributes": { "image": "busybox", "name": "web" } },
                "scope": "local",
                "time": 1,
                "timeNano": 1_500_000_000,
            })
        );
        assert_whole("EventMessage", &document(&event, false));
        let legacy = document(&event, true);
        assert_eq!((&legacy["status"], &legacy["from"]), (&json!("start"), &json!("busybox")));
    }

    #[test]
    fn events_are_narrowed_down_by_every_filter() {
        let exec = event(
            Subject::Container,
            "exec_start: sh -c true",
            &[("image", "a/busybox:1"), ("name", "web"), ("tier", "x")],
        );
        let connect = event(Subject::Network, "connect", &[("container", "cafe"), ("name", "front")]);
        for (filters, of_exec, of_connect) in [
            (r#"{"type":["container"]}"#, true, false),
            (r#"{"event":["exec_start"]}"#, true, false),
            (r#"{"event":["exec_start: sh -c true","connect"]}"#, true, true),
            (r#"{"container":["we"]}"#, true, false),
            (r#"{"container":["ca"]}"#, false, true),
            (r#"{"network":["front"]}"#, false, true),
            (r#"{"label":["tier=x"]}"#, true, false),
            (r#"{"image":["a/busybox"]}"#, true, false),
            (r#"{"image":["a/busybox:1"]}"#, true, false),
            (r#"{"scope":["swarm"]}"#, false, false),
            (r#"{"volume":["data"]}"#, false, false),
        ] {
            let query = Query::parse(&format!("filters={}", filters.replace('&', "%26")));
            let filters_read = Filters::of(&query, &KNOWN).unwrap();
            assert_eq!(
                (suits(&filters_read, &exec), suits(&filters_read, &connect)),
                (of_exec, of_connect),
                "{filters}"
            );
        }
    }

    #[test]
    fn a_client_gets_the_format_that_it_accepts() {
        assert_eq!(Format::accepted(None), Format::Lines("application/json"));
        assert_eq!(Format::accepted(Some("text/html, application/json-seq;q=0.5")), Format::Sequence);
        assert_eq!(Format::accepted(Some("application/jsonl")), Format::Lines("application/jsonl"));
    }

    fn wanted(since: Option<UnixNanos>, until: Option<UnixNanos>) -> Wanted {
        let filters = Filters::default();
        Wanted { filters, since, until, format: Format::Lines("application/json"), legacy: false }
    }

    async fn told(wanted: Wanted, kept: Vec<Arc<Event>>, new: Receiver<Arc<Event>>) -> Result<usize, ()> {
        use hyper::body::Body as _;
        let (pieces, mut body) = crate::http::Body::stream();
        tokio::spawn(tell(wanted, kept, new, pieces));
        let mut count = 0;
        while let Some(piece) = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await
        {
            piece.map_err(|_| ())?;
            count += 1;
        }
        Ok(count)
    }

    #[tokio::test]
    async fn what_was_missed_is_told_and_a_past_end_ends() {
        let at = |at| Arc::new(Event { at, ..event(Subject::Volume, "create", &[]) });
        let kept = vec![at(1), at(5), at(9)];
        let (_sender, new) = tokio::sync::broadcast::channel(4);
        assert_eq!(told(wanted(Some(5), Some(8)), kept.clone(), new.resubscribe()).await, Ok(1));
        assert_eq!(told(wanted(None, Some(9)), kept, new).await, Ok(3));
    }

    #[tokio::test]
    async fn a_follower_that_fell_behind_is_broken_off() {
        let (sender, new) = tokio::sync::broadcast::channel(1);
        for _ in 0..3 {
            sender.send(Arc::new(event(Subject::Volume, "create", &[]))).unwrap();
        }
        assert_eq!(told(wanted(None, None), Vec::new(), new).await, Err(()));
    }
}
