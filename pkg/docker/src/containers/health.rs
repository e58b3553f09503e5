//! HEALTHCHECK: a command that is run now and then in a running container, and what it says.

use std::collections::VecDeque;

use husk_model::UnixNanos;
use serde_json::{Value, json};

use crate::{api::container::Healthcheck, when};

/// Looks that are kept.
const KEPT: usize = 5;

/// How a container is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Health {
    /// `starting`, `healthy`, `unhealthy`.
    status: &'static str,
    /// Failures in a row.
    streak: i64,
    looks: VecDeque<Look>,
}

/// One look at it.
#[derive(Debug, Clone)]
pub(super) struct Look {
    pub(super) from: UnixNanos,
    pub(super) until: UnixNanos,
    pub(super) exit_code: i32,
    pub(super) output: String,
}

impl Health {
    /// Of a container that has just been started.
    pub(super) fn starting() -> Self {
        Self { status: "starting", ..Self::default() }
    }

    /// `starting`, `healthy`, `unhealthy`.
    pub(crate) fn status(&self) -> &'static str {
        self.status
    }

    /// As inspection has it.
    pub(super) fn shown(&self) -> Value {
        let look = |look: &Look| {
            json!({
                "Start": when::text(look.from),
                "End": when::text(look.until),
                "ExitCode": look.exit_code,
                "Output": look.output,
            })
        };
        json!({
            "Status": self.status,
            "FailingStreak": self.streak,
            "Log": self.looks.iter().map(look).collect::<Vec<_>>(),
        })
    }

    /// Takes in a look; true when the status is another now. While it starts, failures do not count.
    pub(super) fn take_in(&mut self, look: Look, starting: bool, retries: i64) -> bool {
        let before = self.status;
        if look.exit_code == 0 {
            (self.status, self.streak) = ("healthy", 0);
        } else if !(starting && self.status == "starting") {
            self.streak += 1;
            if self.streak >= retries {
                self.status = "unhealthy";
            }
        }
        if self.looks.len() == KEPT {
            self.looks.pop_front();
        }
        self.looks.push_back(look);
        self.status != before
    }
}

/// The check of an image's configuration.
pub(super) fn of_image(config: &Value) -> Option<Healthcheck> {
    serde_json::from_value(config.get("Healthcheck")?.clone()).ok()
}

/// An image's check with what a request says of its times.
pub(super) fn overlaid(image: Healthcheck, asked: Healthcheck) -> Healthcheck {
    let or = |asked: i64, image: i64| if asked == 0 { image } else { asked };
    Healthcheck {
        test: image.test,
        interval: or(asked.interval, image.interval),
        timeout: or(asked.timeout, image.timeout),
        retries: or(asked.retries, image.retries),
        start_period: or(asked.start_period, image.start_period),
        start_interval: or(asked.start_interval, image.start_interval),
    }
}

/// What is run, if anything.
pub(super) fn command(check: Option<&Healthcheck>) -> Option<Vec<String>> {
    let test = check?.test.as_deref()?;
    let (kind, words) = test.split_first()?;
    let argv = match (kind.as_str(), words) {
        ("CMD", words) => words.to_vec(),
        ("CMD-SHELL", [line]) => vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()],
        _ => return None,
    };
    argv.first().is_some_and(|program| !program.is_empty()).then_some(argv)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(exit_code: i32) -> Look {
        Look { from: 0, until: 0, exit_code, output: String::new() }
    }

    #[test]
    fn so_many_failures_in_a_row_make_it_unhealthy_and_one_success_healthy() {
        let mut health = Health::starting();
        assert!(!health.take_in(look(1), true, 2), "while it starts, failures do not count");
        assert_eq!((health.status, health.streak), ("starting", 0));
        assert!(!health.take_in(look(1), false, 2));
        assert!(health.take_in(look(1), false, 2));
        assert_eq!((health.status, health.streak), ("unhealthy", 2));
        assert!(health.take_in(look(0), false, 2));
        assert_eq!((health.status, health.streak, health.looks.len()), ("healthy", 0, 4));
        for _ in 0..9 {
            health.take_in(look(0), false, 2);
        }
        assert_eq!(health.looks.len(), KEPT);
    }

    #[test]
    fn a_test_is_a_command_a_line_or_none() {
        let of = |text: &str| command(serde_json::from_str::<Option<Healthcheck>>(text).unwrap().as_ref());
        assert_eq!(of(r#"{"Test":["CMD","a","b"]}"#).unwrap(), ["a", "b"]);
        assert_eq!(of(r#"{"Test":["CMD-SHELL","a | b"]}"#).unwrap(), ["/bin/sh", "-c", "a | b"]);
        for none in ["null", "{}", r#"{"Test":[]}"#, r#"{"Test":["NONE"]}"#, r#"{"Test":["CMD"]}"#] {
            assert_eq!(of(none), None, "{none}");
        }
    }
}
