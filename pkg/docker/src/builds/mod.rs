//! Images from Dockerfiles. husk builds nothing itself: clients are led to BuildKit's daemon (`husk_build`).
//!
//! | module | concern |
//! | --- | --- |
//! | `hijacked` | `/grpc` and `/session`: clients that talk to BuildKit themselves |
//! | `wanted` | the query of `/build`, as BuildKit's Dockerfile frontend is told it |
//! | `ignored` | which of an archive's files are for the builder alone |
//! | `told` | what a build says, in the words of the classic builder or in BuildKit's |
//! | `build` | `/build` |
//! | `cache` | `/build/prune`, and what the cache takes |

mod build;
mod cache;
mod hijacked;
mod ignored;
mod routes;
mod told;
mod wanted;

pub(crate) use cache::{shown, usage};
pub(crate) use routes::route;
