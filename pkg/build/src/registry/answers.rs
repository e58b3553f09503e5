//! What the registry answers.

use bytes::Bytes;
use husk_model::Digest;
use hyper::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};

use crate::grpc::{AnyBody, whole};

/// The header with the digest of what is answered.
pub(super) const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// An answer to the builder.
pub(super) type Answer = Response<AnyBody>;

/// An answer without a body.
pub(super) fn answer(status: StatusCode) -> Answer {
    let mut answer = Response::new(whole(Bytes::new()));
    *answer.status_mut() = status;
    answer
}

/// A refusal in a registry's form.
pub(super) fn refused(status: StatusCode, code: &str, message: &str) -> Answer {
    let body = serde_json::json!({ "errors": [{ "code": code, "message": message }] });
    let mut answer = Response::new(whole(body.to_string().into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// A digest as a header has it.
pub(super) fn header(digest: &Digest) -> HeaderValue {
    HeaderValue::from_str(digest.as_str()).unwrap_or(HeaderValue::from_static(""))
}
