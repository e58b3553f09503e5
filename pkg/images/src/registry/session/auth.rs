//! How credentials become an `Authorization` header.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use husk_model::Kind;
use reqwest::{Client, Response, Url, header::HeaderValue};

use super::{
    Session,
    http::{self, ATTEMPTS, Failure},
};
use crate::{
    json::{self, object},
    registry::{
        challenge::Challenge,
        credentials::Auth,
        error::RegistryError,
        hosts::{self, Endpoint},
        reach::Reach,
    },
};

/// Longest answer of a token service, in bytes.
const ANSWER_MAX: u64 = 1 << 20;

/// What a token service answers. Both names mean the same; some services leave one empty.
#[derive(Default)]
struct Answer {
    token: String,
    access_token: String,
}
object!(Answer { "token" => token, "access_token" => access_token });

impl Session {
    /// The header to send first: one that worked before, or a token the kubelet gave.
    pub(super) fn authorization(&self, endpoint: &Endpoint) -> Option<HeaderValue> {
        self.tokens.get(&endpoint.place()).or_else(|| {
            let auth = self.keyring.given(endpoint, &self.reference)?;
            (!auth.registry_token.is_empty()).then(|| secret(&format!("Bearer {}", auth.registry_token)))?
        })
    }

    /// Answers a 401; `reach` is that of who gave it.
    pub(super) async fn log_in(
        &self,
        endpoint: &Endpoint,
        challenges: &[Challenge],
        reach: Reach,
    ) -> Result<HeaderValue, RegistryError> {
        let offered = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
        let credentials = self.keyring.of(endpoint, &self.reference).await?;
        let credentials = credentials.as_deref();
        // One that came with the pull was sent with the request already.
        let is_given = self.keyring.given(endpoint, &self.reference).is_some();
        let own_token =
            credentials.map(|auth| &auth.registry_token).filter(|token| !token.is_empty() && !is_given);
        let header = if let Some(token) = own_token {
            secret(&format!("Bearer {token}"))
        } else if let Some(challenge) = offered("bearer") {
            let token = self.token(endpoint, challenge, reach, credentials).await?;
            secret(&format!("Bearer {token}"))
        } else if offered("basic").is_some() {
            let basic = credentials.and_then(Auth::basic);
            let (user, password) = basic
                .ok_or_else(|| RegistryError::Unauthorized(": it asks for a user and password".into()))?;
            secret(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
        } else {
            return Err(RegistryError::Unauthorized(": it offers no way to log in that husk knows".into()));
        };
        let header = header
            .ok_or_else(|| RegistryError::Unauthorized(": the credentials are not printable".into()))?;
        self.tokens.set(endpoint.place(), header.clone());
        Ok(header)
    }

    /// Fetches a token (distribution, "Token Authentication Specification"). A service that is busy is asked again.
    async fn token(
        &self,
        endpoint: &Endpoint,
        challenge: &Challenge,
        reach: Reach,
        credentials: Option<&Auth>,
    ) -> Result<String, RegistryError> {
        let realm = challenge.parameters.get("realm").map(String::as_str).unwrap_or_default();
        let fail = |reason: String, kind: Kind| RegistryError::Token {
            realm: realm.split('?').next().unwrap_or_default().chars().take(200).collect(),
            reason,
            kind,
        };
        let wrong = |reason: String| fail(reason, Kind::FailedPrecondition);
        if realm.is_empty() {
            return Err(wrong("the registry does not say where it is (realm)".into()));
        }
        let url = endpoint.base.join(realm).map_err(|error| wrong(error.to_string()))?;
        // A registry that is reached securely may not have its users' passwords sent in the clear.
        if !http::keeps_secret(endpoint, &url) {
            return Err(wrong("its address is not HTTPS".into()));
        }
        let mut attempt = 1;
        loop {
            let (error, asked) = match self.token_once(endpoint, challenge, &url, reach, credentials).await {
                Ok(token) => return Ok(token),
                Err(failure) => failure,
            };
            let is_last = !error.is_transient() || attempt == ATTEMPTS;
            match error {
                // Whose fault it is shows in these as they are.
                error @ (RegistryError::Unauthorized(_) | RegistryError::Address(_)) => return Err(error),
                error if is_last => return Err(fail(error.to_string(), error.kind())),
                error => tracing::debug!(host = endpoint.host, attempt, %error, "repeating a token request"),
            }
            http::wait(asked, attempt).await;
            attempt += 1;
        }
    }

    async fn token_once(
        &self,
        endpoint: &Endpoint,
        challenge: &Challenge,
        url: &Url,
        reach: Reach,
        credentials: Option<&Auth>,
    ) -> Result<String, Failure> {
        let asked = self.ask_for_token(endpoint, challenge, url, reach, credentials).await;
        let mut response = asked.map_err(|error| (error, None))?;
        match response.status().as_u16() {
            200..300 => {}
            401 | 403 => {
                let (_, _, detail) = self.refusal(response).await;
                return Err((RegistryError::Unauthorized(format!(" by its token service{detail}")), None));
            }
            429 => {
                let (_, asked, detail) = self.refusal(response).await;
                return Err((RegistryError::TooMany(detail), asked));
            }
            _ => {
                let (status, asked, detail) = self.refusal(response).await;
                return Err((RegistryError::Status { status, detail }, asked));
            }
        }
        let body = http::body(&mut response, ANSWER_MAX, self.config.progress_timeout).await;
        let answer = body.and_then(|body| json::read_first(&body).map_err(RegistryError::NoToken));
        let Answer { token, access_token } = answer.map_err(|error| (error, None))?;
        let token = if access_token.is_empty() { token } else { access_token };
        match token.is_empty() {
            true => Err((RegistryError::NoToken("no token in its answer".into()), None)),
            false => Ok(token),
        }
    }

    async fn ask_for_token(
        &self,
        endpoint: &Endpoint,
        challenge: &Challenge,
        url: &Url,
        reach: Reach,
        credentials: Option<&Auth>,
    ) -> Result<Response, RegistryError> {
        let asked =
            challenge.parameters.get("scope").map(|scope| scope.trim()).filter(|scope| !scope.is_empty());
        let scope = self.purpose.scope(asked, &endpoint.repository);
        let service = challenge.parameters.get("service").filter(|service| !service.is_empty());
        let credentials = credentials.filter(|_| hosts::is_confidential(url));
        let refresh = credentials.map(|auth| auth.identity_token.as_str()).filter(|token| !token.is_empty());
        let basic = credentials.and_then(Auth::basic);
        let mut form = url.clone();
        if let Some(service) = service {
            form.query_pairs_mut().append_pair("service", service);
        }
        let answered = if let Some(refresh) = refresh {
            let pairs = [
                ("scope", scope.as_str()),
                ("grant_type", "refresh_token"),
                ("refresh_token", refresh),
                ("client_id", "husk"),
            ];
            form.query_pairs_mut().extend_pairs(pairs);
            let body = form.query().unwrap_or_default().to_owned();
            let build = |client: &Client, url: Url, is_origin: bool| {
                let body = if is_origin { body.clone() } else { String::new() };
                client.post(url).header("content-type", "application/x-www-form-urlencoded").body(body)
            };
            self.follow(endpoint, url.clone(), reach, build).await?
        } else {
            // Several scopes are several parameters.
            form.query_pairs_mut().extend_pairs(scope.split_whitespace().map(|scope| ("scope", scope)));
            let build = |client: &Client, url: Url, is_origin: bool| match &basic {
                Some((user, password)) if is_origin => client.get(url).basic_auth(user, Some(password)),
                _ => client.get(url),
            };
            self.follow(endpoint, form, reach, build).await?
        };
        Ok(answered.response)
    }
}

/// A header that is not shown in debug output.
fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc, time::Duration};

    use super::*;
    use crate::{
        Reference,
        registries::Location,
        registry::{
            config::{Places, RegistryConfig},
            session::Purpose,
        },
    };

    fn session(text: &str, auth: Auth) -> Session {
        let reference = Reference::parse("a.example:5000/b:1").unwrap();
        let location = Location { reference: reference.clone(), insecure: true };
        let endpoints = hosts::from_file(&location, Path::new("/nowhere"), text, &Arc::default()).unwrap();
        let config = RegistryConfig {
            config_dir: "/nowhere".into(),
            registries: None,
            progress_timeout: Duration::from_secs(5),
            credentials: Places::default(),
        };
        Session::of(reference, auth, config, endpoints, Purpose::Pull)
    }

    #[tokio::test]
    async fn what_opened_a_door_over_https_is_not_shown_without_encryption() {
        let auth = Auth { username: "u".into(), password: "p".into(), ..Auth::default() };
        let session = session("", auth);
        let [secure, plain] = session.endpoints.as_slice() else { panic!("HTTPS, then HTTP") };
        assert_eq!((secure.base.scheme(), plain.base.scheme()), ("https", "http"));
        assert_eq!(secure.name(), plain.name());
        let basic = [Challenge { scheme: "basic".into(), parameters: Default::default() }];
        session.log_in(secure, &basic, Reach::Outside).await.unwrap();
        assert!(session.authorization(secure).is_some());
        assert_eq!(session.authorization(plain), None);
        session.log_in(plain, &basic, Reach::Outside).await.unwrap_err();
        // Neither is a token that the pull brought.
        let token = Auth { registry_token: "t".into(), ..Auth::default() };
        let session = self::session("", token);
        let shown: Vec<_> =
            session.endpoints.iter().map(|endpoint| session.authorization(endpoint).is_some()).collect();
        assert_eq!(shown, [true, false]);
    }

    #[test]
    fn headers_for_a_server_are_not_sent_without_encryption_unless_the_file_says_http() {
        for (server, shown) in [
            ("https://a.example:5000", [true, false]),
            ("a.example:5000", [true, false]),
            ("http://a.example:5000", [true, true]),
        ] {
            let text = format!("server = \"{server}\"\n[header]\nauthorization = \"Basic x\"\n");
            let session = session(&text, Auth::default());
            let sent: Vec<_> =
                session.endpoints.iter().map(|endpoint| !endpoint.headers.is_empty()).collect();
            assert_eq!(sent, shown, "{server}");
        }
    }
}
