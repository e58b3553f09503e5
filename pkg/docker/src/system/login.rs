//! `POST /auth`: whether a registry takes credentials.

use std::sync::Arc;

use crate::{
    door::Parts,
    error::{Failure, Result},
    http::{Answer, Call},
};

pub(super) async fn login(_door: &Arc<Parts>, _call: Call) -> Result<Answer> {
    Err(Failure::missing(
        "husk cannot try a registry's credentials by themselves yet; put them into the client's config.json (docker login on another engine, or a credential helper), and pull",
    ))
}
