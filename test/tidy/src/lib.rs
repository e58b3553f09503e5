//! Checks of the repository itself: layers, module docs, unsafe code.
#![forbid(unsafe_code)]
