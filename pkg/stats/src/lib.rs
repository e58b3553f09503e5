//! CPU, memory, filesystem and network statistics of pods and containers.
#![forbid(unsafe_code)]
