//! One request: headers, redirects, login, repeats.

use std::time::Duration;

use reqwest::{
    Response, StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, HeaderValue, LOCATION, RANGE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde::Deserialize;

use super::{Session, challenge, error::RegistryError, hosts, hosts::Endpoint};

/// How often a request is sent to one host.
const ATTEMPTS: u32 = 4;
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
pub(super) struct Request<'a> {
    /// Below the repository: `manifests/latest`.
    pub(super) path: &'a str,
    pub(super) accept: Option<&'a str>,
    /// First byte wanted.
    pub(super) offset: u64,
}

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
            if !error.is_transient() || attempt == ATTEMPTS {
                return Err(error);
            }
            tracing::debug!(host = endpoint.host, path = request.path, attempt, %error, "repeating a registry request");
            tokio::time::sleep(asked.unwrap_or_else(|| pause(attempt)).min(PAUSE_MAX)).await;
            attempt += 1;
        }
    }

    /// The second part of the error is how long the registry asks to wait.
    async fn get_once(
        &self,
        endpoint: &Endpoint,
        request: Request<'_>,
    ) -> Result<Response, (RegistryError, Option<Duration>)> {
        let first = self.authorization(endpoint);
        let response = self.follow(endpoint, request, first).await.map_err(|error| (error, None))?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return self.accepted(response).await;
        }
        let headers = response.headers().get_all(WWW_AUTHENTICATE);
        let challenges: Vec<_> =
            headers.iter().filter_map(|value| value.to_str().ok()).flat_map(challenge::parse).collect();
        let header = self.log_in(endpoint, &challenges).await.map_err(|error| (error, None))?;
        let response = self.follow(endpoint, request, Some(header)).await.map_err(|error| (error, None))?;
        self.accepted(response).await
    }

    async fn accepted(&self, mut response: Response) -> Result<Response, (RegistryError, Option<Duration>)> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = body(&mut response, DETAIL_MAX, self.config.progress_timeout).await.unwrap_or_default();
        let detail = detail(&body);
        let error = match status.as_u16() {
            401 => RegistryError::Unauthorized(detail),
            403 => RegistryError::Denied(detail),
            404 => RegistryError::NotFound,
            429 => RegistryError::TooMany(detail),
            status => RegistryError::Status { status, detail },
        };
        Err((error, asked.map(Duration::from_secs)))
    }

    /// Sends the request and follows redirects. Credentials and configured headers stay with the host they are for: the
    /// storage behind a registry gets neither (CVE-2020-15157).
    async fn follow(
        &self,
        endpoint: &Endpoint,
        request: Request<'_>,
        authorization: Option<HeaderValue>,
    ) -> Result<Response, RegistryError> {
        let mut url = self.url(endpoint, request.path)?;
        let origin = url.origin();
        for _ in 0..=REDIRECTS {
            let mut builder = endpoint.client.get(url.clone());
            if url.origin() == origin {
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
            let sent = tokio::time::timeout(self.config.progress_timeout, builder.send()).await;
            let response = sent
                .map_err(|_| RegistryError::Stalled(self.config.progress_timeout))?
                .map_err(|error| RegistryError::from_reqwest(&error))?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let location = location.ok_or_else(|| RegistryError::Redirect("without a location".into()))?;
            let next = url.join(location).map_err(|error| RegistryError::Redirect(error.to_string()))?;
            if hosts::is_confidential(&url) && !hosts::is_confidential(&next) {
                return Err(RegistryError::Redirect(format!(
                    "from HTTPS to HTTP at {}",
                    next.host_str().unwrap_or_default()
                )));
            }
            url = next;
        }
        Err(RegistryError::Redirect(format!("more than {REDIRECTS} in a row")))
    }

    fn url(&self, endpoint: &Endpoint, path: &str) -> Result<Url, RegistryError> {
        let base = endpoint.base.as_str().trim_end_matches('/');
        let text = format!("{base}/{}/{path}", self.reference.repository());
        let mut url = Url::parse(&text).map_err(|error| RegistryError::Connect(error.to_string()))?;
        if let Some(namespace) = &endpoint.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        Ok(url)
    }
}

/// The pause before the next attempt, with up to a quarter more so that nodes do not come back in step.
pub(super) fn pause(attempt: u32) -> Duration {
    let base = PAUSE * 3u32.saturating_pow(attempt - 1);
    let clock = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |now| now.subsec_nanos());
    base + base / 4 * (clock % 100) / 100
}

/// Reads a whole body of at most `limit` bytes.
pub(super) async fn body(
    response: &mut Response,
    limit: u64,
    stall: Duration,
) -> Result<Vec<u8>, RegistryError> {
    let mut bytes = Vec::new();
    loop {
        let chunk =
            tokio::time::timeout(stall, response.chunk()).await.map_err(|_| RegistryError::Stalled(stall))?;
        let Some(chunk) = chunk.map_err(|error| RegistryError::from_reqwest(&error))? else {
            return Ok(bytes);
        };
        if (bytes.len() + chunk.len()) as u64 > limit {
            return Err(RegistryError::TooLarge { limit });
        }
        bytes.extend_from_slice(&chunk);
    }
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<OneError>,
}

#[derive(Deserialize)]
struct OneError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// What the registry says about its refusal, as `: text`, or nothing.
pub(super) fn detail(body: &[u8]) -> String {
    let text = match serde_json::from_slice::<Errors>(body) {
        Ok(Errors { errors }) => match errors.first() {
            Some(error) if !error.message.is_empty() => error.message.clone(),
            Some(error) => error.code.clone(),
            None => String::new(),
        },
        Err(_) => String::new(),
    };
    let text: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
    if text.is_empty() { text } else { format!(": {text}") }
}
