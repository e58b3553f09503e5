//! sandbox

use crate::{Child, Error, Result, SandboxPlan};

/// Clones the child of a plan.
///
/// # Errors
/// When no child could be made.
pub fn spawn_sandbox(_plan: SandboxPlan) -> Result<Child> {
    Err(Error::InvalidPlan("not landed yet".into()))
}
