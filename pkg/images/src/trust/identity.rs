//! Whether a signature that was made for one name counts for the name that is pulled (containers-policy.json(5),
//! `signedIdentity`).

use crate::{Reference, reference::Selector};

/// What the name in a signature has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Identity {
    /// The reference that is pulled.
    MatchExact,
    /// The reference that is pulled; for one by digest, its repository.
    MatchRepoDigestOrExact,
    /// The repository that is pulled from.
    MatchRepository,
    /// This reference.
    ExactReference(String),
    /// This repository.
    ExactRepository(String),
    /// As `MatchRepoDigestOrExact`, with another beginning of the name.
    Remap {
        /// Names that begin with this, up to a slash or their end…
        prefix: String,
        /// …were signed with this in its place.
        signed: String,
    },
}

/// A name as a signature or the policy has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    /// `host/repository`.
    pub(super) repository: String,
    /// The whole, when it has a tag or a digest and not both.
    pub(super) exact: Option<String>,
}

impl Name {
    /// Reads a name; short ones are completed as everywhere.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let reference = Reference::parse(text).ok()?;
        let has_tag = |text: &str, reference: &Reference| match reference.selector() {
            Selector::Tag(tag) => text.ends_with(&format!(":{tag}")),
            Selector::Digest(_) => false,
        };
        let is_exact = match text.split_once('@') {
            Some((name, _)) => !has_tag(name, &Reference::parse(name).ok()?),
            None => has_tag(text, &reference),
        };
        Some(Self { repository: reference.name(), exact: is_exact.then(|| reference.to_string()) })
    }
}

impl Identity {
    /// Whether `signed`, which a signature names, may stand for `pulled`.
    pub(super) fn accepts(&self, pulled: &Reference, signed: &str) -> bool {
        let Some(signed) = Name::parse(signed) else { return false };
        match self {
            Self::MatchExact => signed.exact == Some(pulled.to_string()),
            Self::MatchRepoDigestOrExact => repo_digest_or_exact(pulled, &signed),
            Self::MatchRepository => signed.repository == pulled.name(),
            Self::ExactReference(wanted) => signed.exact.as_ref() == Some(wanted),
            Self::ExactRepository(wanted) => signed.repository == *wanted,
            Self::Remap { prefix, signed: other } => {
                let whole = pulled.to_string();
                let name = pulled.name();
                let rest = name
                    .strip_prefix(prefix.as_str())
                    .filter(|rest| rest.is_empty() || rest.starts_with('/'));
                if rest.is_none() {
                    return repo_digest_or_exact(pulled, &signed);
                }
                let remapped = format!("{other}{}", &whole[prefix.len()..]);
                Reference::parse(&remapped).is_ok_and(|pulled| {
                    pulled.to_string() == remapped && repo_digest_or_exact(&pulled, &signed)
                })
            }
        }
    }
}

/// The digest itself is compared with that of the manifest, so for it the repository is what is left to be said.
fn repo_digest_or_exact(pulled: &Reference, signed: &Name) -> bool {
    match pulled.selector() {
        Selector::Tag(_) => signed.exact == Some(pulled.to_string()),
        Selector::Digest(_) => signed.exact.is_some() && signed.repository == pulled.name(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_count_as_each_rule_says() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let other = format!("sha256:{}", "b".repeat(64));
        let (by_digest, by_other) = (format!("q.io/a/b@{digest}"), format!("q.io/a/b@{other}"));
        let both = format!("q.io/a/b:1@{digest}");
        let exact = Identity::ExactReference("q.io/signed/x:1".into());
        let repository = Identity::ExactRepository("q.io/signed/x".into());
        let remap = Identity::Remap { prefix: "mirror.io/q".into(), signed: "q.io".into() };
        use Identity::{MatchExact, MatchRepoDigestOrExact, MatchRepository};
        for (rule, pulled, signed, is_accepted) in [
            (&MatchExact, "q.io/a/b:1", "q.io/a/b:1", true),
            (&MatchExact, "q.io/a/b:1", "q.io/a/b:2", false),
            (&MatchExact, "q.io/a/b:1", "q.io/a/b", false),
            (&MatchExact, "q.io/a/b:latest", "q.io/a/b", false),
            (&MatchExact, "q.io/a/b:1", &both, false),
            (&MatchExact, &by_digest, &by_digest, true),
            (&MatchExact, &by_digest, &both, false),
            (&MatchExact, &by_digest, "q.io/a/b:1", false),
            (&MatchExact, "busybox:1", "busybox:1", true),
            (&MatchRepoDigestOrExact, "q.io/a/b:1", "q.io/a/b:1", true),
            (&MatchRepoDigestOrExact, "q.io/a/b:1", "q.io/a/b:2", false),
            (&MatchRepoDigestOrExact, "q.io/a/b:1", "q.io/a/c:1", false),
            (&MatchRepoDigestOrExact, "q.io/a/b:1", "q.io/a/b", false),
            (&MatchRepoDigestOrExact, &by_digest, "q.io/a/b:1", true),
            (&MatchRepoDigestOrExact, &by_digest, &by_other, true),
            (&MatchRepoDigestOrExact, &by_digest, "q.io/a/c:1", false),
            (&MatchRepoDigestOrExact, &by_digest, "q.io/a/b", false),
            (&MatchRepository, "q.io/a/b:1", "q.io/a/b:2", true),
            (&MatchRepository, "q.io/a/b:1", "q.io/a/b", true),
            (&MatchRepository, &by_digest, &both, true),
            (&MatchRepository, "q.io/a/b:1", "q.io/a/bc", false),
            (&MatchRepository, "q.io/a/b:1", "q.io:5000/a/b", false),
            (&exact, "q.io/a/b:1", "q.io/signed/x:1", true),
            (&exact, "q.io/a/b:1", "q.io/signed/x:2", false),
            (&exact, "q.io/signed/x:1", "q.io/signed/x", false),
            (&repository, "q.io/a/b:1", "q.io/signed/x:2", true),
            (&repository, "q.io/a/b:1", "q.io/signed/x", true),
            (&repository, "q.io/a/b:1", "q.io/a/b:1", false),
            (&remap, "mirror.io/q/a/b:1", "q.io/a/b:1", true),
            (&remap, "mirror.io/q/a/b:1", "mirror.io/q/a/b:1", false),
            (&remap, "mirror.io/q/a/b:1", "q.io/a/b:2", false),
            (&remap, "mirror.io/qq/a/b:1", "q.io/a/b:1", false),
            (&remap, "mirror.io/qq/a:1", "mirror.io/qq/a:1", true),
            (&remap, "other.io/a/b:1", "other.io/a/b:1", true),
            (&MatchRepository, "q.io/a/b:1", "", false),
            (&MatchRepository, "q.io/a/b:1", "q.io/a/b c", false),
        ] {
            let reference = Reference::parse(pulled).unwrap();
            assert_eq!(rule.accepts(&reference, signed), is_accepted, "{rule:?} {pulled} {signed}");
        }
    }
}
