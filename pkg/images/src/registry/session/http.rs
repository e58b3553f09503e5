//! One request: headers, redirects, login, repeats.

use std::time::{Duration, SystemTime};

use reqwest::{
    Client, Method, RequestBuilder, Response, StatusCode, Url,
    header::{
        ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RANGE, RETRY_AFTER,
        WWW_AUTHENTICATE,
    },
};

use super::Session;
use crate::{
    json::{self, object},
    registry::{
        challenge::{self, Challenge},
        error::RegistryError,
        hosts::{self, Endpoint},
        reach::Reach,
    },
};

/// How often a request is sent to one host.
pub(super) const ATTEMPTS: u32 = 4;
/// First pause; each further one is three times as long.
const PAUSE: Duration = Duration::from_millis(150);
/// Longest pause that a registry can ask for.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Redirects followed.
const REDIRECTS: usize = 8;
/// Bytes of an error answer that are read.
const DETAIL_MAX: u64 = 16 << 10;

/// What to ask for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target<'a> {
    /// Below the repository: `manifests/latest`.
    Path(&'a str),
    /// Where an image says that a foreign layer is.
    Foreign(&'a Url),
}

/// A request for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) target: Target<'a>,
    pub(super) accept: Option<&'a str>,
    /// First byte wanted.
    pub(super) offset: u64,
    /// Only whether it is there is asked.
    pub(super) head: bool,
}

/// An answer, and what whoever gave it may send this node to.
pub(super) struct Answered {
    pub(super) response: Response,
    /// It came from where the request went, not from where that redirected to.
    pub(super) from_origin: bool,
    pub(super) reach: Reach,
}

/// A failure, and how long the host asks to wait before the next attempt.
pub(super) type Failure = (RegistryError, Option<Duration>);

impl Session {
    /// Sends a GET until it succeeds or fails for good.
    pub(super) async fn get(
        &self,
        endpoint: &Endpoint,
        request: Request<'_>,
    ) -> Result<Response, RegistryError> {
        let mut attempt = 1;
        loop {
            let (error, asked) = match self.get_once(endpoint, request).await {
                Ok(response) => return Ok(response),
                Err(failure) => failure,
            };
            let is_settled = endpoint.tentative && matches!(error, RegistryError::Connect(_));
            if !error.is_transient() || attempt == ATTEMPTS || is_settled {
                return Err(error);
            }
            tracing::debug!(host = endpoint.host, attempt, %error, "repeating a registry request");
            wait(asked, attempt).await;
            attempt += 1;
        }
    }

    async fn get_once(&self, endpoint: &Endpoint, request: Request<'_>) -> Result<Response, Failure> {
        let first = match request.target {
            Target::Path(_) => self.authorization(endpoint),
            Target::Foreign(_) => None,
        };
        let answered = self.ask(endpoint, request, first).await?;
        // Whom the registry redirects to is no judge of its users: its challenge would get their credentials.
        let is_challenge = answered.response.status() == StatusCode::UNAUTHORIZED
            && answered.from_origin
            && matches!(request.target, Target::Path(_));
        if !is_challenge {
            return self.accepted(answered.response).await;
        }
        let challenges = challenges(&answered.response);
        let header =
            self.log_in(endpoint, &challenges, answered.reach).await.map_err(|error| (error, None))?;
        let answered = self.ask(endpoint, request, Some(header)).await?;
        self.accepted(answered.response).await
    }

    async fn ask(
        &self,
        endpoint: &Endpoint,
        request: Request<'_>,
        authorization: Option<HeaderValue>,
    ) -> Result<Answered, Failure> {
        let (url, reach) = match request.target {
            Target::Path(path) => (self.url(endpoint, path), Reach::Anywhere),
            Target::Foreign(url) => (Ok(url.clone()), Reach::Strangers),
        };
        let url = url.map_err(|error| (error, None))?;
        let is_ours = matches!(request.target, Target::Path(_));
        let build = |client: &Client, url: Url, is_origin: bool| {
            let method = if request.head { Method::HEAD } else { Method::GET };
            let mut builder = client.request(method, url).header(ACCEPT_ENCODING, "identity");
            if is_origin && is_ours {
                builder = builder.headers(endpoint.headers.clone());
                if let Some(value) = &authorization {
                    builder = builder.header(AUTHORIZATION, value.clone());
                }
            }
            if let Some(accept) = request.accept {
                builder = builder.header(ACCEPT, accept);
            }
            if request.offset > 0 {
                builder = builder.header(RANGE, format!("bytes={}-", request.offset));
            }
            builder
        };
        self.follow(endpoint, url, reach, build).await.map_err(|error| (error, None))
    }

    pub(super) async fn accepted(&self, response: Response) -> Result<Response, Failure> {
        if response.status().is_success() {
            return Ok(response);
        }
        let (status, asked, detail) = self.refusal(response).await;
        let error = match status {
            401 => RegistryError::Unauthorized(detail),
            403 => RegistryError::Denied(detail),
            404 => RegistryError::NotFound,
            429 => RegistryError::TooMany(detail),
            status => RegistryError::Status { status, detail },
        };
        Err((error, asked))
    }

    /// Status, pause and explanation of an answer that is no success.
    pub(super) async fn refusal(&self, mut response: Response) -> (u16, Option<Duration>, String) {
        let asked = retry_after(response.headers(), SystemTime::now());
        let body = body(&mut response, DETAIL_MAX, self.config.progress_timeout).await.unwrap_or_default();
        (response.status().as_u16(), asked, detail(&body))
    }

