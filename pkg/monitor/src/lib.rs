//! huskd's handle on a husk-podmon: spawn, reconnect, calls and events.
#![forbid(unsafe_code)]
