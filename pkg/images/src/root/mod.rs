//! Roots of containers: what is taken out of them as archives, what is put into them, and what a container changed.
//!
//! | module | what |
//! | --- | --- |
//! | `pack` | a tree as an archive, while it is read: a whole root, one path of it, or a writable layer in the form of images |
//! | `member` | one file of a tree as a member of an archive |
//! | `holes` | where large files have no content |
//! | `mounts` | what the runtime left in a writable layer so that it could mount there |
//! | `changes` | what a writable layer changes of the layers below it |
//! | `find` | a path inside a root: what is there |
//! | `put` | an archive unpacked into a directory of a root |
//!
//! A container may be running meanwhile, and it is a stranger: every name is resolved by the kernel inside the root
//! (`openat2(RESOLVE_IN_ROOT)`) or by descriptor without following links, a file is opened only when it is known to be a regular
//! one, nothing leads onto another mount unless a path names it, and what is held in memory is bounded.

mod changes;
mod find;
mod holes;
mod member;
mod mounts;
mod pack;
mod put;

pub use changes::{Change, ChangeKind};
pub use find::{PathStat, archive_path, flatten, stat_path};
pub(crate) use mounts::Mounts;
pub use pack::TreeArchive;
pub(crate) use pack::{Form, Pack};
#[cfg(feature = "fuzzing")]
pub(crate) use put::put_small;
pub use put::{Owners, PutRequest, put_archive};
