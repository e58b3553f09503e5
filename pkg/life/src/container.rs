//! A container as huskd knows it. What its monitor knows of the same container is `init`.
//!
//! ```text
//! Making ─ Made ─▶ Created ─ Started ─▶ Running ─ Exited ─▶ Exited ─ Removed ─▶ Removed
//!                     └───────────── Exited ────────────────▶ │
//!   Unreadable ──────────────────────────────────────────── Removed ─▶ Removed
//! ```
//!
//! What happens comes from answers and from events of the monitor, in either order and more than once: a start that is heard
//! of after the exit only fills in the time, and nothing leaves EXITED but the removal.

use husk_model::{ContainerState, Exit, UnixNanos};

use crate::refusal::Refusal;

/// Where a container is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerLife {
    /// CreateContainer is at work and nobody sees the container. After a crash, start-up undoes what was made.
    Making,
    /// Its init waits at the gate before execve.
    Created,
    /// Its command runs.
    Running {
        /// When the gate was opened.
        started_at: UnixNanos,
    },
    /// It ended. It can only be removed.
    Exited {
        /// When it was started; `None` if it never was, or nobody has heard of it yet.
        started_at: Option<UnixNanos>,
        /// How it ended.
        exit: Exit,
    },
    /// Its record cannot be read; it can only be removed.
    Unreadable {
        /// What is wrong, for people.
        reason: String,
    },
    /// Nothing of it is left but its log.
    Removed,
}

/// Something that happens to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerEvent {
    /// Everything was built.
    Made,
    /// Its gate was opened.
    Started(UnixNanos),
    /// It ended.
    Exited(Exit),
    /// The last of it is gone.
    Removed,
}

/// What followers of the node hear of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerNews {
    /// It was created.
    Created,
    /// Its command runs.
    Started,
    /// It ended.
    Stopped,
    /// It was removed.
    Deleted,
}

/// What the owner of a container has to do, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerEffect {
    /// Tell those who follow the node, in one step with the change.
    Announce(ContainerNews),
    /// Tell plugins that it ended.
    TellEnd,
}

type Outcome = Result<(ContainerLife, Vec<ContainerEffect>), Refusal>;

impl ContainerLife {
    /// The state after an event, and what is to be done about it.
    ///
    /// # Errors
    /// The event has no place in this state; nothing changes.
    pub fn apply(&self, event: &ContainerEvent) -> Outcome {
        let announce = |news| vec![ContainerEffect::Announce(news)];
        match (self, event) {
            (Self::Making, ContainerEvent::Made) => Ok((Self::Created, announce(ContainerNews::Created))),
            (Self::Making | Self::Removed, _) | (_, ContainerEvent::Made) => Err(self.refuse(event)),
            (Self::Created, ContainerEvent::Started(at)) => {
                Ok((Self::Running { started_at: *at }, announce(ContainerNews::Started)))
            }
            (Self::Exited { started_at: None, exit }, ContainerEvent::Started(at)) => {
                Ok((Self::Exited { started_at: Some(*at), exit: exit.clone() }, Vec::new()))
            }
            (Self::Created, ContainerEvent::Exited(exit)) => Ok(exited(None, exit)),
            (Self::Running { started_at }, ContainerEvent::Exited(exit)) => {
                Ok(exited(Some(*started_at), exit))
            }
            (Self::Exited { .. } | Self::Unreadable { .. }, ContainerEvent::Removed) => {
                Ok((Self::Removed, announce(ContainerNews::Deleted)))
            }
            (Self::Created | Self::Running { .. }, ContainerEvent::Removed) => Err(self.refuse(event)),
            (_, ContainerEvent::Started(_) | ContainerEvent::Exited(_)) => Ok((self.clone(), Vec::new())),
        }
    }

    /// Whether it has processes.
    pub fn is_alive(&self) -> bool {
        matches!(self, Self::Created | Self::Running { .. })
    }

    /// What clients are shown; `None` of one that nobody sees.
    pub fn shown(&self) -> Option<ContainerState> {
        match self {
            Self::Making | Self::Removed => None,
            Self::Created => Some(ContainerState::Created),
            Self::Running { started_at } => Some(ContainerState::Running { started_at: *started_at }),
            Self::Exited { started_at, exit } => {
                Some(ContainerState::Exited { started_at: started_at.unwrap_or(0), exit: exit.clone() })
            }
            Self::Unreadable { reason } => Some(ContainerState::Unknown { reason: reason.clone() }),
        }
    }

    /// The state in words for people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Making => "being made",
            Self::Created => "created",
            Self::Running { .. } => "running",
            Self::Exited { .. } => "exited",
            Self::Unreadable { .. } => "in an unknown state",
            Self::Removed => "removed",
        }
    }

    fn refuse(&self, event: &ContainerEvent) -> Refusal {
        Refusal { state: self.name(), event: event.name() }
    }
}

fn exited(started_at: Option<UnixNanos>, exit: &Exit) -> (ContainerLife, Vec<ContainerEffect>) {
    (
        ContainerLife::Exited { started_at, exit: exit.clone() },
        vec![ContainerEffect::Announce(ContainerNews::Stopped), ContainerEffect::TellEnd],
    )
}

