//! Requests below `/networks`.

use std::sync::Arc;

use crate::{
    door::Parts,
    error::{Failure, Result},
    http::{Answer, Call},
};

/// Answers a request; `path` has its decoded segments, the first being `networks`.
pub(crate) async fn route(_door: &Arc<Parts>, _call: Call, _path: &[&str]) -> Result<Answer> {
    Err(Failure::no_page())
}
