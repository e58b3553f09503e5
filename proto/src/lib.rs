//! The CRI v1 wire contract and the daemon-to-monitor protocol.
#![forbid(unsafe_code)]
