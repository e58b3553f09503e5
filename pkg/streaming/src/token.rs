//! One-use tokens: the path of a URL is all the authorisation that its bearer needs.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use husk_model::PodSandboxId;
use tokio::time::Instant;

use crate::{StreamingError, negotiate::Purpose, places::fits, request::Request};

/// How long a token waits for its use: kubelet and crictl connect at once.
const LIFE: Duration = Duration::from_secs(60);
/// Most tokens that wait, shared out among pods as sessions are.
const MOST: usize = 1000;
/// Random bytes of a token. Guessing one of a thousand among 2^128 needs no rate limit.
const RANDOM: usize = 16;

/// Requests that wait for their client.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Mutex<HashMap<String, Waiting>>);

#[derive(Debug)]
struct Waiting {
    request: Request,
    until: Instant,
}

impl Tokens {
    /// Keeps a request; returns the token that stands for it.
    ///
    /// # Errors
    /// [`StreamingError::TooMany`]; [`StreamingError::Random`] when the kernel has no random bytes.
    pub(crate) fn keep(&self, request: Request) -> Result<String, StreamingError> {
        let mut random = [0; RANDOM];
        getrandom::fill(&mut random).map_err(StreamingError::Random)?;
        let token = BASE64_URL_SAFE_NO_PAD.encode(random);
        let now = Instant::now();
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held(&waiting, &request).is_some() {
            waiting.retain(|_, request| request.until > now);
        }
        if let Some(held) = held(&waiting, &request) {
            return Err(StreamingError::TooMany { held, limit: MOST });
        }
        waiting.insert(token.clone(), Waiting { request, until: now + LIFE });
        Ok(token)
    }

    /// The pod of the request that [`Self::take`] would find.
    pub(crate) fn pod(&self, purpose: Purpose, token: &str) -> Option<PodSandboxId> {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = waiting.get(token)?;
        let good = found.request.purpose() == purpose && found.until > Instant::now();
        good.then(|| found.request.pod().clone())
    }

    /// Takes the request of a token that is unused, young enough and of this purpose.
    pub(crate) fn take(&self, purpose: Purpose, token: &str) -> Option<Request> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.get(token)?.request.purpose() != purpose {
            return None;
        }
        let found = waiting.remove(token)?;
        (found.until > Instant::now()).then_some(found.request)
    }
}

/// How many requests of the same pod wait, when that is its share.
fn held(waiting: &HashMap<String, Waiting>, request: &Request) -> Option<usize> {
    let held = waiting.values().filter(|other| other.request.pod() == request.pod()).count();
    (!fits(held, waiting.len(), MOST)).then_some(held)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        of_pod("a")
    }

    fn of_pod(letter: &str) -> Request {
        Request::PortForward { pod: letter.repeat(64).parse().unwrap(), ports: vec![80] }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_works_once_for_its_purpose() {
        let tokens = Tokens::default();
        let token = tokens.keep(request()).unwrap();
        assert_eq!(token.len(), 22);
        assert_eq!(tokens.take(Purpose::Exec, &token), None);
        assert_eq!(tokens.pod(Purpose::PortForward, &token).as_ref(), Some(request().pod()));
        assert_eq!(tokens.pod(Purpose::Exec, &token), None);
        assert_eq!(tokens.take(Purpose::PortForward, &token), Some(request()));
        assert_eq!(tokens.take(Purpose::PortForward, &token), None);
        assert_eq!(tokens.take(Purpose::PortForward, ""), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_expires() {
        let tokens = Tokens::default();
        let token = tokens.keep(request()).unwrap();
        tokio::time::advance(LIFE).await;
        assert_eq!(tokens.take(Purpose::PortForward, &token), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_tokens_is_bounded_and_expired_ones_make_room() {
        let tokens = Tokens::default();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..MOST / 2 {
            assert!(seen.insert(tokens.keep(request()).unwrap()));
        }
        let refused = tokens.keep(request());
        assert!(matches!(refused, Err(StreamingError::TooMany { held, limit: MOST }) if held == MOST / 2));
        tokens.keep(of_pod("b")).expect("another pod's are not kept out");
        tokio::time::advance(LIFE).await;
        tokens.keep(request()).unwrap();
    }
}
