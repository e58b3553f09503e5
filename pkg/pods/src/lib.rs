//! The lifecycle of pod sandboxes and containers: one owner task per pod, recovery, garbage.
#![forbid(unsafe_code)]
