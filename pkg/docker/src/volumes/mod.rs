//! Volumes of the local driver: directories that outlive containers.
//!
//! | module | concern |
//! | --- | --- |
//! | `name` | which names there can be |
//! | `options` | what `type`, `device` and `o` mean |
//! | `record` | a volume, as it is on record |
//! | `store` | all of them, and who holds which |
//! | `routes` | requests below `/volumes` |

mod filling;
mod name;
mod options;
mod record;
mod routes;
mod store;

pub(crate) use filling::Filling;
pub(crate) use name::made_up as made_up_name;
pub(crate) use options::Source;
pub(crate) use record::Volume;
pub(crate) use routes::{route, shown, size};
pub(crate) use store::{Held, Volumes, Wanted};
