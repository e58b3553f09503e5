//! cgroup v1, hybrid and v2: hierarchy, limits, freezer, kill, OOM and statistics.
#![forbid(unsafe_code)]
