//! The environment: defaults, then the image's, then the request's; the last of a name wins and keeps the first's place.

use std::collections::HashMap;

use crate::SpecInput;

/// What runc, crun and the peers give a process whose image says nothing.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(crate) fn env(input: &SpecInput<'_>) -> Vec<String> {
    // An unnamed pod is called like its node, be it because they share the UTS namespace or because a new one is a copy.
    let hostname =
        if input.pod.hostname.is_empty() { input.node_hostname } else { input.pod.hostname.as_str() };
    let mut result = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut set = |entry: String| {
        let name = entry.split('=').next().unwrap_or_default().to_owned();
        match places.get(&name) {
            Some(&place) => result[place] = entry,
            None => {
                places.insert(name, result.len());
                result.push(entry);
            }
        }
    };
    set(DEFAULT_PATH.to_owned());
    if input.container.tty {
        set("TERM=xterm".to_owned());
    }
    if !hostname.is_empty() {
        set(format!("HOSTNAME={hostname}"));
    }
    input.image.env.iter().for_each(|entry| set(entry.clone()));
    input.container.envs.iter().for_each(|variable| set(format!("{}={}", variable.key, variable.value)));
    result
}
