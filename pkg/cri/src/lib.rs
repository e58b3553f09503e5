//! The CRI v1 services: conversion, validation and one tower stack.
//!
//! Messages become domain types in `convert`, errors become statuses (`husk_proto::status`), and [`Observe`] gives every RPC its span,
//! metric and deadline. What is between is thin: one file a group of RPCs, each a few lines around a call of the engine
//! or the image store. Protocol types go no further than this crate.
#![forbid(unsafe_code)]

mod about;
mod convert;
mod doors;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod image;
mod layer;
mod metrics;
mod runtime;
mod status;
mod transport;

pub use doors::{DOOR, Doors, HUSK_DOOR};
pub use image::ImageApi;
pub use layer::{Observe, Observed};
pub use runtime::{RuntimeApi, StreamedContainers};
pub use transport::{Connection, Rewriter};

/// The version of the API that is served.
pub const API_VERSION: &str = "v1";

/// Largest message either way: the kubelet's own limit.
pub const MAX_MESSAGE: usize = 16 << 20;

/// Largest metadata of a call. Go's servers take 16 MiB, Rust's 16 KiB unless they are told; nobody sends more than a few.
pub const MAX_METADATA: u32 = 1 << 20;
