//! Tracing to text or JSON with a level that can change while running, and Prometheus metrics.
#![forbid(unsafe_code)]
