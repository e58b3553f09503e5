//! `kill`.

use husk_model::Signal;

use crate::{Container, Error, Result, Status, group};

/// Sends a signal to a container's init. With SIGKILL all of a container ends: where it shares its PID namespace, its other processes
/// do not end with the init, so they are killed by its cgroup.
///
/// `lenient`: that it does not run any more is no error.
///
/// # Errors
/// [`Error::NotRunning`]; those of the signal.
pub fn kill(container: &Container, signal: u32, lenient: bool) -> Result<()> {
    if signal == u32::from(Signal::KILL.0) && !container.record.has_own_pids() {
        if let Some(group) = group::of(container.record.cgroup.as_deref())? {
            group.kill()?;
            if group.is_paused()? {
                group.resume()?;
            }
        }
        return Ok(());
    }
    match send(container, signal) {
        Err(Error::NotRunning) if lenient => Ok(()),
        sent => sent,
    }
}

fn send(container: &Container, signal: u32) -> Result<()> {
    let init = container.init()?;
    if signal == 0 {
        return Ok(());
    }
    husk_sys::send::signal(&init, signal).map_err(Error::io("signal", container.record.id.as_str()))?;
    // Who is frozen by the v1 freezer dies when it is thawed.
    if signal == u32::from(Signal::KILL.0)
        && container.status()? == Status::Paused
        && let Some(group) = group::of(container.record.cgroup.as_deref())?
    {
        group.resume()?;
    }
    Ok(())
}

/// The number of a signal by name or number; 0 only asks whether it could be sent.
///
/// # Errors
/// [`Error::Invalid`].
pub fn parse_signal(text: &str) -> Result<u32> {
    if text == "0" {
        return Ok(0);
    }
    let signal = Signal::parse(text).ok_or_else(|| Error::Invalid(format!("unknown signal {text:?}")))?;
    Ok(u32::from(signal.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_numbers_and_names_in_any_case() {
        for (text, number) in [("KILL", 9), ("sigterm", 15), ("0", 0), ("64", 64), ("SIGRTMIN+3", 37)] {
            assert_eq!(parse_signal(text).unwrap(), number, "{text}");
        }
        assert!(parse_signal("NOSUCH").unwrap_err().to_string().contains("unknown signal"));
    }
}
