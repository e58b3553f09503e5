//! The policy's file, read strictly: what is not known, comes twice or is missing is an error that names its place.

use std::{collections::BTreeMap, io, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    identity::{Identity, Name},
    key::PublicKey,
    policy::{Policy, Requirement},
    strict::Node,
};
use crate::Reference;

/// Requirements that containers' tools know besides, and why husk does not check them.
const SIGNED_BY: &str = "signedBy (simple signing with GPG keys) is not checked by husk; sign with sigstore keys and write \
                         sigstoreSigned, or reject";
const BASE_LAYER: &str = "signedBaseLayer is checked by nobody";
/// Parts of sigstoreSigned that husk does not check.
const KEYS_ALONE: &str =
    "is not checked by husk, which verifies with keys alone (keyPath, keyPaths, keyData, keyDatas)";

/// How a file is read.
type Files<'a> = &'a dyn Fn(&Path) -> io::Result<Vec<u8>>;

/// Reads a policy; keys come through `files`.
pub(crate) fn policy(path: &Path, bytes: &[u8], files: Files<'_>) -> Result<Policy, String> {
    let mut top = Object::new("", Node::read(bytes)?)?;
    let default = requirements("default", top.need("default")?, files)?;
    let mut docker = BTreeMap::new();
    if let Some(transports) = top.take("transports") {
        for (name, scopes) in Object::new("transports", transports)?.members {
            let place = format!("transports.{name}");
            for (scope, list) in Object::new(&place, scopes)?.members {
                let place = format!("{place}[{scope:?}]");
                if name == "docker" {
                    check_scope(&place, &scope)?;
                    docker.insert(scope, requirements(&place, list, files)?);
                } else {
                    // No image comes that way; but a type that is misspelled is one here too.
                    list_of(&place, list)?
                        .into_iter()
                        .try_for_each(|(place, node)| kind(&place, node).map(drop))?;
                }
            }
        }
    }
    top.end()?;
    Ok(Policy { path: path.to_owned(), default, docker })
}

fn check_scope(place: &str, scope: &str) -> Result<(), String> {
    let is_wild = scope.contains('*') && (!scope.starts_with("*.") || scope[1..].contains(['*', '/', ':']));
    match scope {
        _ if is_wild => {
            Err(format!("{place}: a star stands for the beginning of a host alone: \"*.example.com\""))
        }
        _ if scope.contains("://") => Err(format!("{place}: a scope is a name and no URL")),
        _ => Ok(()),
    }
}

fn requirements(place: &str, node: Node, files: Files<'_>) -> Result<Vec<Requirement>, String> {
    list_of(place, node)?.into_iter().map(|(place, node)| requirement(&place, node, files)).collect()
}

/// The elements with their places.
fn list_of(place: &str, node: Node) -> Result<Vec<(String, Node)>, String> {
    match node {
        Node::List(list) if list.is_empty() => Err(format!("{place}: the list of requirements is empty")),
        Node::List(list) => {
            Ok(list.into_iter().enumerate().map(|(at, node)| (format!("{place}[{at}]"), node)).collect())
        }
        other => Err(format!("{place}: {} where a list of requirements is wanted", other.kind())),
    }
}

/// The type of a requirement, and the rest of it.
fn kind(place: &str, node: Node) -> Result<(String, Object), String> {
    let mut object = Object::new(place, node)?;
    let kind = object.text("type")?.ok_or_else(|| format!("{place}: no type"))?;
    match kind.as_str() {
        "reject" | "insecureAcceptAnything" | "sigstoreSigned" | "signedBy" | "signedBaseLayer" => {
            Ok((kind, object))
        }
        other => Err(format!("{place}.type: {other:?} is no requirement that is known")),
    }
}

fn requirement(place: &str, node: Node, files: Files<'_>) -> Result<Requirement, String> {
    let (kind, object) = kind(place, node)?;
    match kind.as_str() {
        "reject" => object.end().map(|()| Requirement::Reject),
        "insecureAcceptAnything" => object.end().map(|()| Requirement::InsecureAcceptAnything),
        "sigstoreSigned" => sigstore(place, object, files),
        "signedBy" => Err(format!("{place}.type: {SIGNED_BY}")),
        _ => Err(format!("{place}.type: {BASE_LAYER}")),
    }
}

