//! End-to-end tests against a real huskd.
#![forbid(unsafe_code)]
