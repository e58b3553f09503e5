//! husk-oci as its callers see it: real bundles, with a root of busybox. Needs root and a static busybox.

mod attacks;
mod lives;
mod world;
