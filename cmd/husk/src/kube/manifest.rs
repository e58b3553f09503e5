//! A file's documents as pods that can be made, with what their variables and volumes come from.

use std::{collections::BTreeMap, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    names,
    types::{ConfigMap, Deployment, Head, Metadata, Pod, PodSpec, Secret},
    yaml,
};

/// Pods of one file.
const MAX_PODS: usize = 256;

/// What a file has.
#[derive(Debug, Default)]
pub(super) struct Manifest {
    pub(super) pods: Vec<Wanted>,
    pub(super) data: Data,
    /// Whom the pods are of; also those that want none, such as a Deployment of no replicas.
    pub(super) owners: Vec<String>,
    /// What is not read, in words.
    pub(super) warnings: Vec<String>,
}

/// One pod.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) spec: PodSpec,
    /// `Kind/namespace/name` of the document.
    pub(super) owner: String,
}

/// ConfigMaps and Secrets of the file: namespace and name, and what each key has.
#[derive(Debug, Default)]
pub(super) struct Data {
    pub(super) config_maps: BTreeMap<(String, String), Keyed>,
    pub(super) secrets: BTreeMap<(String, String), Keyed>,
}

/// Values by key.
pub(super) type Keyed = BTreeMap<String, Vec<u8>>;

impl Manifest {
    /// Reads a file; `-` is the standard input.
    ///
    /// # Errors
    /// In words that name the document and the field.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let text = yaml::read(path)?;
        Self::parse(&text).map_err(|reason| format!("{}: {reason}", path.display()))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut manifest = Self::default();
        for (index, document) in yaml::documents(text)?.into_iter().enumerate() {
            let place = format!("document {}", index + 1);
            manifest.take(document, &place).map_err(|reason| format!("{place}: {reason}"))?;
        }
        Ok(manifest)
    }

    /// Of a text.
    #[cfg(test)]
    pub(super) fn from_text(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }

    fn take(&mut self, document: Value, place: &str) -> Result<(), String> {
        if document["kind"] == "List" {
            let items = document.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
            return items.into_iter().try_for_each(|item| self.take_one(item, place));
        }
        self.take_one(document, place)
    }

    fn take_one(&mut self, document: Value, place: &str) -> Result<(), String> {
        let head: Head = typed(document.clone(), &mut Vec::new())?;
        let mut ignored = Vec::new();
        match (head.api_version.as_str(), head.kind.as_str()) {
            ("v1", "Pod") => {
                let Pod { metadata, spec, .. } = typed(document, &mut ignored)?;
                let owner = owner("Pod", &metadata)?;
                self.owners.push(owner.clone());
                let namespace = namespace(&metadata);
                let Metadata { name, labels, annotations, .. } = metadata;
                self.add(Wanted { name, namespace, labels, annotations, spec, owner })?;
            }
            ("apps/v1", "Deployment") => {
                let Deployment { metadata, spec, .. } = typed(document, &mut ignored)?;
                let owner = owner("Deployment", &metadata)?;
                self.owners.push(owner.clone());
                let replicas = spec.replicas.unwrap_or(1);
                for number in 0..replicas.min(MAX_PODS as u32 + 1) {
                    self.add(Wanted {
                        name: format!("{}-{number}", metadata.name),
                        namespace: namespace(&metadata),
                        labels: spec.template.metadata.labels.clone(),
                        annotations: spec.template.metadata.annotations.clone(),
                        spec: spec.template.spec.clone(),
                        owner: owner.clone(),
                    })?;
                }
            }
            ("v1", "ConfigMap") => {
                let ConfigMap { metadata, data, binary_data, .. } = typed(document, &mut ignored)?;
                owner("ConfigMap", &metadata)?;
                let mut keyed = decoded("binaryData", binary_data)?;
                keyed.extend(data.into_iter().map(|(key, value)| (key, value.into_bytes())));
                keyed.keys().try_for_each(|key| names::data_key("data", key))?;
                self.data.config_maps.insert((namespace(&metadata), metadata.name), keyed);
            }
            ("v1", "Secret") => {
                let Secret { metadata, data, string_data, .. } = typed(document, &mut ignored)?;
                owner("Secret", &metadata)?;
                let mut keyed = decoded("data", data)?;
                keyed.extend(string_data.into_iter().map(|(key, value)| (key, value.into_bytes())));
                keyed.keys().try_for_each(|key| names::data_key("data", key))?;
                self.data.secrets.insert((namespace(&metadata), metadata.name), keyed);
            }
            ("v1", "Service") => {
                self.warnings.push(format!(
                    "{place}: Service {:?} is left out: publish ports with hostPort instead",
                    head.metadata.name
                ));
            }
            (version, kind) => {
                return Err(format!(
                    "apiVersion {version:?}, kind {kind:?}: what is read is Pod, ConfigMap and Secret of v1, and Deployment of apps/v1"
                ));
            }
        }
        // A server writes these down; they ask for nothing.
        ignored.retain(|field: &String| {
            !["status", "metadata.creationTimestamp", "metadata.uid"].contains(&field.as_str())
        });
        self.warnings.extend(ignored.into_iter().map(|field| format!("{place}: {field} is not read")));
        Ok(())
    }

    fn add(&mut self, wanted: Wanted) -> Result<(), String> {
        names::label("metadata.name", &wanted.name)?;
        if self.pods.len() == MAX_PODS {
            return Err(format!("wants more than {MAX_PODS} pods"));
        }
        let same = |other: &Wanted| (&other.namespace, &other.name) == (&wanted.namespace, &wanted.name);
        if self.pods.iter().any(same) {
            return Err(format!("pod {}/{} is there twice", wanted.namespace, wanted.name));
        }
        self.pods.push(wanted);
        Ok(())
    }
}

