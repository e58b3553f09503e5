//! Containers and commands in them.
//!
//! A container of the door is a record that outlives its runs; a run is a pod of one in the engine. Each of these knows only those
//! above it:
//!
//! | module | concern |
//! | --- | --- |
//! | `names`, `ports`, `mounts`, `merge` | parts of a request, checked |
//! | `record` | what is written down |
//! | `health` | whether one is well |
//! | `streams` | copying between a client and a container |
//! | `container` | what is known of one now, and who waits for what |
//! | `plan` | from a record to what the engine is asked for |
//! | `execs` | commands, remembered |
//! | `store` | all of them |
//! | `exec` | commands in running containers |
//! | `runs`, `discard` | the pod of a run taken away; a container removed |
//! | `care` | health checks, run |
//! | `life`, `create` | what is done to one: start, stop, end, restart; making, removing |
//! | `files`, `commit`, `wait`, `logs`, `attach`, `running`, `networks`, `inspect`, `list` | what is asked of one |
//! | `users` | what images, volumes and networks ask |
//! | `routes` | requests |

mod attach;
mod care;
mod commit;
mod container;
mod create;
mod discard;
mod exec;
mod execs;
mod files;
mod health;
mod inspect;
mod life;
mod list;
mod logs;
mod merge;
mod mounts;
mod names;
mod networks;
mod plan;
mod ports;
mod record;
mod routes;
mod running;
mod runs;
mod store;
mod streams;
mod users;
mod wait;

pub(crate) use routes::route;
pub(crate) use store::Store;
