//! husk-oci as its callers see it: real bundles, with a root of busybox. Needs root and a static busybox.

mod attacks;
mod handed;
mod lives;
mod world;