fn sigstore(place: &str, mut object: Object, files: Files<'_>) -> Result<Requirement, String> {
    for name in [
        "fulcio",
        "pki",
        "rekorPublicKeyPath",
        "rekorPublicKeyPaths",
        "rekorPublicKeyData",
        "rekorPublicKeyDatas",
    ] {
        if object.take(name).is_some() {
            return Err(format!("{place}.{name}: {KEYS_ALONE}"));
        }
    }
    let sources = [object.texts("keyPath", false)?, object.texts("keyPaths", true)?];
    let datas = [object.texts("keyData", false)?, object.texts("keyDatas", true)?];
    let given = sources.iter().chain(&datas).filter(|source| source.is_some()).count();
    if given != 1 {
        return Err(format!(
            "{place}: exactly one of keyPath, keyPaths, keyData and keyDatas has to be there"
        ));
    }
    let mut keys = Vec::new();
    for (place, path) in sources.into_iter().flatten().flatten() {
        if !path.starts_with('/') {
            return Err(format!("{place}: {path:?} is not an absolute path"));
        }
        let pem = files(Path::new(&path)).map_err(|error| format!("{place}: {path}: {error}"))?;
        keys.push(PublicKey::from_pem(&pem).map_err(|error| format!("{place}: {path}: {error}"))?);
    }
    for (place, data) in datas.into_iter().flatten().flatten() {
        let pem = STANDARD.decode(&data).map_err(|_| format!("{place}: not base64 of a PEM file"))?;
        keys.push(PublicKey::from_pem(&pem).map_err(|error| format!("{place}: {error}"))?);
    }
    let identity = match object.take("signedIdentity") {
        Some(node) => identity(&format!("{place}.signedIdentity"), node)?,
        None => Identity::MatchRepoDigestOrExact,
    };
    object.end()?;
    Ok(Requirement::SigstoreSigned { keys, identity })
}

fn identity(place: &str, node: Node) -> Result<Identity, String> {
    let mut object = Object::new(place, node)?;
    let kind = object.text("type")?.ok_or_else(|| format!("{place}: no type"))?;
    let mut need = |name: &str| object.text(name)?.ok_or_else(|| format!("{place}: no {name}"));
    let name = |field: &str, text: &str| {
        Name::parse(text).ok_or_else(|| format!("{place}.{field}: {text:?} is no name of an image"))
    };
    let identity = match kind.as_str() {
        "matchExact" => Identity::MatchExact,
        "matchRepoDigestOrExact" => Identity::MatchRepoDigestOrExact,
        "matchRepository" => Identity::MatchRepository,
        "exactReference" => {
            let text = need("dockerReference")?;
            let exact = name("dockerReference", &text)?.exact;
            Identity::ExactReference(
                exact.ok_or_else(|| format!("{place}.dockerReference: {text:?} has no tag and no digest"))?,
            )
        }
        "exactRepository" => {
            let text = need("dockerRepository")?;
            Identity::ExactRepository(name("dockerRepository", &text)?.repository)
        }
        "remapIdentity" => {
            let (prefix, signed) = (need("prefix")?, need("signedPrefix")?);
            for (field, text) in [("prefix", &prefix), ("signedPrefix", &signed)] {
                // As the beginning of a name: it is one with something behind it, and is written as it is meant.
                let whole = format!("{text}/x/y:z");
                if Reference::parse(&whole).is_ok_and(|reference| reference.to_string() == whole) {
                    continue;
                }
                return Err(format!("{place}.{field}: {text:?} is no host, namespace or repository"));
            }
            Identity::Remap { prefix, signed }
        }
        other => return Err(format!("{place}.type: {other:?} is no kind of identity that is known")),
    };
    object.end()?;
    Ok(identity)
}

/// An object of which every member has to be asked for.
struct Object {
    place: String,
    members: Vec<(String, Node)>,
}

