//! Compiles the contracts of the enabled features with protox, so that no protoc is needed.

use std::{env, error::Error};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_PODMON").is_some() {
        podmon()?;
    }
    Ok(())
}

/// The daemon-to-monitor protocol: plain messages, no service.
fn podmon() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=podmon");
    let files = protox::compile(["podmon/v1/podmon.proto"], ["."])?;
    prost_build::Config::new().compile_fds(files)?;
    Ok(())
}
