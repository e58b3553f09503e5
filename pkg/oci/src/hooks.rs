//! The hooks of a config.

use std::time::Duration;

use husk_runtime::{Hook, run_hooks};
use oci_spec::runtime::{Hooks, Spec};

use crate::{Error, Record, Result, Status};

/// A point in a container's life at which hooks of the node are run (OCI runtime-spec, config: POSIX-platform Hooks).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    Prestart,
    CreateRuntime,
    Poststart,
    Poststop,
}

/// Which list of the hooks.
pub(crate) type Kind = fn(&Hooks) -> &Option<Vec<oci_spec::runtime::Hook>>;

/// Runs the hooks of one point, in the caller's namespaces.
///
/// # Errors
/// [`Error::Hook`] of the first that fails.
pub(crate) fn run(point: Point, record: &Record, status: Status) -> Result<()> {
    let (name, hooks): (_, Kind) = match point {
        Point::Prestart => ("prestart", Hooks::prestart),
        Point::CreateRuntime => ("createRuntime", Hooks::create_runtime),
        Point::Poststart => ("poststart", Hooks::poststart),
        Point::Poststop => ("poststop", Hooks::poststop),
    };
    let hooks = of(&record.config, hooks);
    if hooks.is_empty() {
        return Ok(());
    }
    let pid = record.init.filter(|_| status != Status::Stopped).map_or(0, |init| init.pid);
    run_hooks(name, &hooks, &record.hook_state(status, Some(pid))).map_err(Error::Hook)
}

/// Whether hooks of the node are to be run before the root is entered.
pub(crate) fn before_root(spec: &Spec) -> bool {
    !of(spec, Hooks::prestart).is_empty() || !of(spec, Hooks::create_runtime).is_empty()
}

/// Those of one kind.
pub(crate) fn of(spec: &Spec, kind: Kind) -> Vec<Hook> {
    let hook = |hook: &oci_spec::runtime::Hook| Hook {
        path: hook.path().clone(),
        args: hook.args().clone().unwrap_or_default(),
        env: hook.env().clone(),
        timeout: hook.timeout().and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs),
    };
    let hooks = spec.hooks().as_ref().and_then(|hooks| kind(hooks).as_ref());
    hooks.into_iter().flatten().map(hook).collect()
}
