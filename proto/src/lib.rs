//! The CRI v1 wire contract, the daemon-to-monitor protocol, the Node Resource Interface, OpenTelemetry's traces, and BuildKit's
//! control.
#![forbid(unsafe_code)]

/// The protocol between huskd and husk-podmon; `proto/podmon/v1/podmon.proto` describes each message and its rules.
#[cfg(feature = "podmon")]
#[allow(missing_docs, clippy::all, rustdoc::all)]
pub mod podmon {
    include!(concat!(env!("OUT_DIR"), "/husk.podmon.v1.rs"));

    /// Revision of the protocol. Raised when a client must know whether a monitor has a new call or field.
    pub const PROTOCOL: u32 = 1;

    /// Longest frame either side accepts, in bytes: two exec streams of 16 MiB and what surrounds them.
    pub const MAX_FRAME: usize = 33 << 20;

    /// Longest request a monitor accepts, in bytes. A spec with thousands of mounts and variables stays far below.
    pub const MAX_REQUEST: usize = 4 << 20;
}

#[cfg(feature = "podmon")]
mod kind;

/// The Container Runtime Interface.
#[cfg(feature = "cri")]
pub mod cri {
    /// Version 1; `proto/cri/v1/api.proto` describes each message.
    #[allow(missing_docs, deprecated, rust_2018_idioms, clippy::all, rustdoc::all)]
    pub mod v1 {
        tonic::include_proto!("runtime.v1");

        /// The encoded `FileDescriptorSet` of the contract.
        pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cri.v1.descriptors"));
    }
}

#[cfg(any(feature = "cri", feature = "admin"))]
pub mod status;

/// husk's own service for operators; `proto/husk/v1` describes each message.
#[cfg(feature = "admin")]
#[allow(missing_docs, rust_2018_idioms, clippy::all, rustdoc::all)]
pub mod admin {
    tonic::include_proto!("husk.v1");
}

/// The Node Resource Interface; `proto/nri/v1alpha1/api.proto` describes each message.
#[cfg(feature = "nri")]
#[allow(missing_docs, clippy::all, rustdoc::all)]
pub mod nri {
    include!(concat!(env!("OUT_DIR"), "/nri.pkg.api.v1alpha1.rs"));
}

/// OpenTelemetry's protocol for traces, as far as husk speaks it; `proto/otlp/v1/traces.proto` describes each message.
#[cfg(feature = "otlp")]
#[allow(missing_docs, rust_2018_idioms, clippy::all, rustdoc::all)]
pub mod otlp {
    tonic::include_proto!("opentelemetry.proto.collector.trace.v1");
}

/// BuildKit's control and the sessions of its clients, as far as husk speaks them; `proto/buildkit/v1/buildkit.proto` describes each message.
#[cfg(feature = "buildkit")]
#[allow(missing_docs, clippy::all, rustdoc::all)]
pub mod buildkit {
    include!(concat!(env!("OUT_DIR"), "/moby.buildkit.v1.rs"));
}

/// Content of ttrpc's frames; `proto/ttrpc/ttrpc.proto` describes each message.
#[cfg(feature = "nri")]
#[allow(missing_docs, clippy::all, rustdoc::all)]
pub mod ttrpc {
    include!(concat!(env!("OUT_DIR"), "/ttrpc.rs"));
}
