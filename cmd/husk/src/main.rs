//! The operator's command line for husk.
#![forbid(unsafe_code)]

fn main() {}
