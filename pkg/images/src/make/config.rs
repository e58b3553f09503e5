//! The configuration of an image that is made here (OCI image-spec, config).

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Map, Value, json};

use crate::{
    DiffId, ImageError, Platform, Result,
    json::same_name,
    manifest::{CONFIG_MAX, ConfigFile, LAYERS_MAX},
};

/// Who made an image, when, and how: an entry of its history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Author {
    /// RFC 3339; empty leaves it out.
    pub created: String,
    /// The command that made it.
    pub created_by: String,
    /// A person.
    pub author: String,
    /// Whatever there is to say.
    pub comment: String,
}

/// What a new image says of itself.
#[derive(Debug, Clone, Default)]
pub struct NewConfig {
    /// How to run it, in the spelling of the image-spec (`Env`, `Cmd`…), whole; `None` leaves what the parent has.
    pub config: Option<Value>,
    /// The newest entry of its history, and its author and time.
    pub entry: Author,
    /// What it is for; `None` is the parent's platform, or this node's.
    pub platform: Option<Platform>,
}

/// The names that are written here; whatever letter case the parent has them in.
const OURS: [&str; 8] = ["created", "author", "config", "rootfs", "history", "os", "architecture", "variant"];

/// The configuration of an image above `parent` (its configuration as it came), whose layers are `diff_ids` in all. `has_layer` says
/// whether the newest entry of the history has one of them.
pub(crate) fn build(
    parent: Option<&[u8]>,
    new: &NewConfig,
    diff_ids: &[DiffId],
    has_layer: bool,
) -> Result<Vec<u8>> {
    let mut fields = match parent {
        None => Map::new(),
        Some(bytes) => fields(bytes)?,
    };
    let platform = new.platform.clone().or_else(|| parent.is_none().then(Platform::host));
    if let Some(platform) = platform {
        let platform = platform.normalized();
        fields.insert("os".into(), platform.os.into());
        fields.insert("architecture".into(), platform.architecture.into());
        fields.remove("variant");
        if let Some(variant) = platform.variant {
            fields.insert("variant".into(), variant.into());
        }
    }
    let Author { created, author, .. } = &new.entry;
    for (name, text) in [("created", created), ("author", author)] {
        fields.remove(name);
        if !text.is_empty() {
            fields.insert(name.into(), text.clone().into());
        }
    }
    if let Some(config) = &new.config {
        fields.insert("config".into(), config.clone());
    }
    if diff_ids.len() > LAYERS_MAX {
        return Err(refused(format!("{} layers; at most {LAYERS_MAX} can be mounted", diff_ids.len())));
    }
    fields.insert("rootfs".into(), json!({ "type": "layers", "diff_ids": diff_ids }));
    let history = fields.entry("history").or_insert_with(|| json!([]));
    match history {
        Value::Array(entries) => entries.push(entry(&new.entry, has_layer)),
        other => *other = json!([entry(&new.entry, has_layer)]),
    }
    let bytes = Value::Object(fields).to_string().into_bytes();
    if bytes.len() as u64 > CONFIG_MAX {
        return Err(refused(format!(
            "its configuration would have {} bytes; at most {CONFIG_MAX} are read",
            bytes.len()
        )));
    }
    // What cannot be read again is told now: a config that somebody gave may hold anything.
    ConfigFile::parse(&bytes).map_err(refused)?;
    Ok(bytes)
}

fn refused(reason: String) -> ImageError {
    ImageError::NewImage { reason }
}

/// The parent's fields, those that are written here under the names that they have here. One that comes twice would be read as both together,
/// which one document cannot say again.
fn fields(bytes: &[u8]) -> Result<Map<String, Value>> {
    let told = |error: serde_json::Error| {
        refused(format!("the parent's configuration cannot be taken over: {error}"))
    };
    let Pairs(pairs) = serde_json::from_slice(bytes).map_err(told)?;
    let mut fields = Map::new();
    for (name, value) in pairs {
        let name = OURS.iter().find(|ours| same_name(&name, ours)).map_or(name, |ours| (*ours).to_owned());
        if fields.insert(name.clone(), value).is_some() {
            let name: String = name.chars().take(100).collect();
            return Err(refused(format!("the parent's configuration has {name:?} twice")));
        }
    }
    // Of the container that the parent was made from, which nothing reads any more.
    fields.retain(|name, _| !["container", "container_config"].iter().any(|old| same_name(name, old)));
    Ok(fields)
}

