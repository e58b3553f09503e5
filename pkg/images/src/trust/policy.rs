//! A policy, and which of its rules hold for a reference.

use std::{collections::BTreeMap, path::PathBuf};

use super::{identity::Identity, key::PublicKey};
use crate::Reference;

/// What has to be true of an image.
#[derive(Debug, Clone)]
pub(super) enum Requirement {
    /// Nothing is.
    Reject,
    /// Anything is.
    InsecureAcceptAnything,
    /// One of these keys signed it, under a name that counts.
    SigstoreSigned { keys: Vec<PublicKey>, identity: Identity },
}

impl Requirement {
    /// Its type as the policy writes it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::InsecureAcceptAnything => "insecureAcceptAnything",
            Self::SigstoreSigned { .. } => "sigstoreSigned",
        }
    }
}

/// What a policy says about pulls from registries.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    pub(super) path: PathBuf,
    /// For what no scope fits.
    pub(super) default: Vec<Requirement>,
    /// Of the transport `docker`, by scope; the empty one is the transport's default.
    pub(super) docker: BTreeMap<String, Vec<Requirement>>,
}

/// The rules that hold for one reference; all of them have to be met.
#[derive(Debug, Clone)]
pub(super) struct Ruling<'a> {
    /// Where they stand in the policy.
    pub(super) scope: String,
    pub(super) requirements: &'a [Requirement],
}

impl Policy {
    /// The most specific rules for `reference` (containers-policy.json(5), "docker:").
    pub(super) fn ruling(&self, reference: &Reference) -> Ruling<'_> {
        for scope in scopes(reference) {
            if let Some(requirements) = self.docker.get(&scope) {
                return Ruling { scope: format!("scope {scope:?} of docker"), requirements };
            }
        }
        match self.docker.get("") {
            Some(requirements) => Ruling { scope: "the default of docker".into(), requirements },
            None => Ruling { scope: "the default".into(), requirements: &self.default },
        }
    }
}

/// What may stand in a policy for `reference`, the most specific first.
fn scopes(reference: &Reference) -> Vec<String> {
    let name = reference.name();
    let mut scopes = vec![reference.to_string(), name.clone()];
    let slashes = name.rmatch_indices('/').map(|(at, _)| name[..at].to_owned());
    scopes.extend(slashes);
    // Wildcards say no port.
    let host = reference.host().split(':').next().unwrap_or_default();
    scopes.extend(host.match_indices('.').map(|(at, _)| format!("*{}", &host[at..])));
    scopes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_scope_counts() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (reference, wanted) in [
            (
                "busybox:1",
                vec![
                    "docker.io/library/busybox:1",
                    "docker.io/library/busybox",
                    "docker.io/library",
                    "docker.io",
                    "*.io",
                ],
            ),
            (
                "r.ex.com:5000/a/b:x",
                vec![
                    "r.ex.com:5000/a/b:x",
                    "r.ex.com:5000/a/b",
                    "r.ex.com:5000/a",
                    "r.ex.com:5000",
                    "*.ex.com",
                    "*.com",
                ],
            ),
            (
                &format!("localhost/a@{digest}"),
                vec![&format!("localhost/a@{digest}"), "localhost/a", "localhost"],
            ),
        ] {
            assert_eq!(scopes(&Reference::parse(reference).unwrap()), wanted, "{reference}");
        }
    }
}
