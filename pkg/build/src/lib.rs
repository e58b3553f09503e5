//! Images from Dockerfiles: BuildKit's daemon, run by husk when it is first needed, for Docker's clients.
//!
//! husk builds nothing itself. It starts `buildkitd` with husk's own runtime as its OCI worker, leads clients' connections to it, and changes two
//! things of what they say: where results go, and where images come from. Both are husk's image store, by a small registry that only its builder
//! reaches. Nothing of this runs before the first build, and a while after the last one it has ended.
//!
//! Each of these knows only those above it:
//!
//! | module | concern |
//! | --- | --- |
//! | `error` | why a build, or its daemon, failed |
//! | `grpc` | gRPC over HTTP/2: frames, statuses, calls |
//! | `proxy` | calls that are passed on from one connection to another |
//! | `wire` | protobuf at the level of fields |
//! | `spool` | files that clients send |
//! | `registry` | what builds start from and what they make, in a registry's terms |
//! | `program` | buildkitd as a process |
//! | `places` | how many builders in networks of users there may be |
//! | `site` | where builds happen: a network, the registry, buildkitd; its start and its end |
//! | `aside` | a builder in a network of a user, for one build |
//! | `solve` | a client's build: what is changed of it |
//! | `shown` | what clients are told of a build, with names of images as it has them |
//! | `workers` | what clients are told of the builder's worker |
//! | `session` | a client's session: its files, secrets and credentials |
//! | `control` | a client's calls to buildkitd |
//! | `cache` | the build cache: what it takes, pruning it |
//! | `inputs` | an archive of which files are for the builder alone, as BuildKit's operations |
//! | `classic` | a build that huskd asks for, in place of a client that has only sent its files |
#![forbid(unsafe_code)]

mod aside;
mod cache;
mod classic;
mod control;
mod error;
mod grpc;
mod inputs;
mod places;
mod program;
mod proxy;
mod registry;
mod session;
mod shown;
mod site;
mod solve;
mod spool;
mod wire;
mod workers;

pub use aside::Aside;
pub use cache::{CacheRecord, PruneWish};
pub use classic::{BuildRequest, BuildStep, Log, Source, Step};
pub use control::Control;
pub use error::{BuildError, Result};
pub use program::{LAUNCH, launch};
pub use session::Session;

pub use site::{Awake, Builder, BuilderConfig, Built};
pub use spool::Spool;
