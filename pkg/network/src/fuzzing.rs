//! Doors for test/fuzz: what reads the words of CNI plugins and their administrators, one function each.

use std::net::IpAddr;

use crate::cni;

/// Reads a pod's addresses in a plugin's answer.
///
/// # Errors
/// In words.
pub fn cni_result(answer: &[u8]) -> Result<Vec<IpAddr>, String> {
    let result = serde_json::from_slice(answer).map_err(|error| error.to_string())?;
    cni::addresses_of(&result, "eth0")
}

/// Reads a network's configuration; the names of the executables that it would run.
///
/// # Errors
/// In words.
pub fn cni_config(text: &[u8]) -> Result<Vec<String>, String> {
    cni::executables_of(text)
}
