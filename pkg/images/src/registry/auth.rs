//! Credentials and how they become an `Authorization` header.

use std::{collections::HashMap, fmt, sync::Mutex, sync::PoisonError};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::{Method, Url, header::HeaderValue};
use serde::Deserialize;

use super::{Session, challenge::Challenge, error::RegistryError, hosts, hosts::Endpoint};

/// Longest answer of a token service, in bytes.
const ANSWER_MAX: u64 = 1 << 20;

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
    fn basic(&self) -> Option<(String, String)> {
        if !self.username.is_empty() {
            return Some((self.username.clone(), self.password.clone()));
        }
        let decoded = STANDARD.decode(self.auth.trim()).ok().filter(|decoded| !decoded.is_empty())?;
        let text = String::from_utf8(decoded).ok()?;
        let (user, password) = text.split_once(':')?;
        Some((user.to_owned(), password.trim_end_matches('\0').to_owned()))
    }

    /// Whether they are meant for this registry. Docker Hub has several names.
    fn is_for(&self, registry: &str, endpoint: &str) -> bool {
        let address = self.server_address.as_str();
        let address = address.split_once("://").map_or(address, |(_, rest)| rest);
        let address = address.split('/').next().unwrap_or_default();
        address.is_empty()
            || address == registry
            || address == endpoint
            || (registry == "docker.io" && (address == "docker.io" || address.ends_with(".docker.io")))
    }
}

/// Headers that worked, by host.
#[derive(Debug, Default)]
pub(super) struct Tokens(Mutex<HashMap<String, HeaderValue>>);

impl Tokens {
    fn get(&self, host: &str) -> Option<HeaderValue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(host).cloned()
    }

    fn set(&self, host: &str, header: HeaderValue) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(host.to_owned(), header);
    }
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
}

impl Session {
    /// The header to send first: one that worked before, or a token the kubelet gave.
    pub(super) fn authorization(&self, endpoint: &Endpoint) -> Option<HeaderValue> {
        self.tokens.get(&endpoint.host).or_else(|| {
            let auth = self.credentials(endpoint)?;
            (!auth.registry_token.is_empty()).then(|| secret(&format!("Bearer {}", auth.registry_token)))?
        })
    }

    /// The credentials, if they may be sent to `endpoint`. They never leave the node unencrypted.
    fn credentials(&self, endpoint: &Endpoint) -> Option<&Auth> {
        let auth = &self.auth;
        (endpoint.is_confidential() && auth.is_for(self.reference.host(), &endpoint.host)).then_some(auth)
    }

    /// Answers a 401.
    pub(super) async fn log_in(
        &self,
        endpoint: &Endpoint,
        challenges: &[Challenge],
    ) -> Result<HeaderValue, RegistryError> {
        let offered = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
        let header = if let Some(challenge) = offered("bearer") {
            let token = self.token(endpoint, challenge).await?;
            secret(&format!("Bearer {token}"))
        } else if offered("basic").is_some() {
            let basic = self.credentials(endpoint).and_then(Auth::basic);
            let (user, password) = basic
                .ok_or_else(|| RegistryError::Unauthorized(": it asks for a user and password".into()))?;
            secret(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
        } else {
            return Err(RegistryError::Unauthorized(": it offers no way to log in that husk knows".into()));
        };
        let header = header
            .ok_or_else(|| RegistryError::Unauthorized(": the credentials are not printable".into()))?;
        self.tokens.set(&endpoint.host, header.clone());
        Ok(header)
    }

    /// Fetches a token (distribution, "Token Authentication Specification").
    async fn token(&self, endpoint: &Endpoint, challenge: &Challenge) -> Result<String, RegistryError> {
        let parameter = |name: &str| challenge.parameters.get(name).map(String::as_str);
        let realm = parameter("realm").unwrap_or_default();
        let fail = |reason: String| RegistryError::Token {
            realm: realm.split('?').next().unwrap_or_default().to_owned(),
            reason,
        };
        let mut url = Url::parse(realm).map_err(|error| fail(error.to_string()))?;
        // A registry that is reached securely may not have its users' passwords sent in the clear.
        if !hosts::is_confidential(&url) && endpoint.is_confidential() && !is_same_host(&url, &endpoint.base)
        {
            return Err(fail("its address is not HTTPS".into()));
        }
        let scope = format!("repository:{}:pull", self.reference.repository());
        let scope = parameter("scope").filter(|scope| !scope.is_empty()).unwrap_or(&scope);
        let credentials = self.credentials(endpoint).filter(|_| hosts::is_confidential(&url));
        let refresh = credentials.map(|auth| auth.identity_token.as_str()).filter(|token| !token.is_empty());
        let mut query = vec![("scope", scope)];
        query.extend(parameter("service").map(|service| ("service", service)));
        let request = match refresh {
            Some(refresh) => {
                query.extend([
                    ("grant_type", "refresh_token"),
                    ("refresh_token", refresh),
                    ("client_id", "husk"),
                ]);
                let mut form = Url::parse("http://form").map_err(|error| fail(error.to_string()))?;
                form.query_pairs_mut().extend_pairs(&query);
                endpoint
                    .client
                    .request(Method::POST, url)
                    .header("content-type", "application/x-www-form-urlencoded")
                    .body(form.query().unwrap_or_default().to_owned())
            }
            None => {
                url.query_pairs_mut().extend_pairs(&query);
                let request = endpoint.client.request(Method::GET, url);
                match credentials.and_then(Auth::basic) {
                    Some((user, password)) => request.basic_auth(user, Some(password)),
                    None => request,
                }
            }
        };
        let sent = request.timeout(self.config.progress_timeout).send().await;
        let mut response = sent.map_err(|error| fail(RegistryError::from_reqwest(&error).to_string()))?;
        let status = response.status();
        let body = super::http::body(&mut response, ANSWER_MAX, self.config.progress_timeout).await?;
        match status.as_u16() {
            200..300 => {}
            401 | 403 => {
                let detail = super::http::detail(&body);
                return Err(RegistryError::Unauthorized(format!(" by its token service{detail}")));
            }
            code => return Err(fail(format!("HTTP status {code}{}", super::http::detail(&body)))),
        }
        let answer: Answer = serde_json::from_slice(&body).map_err(|error| fail(error.to_string()))?;
        let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty());
        token.ok_or_else(|| fail("no token in its answer".into()))
    }
}

fn is_same_host(a: &Url, b: &Url) -> bool {
    a.host_str() == b.host_str()
}

/// A header that is not shown in debug output.
fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
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
        assert!(at("").is_for("a.example", "mirror"));
        assert!(at("https://a.example/v1/").is_for("a.example", "a.example"));
        assert!(at("https://index.docker.io/v1/").is_for("docker.io", "registry-1.docker.io"));
        assert!(!at("https://a.example.evil/").is_for("a.example", "a.example"));
        assert!(!at("docker.io").is_for("a.example", "a.example"));
    }
}
