//! What the tests of all crates share.
//!
//! | module | what |
//! | --- | --- |
//! | `skip` | the one way for a test not to run: said aloud, counted, documented |
//! | `wait` | waits for what no event announces, with a deadline |
//! | `fuse` | a filesystem whose answers a test holds back |
//! | `ordinary` | requests and the like that say nothing but a name, for tests to change |
#![forbid(unsafe_code)]

pub mod fuse;
mod ordinary;
mod skip;
mod wait;

pub use ordinary::{container, mount, pod, pod_status};
pub use skip::skip;
pub use wait::{eventually, eventually_every, eventually_with};
