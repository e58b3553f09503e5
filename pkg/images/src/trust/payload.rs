//! What a signature of cosign says: its "simple signing" payload.

use super::strict::Node;

/// What the type of a payload has to be.
const TYPE: &str = "cosign container image signature";

/// A payload that a key has verified.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Payload {
    /// Digest of the manifest that was signed.
    pub(crate) digest: String,
    /// The name under which it was signed: `docker-reference`.
    pub(crate) reference: String,
}

impl Payload {
    /// Reads what `critical` says; nothing may be missing in it and nothing more be there. `optional` may say anything.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, String> {
        let node = Node::read(bytes).map_err(|error| format!("its payload is not JSON: {error}"))?;
        let [critical, _optional] = members("payload", node, ["critical", "optional"])?;
        let [kind, image, identity] = members("critical", critical, ["type", "image", "identity"])?;
        let kind = text("critical.type", kind)?;
        if kind != TYPE {
            return Err(format!("its payload is a {:?}, not a {TYPE:?}", shown(&kind)));
        }
        let [digest] = members("critical.image", image, ["docker-manifest-digest"])?;
        let [reference] = members("critical.identity", identity, ["docker-reference"])?;
        Ok(Self {
            digest: text("critical.image.docker-manifest-digest", digest)?,
            reference: text("critical.identity.docker-reference", reference)?,
        })
    }
}

/// The members of an object that has just these.
fn members<const N: usize>(of: &str, node: Node, names: [&str; N]) -> Result<[Node; N], String> {
    let Node::Object(mut members) = node else {
        return Err(format!("its {of} is {} and no object", node.kind()));
    };
    let mut take = |name: &str| {
        let at = members.iter().position(|(other, _)| other == name)?;
        Some(members.swap_remove(at).1)
    };
    let found = names.map(|name| take(name).ok_or(name));
    if let Some(Err(name)) = found.iter().find(|found| found.is_err()) {
        return Err(format!("its {of} has no {name}"));
    }
    if let Some((name, _)) = members.first() {
        return Err(format!("its {of} has {:?}, which is not known", shown(name)));
    }
    Ok(found.map(|node| node.unwrap_or(Node::Other("null"))))
}

fn text(of: &str, node: Node) -> Result<String, String> {
    match node {
        Node::Text(text) => Ok(text),
        other => Err(format!("its {of} is {} and no text", other.kind())),
    }
}

/// A stranger's text for a message.
pub(super) fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(critical: &str) -> String {
        format!(r#"{{"critical":{critical},"optional":null}}"#)
    }

    #[test]
    fn only_what_says_all_and_nothing_more_is_read() {
        let good = r#"{"identity":{"docker-reference":"a.b/c"},"image":{"docker-manifest-digest":"sha256:1"},"type":"cosign container image signature"}"#;
        let read = Payload::read(payload(good).as_bytes()).unwrap();
        assert_eq!((read.digest.as_str(), read.reference.as_str()), ("sha256:1", "a.b/c"));
        for (bad, word) in [
            (good.replace("cosign container", "atomic container"), "atomic"),
            (good.replace(r#""type":"#, r#""kind":"#), "type"),
            (good.replace(r#""type":"#, r#""more":1,"type":"#), "more"),
            (good.replace(r#""docker-reference":"a.b/c""#, ""), "docker-reference"),
            (good.replace(r#""a.b/c""#, "7"), "a number"),
            (good.replace(r#""type":"#, r#""type":"x","type":"#), "twice"),
            ("[]".to_owned(), "a list"),
        ] {
            let error = Payload::read(payload(&bad).as_bytes()).unwrap_err();
            assert!(error.contains(word), "{bad}: {error}");
        }
        assert!(Payload::read(b"\x00").is_err());
        assert!(Payload::read(format!(r#"{{"critical":{good}}}"#).as_bytes()).is_err());
    }
}
