//! The embedded pod network over netlink, and CNI plugins.
#![forbid(unsafe_code)]
