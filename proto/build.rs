//! Compiles the contracts of the enabled features with protox, so that no protoc is needed.

use std::{env, error::Error, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_PODMON").is_some() {
        podmon()?;
    }
    if env::var_os("CARGO_FEATURE_CRI").is_some() {
        cri()?;
    }
    if env::var_os("CARGO_FEATURE_ADMIN").is_some() {
        admin()?;
    }
    if env::var_os("CARGO_FEATURE_NRI").is_some() {
        nri()?;
    }
    if env::var_os("CARGO_FEATURE_OTLP").is_some() {
        otlp()?;
    }
    if env::var_os("CARGO_FEATURE_BUILDKIT").is_some() {
        buildkit()?;
    }
    Ok(())
}

/// What is said to BuildKit: messages without a client, which pkg/build has.
fn buildkit() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=buildkit");
    let files = protox::compile(["buildkit/v1/buildkit.proto"], ["."])?;
    prost_build::Config::new().btree_map(["."]).bytes(["."]).compile_fds(files)?;
    Ok(())
}

/// OpenTelemetry's protocol for traces: a client, and for tests the collector.
fn otlp() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=otlp");
    let files = protox::compile(["otlp/v1/traces.proto"], ["."])?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}

/// The daemon-to-monitor protocol: plain messages, no service.
fn podmon() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=podmon");
    let files = protox::compile(["podmon/v1/podmon.proto"], ["."])?;
    prost_build::Config::new().compile_fds(files)?;
    Ok(())
}

/// The CRI: client and server, and the descriptors for the test that compares them with the published contract.
fn cri() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=cri");
    let files = protox::compile(["cri/v1/api.proto"], ["."])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    std::fs::write(out.join("cri.v1.descriptors"), prost::Message::encode_to_vec(&files))?;
    // Bytes fields share the buffer that a message was received in.
    tonic_prost_build::configure().bytes(".").compile_fds(files)?;
    Ok(())
}

/// husk's own service for operators.
fn admin() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=husk");
    let files =
        protox::compile(["husk/v1/images.proto", "husk/v1/node.proto", "husk/v1/workloads.proto"], ["."])?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}

/// The Node Resource Interface and the messages of ttrpc, which carries it. Sorted maps: what is sent does not change from
/// one run to the next.
fn nri() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=nri");
    println!("cargo::rerun-if-changed=ttrpc");
    let files = protox::compile(["nri/v1alpha1/api.proto", "ttrpc/ttrpc.proto"], ["."])?;
    prost_build::Config::new().btree_map(["."]).compile_fds(files)?;
    Ok(())
}
