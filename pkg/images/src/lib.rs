//! Image references, registry client, pull pipeline, store and garbage collection.
#![forbid(unsafe_code)]
