//! A request: what it asks for, its body, and how it leaves HTTP.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use hyper::{
    HeaderMap, Method,
    body::{Body as _, Incoming},
    header::{CONNECTION, CONTENT_TYPE, HeaderName, UPGRADE},
};
use serde::de::DeserializeOwned;

use super::{
    answer::Answer,
    hijack::{Hijacked, SessionSlot, head, upgraded},
    query::Query,
    version::Version,
};
use crate::{
    api::from_slice,
    error::{Failure, Result},
};

/// Largest JSON of a request. A container's configuration has some KiB; labels and environments can be long.
const MAX_JSON: usize = 4 << 20;

/// A request.
#[derive(Debug)]
pub(crate) struct Call {
    /// GET, POST…
    pub(crate) method: Method,
    /// The version of the API that the client speaks.
    pub(crate) version: Version,
    /// The decoded query.
    pub(crate) query: Query,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// The body.
    pub(crate) content: Content,
    /// Where [`Call::hijack`] leaves its session.
    pub(crate) session: SessionSlot,
}

impl Call {
    /// The body as JSON.
    ///
    /// # Errors
    /// 400 when there is none or it is not what is expected, with the place; 413 when it is too large.
    pub(crate) async fn json<T: DeserializeOwned>(&mut self) -> Result<T> {
        self.json_if_any().await?.ok_or_else(|| Failure::bad("the request has no body; JSON is expected"))
    }

    /// As [`Self::json`]; `None` when there is no body, or null, which Docker's clients before 23 send for nothing.
    ///
    /// # Errors
    /// As [`Self::json`].
    pub(crate) async fn json_if_any<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        let bytes = self.content.whole(MAX_JSON).await?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        if let Some(kind) = self.header(&CONTENT_TYPE)
            && kind.split(';').next().is_none_or(|kind| !kind.trim().eq_ignore_ascii_case("application/json"))
        {
            let kind: String = kind.chars().take(80).collect();
            return Err(Failure::bad(format!(
                "unsupported Content-Type header ({kind}): must be 'application/json'"
            )));
        }
        from_slice::<Option<T>>(&bytes).map_err(|error| Failure::bad(format!("invalid JSON: {error}")))
    }

    /// A header's text; `None` when it is absent or not ASCII.
    pub(crate) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Whether the client asks for the connection itself. One that does not and still gets it is an old one, which reads 200.
    pub(crate) fn wants_upgrade(&self) -> bool {
        let has = |name: &HeaderName, wanted: &str| {
            let values = self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
            values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(wanted))
        };
        has(&CONNECTION, "upgrade") && has(&UPGRADE, "tcp")
    }

    /// Sees that the client asks for HTTP/2 on this connection.
    ///
    /// # Errors
    /// 400 when it does not.
    pub(crate) fn check_h2c(&self) -> Result<()> {
        let wanted = self.header(&UPGRADE).is_some_and(|protocol| protocol.eq_ignore_ascii_case("h2c"));
        if wanted { Ok(()) } else { Err(Failure::bad("this endpoint needs Upgrade: h2c")) }
    }

    /// As [`Self::hijack`], for a client that goes on with HTTP/2.
    pub(crate) fn hijack_h2c<F: Future<Output = ()> + Send + 'static>(
        &self,
        session: impl FnOnce(Hijacked) -> F + Send + 'static,
    ) -> Answer {
        self.session.leave(session);
        upgraded("h2c")
    }

    /// Ends HTTP on this connection with the answer that is returned, and then runs `session` on it. The body must have been read:
    /// what of it is left over would be the session's input.
    pub(crate) fn hijack<F: Future<Output = ()> + Send + 'static>(
        &self,
        content_type: &'static str,
        session: impl FnOnce(Hijacked) -> F + Send + 'static,
    ) -> Answer {
        self.session.leave(session);
        head(self.wants_upgrade(), content_type)
    }
}

/// A request's body, which is read once.
#[derive(Debug)]
pub(crate) enum Content {
    /// As it comes.
    Incoming(Incoming),
    /// All of it; what is left of it.
    #[cfg_attr(not(test), expect(dead_code, reason = "requests that tests make up"))]
    Whole(Bytes),
}

impl Content {
    /// The next piece, never an empty one; `None` at the end. Cancel-safe.
    ///
    /// # Errors
    /// 400 when the client broke off.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        match self {
            Self::Whole(bytes) => {
                let all = std::mem::take(bytes);
                Poll::Ready(Ok((!all.is_empty()).then_some(all)))
            }
            Self::Incoming(incoming) => loop {
                let Some(frame) = ready!(Pin::new(&mut *incoming).poll_frame(cx)) else {
                    return Poll::Ready(Ok(None));
                };
                let frame = frame.map_err(|error| Failure::bad(format!("the request broke off: {error}")))?;
                // Trailers mean nothing here.
                if let Ok(bytes) = frame.into_data()
                    && !bytes.is_empty()
                {
                    return Poll::Ready(Ok(Some(bytes)));
                }
            },
        }
    }

    /// All of it.
    ///
    /// # Errors
    /// 413 when it has more than `limit` bytes, 400 when the client broke off.
    pub(crate) async fn whole(&mut self, limit: usize) -> Result<Bytes> {
        let mut all = BytesMut::new();
        while let Some(piece) = self.next().await? {
            if all.len() + piece.len() > limit {
                return Err(Failure::too_large(format!("the request's body has more than {limit} bytes")));
            }
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }
}

#[cfg(test)]
impl Call {
    /// A request that a test makes up.
    pub(crate) fn made_up(method: Method, query: &str, body: &str) -> Self {
        Self {
            method,
            version: Version::v1(56),
            query: Query::parse(query),
            headers: HeaderMap::new(),
            content: Content::Whole(Bytes::copy_from_slice(body.as_bytes())),
            session: SessionSlot::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use serde_json::Value;

    use super::*;

    fn post(body: &str) -> Call {
        Call::made_up(Method::POST, "", body)
    }

    #[tokio::test]
    async fn json_is_read_with_its_mistakes_named() {
        assert_eq!(post("{\"a\":1}").json::<Value>().await.unwrap()["a"], 1);
        assert!(post("{").json::<Value>().await.unwrap_err().message().contains("invalid JSON"));
        assert!(post("  ").json::<Value>().await.unwrap_err().message().contains("no body"));
        for nothing in ["", "null"] {
            assert!(post(nothing).json_if_any::<Value>().await.unwrap().is_none());
        }
        let mut form = post("{}");
        form.headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        assert!(form.json::<Value>().await.unwrap_err().message().contains("text/plain"));
        let mut spelled = post("{}");
        spelled.headers.insert(CONTENT_TYPE, HeaderValue::from_static("Application/json; charset=utf-8"));
        spelled.json::<Value>().await.unwrap();
    }

    #[tokio::test]
    async fn json_without_bound_is_refused() {
        let long = format!("\"{}\"", "x".repeat(MAX_JSON));
        assert_eq!(post(&long).json::<Value>().await.unwrap_err().status(), 413);
    }

    #[test]
    fn only_an_upgrade_to_tcp_is_one() {
        let mut call = post("");
        assert!(!call.wants_upgrade());
        call.headers.insert(CONNECTION, HeaderValue::from_static("keep-alive, Upgrade"));
        call.headers.insert(UPGRADE, HeaderValue::from_static("h2c"));
        assert!(!call.wants_upgrade());
        call.headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
        assert!(call.wants_upgrade());
    }
}
