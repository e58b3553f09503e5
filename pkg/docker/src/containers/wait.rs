//! `POST /containers/{id}/wait`.

use std::sync::Arc;

use serde_json::json;

use super::{container::Container, store::Store};
use crate::{
    error::{Failure, Result},
    http::{Answer, Call, streamed},
};

/// What is waited for.
enum Until {
    NotRunning,
    NextExit,
    Removed,
}

/// Answers when it has come to pass. The head goes at once: clients start a container when they have seen it.
///
/// # Errors
/// 400 for a condition that is none.
pub(super) fn answer(store: &Store, container: &Arc<Container>, call: &Call) -> Result<Answer> {
    let until = match call.query.get("condition").unwrap_or("not-running") {
        "not-running" => Until::NotRunning,
        "next-exit" => Until::NextExit,
        "removed" => Until::Removed,
        other => {
            let other: String = other.chars().take(80).collect();
            return Err(Failure::bad(format!("invalid condition: {other:?}")));
        }
    };
    // From this moment on, so that an end between the answer's head and the wait is one.
    let mut ends = container.ends();
    let seen = ends.borrow_and_update().count;
    let (pieces, answer) = streamed();
    let shared = Arc::clone(&store.0.shared);
    tokio::spawn(async move {
        let came = ends.wait_for(|ends| {
            ends.gone
                || match until {
                    Until::NotRunning => !ends.running,
                    Until::NextExit => ends.count > seen,
                    Until::Removed => false,
                }
        });
        let code = tokio::select! {
            came = came => came.map(|ends| ends.code).unwrap_or(super::record::LOST),
            () = pieces.closed() => return,
            () = shared.closed() => return,
        };
        let _ = pieces.send(format!("{}\n", json!({ "StatusCode": code }))).await;
    });
    Ok(answer)
}
