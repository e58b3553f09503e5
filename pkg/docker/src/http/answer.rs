//! Answers.

use bytes::Bytes;
use hyper::{
    HeaderMap, Response, StatusCode,
    header::{CONTENT_TYPE, HeaderValue},
};
use serde::Serialize;

use super::body::{Body, Pieces};
use crate::error::{Failure, Result};

/// An answer on its way to the client.
pub(crate) type Answer = Response<Body>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A value as JSON.
///
/// # Errors
/// 500 when the value has no form in JSON, which is a bug.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Result<Answer> {
    let mut bytes = serde_json::to_vec(value)
        .map_err(|error| Failure::internal(format!("encode the answer: {error}")))?;
    // As Go's encoder ends it; people read it with curl.
    bytes.push(b'\n');
    Ok(with_type(status, JSON, Body::Whole(Some(bytes.into()))))
}

/// No body.
pub(crate) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Body::Whole(None));
    *answer.status_mut() = status;
    answer
}

/// Text.
pub(crate) fn plain(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    with_type(status, kind, Body::Whole(Some(text.into())))
}

/// A stream of JSON documents, and its writing end.
pub(crate) fn streamed() -> (Pieces, Answer) {
    streamed_as("application/json")
}

/// A stream of this content type, and its writing end.
pub(crate) fn streamed_as(content_type: &'static str) -> (Pieces, Answer) {
    let (pieces, body) = Body::stream();
    (pieces, with_type(StatusCode::OK, HeaderValue::from_static(content_type), body))
}

/// A failure in Docker's form.
pub(crate) fn failed(failure: &Failure) -> Answer {
    #[derive(Serialize)]
    struct Message<'a> {
        message: &'a str,
    }
    let status = failure.status();
    if status == StatusCode::NOT_MODIFIED {
        return empty(status);
    }
    json(status, &Message { message: failure.message() }).unwrap_or_else(|_| empty(status))
}

fn with_type(status: StatusCode, kind: HeaderValue, body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    *answer.headers_mut() = HeaderMap::from_iter([(CONTENT_TYPE, kind)]);
    answer
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::api::required::assert_whole;

    #[test]
    fn a_failure_is_told_in_dockers_form() {
        let answer = failed(&Failure::conflict("in use"));
        assert_eq!(answer.status(), 409);
        let Body::Whole(Some(bytes)) = answer.into_body() else { panic!("a whole body") };
        let body: Value = serde_json::from_slice(&bytes).unwrap();
        assert_whole("ErrorResponse", &body);
        assert_eq!(body["message"], "in use");
        assert!(matches!(failed(&Failure::not_modified()).into_body(), Body::Whole(None)));
    }
}
