//! `POST /grpc`, `POST /session`: connections that become HTTP/2, to BuildKit and from it.

use std::sync::Arc;

use crate::{
    door::Parts,
    error::Result,
    http::{Answer, Call},
};

/// A client that talks to BuildKit.
pub(super) async fn grpc(door: &Arc<Parts>, call: &Call) -> Result<Answer> {
    call.check_h2c()?;
    let (control, closing) = (door.builder.control().await?, Arc::clone(door));
    Ok(call.hijack_h2c(move |io| async move {
        tokio::select! {
            () = control.attend(tokio::io::join(io.reader, io.writer)) => {}
            () = closing.closed() => {}
        }
    }))
}

/// A client that BuildKit talks to.
pub(super) async fn session(door: &Arc<Parts>, call: &Call) -> Result<Answer> {
    call.check_h2c()?;
    let (session, closing) = (door.builder.session(&call.headers).await?, Arc::clone(door));
    Ok(call.hijack_h2c(move |io| async move {
        tokio::select! {
            () = session.attend(tokio::io::join(io.reader, io.writer)) => {}
            () = closing.closed() => {}
        }
    }))
}
