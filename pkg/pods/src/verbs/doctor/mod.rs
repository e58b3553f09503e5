//! What belongs to nobody: found, and taken away if that is wanted.
//!
//! A pod is known from before anything of it is made until everything of it is gone: its name is claimed, then its directory
//! is made; at the end the directory goes after all else, then the name. So each search first looks at what there is and
//! *then* asks who is known: an object of a pod that is being made is never taken for a leak, because the pod was
//! known before the object was there. Ids are random and never come again.
//!
//! What is searched is husk's own, and this daemon's: directories below its root and state, links on its bridge and elements of
//! its nftables table, processes of its monitor's binary with one of its pod directories, cgroups with its mark. What merely
//! looks like it (another husk's, another runtime's, a stranger's with such a name) is not even reported.

mod directories;
mod examine;
mod groups;
mod known;
mod networks;
mod processes;
mod search;

pub(crate) use examine::Doctor;
pub use search::{Decide, Finding, Leak};
