//! Doors for test/fuzz: what reads the kernel's files, some of whose words are a container's.

use husk_node::cgroups;

use crate::stats::parse;

/// Reads a mount table and each of the statistics files; returns how many entries were found.
pub fn kernel_files(text: &str) -> usize {
    let mut devices = parse::io_v2(text);
    parse::io_v1(&mut devices, text, true);
    let _pressure = (parse::pressure(text), parse::limit(text));
    cgroups::from_mount_table(text).len() + parse::keyed(text).count() + devices.len()
}
