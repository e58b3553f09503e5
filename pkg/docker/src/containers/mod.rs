//! Containers and commands in them.
//!
//! A container of the door is a record that outlives its runs; a run is a pod of one in the engine. Each of these knows only those
//! above it:
//!
//! | module | concern |
//! | --- | --- |
//! | `names`, `ports`, `mounts`, `merge`, `log_options`, `limits`, `devices` | parts of a request, checked |
//! | `record` | what is written down |
//! | `health` | whether one is well |
//! | `log_files` | the files of a log, one after the other |
//! | `streams` | copying between a client and a container |
//! | `container` | what is known of one now, and who waits for what |
//! | `plan`, `conflicts` | from a record to what the engine is asked for, and options that contradict its network |
//! | `execs` | commands, remembered |
//! | `store` | all of them |
//! | `exec` | commands in running containers |
//! | `networks`, `links`, `joined` | what a start needs of other containers |
//! | `runs`, `discard` | the pod of a run taken away; a container removed |
//! | `care` | health checks, run |
//! | `restarts` | restart policies |
//! | `starts`, `stops`, `ends`, `recovery` | the life of one: its start; stop, kill, pause; its end; what a former daemon left |
//! | `create` | making, removing |
//! | `files`, `commit`, `wait`, `logs`, `attach`, `running`, `inspect`, `list` | what is asked of one |
//! | `users` | what images, volumes and networks ask |
//! | `routes` | requests |

mod attach;
mod care;
mod commit;
mod conflicts;
mod container;
mod create;
mod devices;
mod discard;
mod ends;
mod exec;
mod execs;
mod files;
mod health;
mod inspect;
mod joined;
mod limits;
mod links;
mod list;
mod log_files;
mod log_options;
mod logs;
mod merge;
mod mounts;
mod names;
mod networks;
mod plan;
mod ports;
mod record;
mod recovery;
mod restarts;
mod routes;
mod running;
mod runs;
mod starts;
mod stops;
mod store;
mod streams;
mod users;
mod wait;

pub(crate) use routes::route;
pub(crate) use store::Store;
