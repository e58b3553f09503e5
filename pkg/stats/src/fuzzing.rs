//! Doors for test/fuzz: what reads the kernel's files, some of whose words are a container's.

/// Reads interfaces' counters, a mount table and a process's limits; returns the names of the interfaces.
pub fn kernel_files(text: &str) -> Vec<String> {
    let _found = (crate::volume::source(text, "0:1"), crate::processes::parse_limit(text));
    crate::network::parse(text).into_iter().map(|interface| interface.name).collect()
}
