//! What a build says: in the words of the classic builder, or as BuildKit says it, for clients that show that themselves.

use std::collections::{BTreeMap, HashSet};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use husk_build::{BuildStep, Log, Step};
use serde_json::json;

use crate::progress::Progress;

/// Steps that are kept in mind; a build has some dozens.
const STEPS: usize = 10_000;

/// In whose words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Words {
    /// `Step 1/3 : FROM busybox`.
    Classic,
    /// Only the result.
    Quiet,
    /// BuildKit's own messages.
    BuildKit,
}

/// A build that is told.
#[derive(Debug)]
pub(super) struct Told {
    words: Words,
    progress: Progress,
    announced: HashSet<String>,
    cached: HashSet<String>,
    names: BTreeMap<String, String>,
}

impl Told {
    pub(super) fn new(words: Words, progress: Progress) -> Self {
        Self { words, progress, announced: HashSet::new(), cached: HashSet::new(), names: BTreeMap::new() }
    }

    /// Tells what is new.
    pub(super) async fn tell(&mut self, news: BuildStep) {
        match self.words {
            Words::Quiet => {}
            Words::BuildKit => {
                self.progress.trace("moby.buildkit.trace", json!(STANDARD.encode(&news.raw))).await;
            }
            Words::Classic => {
                for line in self.lines(&news) {
                    self.progress.text(&line).await;
                }
            }
        }
    }

    fn lines(&mut self, news: &BuildStep) -> Vec<String> {
        let mut lines = Vec::new();
        for step in &news.steps {
            let Some(title) = title(&step.name) else { continue };
            if self.names.len() < STEPS {
                self.names.insert(step.id.clone(), step.name.clone());
            }
            if (step.started || step.cached) && self.announced.insert(step.id.clone()) {
                lines.push(title);
            }
            if is_done_already(step) && self.cached.insert(step.id.clone()) {
                lines.push(" ---> Using cache\n".to_owned());
            }
        }
        lines.extend(news.logs.iter().filter(|log| self.names.contains_key(&log.step)).map(written));
        lines.extend(news.warnings.iter().map(|warning| format!("[Warning] {warning}\n")));
        lines
    }
}

/// What a program wrote; errors in red, as the classic builder has them.
fn written(log: &Log) -> String {
    let text = String::from_utf8_lossy(&log.bytes);
    if log.is_error { format!("\x1b[91m{text}\x1b[0m") } else { text.into_owned() }
}

fn is_done_already(step: &Step) -> bool {
    step.cached && step.ended
}

/// `[stage 2/3] RUN make` as `Step 2/3 : RUN make`; what BuildKit does besides has no such line.
fn title(name: &str) -> Option<String> {
    let (place, what) = name.strip_prefix('[')?.split_once("] ")?;
    let count = place.rsplit(' ').next()?;
    let (at, of) = count.split_once('/')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(at) && is_number(of)).then(|| format!("Step {at}/{of} : {what}\n"))
}

/// `process "/bin/sh -c make" did not complete successfully: exit code: 2` as the classic builder says it, which clients look for.
pub(super) fn classic_failure(message: &str) -> Option<String> {
    let code = exit_code(message)?;
    let (_, rest) = message.split_once("process \"")?;
    let (command, _) = rest.rsplit_once("\" did not complete successfully: ")?;
    // BuildKit quotes it as Go does.
    let command = command.replace("\\\"", "\"").replace("\\\\", "\\");
    Some(format!("The command '{command}' returned a non-zero code: {code}"))
}

/// The code with which a program of the build failed: the client's own, then.
pub(super) fn exit_code(message: &str) -> Option<u16> {
    let (_, rest) = message.rsplit_once("did not complete successfully: exit code: ")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok().filter(|code| (1..=255).contains(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(id: &str, name: &str, cached: bool) -> Step {
        Step { id: id.into(), name: name.into(), cached, started: true, ended: cached }
    }

    fn log(step: &str, is_error: bool, text: &str) -> Log {
        Log { step: step.into(), is_error, bytes: text.to_owned().into() }
    }

    #[tokio::test]
    async fn a_step_is_told_once_with_what_its_program_writes() {
        let (progress, _answer) = crate::progress::progress();
        let mut told = Told::new(Words::Classic, progress);
        let news = BuildStep {
            steps: vec![
                step("i", "[internal] load build definition from Dockerfile", false),
                step("a", "[1/2] FROM docker.io/library/busybox", true),
                step("b", "[final 2/2] RUN echo x", false),
            ],
            logs: vec![log("b", false, "x\n"), log("b", true, "z\n"), log("i", false, "y")],
            ..BuildStep::default()
        };
        let all = [
            "Step 1/2 : FROM docker.io/library/busybox\n",
            " ---> Using cache\n",
            "Step 2/2 : RUN echo x\n",
            "x\n",
            "\x1b[91mz\n\x1b[0m",
        ];
        assert_eq!(told.lines(&news), all);
        assert_eq!(told.lines(&news), ["x\n", "\x1b[91mz\n\x1b[0m"]);
    }

    #[test]
    fn a_program_that_failed_is_told_in_the_classic_builders_words() {
        let message = "failed to solve: process \"/bin/sh -c exit \\\"1\\\"\" did not complete successfully: exit code: 1";
        assert_eq!(
            classic_failure(message).unwrap(),
            "The command '/bin/sh -c exit \"1\"' returned a non-zero code: 1"
        );
        assert_eq!(classic_failure("failed to solve: busybox: not found"), None);
    }

    #[test]
    fn the_code_of_a_program_that_failed_is_found() {
        let message =
            "failed to solve: process \"/bin/sh -c exit 7\" did not complete successfully: exit code: 7";
        assert_eq!(exit_code(message), Some(7));
        assert_eq!(exit_code("failed to solve: exit code: 7"), None);
    }
}
