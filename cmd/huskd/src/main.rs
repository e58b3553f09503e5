//! The husk daemon: serves the Kubernetes CRI.
#![forbid(unsafe_code)]

fn main() {}