/// The fields of an object, each as often as it comes.
struct Pairs(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Pairs;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        from.deserialize_map(Fields)
    }
}

fn entry(author: &Author, has_layer: bool) -> Value {
    let mut entry = Map::new();
    for (name, text) in [
        ("created", &author.created),
        ("created_by", &author.created_by),
        ("author", &author.author),
        ("comment", &author.comment),
    ] {
        if !text.is_empty() {
            entry.insert(name.into(), text.clone().into());
        }
    }
    if !has_layer {
        entry.insert("empty_layer".into(), true.into());
    }
    Value::Object(entry)
}

#[cfg(test)]
mod tests {
    use husk_model::Digest;

    use super::*;

    fn diff_id(number: u8) -> DiffId {
        DiffId::new(Digest::from_sha256(&[number; 32]))
    }

    fn built(parent: Option<&str>, new: &NewConfig, layers: &[DiffId], has_layer: bool) -> Value {
        serde_json::from_slice(&build(parent.map(str::as_bytes), new, layers, has_layer).unwrap()).unwrap()
    }

    #[test]
    fn a_child_has_what_its_parent_has_and_one_entry_more() {
        let parent = r#"{"OS":"linux","architecture":"arm","variant":"v7","Config":{"Cmd":["a"],"x":1},"RootFS":{"diff_ids":[]},
            "history":[{"created_by":"first"}],"container_config":{"Cmd":["no"]},"docker_version":"1"}"#;
        let entry =
            Author { created: "2020-01-01T00:00:00Z".into(), comment: "c".into(), ..Author::default() };
        let new = NewConfig { entry, ..NewConfig::default() };
        let child = built(Some(parent), &new, &[diff_id(1), diff_id(2)], true);
        assert_eq!(child["config"], json!({ "Cmd": ["a"], "x": 1 }));
        assert_eq!(child["rootfs"]["diff_ids"], json!([diff_id(1), diff_id(2)]));
        let last = json!({ "created": "2020-01-01T00:00:00Z", "comment": "c" });
        assert_eq!(child["history"], json!([{ "created_by": "first" }, last]));
        assert_eq!((&child["os"], &child["variant"]), (&json!("linux"), &json!("v7")));
        assert!(child.get("container_config").is_none() && child.get("RootFS").is_none());
        let changed = NewConfig { config: Some(json!({ "Cmd": ["b"] })), ..NewConfig::default() };
        let child = built(Some(parent), &changed, &[], false);
        assert_eq!(child["config"], json!({ "Cmd": ["b"] }));
        assert_eq!(child["history"][1], json!({ "empty_layer": true }));
    }

    #[test]
    fn a_parent_that_says_something_twice_is_refused() {
        for parent in
            [r#"{"config":{"User":"1"},"config":{}}"#, r#"{"config":{"User":"1"},"Config":{}}"#, "[]", "{"]
        {
            let error = build(Some(parent.as_bytes()), &NewConfig::default(), &[], true).unwrap_err();
            assert!(error.to_string().contains("parent"), "{error}");
        }
    }

    #[test]
    fn without_a_parent_it_is_for_this_node_unless_told_otherwise() {
        let own = built(None, &NewConfig::default(), &[diff_id(1)], true);
        assert_eq!(own["architecture"], json!(Platform::host().normalized().architecture));
        let arm = Platform { os: "linux".into(), architecture: "aarch64".into(), ..Platform::default() };
        let other = built(None, &NewConfig { platform: Some(arm), ..NewConfig::default() }, &[], true);
        assert_eq!(other["architecture"], json!("arm64"));
    }

    #[test]
    fn what_could_not_be_read_again_is_refused() {
        for (config, layers, word) in [
            (json!({ "Env": "A=b" }), 1, "Env"),
            (json!("sh"), 1, "config"),
            (json!({ "Labels": { "a": "b".repeat(9 << 20) } }), 1, "bytes"),
            (json!({}), 500, "500 layers"),
        ] {
            let new = NewConfig { config: Some(config), ..NewConfig::default() };
            let error = build(None, &new, &vec![diff_id(1); layers], true).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
