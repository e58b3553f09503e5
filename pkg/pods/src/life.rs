//! A container's life as a pure transition function.

use husk_model::{ContainerState, Exit, UnixNanos};

/// Something that happened to a container, as the monitor tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fact {
    /// Its gate was opened.
    Started(UnixNanos),
    /// It ended.
    Exited(Exit),
}

/// The state after `fact`. Facts come from answers and from events, in either order and more than once: a start that is
/// heard of after the exit only fills in the time, and nothing leaves EXITED.
pub(crate) fn apply(state: &ContainerState, fact: Fact) -> ContainerState {
    match (state, fact) {
        (ContainerState::Created, Fact::Started(started_at)) => ContainerState::Running { started_at },
        (ContainerState::Created, Fact::Exited(exit)) => ContainerState::Exited { started_at: 0, exit },
        (ContainerState::Running { started_at }, Fact::Exited(exit)) => {
            ContainerState::Exited { started_at: *started_at, exit }
        }
        (ContainerState::Exited { started_at: 0, exit }, Fact::Started(started_at)) => {
            ContainerState::Exited { started_at, exit: exit.clone() }
        }
        (other, _) => other.clone(),
    }
}

/// The state's name for people.
pub(crate) fn name(state: &ContainerState) -> &'static str {
    match state {
        ContainerState::Created => "created",
        ContainerState::Running { .. } => "running",
        ContainerState::Exited { .. } => "exited",
        ContainerState::Unknown { .. } => "in an unknown state",
    }
}

#[cfg(test)]
mod tests {
    use husk_model::ExitReason;

    use super::*;

    fn exit(code: i32) -> Exit {
        Exit { code, finished_at: 9, reason: ExitReason::Error, message: String::new() }
    }

    #[test]
    fn an_exit_that_overtakes_the_start_keeps_both_times() {
        let state = apply(&ContainerState::Created, Fact::Exited(exit(1)));
        let state = apply(&state, Fact::Started(5));
        assert_eq!(state, ContainerState::Exited { started_at: 5, exit: exit(1) });
    }

    #[test]
    fn the_first_exit_counts() {
        let state = apply(&ContainerState::Running { started_at: 5 }, Fact::Exited(exit(1)));
        assert_eq!(apply(&state, Fact::Exited(exit(2))), state);
        assert_eq!(apply(&state, Fact::Started(7)), state);
    }
}
