//! Files of credentials: docker's config.json, which is containers-auth.json(5) too.

use std::{collections::BTreeMap, fs, io, io::Read as _, os::unix::fs::MetadataExt, path::Path};

use zeroize::Zeroizing;

use crate::{
    json::{self, object},
    registry::credentials::Auth,
};

/// Largest file, in bytes.
const FILE_MAX: u64 = 1 << 20;
/// What docker calls its hub where it stores credentials.
const HUB: &str = "https://index.docker.io/v1/";

#[derive(Default)]
pub(super) struct File {
    auths: BTreeMap<String, Entry>,
    helpers: BTreeMap<String, String>,
    store: String,
}
object!(File { "auths" => auths, "credHelpers" => helpers, "credsStore" => store });

#[derive(Default, Clone)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identity_token: String,
    registry_token: String,
}
object!(Entry {
    "auth" => auth,
    "username" => username,
    "password" => password,
    "identitytoken" => identity_token,
    "registrytoken" => registry_token,
});

/// What a file says of a host.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Auth(Auth),
    /// A program has them, under this name.
    Helper {
        helper: String,
        server: String,
    },
}

impl File {
    /// Reads a file; says, too, whether everybody may. `None` for one that is not there.
    pub(super) fn read(path: &Path) -> Result<Option<(Self, bool)>, String> {
        let mut file = match fs::File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|error| error.to_string())?,
        };
        let is_open = file.metadata().map_err(|error| error.to_string())?.mode() & 0o007 != 0;
        let mut bytes = Zeroizing::new(Vec::new());
        file.by_ref().take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        if bytes.len() as u64 > FILE_MAX {
            return Err(format!("larger than {FILE_MAX} bytes"));
        }
        // Of what the reader says, the place alone: it may show a value.
        let misread = |error: String| {
            let place = error.rsplit_once(" at ").map_or("its end", |(_, place)| place);
            format!("not in the format of docker's config.json, at {place}")
        };
        Ok(Some((json::read(&bytes).map_err(misread)?, is_open)))
    }

    /// Looks up `name`, `host[:port][/path]/repository`: a helper of the host, then the most specific entry, then the helper of
    /// all hosts.
    pub(super) fn find(&self, name: &str) -> Result<Option<Found>, String> {
        let host = name.split('/').next().unwrap_or_default();
        if let Some((key, helper)) = self.helpers.iter().find(|(key, _)| canonical(key) == host) {
            let server = if host == "docker.io" { HUB } else { key.as_str() };
            return Ok(Some(Found::Helper { helper: helper.clone(), server: server.to_owned() }));
        }
        let mut wanted = Some(name);
        while let Some(name) = wanted {
            let fits = |key: &&String| canonical(key) == name;
            // The name itself counts before another spelling of it.
            let entry = self.auths.get(name).filter(|entry| entry.has_secret()).map(|entry| (name, entry));
            let others = || self.auths.keys().filter(fits).map(|key| (key.as_str(), &self.auths[key]));
            if let Some((key, entry)) = entry.or_else(|| others().find(|(_, entry)| entry.has_secret())) {
                return entry.auth(key).map(Found::Auth).map(Some);
            }
            wanted = name.rsplit_once('/').map(|(parent, _)| parent);
        }
        if self.store.is_empty() {
            return Ok(None);
        }
        let server = if host == "docker.io" { HUB } else { host };
        Ok(Some(Found::Helper { helper: self.store.clone(), server: server.to_owned() }))
    }
}

impl Entry {
    /// An entry may be there as a mark alone that a helper has the secret.
    fn has_secret(&self) -> bool {
        [&self.auth, &self.username, &self.identity_token, &self.registry_token]
            .iter()
            .any(|text| !text.is_empty())
    }

    fn auth(&self, key: &str) -> Result<Auth, String> {
        let auth = Auth {
            username: self.username.clone(),
            password: self.password.clone(),
            auth: self.auth.clone(),
            identity_token: self.identity_token.clone(),
            registry_token: self.registry_token.clone(),
            ..Auth::default()
        };
        if !self.auth.is_empty() && auth.basic().is_none() {
            return Err(format!("auths[{key:?}].auth is not base64 of user:password"));
        }
        Ok(auth)
    }
}

/// The name that a key means. docker writes URLs, of which the host counts; containers' tools write names.
fn canonical(key: &str) -> String {
    let (is_url, rest) = match key.split_once("://") {
        Some((_, rest)) => (true, rest),
        None => (false, key),
    };
    let rest = rest.trim_end_matches('/');
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    };
    match path {
        "" | "v1" | "v2" => host.to_owned(),
        _ if is_url => host.to_owned(),
        path => format!("{host}/{path}"),
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    use super::*;

    fn find(text: &str, name: &str) -> Result<Option<Found>, String> {
        json::read::<File>(text.as_bytes()).unwrap().find(name)
    }

    fn user(text: &str, name: &str) -> Option<String> {
        match find(text, name).unwrap() {
            Some(Found::Auth(auth)) => auth.basic().map(|(user, _)| user),
            Some(Found::Helper { helper, server }) => Some(format!("{helper} {server}")),
            None => None,
        }
    }

    #[test]
    fn the_most_specific_key_counts_in_any_spelling() {
        let keys = [
            "q.io/a/b",
            "q.io/a",
            "q.io",
            "https://r.ex:5000/v1/",
            "https://index.docker.io/v1/",
            "z.io/v2/",
        ];
        let auths: Vec<_> = keys
            .iter()
            .map(|key| format!("{key:?}:{{\"auth\":\"{}\"}}", STANDARD.encode(format!("{key}:p"))))
            .collect();
        let text = format!("{{\"auths\":{{{}}},\"more\":1}}", auths.join(","));
        for (name, key) in [
            ("q.io/a/b", Some("q.io/a/b")),
            ("q.io/a/b/c", Some("q.io/a/b")),
            ("q.io/a/bc", Some("q.io/a")),
            ("q.io/x", Some("q.io")),
            ("q.io:5000/x", None),
            ("r.ex:5000/x", Some("https")),
            ("r.ex/x", None),
            ("docker.io/library/busybox", Some("https")),
            ("z.io/x", Some("z.io/v2/")),
            ("evil-q.io/a/b", None),
        ] {
            assert_eq!(user(&text, name).as_deref(), key, "{name}");
        }
    }

    #[test]
    fn helpers_are_for_their_hosts_and_the_store_is_for_what_has_no_secret_here() {
        let text = r#"{"auths":{"a.io":{},"b.io":{"auth":"dTpw"},"c.io":{"auth":"dTpw"}},"credHelpers":{"c.io":"x","docker.io":"y"},"credsStore":"all"}"#;
        for (name, found) in [
            ("a.io/r", "all a.io"),
            ("b.io/r", "u"),
            ("c.io/r", "x c.io"),
            ("docker.io/library/r", "y https://index.docker.io/v1/"),
            ("d.io:5000/r", "all d.io:5000"),
        ] {
            assert_eq!(user(text, name).unwrap(), found, "{name}");
        }
        assert_eq!(find(r#"{"auths":{"a.io":{}}}"#, "a.io/r"), Ok(None));
        let error = find(r#"{"auths":{"a.io":{"auth":"secret%%"}}}"#, "a.io/r").unwrap_err();
        assert!(error.contains("a.io") && !error.contains("secret"), "{error}");
    }
}
