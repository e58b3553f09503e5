//! The query of `/build`, as BuildKit's Dockerfile frontend is told it.

use std::collections::BTreeMap;

use husk_images::Reference;
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    api::from_slice,
    error::{Failure, Result},
    http::Query,
};

/// Longest value of a query that is JSON.
const MAX_JSON: usize = 1 << 20;
/// Names that one build may give.
const NAMES_MAX: usize = 256;

/// What a build is told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Names with tags.
    pub(super) names: Vec<String>,
    /// Attributes of the frontend.
    pub(super) attributes: BTreeMap<String, String>,
    /// Images that the cache is taken from.
    pub(super) cache_from: Vec<String>,
    /// An exporter of the client's: type and attributes.
    pub(super) elsewhere: Option<(String, BTreeMap<String, String>)>,
    /// Whether steps want the network that the builder has.
    pub(super) host_network: bool,
    /// A user network that steps shall be in, as the client calls it.
    pub(super) network: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Ulimit {
    name: String,
    #[serde(default)]
    soft: i64,
    #[serde(default)]
    hard: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Output {
    r#type: String,
    #[serde(default)]
    attrs: Option<BTreeMap<String, String>>,
}

/// Reads the query. `gateway` is what `host-gateway` means.
///
/// # Errors
/// 400 with the key; 501 for what BuildKit has not.
pub(super) fn wanted(query: &Query, gateway: Option<&str>) -> Result<Wanted> {
    let mut wanted = Wanted { names: names(query)?, ..Wanted::default() };
    let attributes = &mut wanted.attributes;
    let mut set = |key: &str, value: &str| drop(attributes.insert(key.to_owned(), value.to_owned()));
    for (key, attribute) in [
        ("dockerfile", "filename"),
        ("target", "target"),
        ("platform", "platform"),
        ("shmsize", "shm-size"),
        ("cgroupparent", "cgroup-parent"),
    ] {
        if let Some(value) = query.get(key).filter(|value| !(key == "shmsize" && *value == "0")) {
            set(attribute, value);
        }
    }
    if query.flag("nocache") {
        set("no-cache", "");
    }
    set("image-resolve-mode", if query.flag("pull") { "pull" } else { "default" });
    match query.get("networkmode").unwrap_or("default") {
        "default" | "bridge" => {}
        mode @ ("none" | "host") => {
            set("force-network-mode", mode);
            wanted.host_network = mode == "host";
        }
        mode if mode.starts_with("container:") => {
            let mode: String = mode.chars().take(80).collect();
            return Err(Failure::bad(format!(
                "networkmode {mode:?}: a build has default, host, none or a network of a user"
            )));
        }
        // The builder is in it, then.
        mode => {
            set("force-network-mode", "host");
            wanted.host_network = true;
            wanted.network = Some(mode.to_owned());
        }
    }
    for (name, value) in json::<BTreeMap<String, Option<String>>>(query, "buildargs")? {
        if let Some(value) = value {
            set(&format!("build-arg:{name}"), &value);
        }
    }
    for (name, value) in json::<BTreeMap<String, String>>(query, "labels")? {
        set(&format!("label:{name}"), &value);
    }
    let ulimits = json::<Vec<Ulimit>>(query, "ulimits")?;
    if !ulimits.is_empty() {
        let each = ulimits.iter().map(|limit| format!("{}={}:{}", limit.name, limit.soft, limit.hard));
        set("ulimit", &each.collect::<Vec<_>>().join(","));
    }
    if let Some(hosts) = hosts(query, gateway)? {
        set("add-hosts", &hosts);
    }
    if query.flag("squash") {
        return Err(Failure::missing(
            "squash: BuildKit does not make one layer of an image; a last stage with COPY --from does",
        ));
    }
    wanted.cache_from = json(query, "cachefrom")?;
    wanted.elsewhere = elsewhere(json(query, "outputs")?)?;
    Ok(wanted)
}

fn names(query: &Query) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for name in query.all("t").filter(|name| !name.is_empty()) {
        let reference = Reference::parse(name)?;
        if name.contains('@') {
            return Err(Failure::bad("t: an image that is built can be given a tag, not a digest"));
        }
        let name = reference.to_string();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if names.len() > NAMES_MAX {
        return Err(Failure::bad(format!("t: a build can give {NAMES_MAX} names")));
    }
    Ok(names)
}

/// `name:address` as `name=address,name=address`.
fn hosts(query: &Query, gateway: Option<&str>) -> Result<Option<String>> {
    let mut hosts = Vec::new();
    for host in query.all("extrahosts").filter(|host| !host.is_empty()) {
        let pair = host.split_once(':').or_else(|| host.split_once('='));
        let (name, address) = pair.ok_or_else(|| Failure::bad("extrahosts: name:address is expected"))?;
        let address = match address {
            "host-gateway" => {
                gateway.ok_or_else(|| Failure::bad("extrahosts: host-gateway has no address here"))?
            }
            address => address,
        };
        hosts.push(format!("{name}={address}"));
    }
    Ok((!hosts.is_empty()).then(|| hosts.join(",")))
}

/// The one output that is not the store.
fn elsewhere(outputs: Vec<Output>) -> Result<Option<(String, BTreeMap<String, String>)>> {
    let mut outputs = outputs.into_iter();
    let Some(Output { r#type: kind, attrs }) = outputs.next() else { return Ok(None) };
    if outputs.next().is_some() {
        return Err(Failure::missing("outputs: a build here has one; buildx has several"));
    }
    match kind.as_str() {
        "moby" | "image" | "docker" | "" => Ok(None),
        _ => Ok(Some((kind, attrs.unwrap_or_default()))),
    }
}

/// A value that is JSON; none is an empty one, as is null.
fn json<T: DeserializeOwned + Default>(query: &Query, key: &str) -> Result<T> {
    let Some(text) = query.get(key) else { return Ok(T::default()) };
    if text.len() > MAX_JSON {
        return Err(Failure::bad(format!("{key}: it has more than {MAX_JSON} bytes")));
    }
    let value: Option<T> =
        from_slice(text.as_bytes()).map_err(|error| Failure::bad(format!("{key}: invalid JSON: {error}")))?;
    Ok(value.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Wanted> {
        wanted(&Query::parse(text), Some("172.17.0.1"))
    }

    #[test]
    fn every_key_becomes_what_the_frontend_calls_it() {
        let query = "t=a&t=b:1&t=a&dockerfile=D&target=x&nocache=1&pull=1&networkmode=none&shmsize=64\
                     &buildargs={\"A\":\"1\",\"B\":null}&labels={\"l\":\"v\"}&extrahosts=h:host-gateway&extrahosts=i:::1\
                     &ulimits=[{\"Name\":\"nofile\",\"Soft\":1,\"Hard\":2}]&cachefrom=[\"c\"]";
        let wanted = of(query).unwrap();
        assert_eq!(wanted.names, ["docker.io/library/a:latest", "docker.io/library/b:1"]);
        assert_eq!(wanted.cache_from, ["c"]);
        let attributes: Vec<_> =
            wanted.attributes.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(
            attributes,
            [
                ("add-hosts", "h=172.17.0.1,i=::1"),
                ("build-arg:A", "1"),
                ("filename", "D"),
                ("force-network-mode", "none"),
                ("image-resolve-mode", "pull"),
                ("label:l", "v"),
                ("no-cache", ""),
                ("shm-size", "64"),
                ("target", "x"),
                ("ulimit", "nofile=1:2"),
            ]
        );
    }

    #[test]
    fn what_no_build_can_have_is_refused_with_its_key() {
        for (query, word) in [
            ("t=UPPER", "UPPER"),
            ("networkmode=container:x", "networkmode"),
            ("buildargs={", "buildargs"),
            ("extrahosts=x", "extrahosts"),
            ("squash=1", "squash"),
            ("outputs=[{\"Type\":\"local\"},{\"Type\":\"tar\"}]", "outputs"),
        ] {
            let failure = of(query).unwrap_err();
            assert!(failure.message().contains(word), "{query}: {}", failure.message());
        }
    }

    #[test]
    fn steps_in_a_network_of_a_user_have_the_network_of_a_builder_there() {
        let wanted = of("networkmode=front end").unwrap();
        assert_eq!(wanted.network.as_deref(), Some("front end"));
        assert!(wanted.host_network);
        assert_eq!(wanted.attributes["force-network-mode"], "host");
        for mode in ["default", "bridge", "none", "host"] {
            assert_eq!(of(&format!("networkmode={mode}")).unwrap().network, None, "{mode}");
        }
    }

    #[test]
    fn an_output_is_the_store_or_the_clients() {
        assert_eq!(of("outputs=[{\"Type\":\"moby\"}]").unwrap().elsewhere, None);
        let elsewhere = of("outputs=[{\"Type\":\"local\",\"Attrs\":null}]").unwrap().elsewhere.unwrap();
        assert_eq!(elsewhere, ("local".to_owned(), BTreeMap::new()));
    }
}
