//! The runtime's side against plugins of every kind: good, slow, broken, hostile.

mod fake;
mod hostile;
mod join;
mod requests;
