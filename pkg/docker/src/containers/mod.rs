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
//! | `log_files`, `log_lines` | the files of a log, one after the other; their lines, and the last of them |
//! | `streams` | copying between a client and a container |
//! | `container` | what is known of one now, and who waits for what |
//! | `plan`, `conflicts` | from a record to what the engine is asked for, and options that contradict its network |
//! | `execs` | commands, remembered |
//! | `store` | all of them |
//! | `exec` | commands in running containers |
//! | `networks`, `links`, `joined` | what a start needs of other containers |
//! | `runs`, `unwritten`, `making` | the pod of a run taken away; what is so although the disk is full; the directory of a new one |
//! | `care` | health checks, run |
//! | `restarts` | restart policies |
//! | `renaming` | another name |
//! | `stops`, `discard`, `starts`, `ends`, `recovery` | the life of one: stop, kill, pause; its removal; its start; its end; what a former daemon left |
//! | `copy_up`, `create` | what new volumes begin with; making |
//! | `files`, `commit`, `wait`, `logs`, `attach`, `running`, `inspect`, `list` | what is asked of one |
//! | `users` | what images, volumes and networks ask |
//! | `routes` | requests |

mod attach;
mod care;
mod commit;
mod conflicts;
mod container;
mod copy_up;
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
mod log_lines;
mod log_options;
mod logs;
mod making;
mod merge;
mod mounts;
mod names;
mod networks;
mod plan;
mod ports;
mod record;
mod recovery;
mod renaming;
mod restarts;
mod routes;
mod running;
mod runs;
mod starts;
mod stops;
mod store;
mod streams;
mod unwritten;
mod users;
mod wait;

pub(crate) use routes::route;
pub(crate) use store::Store;
