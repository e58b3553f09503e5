//! Credentials for a registry, and the headers that they became.

use std::{collections::HashMap, fmt, sync::Mutex, sync::PoisonError};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::header::HeaderValue;

/// Credentials for a registry, as CRI's AuthConfig carries them. Empty means none.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Auth {
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
    /// Base 64 of `username:password`; used when there is no user name.
    pub auth: String,
    /// The registry that the credentials are for; empty means the one that is asked.
    pub server_address: String,
    /// An OAuth refresh token.
    pub identity_token: String,
    /// A bearer token to be sent as it is.
    pub registry_token: String,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Secrets do not belong in a log.
        f.debug_struct("Auth")
            .field("username", &self.username)
            .field("server_address", &self.server_address)
            .finish_non_exhaustive()
    }
}

impl Auth {
    /// User and password.
    pub(super) fn basic(&self) -> Option<(String, String)> {
        if !self.username.is_empty() {
            return Some((self.username.clone(), self.password.clone()));
        }
        let decoded = STANDARD.decode(self.auth.trim()).ok().filter(|decoded| !decoded.is_empty())?;
        let text = String::from_utf8(decoded).ok()?;
        let (user, password) = text.split_once(':')?;
        Some((user.to_owned(), password.trim_end_matches('\0').to_owned()))
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self { server_address: self.server_address.clone(), ..Self::default() }
    }

    /// Whether they are meant for this host. Those that name no host, or the registry, are for the registry and not for its
    /// mirrors. Docker Hub has several names.
    pub(super) fn is_for(&self, registry: &str, endpoint: &str, is_mirror: bool) -> bool {
        let address = self.server_address.as_str();
        let address = address.split_once("://").map_or(address, |(_, rest)| rest);
        let address = address.split('/').next().unwrap_or_default();
        let names_registry = address.is_empty()
            || address == registry
            || (registry == "docker.io" && (address == "docker.io" || address.ends_with(".docker.io")));
        address == endpoint || (names_registry && !is_mirror)
    }
}

/// Headers that worked, by the place ([`Endpoint::place`](super::hosts::Endpoint::place)).
#[derive(Debug, Default)]
pub(super) struct Tokens(Mutex<HashMap<String, HeaderValue>>);

impl Tokens {
    pub(super) fn get(&self, place: &str) -> Option<HeaderValue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(place).cloned()
    }

    pub(super) fn set(&self, place: String, header: HeaderValue) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(place, header);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_come_from_the_fields_or_the_encoded_pair() {
        let encoded = Auth { auth: STANDARD.encode("user:pa:ss"), ..Auth::default() };
        assert_eq!(encoded.basic(), Some(("user".into(), "pa:ss".into())));
        let plain = Auth { username: "u".into(), password: "p".into(), ..encoded };
        assert_eq!(plain.basic(), Some(("u".into(), "p".into())));
        assert_eq!(Auth { auth: "%%%".into(), ..Auth::default() }.basic(), None);
        let shown =
            format!("{:?}", Auth { password: "secret".into(), identity_token: "secret".into(), ..plain });
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn credentials_of_one_registry_are_not_for_another() {
        let at = |address: &str| Auth { server_address: address.into(), ..Auth::default() };
        for (address, registry, endpoint, is_mirror, is_for) in [
            ("", "a.example", "a.example", false, true),
            ("", "a.example", "server", false, true),
            ("", "a.example", "mirror", true, false),
            ("a.example", "a.example", "mirror", true, false),
            ("mirror", "a.example", "mirror", true, true),
            ("mirror", "a.example", "a.example", false, false),
            ("https://a.example/v1/", "a.example", "a.example", false, true),
            ("https://index.docker.io/v1/", "docker.io", "registry-1.docker.io", false, true),
            ("https://a.example.evil/", "a.example", "a.example", false, false),
            ("docker.io", "a.example", "a.example", false, false),
        ] {
            assert_eq!(at(address).is_for(registry, endpoint, is_mirror), is_for, "{address} {endpoint}");
        }
    }
}
