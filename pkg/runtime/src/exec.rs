//! exec

use crate::{Child, Error, ExecPlan, Result};

/// Clones the child of a plan.
///
/// # Errors
/// When no child could be made.
pub fn spawn_exec(_plan: ExecPlan) -> Result<Child> {
    Err(Error::InvalidPlan("not landed yet".into()))
}
