//! Domain types to an OCI runtime spec: a pure function.
#![forbid(unsafe_code)]
