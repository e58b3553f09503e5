//! Images on their way between this store and a builder on this node, in a registry's terms.
//!
//! | module | what |
//! | --- | --- |
//! | `offer` | an image of the store as a registry would have it: a manifest, and layers that are not compressed |
//! | `take` | an image that was pushed: its blobs lie in a directory until its manifest has come |
//!
//! Layers travel as plain archives, so that a layer's blob has the digest that the store knows it by: what one side has, the other need not
//! send.

mod offer;
mod take;

pub use offer::{LayerBlob, OfferedImage};
