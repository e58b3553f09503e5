//! `POST /auth`: whether a registry takes credentials. The client keeps them; husk does not.

use std::sync::Arc;

use husk_images::Auth;
use husk_model::{Classify, Kind};
use hyper::StatusCode;
use serde_json::json;

use crate::{
    api::auth::AuthConfig,
    door::Parts,
    error::{Failure, Result},
    http::{Answer, Call, json},
};

/// The registry of credentials that name none.
const HUB: &str = "docker.io";

pub(super) async fn login(door: &Arc<Parts>, mut call: Call) -> Result<Answer> {
    let auth: AuthConfig = call.json().await?;
    let host = if auth.server_address.is_empty() { HUB.to_owned() } else { auth.server_address.clone() };
    match door.images.check_auth(&host, Auth::from(auth)).await {
        Ok(()) => json(StatusCode::OK, &json!({ "Status": "Login Succeeded", "IdentityToken": "" })),
        // dockerd answers 401 for whatever a registry refuses.
        Err(error) if matches!(error.kind(), Kind::Unauthenticated | Kind::PermissionDenied) => {
            Err(Failure::from(error).with_status(StatusCode::UNAUTHORIZED))
        }
        Err(error) => Err(error.into()),
    }
}
