//! Answers that are a sequence of JSON documents: progress of a pull, a push or a load.
//!
//! Once the head has been sent its status is fixed, so what goes wrong afterwards is a document too, which clients look for.

use hyper::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    error::Failure,
    http::{Answer, Pieces, streamed},
};

/// How far something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Detail {
    /// Bytes done.
    pub(crate) current: u64,
    /// Bytes in all.
    pub(crate) total: u64,
}

/// The writing end of such an answer. A client that has gone is not told any more; whoever works goes on, or watches [`Self::closed`].
#[derive(Debug, Clone)]
pub(crate) struct Progress(Pieces);

/// Such an answer and its writing end.
pub(crate) fn progress() -> (Progress, Answer) {
    let (pieces, answer) = streamed();
    (Progress(pieces), answer)
}

impl Progress {
    /// A line without an id: `{"status":"Status: Image is up to date"}`.
    pub(crate) async fn line(&self, status: impl Into<String>) {
        self.document(&json!({ "status": status.into() })).await;
    }

    /// A line of an object, a layer for example, that replaces the last one of this id.
    pub(crate) async fn of(&self, id: &str, status: &str) {
        self.document(&json!({ "status": status, "progressDetail": {}, "id": id })).await;
    }

    /// News that is out of date soon: it is left out for a client that is slow.
    pub(crate) fn news(&self, id: &str, status: &str, detail: Detail) {
        let document =
            json!({ "status": status, "progressDetail": detail, "progress": bar(detail), "id": id });
        self.0.offer(line(&document));
    }

    /// As [`Self::of`], with how far it is.
    pub(crate) async fn state(&self, id: &str, status: &str, detail: Detail) {
        self.document(
            &json!({ "status": status, "progressDetail": detail, "progress": bar(detail), "id": id }),
        )
        .await;
    }

    /// A line of a stream of text, as a build or a load prints it.
    pub(crate) async fn text(&self, text: &str) {
        self.document(&json!({ "stream": text })).await;
    }

    /// What machines read and people do not see.
    pub(crate) async fn aux(&self, value: Value) {
        self.document(&json!({ "progressDetail": {}, "aux": value })).await;
    }

    /// A message of BuildKit's, which clients know by its id.
    pub(crate) async fn trace(&self, id: &str, aux: Value) {
        self.document(&json!({ "id": id, "aux": aux })).await;
    }

    /// The end of one that failed, with the exit code that the client shall have.
    pub(crate) async fn broken(&self, message: &str, code: u16) {
        let detail = json!({ "message": message, "code": code });
        self.document(&json!({ "errorDetail": detail, "error": message })).await;
    }

    /// The end of one that failed.
    pub(crate) async fn failed(&self, failure: &Failure) {
        let message = failure.message();
        let mut detail = json!({ "message": message });
        if failure.status() != StatusCode::INTERNAL_SERVER_ERROR {
            detail["code"] = failure.status().as_u16().into();
        }
        self.document(&json!({ "errorDetail": detail, "error": message })).await;
    }

    /// Resolves when the client is gone.
    pub(crate) async fn closed(&self) {
        self.0.closed().await;
    }

    async fn document(&self, document: &Value) {
        // A client that is gone does not hear of it.
        let _ = self.0.send(line(document)).await;
    }
}

/// A document as it is sent: alone on its line (Docker's jsonmessage ends them with CR LF).
fn line(document: &Value) -> Vec<u8> {
    let mut bytes = document.to_string().into_bytes();
    bytes.extend(b"\r\n");
    bytes
}

/// Columns of the bar.
const WIDTH: u64 = 50;

/// `[====>      ]  1.5MB/3MB`, for clients that show it as it is.
fn bar(Detail { current, total }: Detail) -> String {
    if total == 0 {
        return size(current);
    }
    let filled = (u128::from(current.min(total)) * u128::from(WIDTH) / u128::from(total)) as usize;
    let filled = "=".repeat(filled);
    format!(
        "[{:<50}]  {}/{}",
        format!("{filled}>").chars().take(50).collect::<String>(),
        size(current),
        size(total)
    )
}

/// Bytes in decimal units with four digits at most, as Go's clients write them (`%.4g`).
pub(crate) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB", "TB"] {
        if value < 1000.0 {
            let whole = (value as u64).to_string().len();
            let text = format!("{value:.*}", 4 - whole);
            let text =
                if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
            return format!("{text}{unit}");
        }
        value /= 1000.0;
    }
    format!("{value:.0}PB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_how_far_it_is_whatever_the_figures() {
        assert_eq!(bar(Detail { current: 5, total: 0 }), "5B");
        let half = bar(Detail { current: 1_500_000, total: 3_000_000 });
        assert!(half.starts_with("[=========================>     "), "{half}");
        assert!(half.ends_with("]  1.5MB/3MB"), "{half}");
        let over = bar(Detail { current: u64::MAX, total: 10 });
        assert!(over.starts_with(&format!("[{}]", "=".repeat(50))), "{over}");
    }
}
