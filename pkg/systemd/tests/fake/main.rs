//! The crate against a fake systemd on a message bus of its own (dbus-daemon): what a real one does rarely or never on
//! request. The real one is met by `test/e2e/tests/systemd.rs`.
#![forbid(unsafe_code)]

mod bus;
mod calls;
mod cgroups;
mod manager;