impl ContainerEvent {
    /// The event in words for people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Made => "completing the container",
            Self::Started(_) => "its start",
            Self::Exited(_) => "its end",
            Self::Removed => "removing the container",
        }
    }
}

#[cfg(test)]
mod tests {
    use husk_model::ExitReason;

    use super::*;
    use crate::table::{Row, cell, table};

    fn exit(code: i32) -> Exit {
        Exit { code, finished_at: 9, reason: ExitReason::Error, message: String::new() }
    }

    fn events() -> Vec<ContainerEvent> {
        vec![
            ContainerEvent::Made,
            ContainerEvent::Started(5),
            ContainerEvent::Exited(exit(1)),
            ContainerEvent::Removed,
        ]
    }

    /// Calls `visit` for every sequence of `depth` events that is accepted from the start, with all effects.
    fn walk(
        life: &ContainerLife,
        depth: usize,
        effects: &mut Vec<ContainerEffect>,
        visit: &mut impl FnMut(&ContainerLife, &[ContainerEffect]),
    ) {
        visit(life, effects);
        if depth == 0 {
            return;
        }
        let mut events = events();
        events.push(ContainerEvent::Exited(exit(2)));
        events.push(ContainerEvent::Started(6));
        for event in events {
            let Ok((next, new)) = life.apply(&event) else { continue };
            let before = effects.len();
            effects.extend(new);
            walk(&next, depth - 1, effects, visit);
            effects.truncate(before);
        }
    }

    fn walks(visit: &mut impl FnMut(&ContainerLife, &[ContainerEffect])) {
        walk(&ContainerLife::Making, 7, &mut Vec::new(), visit);
    }

    #[test]
    fn news_come_once_each_and_in_the_order_of_a_life() {
        let order =
            [ContainerNews::Created, ContainerNews::Started, ContainerNews::Stopped, ContainerNews::Deleted];
        walks(&mut |_, effects| {
            let told = effects.iter().filter_map(|effect| match effect {
                ContainerEffect::Announce(news) => order.iter().position(|known| known == news),
                ContainerEffect::TellEnd => None,
            });
            assert!(told.collect::<Vec<_>>().is_sorted_by(|a, b| a < b), "{effects:?}");
        });
    }

    #[test]
    fn plugins_hear_of_every_end_once_and_nothing_is_removed_before_it() {
        walks(&mut |life, effects| {
            let told = effects.iter().filter(|effect| **effect == ContainerEffect::TellEnd).count();
            let ended = matches!(life, ContainerLife::Exited { .. } | ContainerLife::Removed);
            assert_eq!(told, usize::from(ended), "{life:?}");
        });
    }

    #[test]
    fn an_exit_that_overtakes_the_start_keeps_both_times() {
        let (life, _) = ContainerLife::Created.apply(&ContainerEvent::Exited(exit(1))).unwrap();
        let (life, effects) = life.apply(&ContainerEvent::Started(5)).unwrap();
        assert_eq!(life, ContainerLife::Exited { started_at: Some(5), exit: exit(1) });
        assert_eq!(effects, [], "a start after the end is no news");
    }

    #[test]
    fn the_first_exit_and_the_first_start_count() {
        let (life, _) =
            ContainerLife::Running { started_at: 5 }.apply(&ContainerEvent::Exited(exit(1))).unwrap();
        assert_eq!(life.apply(&ContainerEvent::Exited(exit(2))).unwrap(), (life.clone(), vec![]));
        assert_eq!(life.apply(&ContainerEvent::Started(7)).unwrap(), (life.clone(), vec![]));
    }

    #[test]
    fn a_refusal_names_the_event_and_the_state() {
        let refusal = ContainerLife::Created.apply(&ContainerEvent::Removed).unwrap_err();
        assert_eq!(refusal.to_string(), "removing the container is not possible: it is created");
    }

    #[test]
    fn the_page_of_states_has_this_table() {
        let states = [
            ContainerLife::Making,
            ContainerLife::Created,
            ContainerLife::Running { started_at: 1 },
            ContainerLife::Exited { started_at: Some(1), exit: exit(0) },
            ContainerLife::Unreadable { reason: String::new() },
            ContainerLife::Removed,
        ];
        let rows = events().into_iter().map(|event| Row {
            event: event.name().to_owned(),
            cells: states
                .iter()
                .map(|state| match state.apply(&event) {
                    Err(_) => "refused".to_owned(),
                    Ok((next, effects)) => cell(
                        (next != *state).then(|| next.name()),
                        effects.iter().map(|effect| match effect {
                            ContainerEffect::Announce(news) => format!("announce {news:?}"),
                            ContainerEffect::TellEnd => "tell plugins".to_owned(),
                        }),
                    ),
                })
                .collect(),
        });
        let names = states.iter().map(|state| state.name().to_owned()).collect::<Vec<_>>();
        table("container", &names, rows.collect());
    }
}
