//! Typed ids, validated domain types, error kinds and state machines; no I/O.
#![forbid(unsafe_code)]
