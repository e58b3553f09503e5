//! The environment: defaults, then the image's, then the request's; the last of a name wins and keeps the first's place.
//!
//! An image's entry without `=` takes the variable away, as Docker means it and containerd has it; one without a name is
//! nothing. A value that is no UTF-8 is here in its lossy form, which is all that JSON can carry; see
//! `husk_model::EnvVar::entry` for the whole.

use std::collections::HashMap;

use crate::SpecInput;

/// What runc, crun and the peers give a process whose image says nothing.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(crate) fn env(input: &SpecInput<'_>) -> Vec<String> {
    // An unnamed pod is called like its node, be it because they share the UTS namespace or because a new one is a copy.
    let hostname =
        if input.pod.hostname.is_empty() { input.node_hostname } else { input.pod.hostname.as_str() };
    let mut result = Environment::default();
    result.set(DEFAULT_PATH.to_owned());
    if input.container.tty {
        result.set("TERM=xterm".to_owned());
    }
    if !hostname.is_empty() {
        result.set(format!("HOSTNAME={hostname}"));
    }
    for entry in &input.image.env {
        match entry.split_once('=') {
            Some(("", _)) => {}
            Some(_) => result.set(entry.clone()),
            None => result.unset(entry),
        }
    }
    for variable in &input.container.envs {
        result.set(String::from_utf8_lossy(&variable.entry()).into_owned());
    }
    result.entries.into_iter().flatten().collect()
}

#[derive(Default)]
struct Environment {
    /// In order; none where one was taken away.
    entries: Vec<Option<String>>,
    places: HashMap<String, usize>,
}

impl Environment {
    fn set(&mut self, entry: String) {
        let name = entry.split('=').next().unwrap_or_default().to_owned();
        let place = *self.places.entry(name).or_insert(self.entries.len());
        self.entries.resize(self.entries.len().max(place + 1), None);
        self.entries[place] = Some(entry);
    }

    fn unset(&mut self, name: &str) {
        if let Some(&place) = self.places.get(name) {
            self.entries[place] = None;
        }
    }
}
