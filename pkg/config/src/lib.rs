//! Defaults, TOML file, drop-ins and flags resolved into one checked configuration.
#![forbid(unsafe_code)]
