//! The Container Device Interface (CNCF specification 1.1): vendors describe in files what a container needs to use a device,
//! and requests name devices as `vendor/class=name`.
//!
//! [`Name`] is a checked device name; [`load`] finds named devices in the directories and returns their [`Edits`]; [`Edits::apply`]
//! puts those into an OCI spec. The files are the administrator's and are trusted as such. Names come from CRI requests only: no
//! label, annotation or file of an image is ever looked at (CVE-2026-53492).
#![forbid(unsafe_code)]

mod edits;
mod error;
mod files;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod name;
mod spec;

pub use edits::Edits;
pub use error::CdiError;
pub use files::load;
pub use name::Name;
