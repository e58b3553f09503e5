//! The hooks of a config.

use std::time::Duration;

use husk_runtime::{Hook, Setting, run_hooks};
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
    let setting = Setting {
        // As runc, which works in the bundle that it creates a container of.
        dir: Some(record.bundle.clone()).filter(|bundle| bundle.is_dir()),
        umask: None,
        all: point == Point::Poststop,
    };
    run_hooks(name, &hooks, &record.hook_state(status, Some(pid)), &setting).map_err(Error::Hook)
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

/// That each hook has a path of the node or the container, and ends in a time above none (config, POSIX-platform Hooks).
///
/// # Errors
/// [`Error::Invalid`].
pub(crate) fn check(spec: &Spec) -> Result<()> {
    let Some(hooks) = spec.hooks() else { return Ok(()) };
    let kinds: [(&str, Kind); 6] = [
        ("prestart", Hooks::prestart),
        ("createRuntime", Hooks::create_runtime),
        ("createContainer", Hooks::create_container),
        ("startContainer", Hooks::start_container),
        ("poststart", Hooks::poststart),
        ("poststop", Hooks::poststop),
    ];
    for (name, of) in kinds {
        for (number, hook) in of(hooks).iter().flatten().enumerate() {
            if !hook.path().is_absolute() {
                return Err(Error::Invalid(format!("{name} hook #{number}: its path is not absolute")));
            }
            if hook.timeout().is_some_and(|seconds| seconds <= 0) {
                return Err(Error::Invalid(format!("{name} hook #{number}: its timeout is not above zero")));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_is_found_by_an_absolute_path_and_has_time() {
        let with = |path: &str, timeout: i64| {
            let mut config = serde_json::to_value(crate::example(false)).unwrap();
            config["hooks"] = serde_json::json!({"poststop": [{"path": path, "timeout": timeout}]});
            let checked = check(&serde_json::from_value(config).unwrap());
            checked.err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(with("/bin/true", i64::MAX), "");
        assert!(with("true", 1).contains("poststop hook #0: its path"));
        for timeout in [0, -1, i64::MIN] {
            assert!(with("/bin/true", timeout).contains("poststop hook #0: its timeout"));
        }
    }
}