fn namespace(metadata: &Metadata) -> String {
    metadata.namespace.clone().unwrap_or_else(|| "default".to_owned())
}

/// `Kind/namespace/name`, with both checked.
fn owner(kind: &str, metadata: &Metadata) -> Result<String, String> {
    names::subdomain("metadata.name", &metadata.name)?;
    let namespace = namespace(metadata);
    names::label("metadata.namespace", &namespace)?;
    Ok(format!("{kind}/{namespace}/{}", metadata.name))
}

fn decoded(field: &str, data: BTreeMap<String, String>) -> Result<Keyed, String> {
    let decode = |(key, text): (String, String)| {
        let compact: String = text.split_ascii_whitespace().collect();
        let value = STANDARD.decode(compact).map_err(|error| format!("{field}.{key}: {error}"))?;
        Ok((key, value))
    };
    data.into_iter().map(decode).collect()
}

/// A document as its type; fields that are not read go into `ignored`.
fn typed<T: DeserializeOwned>(document: Value, ignored: &mut Vec<String>) -> Result<T, String> {
    let document = without_nulls(document);
    let mut note = |path: serde_ignored::Path<'_>| ignored.push(path.to_string());
    let noting = serde_ignored::Deserializer::new(document, &mut note);
    serde_path_to_error::deserialize(noting).map_err(|error| error.to_string())
}

/// `field: null`, or nothing behind its colon, is a field that is not there.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(key, value)| (key, without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_replicas_and_data_come_from_their_documents() {
        let manifest = Manifest::parse(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: web, labels: {a: b}}\nspec:\n  containers: [{name: c, image: i}]\n\
             ---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: app, namespace: prod}\nspec:\n  replicas: 2\n  \
             template: {metadata: {labels: {x: y}}, spec: {containers: [{name: c, image: i}]}}\n\
             ---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {k: aGk=}\nstringData: {t: plain}\n",
        )
        .unwrap();
        let names: Vec<_> =
            manifest.pods.iter().map(|pod| (&*pod.namespace, &*pod.name, &*pod.owner)).collect();
        assert_eq!(
            names,
            [
                ("default", "web", "Pod/default/web"),
                ("prod", "app-0", "Deployment/prod/app"),
                ("prod", "app-1", "Deployment/prod/app"),
            ]
        );
        let secret = &manifest.data.secrets[&("default".to_owned(), "s".to_owned())];
        assert_eq!((&secret["k"][..], &secret["t"][..]), (&b"hi"[..], &b"plain"[..]));
        assert!(manifest.warnings.is_empty(), "{:?}", manifest.warnings);
    }

    #[test]
    fn what_is_not_read_is_named_and_what_is_wrong_names_its_field() {
        let pod =
            |rest: &str| format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec: {{{rest}}}\n");
        let manifest =
            Manifest::parse(&pod("nodeName: n, containers: [{name: c, image: i, livenessProbe: {}}]"))
                .unwrap();
        assert_eq!(
            manifest.warnings,
            [
                "document 1: spec.containers.0.livenessProbe is not read",
                "document 1: spec.nodeName is not read",
            ]
        );
        for (text, part) in [
            (
                pod("containers: [{name: c, image: i, env: [{name: A, value: 1}]}]"),
                "spec.containers[0].env[0].value",
            ),
            (pod("restartPolicy: Perhaps"), "spec.restartPolicy"),
            ("apiVersion: v2\nkind: Pod\n".to_owned(), "Deployment of apps/v1"),
            ("apiVersion: v1\nkind: Pod\nmetadata: {name: \"../x\"}\n".to_owned(), "metadata.name"),
            ("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {k: '*'}\n".to_owned(), "data.k"),
            (
                "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {\"../k\": x}\n".to_owned(),
                "../k",
            ),
            (
                "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {replicas: 4000000000}\n"
                    .to_owned(),
                "more than 256 pods",
            ),
            (format!("{}---\n{}", pod(""), pod("")), "is there twice"),
        ] {
            let error = Manifest::parse(&text).unwrap_err();
            assert!(error.contains(part) && error.contains("document"), "{error}");
        }
    }
}