impl Object {
    fn new(place: &str, node: Node) -> Result<Self, String> {
        match node {
            Node::Object(members) => Ok(Self { place: place.to_owned(), members }),
            other if place.is_empty() => Err(format!("{} where an object is wanted", other.kind())),
            other => Err(format!("{place}: {} where an object is wanted", other.kind())),
        }
    }

    fn at(&self, name: &str) -> String {
        if self.place.is_empty() { name.to_owned() } else { format!("{}.{name}", self.place) }
    }

    fn take(&mut self, name: &str) -> Option<Node> {
        let at = self.members.iter().position(|(other, _)| other == name)?;
        Some(self.members.remove(at).1)
    }

    fn need(&mut self, name: &str) -> Result<Node, String> {
        self.take(name).ok_or_else(|| format!("{}: is missing", self.at(name)))
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, String> {
        match self.take(name) {
            None => Ok(None),
            Some(Node::Text(text)) => Ok(Some(text)),
            Some(other) => Err(format!("{}: {} where a text is wanted", self.at(name), other.kind())),
        }
    }

    /// One text, or a list of them, each with its place.
    fn texts(&mut self, name: &str, is_list: bool) -> Result<Option<Vec<(String, String)>>, String> {
        let place = self.at(name);
        if !is_list {
            return Ok(self.text(name)?.map(|text| vec![(place, text)]));
        }
        let list = match self.take(name) {
            None => return Ok(None),
            Some(Node::List(list)) if !list.is_empty() => list,
            Some(Node::List(_)) => return Err(format!("{place}: is empty")),
            Some(other) => return Err(format!("{place}: {} where a list is wanted", other.kind())),
        };
        let texts = list.into_iter().enumerate().map(|(at, node)| match node {
            Node::Text(text) => Ok((format!("{place}[{at}]"), text)),
            other => Err(format!("{place}[{at}]: {} where a text is wanted", other.kind())),
        });
        texts.collect::<Result<_, String>>().map(Some)
    }

    /// Nothing may be left.
    fn end(&self) -> Result<(), String> {
        match self.members.first() {
            Some((name, _)) => Err(format!("{}: is not known", self.at(name))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::key::tests::Signer, *};

    fn read(text: &str) -> Result<Policy, String> {
        let key = Signer::new().pem();
        policy(Path::new("/p"), text.as_bytes(), &|path| match path.to_str() {
            Some("/key.pub") => Ok(key.clone().into_bytes()),
            _ => Err(io::Error::from(io::ErrorKind::NotFound)),
        })
    }

    fn with(requirement: &str) -> String {
        format!(r#"{{"default":[{{"type":"reject"}}],"transports":{{"docker":{{"q.io":[{requirement}]}}}}}}"#)
    }

    #[test]
    fn every_rule_that_is_known_is_read() {
        let data = STANDARD.encode(Signer::new().pem());
        for requirement in [
            r#"{"type":"reject"}"#.to_owned(),
            r#"{"type":"insecureAcceptAnything"}"#.to_owned(),
            r#"{"type":"sigstoreSigned","keyPath":"/key.pub"}"#.to_owned(),
            r#"{"type":"sigstoreSigned","keyPaths":["/key.pub","/key.pub"]}"#.to_owned(),
            format!(r#"{{"type":"sigstoreSigned","keyData":"{data}"}}"#),
            format!(r#"{{"type":"sigstoreSigned","keyDatas":["{data}"]}}"#),
        ] {
            let read = read(&with(&requirement)).unwrap();
            assert_eq!(read.docker["q.io"].len(), 1, "{requirement}");
        }
        for identity in [
            r#"{"type":"matchExact"}"#,
            r#"{"type":"matchRepoDigestOrExact"}"#,
            r#"{"type":"matchRepository"}"#,
            r#"{"type":"exactReference","dockerReference":"q.io/a:1"}"#,
            r#"{"type":"exactRepository","dockerRepository":"q.io/a"}"#,
            r#"{"type":"remapIdentity","prefix":"mirror.io:5000/q","signedPrefix":"q.io"}"#,
        ] {
            let text =
                format!(r#"{{"type":"sigstoreSigned","keyPath":"/key.pub","signedIdentity":{identity}}}"#);
            read(&with(&text)).unwrap();
        }
        // As distributions install it; other transports may ask for what husk does not check.
        read(r#"{"default":[{"type":"insecureAcceptAnything"}],"transports":{"docker-daemon":{"":[{"type":"insecureAcceptAnything"}]},
                 "atomic":{"x":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/k"}]}}}"#)
        .unwrap();
    }

    #[test]
    fn what_is_not_understood_is_an_error_that_names_its_place() {
        let signed = |more: &str| with(&format!(r#"{{"type":"sigstoreSigned",{more}}}"#));
        let identity =
            |identity: &str| signed(&format!(r#""keyPath":"/key.pub","signedIdentity":{identity}"#));
        let scope = r#"transports.docker["q.io"][0]"#;
        for (text, word) in [
            ("", "EOF"),
            ("[]", "an object is wanted"),
            ("{}", "default: is missing"),
            (r#"{"default":[]}"#, "empty"),
            (r#"{"default":{}}"#, "a list of requirements"),
            (r#"{"default":[{"type":"reject"}],"defualt":[]}"#, "defualt: is not known"),
            (r#"{"default":[{"type":"reject"}],"default":[{"type":"insecureAcceptAnything"}]}"#, "twice"),
            (
                r#"{"default":[{"type":"reject"}],"transports":{"docker":{"a":[{"type":"reject"}],"a":[{"type":"reject"}]}}}"#,
                "twice",
            ),
            (
                r#"{"default":[{"type":"reject"}],"transports":{"docker":{"x*.io":[{"type":"reject"}]}}}"#,
                "a star",
            ),
            (
                r#"{"default":[{"type":"reject"}],"transports":{"docker":{"https://x":[{"type":"reject"}]}}}"#,
                "no URL",
            ),
            (r#"{"default":[{"type":"reject"}],"transports":{"oci":{"x":[{"type":"rejekt"}]}}}"#, "rejekt"),
            (&with(r#"{"type":"accept"}"#), "\"accept\" is no requirement"),
            (&with(r#"{"type":1}"#), "a number where a text"),
            (&with("{}"), &format!("{scope}: no type")),
            (&with(r#"{"type":"reject","more":1}"#), &format!("{scope}.more: is not known")),
            (&with(r#"{"type":"signedBy","keyType":"GPGKeys","keyPath":"/k"}"#), "GPG"),
            (&with(r#"{"type":"signedBaseLayer"}"#), "nobody"),
            (&signed(r#""keyPath":"/key.pub","keyData":"""#), "exactly one"),
            (&signed(r#""signedIdentity":{"type":"matchExact"}"#), "exactly one"),
            (&signed(r#""keyPath":"/none.pub""#), "/none.pub"),
            (&signed(r#""keyPath":"key.pub""#), "absolute"),
            (&signed(r#""keyPaths":[]"#), "keyPaths: is empty"),
            (&signed(r#""keyPaths":["/key.pub",1]"#), "keyPaths[1]"),
            (&signed(r#""keyData":"%%%""#), "base64"),
            (&signed(r#""keyData":"AAAA""#), "PUBLIC KEY"),
            (&signed(r#""keyPath":"/key.pub","rekorPublicKeyPath":"/key.pub""#), "keys alone"),
            (&signed(r#""fulcio":{"caPath":"/x"},"rekorPublicKeyPath":"/y""#), "fulcio"),
            (&signed(r#""pki":{}"#), "pki"),
            (&identity(r#"{"type":"matchAny"}"#), "signedIdentity.type"),
            (&identity(r#"{"type":"matchExact","x":1}"#), "x: is not known"),
            (&identity(r#"{"type":"exactReference","dockerReference":"q.io/a"}"#), "no tag"),
            (&identity(r#"{"type":"exactRepository"}"#), "dockerRepository"),
            (&identity(r#"{"type":"remapIdentity","prefix":"q.io/","signedPrefix":"x.io"}"#), "prefix"),
            (&identity(r#"{"type":"remapIdentity","prefix":"q.io/a:1","signedPrefix":"x.io"}"#), "prefix"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
