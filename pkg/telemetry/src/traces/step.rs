//! A step of a call.

use tracing::{Instrument, Span};

/// Does `work` in a span of its own, which says of itself when that fails; what [`step!`](crate::step!) makes.
pub async fn step<T, E>(
    span: impl FnOnce() -> Span,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    // Made here: the step begins when somebody waits for it.
    let span = span();
    let outcome = work.instrument(span.clone()).await;
    if outcome.is_err() {
        span.record("failed", true);
    }
    outcome
}

/// Does fallible work as a step of the call it is done for: `step!("network", work, pod = %id).await`. The fields go into traces, so
/// they name objects and nothing more. Costs next to nothing where nothing is traced.
#[macro_export]
macro_rules! step {
    ($name:literal, $work:expr $(, $($fields:tt)+)?) => {
        $crate::traces::step(
            || ::tracing::debug_span!($name, failed = ::tracing::field::Empty $(, $($fields)+)?),
            // Its caller's future would else have room for it twice.
            ::std::boxed::Box::pin($work),
        )
    };
}
