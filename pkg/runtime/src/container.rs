//! container

use crate::{Child, ContainerPlan, Error, Result};

/// Clones the child of a plan.
///
/// # Errors
/// When no child could be made.
pub fn spawn_container(_plan: ContainerPlan) -> Result<Child> {
    Err(Error::InvalidPlan("not landed yet".into()))
}