    /// Sends the request that `build` makes and follows redirects, each within the reach of who gave it. `build` is told
    /// whether the request goes to the origin of `url`: credentials and configured headers stay there, and the storage
    /// behind a registry gets neither (CVE-2020-15157).
    pub(super) async fn follow(
        &self,
        endpoint: &Endpoint,
        mut url: Url,
        mut reach: Reach,
        build: impl Fn(&Client, Url, bool) -> RequestBuilder,
    ) -> Result<Answered, RegistryError> {
        let origin = url.origin();
        for _ in 0..=REDIRECTS {
            let from_origin = url.origin() == origin;
            let builder = build(&endpoint.client(&url, reach)?, url.clone(), from_origin);
            let sent = tokio::time::timeout(self.config.progress_timeout, builder.send()).await;
            let response = sent
                .map_err(|_| RegistryError::Stalled(self.config.progress_timeout))?
                .map_err(|error| RegistryError::from_reqwest(&error))?;
            let peer = response.remote_addr().filter(|_| !endpoint.is_proxied(&url));
            reach = reach.behind(&url, peer);
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(Answered { response, from_origin, reach });
            }
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let location = location.ok_or_else(|| RegistryError::Redirect("without a location".into()))?;
            let next = url.join(location).map_err(|error| RegistryError::Redirect(error.to_string()))?;
            if url.scheme() == "https" && next.scheme() == "http" {
                let host = next.host_str().unwrap_or_default();
                return Err(RegistryError::Redirect(format!("from HTTPS to HTTP at {host}")));
            }
            url = next;
        }
        Err(RegistryError::Redirect(format!("more than {REDIRECTS} in a row")))
    }

    /// The address of `path` below the repository.
    pub(super) fn url(&self, endpoint: &Endpoint, path: &str) -> Result<Url, RegistryError> {
        let base = endpoint.base.as_str().trim_end_matches('/');
        let text = format!("{base}/{}/{path}", endpoint.repository);
        let mut url = Url::parse(&text).map_err(|error| RegistryError::Connect(error.to_string()))?;
        if let Some(namespace) = &endpoint.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        Ok(url)
    }
}

/// What an answer asks for.
pub(super) fn challenges(response: &Response) -> Vec<Challenge> {
    let headers = response.headers().get_all(WWW_AUTHENTICATE);
    headers.iter().flat_map(|value| challenge::parse(&String::from_utf8_lossy(value.as_bytes()))).collect()
}

/// Waits before the next attempt: as long as the host asks, within bounds.
pub(super) async fn wait(asked: Option<Duration>, attempt: u32) {
    tokio::time::sleep(asked.unwrap_or_else(|| pause(attempt)).min(PAUSE_MAX)).await;
}

/// `Retry-After`: seconds or a date (RFC 9110, 10.2.3).
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(value).ok()?.duration_since(now).ok(),
    }
}

/// The pause before the next attempt, with up to a quarter more so that nodes do not come back in step.
pub(super) fn pause(attempt: u32) -> Duration {
    let base = PAUSE * 3u32.saturating_pow(attempt - 1);
    let clock = SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
    base + base / 4 * (clock % 100) / 100
}

/// Reads a whole body of at most `limit` bytes, which takes at most `time`: a document is small, so one that trickles is
/// one that stalls.
pub(super) async fn body(
    response: &mut Response,
    limit: u64,
    time: Duration,
) -> Result<Vec<u8>, RegistryError> {
    let read = async {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| RegistryError::from_reqwest(&error))? {
            if (bytes.len() + chunk.len()) as u64 > limit {
                return Err(RegistryError::TooLarge { limit });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    };
    tokio::time::timeout(time, read).await.unwrap_or(Err(RegistryError::Stalled(time)))
}

#[derive(Default)]
struct Errors {
    errors: Vec<OneError>,
}
object!(Errors { "errors" => errors });

#[derive(Default)]
struct OneError {
    code: String,
    message: String,
}
object!(OneError { "code" => code, "message" => message });

/// What the registry says about its refusal, as `: text`, or nothing.
pub(super) fn detail(body: &[u8]) -> String {
    let Errors { errors } = json::read_first(body).unwrap_or_default();
    let text = errors
        .into_iter()
        .next()
        .map_or_else(String::new, |error| if error.message.is_empty() { error.code } else { error.message });
    let text: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
    if text.is_empty() { text } else { format!(": {text}") }
}

/// Whether a registry that is reached at `from` may have secrets sent to `to`: not in the clear where it is itself secure.
pub(super) fn keeps_secret(from: &Endpoint, to: &Url) -> bool {
    hosts::is_confidential(to) || !from.is_confidential() || to.origin() == from.base.origin()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_seconds_or_dates() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        for (value, pause) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:48:37 GMT", None),
            ("soon", None),
            ("-1", None),
            ("99999999999999999999999999", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]);
            assert_eq!(retry_after(&headers, now), pause.map(Duration::from_secs), "{value}");
        }
    }

    #[test]
    fn explanations_are_found_in_what_registries_write() {
        for (body, text) in [
            (r#"{"errors":[{"code":"DENIED","message":"no\nway","detail":null}]}"#, ": noway"),
            (r#"{"Errors":[{"Code":"DENIED","message":null}]} trailing"#, ": DENIED"),
            (r#"{"errors":null}"#, ""),
            (r#"{"errors":{}}"#, ""),
            ("<html>", ""),
        ] {
            assert_eq!(detail(body.as_bytes()), text, "{body}");
        }
    }
}
