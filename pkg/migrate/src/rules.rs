//! What becomes of a key by its name alone: tables of rules, and the one function that applies them.

use std::time::Duration;

use toml::Value;

use crate::{
    duration,
    finding::Kind,
    job::{At, Job, texts},
};

/// A rule for the keys that fit `at` (see [`Job::find`]).
pub(crate) struct Rule {
    pub(crate) at: &'static str,
    pub(crate) does: Does,
}

/// What becomes of them. The first text after a key of husk's, or after values, is what it means for the operator.
pub(crate) enum Does {
    /// A text or a path, as it is.
    Text(&'static str),
    /// A directory, without its last slash.
    Dir(&'static str),
    /// A flag, as it is.
    Flag(&'static str),
    /// A duration in Go's spelling; zero means none to the peer, which husk does not have.
    Time(&'static str, &'static str),
    /// husk does it, whatever is set.
    Same(&'static str),
    /// Nothing in husk has this, and nothing follows.
    NotNeeded(&'static str),
    /// One of these values is what husk does; any other has no counterpart.
    Lost(&'static [Is], &'static str),
    /// One of these values is what husk does; with any other, husk is less strict than the peer was.
    Weaker(&'static [Is], &'static str),
    /// By a function, which settles the key.
    By(fn(&mut Job, At)),
}

/// A value to compare with.
pub(crate) enum Is {
    Empty,
    True,
    False,
    Text(&'static str),
    Number(i64),
}

impl Is {
    pub(crate) fn is(&self, value: &Value) -> bool {
        match self {
            Self::Empty => match value {
                Value::String(text) => text.is_empty(),
                Value::Array(list) => list.is_empty(),
                Value::Table(table) => table.is_empty(),
                _ => false,
            },
            Self::True => value.as_bool() == Some(true),
            Self::False => value.as_bool() == Some(false),
            Self::Text(text) => value.as_str() == Some(text),
            Self::Number(number) => value.as_integer() == Some(*number),
        }
    }
}

/// Settles every key that a rule fits; the first rule counts.
pub(crate) fn apply(job: &mut Job, rules: &[Rule]) {
    for rule in rules {
        for at in job.find(rule.at) {
            one(job, at, &rule.does);
        }
    }
}

/// Settles all that is left: nobody knows it.
pub(crate) fn settle_rest(job: &mut Job, peer: &str) {
    for at in job.unsettled() {
        if Is::Empty.is(&job.leaf(at).value) && job.leaf(at).value.is_table() {
            job.settle(at, Kind::Default, "", "an empty table sets nothing");
        } else {
            job.settle(at, Kind::Unknown, "", format!("no key that is known of {peer}; it is left out"));
        }
    }
}

fn one(job: &mut Job, at: At, does: &Does) {
    let value = job.leaf(at).value.clone();
    match does {
        Does::Text(husk) => match value.as_str() {
            Some(_) => job.take(at, husk, value, ""),
            None => wrong(job, at, "a text"),
        },
        Does::Dir(husk) => match value.as_str() {
            Some(text) => job.take(at, husk, dir(text).into(), ""),
            None => wrong(job, at, "a path"),
        },
        Does::Flag(husk) => match value.as_bool() {
            Some(_) => job.take(at, husk, value, ""),
            None => wrong(job, at, "true or false"),
        },
        Does::Time(husk, none) => time(job, at, husk, none),
        Does::Same(means) => job.settle(at, Kind::Default, "", *means),
        Does::NotNeeded(means) => job.settle(at, Kind::NotNeeded, "", *means),
        Does::Lost(same, means) => unless(job, at, same, Kind::NoCounterpart, means),
        Does::Weaker(same, means) => unless(job, at, same, Kind::Insecure, means),
        Does::By(function) => function(job, at),
    }
}

/// Default with one of these values, else this kind.
pub(crate) fn unless(job: &mut Job, at: At, same: &[Is], kind: Kind, means: &str) {
    if same.iter().any(|is| is.is(&job.leaf(at).value)) {
        job.settle(at, Kind::Default, "", "");
    } else {
        job.settle(at, kind, "", means);
    }
}

fn time(job: &mut Job, at: At, husk: &'static str, none: &str) {
    let value = match &job.leaf(at).value {
        Value::String(text) if text.is_empty() => return job.settle(at, Kind::Default, husk, ""),
        Value::String(text) => duration::parse(text),
        // go-toml and BurntSushi's toml take a bare number as nanoseconds.
        Value::Integer(number) => u64::try_from(*number).ok().map(Duration::from_nanos),
        _ => None,
    };
    match value.map(duration::husk) {
        Some(Some(text)) => job.take(at, husk, text.into(), ""),
        Some(None) => job.settle(at, Kind::NoCounterpart, "", none),
        None => wrong(job, at, "a duration such as 4h0m0s"),
    }
}

/// A value that the peer itself could not use.
pub(crate) fn wrong(job: &mut Job, at: At, wanted: &str) {
    let means = format!("is not {wanted}, so it is left out and husk's default holds");
    job.settle(at, Kind::NoCounterpart, "", means);
}

/// A path without its last slash.
pub(crate) fn dir(text: &str) -> String {
    match text.trim_end_matches('/') {
        "" => text.to_owned(),
        short => short.to_owned(),
    }
}

/// A list of directories of which husk has one: the first.
pub(crate) fn first_dir(job: &mut Job, at: At, husk: &'static str) {
    let dirs: Vec<String> = texts(&job.leaf(at).value).iter().map(|text| dir(text)).collect();
    let Some(first) = dirs.first().cloned() else {
        return job.settle(at, Kind::Default, husk, "an empty list sets nothing");
    };
    let leaf = job.leaf(at);
    let origin = format!("{} of {}", leaf.key, leaf.file);
    if dirs.len() == 1 {
        return job.take(at, husk, first.into(), "");
    }
    job.draft.set(husk, first.clone().into(), origin);
    let others = dirs[1..].join(", ");
    let means = format!("husk looks for plugins in {first} alone: link what is in {others} there");
    job.settle(at, Kind::NoCounterpart, husk, means);
}

/// Directories of CDI specs, of which husk has a list too.
pub(crate) fn cdi_dirs(job: &mut Job, at: At) {
    let dirs: Vec<Value> = texts(&job.leaf(at).value).iter().map(|text| dir(text).into()).collect();
    job.take(at, "runtime.cdi_dirs", Value::Array(dirs), "");
}

/// A directory of the old runtime that was moved: husk gets one beside it, since two runtimes cannot share one.
pub(crate) fn beside(job: &mut Job, at: At, husk: &'static str, usual: &[&str], name: &str) {
    let Some(text) = job.text(at).map(dir) else { return wrong(job, at, "a path") };
    if text.is_empty() || usual.contains(&text.as_str()) {
        return job.settle(at, Kind::Default, husk, "husk has its own");
    }
    let parent = text.rsplit_once('/').map_or("", |(parent, _)| parent);
    let path = format!("{parent}/{name}");
    job.take(at, husk, path.into(), "beside the old one: two runtimes cannot share it");
}

/// A level of the log.
pub(crate) fn log_level(job: &mut Job, at: At) {
    let level = match job.text(at).map(str::to_ascii_lowercase).as_deref() {
        Some("") => return job.settle(at, Kind::Default, "log.level", ""),
        Some("trace") => "trace",
        Some("debug") => "debug",
        Some("info") => "info",
        Some("warn" | "warning") => "warn",
        Some("error" | "fatal" | "panic") => "error",
        _ => return wrong(job, at, "a level"),
    };
    job.take(at, "log.level", level.into(), "");
}
