//! Doors for test/fuzz: what reads vendors' files.

use std::path::Path;

use oci_spec::runtime::Spec;

use crate::{Edits, Name, files};

/// Reads a file and applies what it has for its first device; `None` when it is refused.
pub fn spec_file(text: &str, json: bool, spec: &mut Spec) -> Option<()> {
    let file = files::parse(text, json).ok()?;
    let device = file.devices.first()?;
    let name = Name { kind: file.kind.clone(), device: device.name.clone() };
    let mut edits = Edits::default();
    edits.add(&name, Path::new("vendor.json"), &device.container_edits).ok()?;
    edits.apply(spec, Some(1000)).ok()
}
