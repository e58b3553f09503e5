//! The wall clock in the model's form.

use std::time::{SystemTime, UNIX_EPOCH};

use husk_model::UnixNanos;

/// The present. A clock that stands before 1970 gives 0.
pub fn now() -> UnixNanos {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixNanos::try_from(since.as_nanos()).unwrap_or(UnixNanos::MAX)
}
