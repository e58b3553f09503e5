//! A container's configuration: what the request says, and where it says nothing, the image.

use std::collections::{BTreeMap, BTreeSet};

use husk_images::ImageConfig;

use super::{container::short, record::Record};
use crate::{
    api::container::{Config, Empty, Words},
    error::{Failure, Result},
};

/// Puts the image's part into a request's configuration, as dockerd's `merge` does.
pub(super) fn merge(config: &mut Config, image: &ImageConfig) {
    if config.user.is_empty() {
        config.user.clone_from(&image.user);
    }
    let ports = image.exposed_ports.iter().map(|port| (port.clone(), Empty {}));
    add(&mut config.exposed_ports, ports);
    merge_env(config, image);
    for (name, value) in &image.labels {
        config.labels.entry(name.clone()).or_insert_with(|| value.clone());
    }
    // An entrypoint of the request makes the image's command meaningless; one empty word is none.
    let entrypoint = config.entrypoint.as_ref().map(|words| &words.0[..]);
    match entrypoint {
        None | Some([]) => {
            if config.cmd.as_ref().is_none_or(|words| words.0.is_empty()) && !image.cmd.is_empty() {
                config.cmd = Some(Words(image.cmd.clone()));
            }
            if config.entrypoint.is_none() && !image.entrypoint.is_empty() {
                config.entrypoint = Some(Words(image.entrypoint.clone()));
            }
        }
        Some([word]) if word.is_empty() => config.entrypoint = None,
        Some(_) => {}
    }
    if config.working_dir.is_empty() {
        config.working_dir.clone_from(&image.working_dir);
    }
    let places = image.volumes.iter().map(|place| (place.clone(), Empty {}));
    add(&mut config.volumes, places);
    if config.stop_signal.is_empty() {
        config.stop_signal = image.stop_signal.clone().unwrap_or_default();
    }
}

fn add(set: &mut Option<BTreeMap<String, Empty>>, more: impl Iterator<Item = (String, Empty)>) {
    let mut more = more.peekable();
    if more.peek().is_some() {
        set.get_or_insert_default().extend(more);
    }
}

/// The image's variables that the request does not name come first.
fn merge_env(config: &mut Config, image: &ImageConfig) {
    let name = |entry: &str| entry.split_once('=').map_or(entry, |(name, _)| name).to_owned();
    let own = config.env.take().unwrap_or_default();
    let named: BTreeSet<String> = own.iter().map(|entry| name(entry)).collect();
    let mut env: Vec<String> =
        image.env.iter().filter(|entry| !named.contains(&name(entry))).cloned().collect();
    env.extend(own);
    config.env = Some(env);
}

/// What is executed.
///
/// # Errors
/// 400 when neither the request nor the image names a command.
pub(super) fn command(config: &Config) -> Result<Vec<String>> {
    let words = |words: &Option<Words>| words.iter().flat_map(|words| words.0.clone()).collect::<Vec<_>>();
    let command = [words(&config.entrypoint), words(&config.cmd)].concat();
    match command.first() {
        Some(first) if !first.is_empty() => Ok(command),
        _ => Err(Failure::bad("no command specified")),
    }
}

/// What it is called inside.
pub(super) fn hostname(record: &Record) -> String {
    match record.config.hostname.as_str() {
        "" => short(&record.id).to_owned(),
        name => name.to_owned(),
    }
}

/// Its environment: what every container has, then its own. A name without a value takes the variable away.
pub(super) fn environment(config: &Config, hostname: &str) -> Vec<(String, String)> {
    const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let mut env = vec![("PATH".to_owned(), PATH.to_owned()), ("HOSTNAME".to_owned(), hostname.to_owned())];
    if config.tty {
        env.push(("TERM".to_owned(), "xterm".to_owned()));
    }
    for entry in config.env.iter().flatten() {
        let (name, value) =
            entry.split_once('=').map_or((entry.as_str(), None), |(name, value)| (name, Some(value)));
        env.retain(|(other, _)| other != name);
        env.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(config: &str, image: &ImageConfig) -> Config {
        let mut config = serde_json::from_str(config).unwrap();
        merge(&mut config, image);
        config
    }

    fn image() -> ImageConfig {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect();
        ImageConfig {
            entrypoint: words("/entry"),
            cmd: words("serve now"),
            env: words("A=1 B=2"),
            volumes: words("/data"),
            ..ImageConfig::default()
        }
    }

    #[test]
    fn the_image_fills_in_what_the_request_leaves_out() {
        for (config, expected) in [
            ("{}", "/entry serve now"),
            (r#"{"Cmd":["stop"]}"#, "/entry stop"),
            (r#"{"Entrypoint":["/other"]}"#, "/other"),
            (r#"{"Entrypoint":["/other"],"Cmd":["x"]}"#, "/other x"),
            (r#"{"Entrypoint":[""],"Cmd":["sh"]}"#, "sh"),
            (r#"{"Entrypoint":[],"Cmd":["sh"]}"#, "sh"),
        ] {
            assert_eq!(command(&merged(config, &image())).unwrap().join(" "), expected, "{config}");
        }
        assert!(command(&merged("{}", &ImageConfig::default())).is_err());
        assert!(
            command(&merged(r#"{"Entrypoint":[""]}"#, &image())).is_err(),
            "the image's command went with it"
        );
    }

    #[test]
    fn a_variable_of_the_request_beats_the_image_s_and_a_bare_name_takes_it_away() {
        let config = merged(r#"{"Env":["B=3","C=4","A"]}"#, &image());
        let env = environment(&config, "web");
        let has = |name: &str| env.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
        assert_eq!(
            (has("A"), has("B"), has("C"), has("HOSTNAME")),
            (None, Some("3"), Some("4"), Some("web"))
        );
        assert!(has("PATH").is_some() && has("TERM").is_none());
    }

    #[test]
    fn places_of_volumes_are_those_of_both() {
        let config = merged(r#"{"Volumes":{"/more":{}}}"#, &image());
        assert_eq!(config.volumes.unwrap().into_keys().collect::<Vec<_>>(), ["/data", "/more"]);
    }
}
