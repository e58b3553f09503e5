//! The types of requests and answers, in Docker's spelling.
//!
//! Requests are read as Go's decoder reads them: names of fields in any case, an unknown field is ignored, and null is as if the field were not there.
//! Answers have every field that the published description of the API requires.

mod anycase;
pub(crate) mod auth;
pub(crate) mod container;
pub(crate) mod image;
mod lenient;
pub(crate) mod network;
#[cfg(test)]
pub(crate) mod required;
pub(crate) mod volume;

pub(crate) use anycase::{from_slice, from_value};
pub(crate) use lenient::{null_is_absent, request};
