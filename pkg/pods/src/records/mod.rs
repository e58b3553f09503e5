//! What huskd writes down, and where.
//!
//! | module | concern |
//! | --- | --- |
//! | `files` | the records of a pod and of a container |
//! | `store` | the directories: reading, writing whole, taking out of sight |
//! | `trash` | deleting in the background |

mod files;
mod store;
mod trash;

pub(crate) use files::{ContainerFile, FORMAT, PodFile};
pub(crate) use store::{OnRecord, Records, ids_in, write_file};
