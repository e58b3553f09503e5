//! How a command ended, as the error stream says it.

use serde::Serialize;

use crate::negotiate::Version;

/// The end of an exec or attach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The command ended with this code; 128 plus the signal for one that was killed.
    Exited(i32),
    /// The session itself failed.
    Failed(String),
}

/// The part of `metav1.Status` that clients read (k8s.io/apimachinery, `Status`).
#[derive(Serialize)]
struct Status<'a> {
    metadata: Empty,
    status: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
struct Details {
    causes: [Cause; 1],
}

#[derive(Serialize)]
struct Cause {
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'static str,
    message: String,
}

impl Outcome {
    /// The bytes for the error stream; empty when there is nothing to say.
    pub(crate) fn encode(&self, version: Version) -> Vec<u8> {
        if !version.has_status() {
            return self.text().into_bytes();
        }
        // Cannot fail: strings and numbers.
        serde_json::to_vec(&self.status(&self.text())).unwrap_or_default()
    }

    fn text(&self) -> String {
        match self {
            Outcome::Exited(0) => String::new(),
            Outcome::Exited(code) => {
                format!("command terminated with non-zero exit code: exit status {code}")
            }
            Outcome::Failed(reason) => reason.clone(),
        }
    }

    fn status<'a>(&self, message: &'a str) -> Status<'a> {
        let success =
            Status { metadata: Empty {}, status: "Success", message, reason: "", details: None, code: None };
        let cause = |reason, message| Some(Details { causes: [Cause { reason, message }] });
        match self {
            Outcome::Exited(0) => success,
            Outcome::Exited(code) => Status {
                status: "Failure",
                reason: "NonZeroExitCode",
                details: cause("ExitCode", code.to_string()),
                ..success
            },
            Outcome::Failed(reason) => Status {
                status: "Failure",
                reason: "InternalError",
                details: cause("", reason.clone()),
                code: Some(500),
                ..success
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(outcome: Outcome, version: u8) -> String {
        String::from_utf8(outcome.encode(Version(version))).unwrap()
    }

    #[test]
    fn an_exit_code_is_a_cause_of_a_status_from_version_4_on() {
        assert_eq!(shown(Outcome::Exited(0), 4), r#"{"metadata":{},"status":"Success"}"#);
        assert_eq!(
            shown(Outcome::Exited(3), 5),
            concat!(
                r#"{"metadata":{},"status":"Failure","#,
                r#""message":"command terminated with non-zero exit code: exit status 3","#,
                r#""reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#
            )
        );
        let failed: serde_json::Value =
            serde_json::from_str(&shown(Outcome::Failed("no \"x\"".into()), 4)).unwrap();
        assert_eq!(failed["reason"], "InternalError");
        assert_eq!(failed["message"], "no \"x\"");
    }

    #[test]
    fn older_versions_get_plain_text_and_nothing_on_success() {
        assert_eq!(shown(Outcome::Exited(0), 3), "");
        assert_eq!(shown(Outcome::Exited(3), 1), "command terminated with non-zero exit code: exit status 3");
        assert_eq!(shown(Outcome::Failed("gone".into()), 2), "gone");
    }
}
