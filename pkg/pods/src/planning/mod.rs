//! What is to be made, decided before anything is: pure functions of the request, the image and what was found on the node.
//!
//! | module | concern |
//! | --- | --- |
//! | `sandbox` | what a pod's monitor is asked for |
//! | `container` | the plan of a container: its record, its spec, what its monitor is asked for |
//! | `user` | who a container runs as |
//! | `relabel` | whose files get a container's SELinux context |
//! | `limits` | limits after a change |
//! | `shown` | what readers see of a container |

mod container;
mod limits;
mod relabel;
mod sandbox;
mod shown;
mod user;

pub(crate) use container::{ContainerPlan, Inputs};
pub(crate) use limits::merge;
pub(crate) use sandbox::{Settings, sandbox_request};
pub(crate) use shown::shown;
