//! The pod monitor: one per pod, runs containers, writes logs, keeps exits.
#![forbid(unsafe_code)]

fn main() {}
