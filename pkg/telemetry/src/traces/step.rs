//! A step of a call.

use husk_model::Phase;
use tracing::{Instrument, Span};

use super::recorder::past;
use crate::phases::{self, phase};

/// Does `work` in a span of its own, which says of itself when that fails, and as a phase of whatever it is done for; what
/// [`step!`](crate::step!) makes.
pub async fn step<T, E>(
    name: &'static str,
    span: impl FnOnce() -> Span,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    // Made here: the step begins when somebody waits for it.
    let span = span();
    let outcome = phase(name, work.instrument(span.clone())).await;
    if outcome.is_err() {
        span.record("failed", true);
    }
    outcome
}

/// Notes steps beneath the current one that another process did for it and timed: a pod's monitor.
pub fn told(steps: Vec<Phase>) {
    for step in &steps {
        past(step);
    }
    phases::told(steps);
}

/// Does fallible work as a step of the call it is done for: `step!("network", work, pod = %id).await`. The fields go into traces, so
/// they name objects and nothing more. Costs next to nothing where nothing is traced;
/// the name alone is kept for `husk why` (see [`crate::phases`]).
#[macro_export]
macro_rules! step {
    ($name:literal, $work:expr $(, $($fields:tt)+)?) => {
        $crate::traces::step(
            $name,
            || ::tracing::debug_span!($name, failed = ::tracing::field::Empty $(, $($fields)+)?),
            // Its caller's future would else have room for it twice.
            ::std::boxed::Box::pin($work),
        )
    };
}
