//! The real monitor with real containers, driven through the daemon's handle on it. Needs root and busybox-static.
#![forbid(unsafe_code)]

mod cost;
mod ends;
mod exec;
mod life;
mod logs;
mod outage;
mod program;
mod stuck;
mod world;
