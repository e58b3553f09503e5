//! What somebody wrote: every key optional.

use serde::Deserialize;

macro_rules! raw {
    ($(#[$doc:meta])* $name:ident { $($key:ident: $kind:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Deserialize)]
        #[serde(default)]
        #[allow(missing_docs)]
        pub struct $name { $(pub $key: $kind),* }

        impl $name {
            /// The keys, for messages about unknown ones.
            pub(crate) const KEYS: &[&str] = &[$(stringify!($key)),*];

            /// What `over` sets replaces what is here.
            pub fn merge(&mut self, over: Self) {
                $(Merge::merge(&mut self.$key, over.$key);)*
            }
        }

        impl Merge for $name {
            fn merge(&mut self, over: Self) {
                $name::merge(self, over);
            }
        }
    };
}

pub(crate) trait Merge {
    fn merge(&mut self, over: Self);
}

impl<T> Merge for Option<T> {
    fn merge(&mut self, over: Self) {
        if over.is_some() {
            *self = over;
        }
    }
}

raw! {
    /// A whole file, or the flags.
    Raw {
        root: Option<String>,
        state: Option<String>,
        address: Option<String>,
        network: RawNetwork,
        images: RawImages,
        cgroup: RawCgroup,
        log: RawLog,
        metrics: RawMetrics,
        tracing: RawTracing,
        doctor: RawDoctor,
        runtime: RawRuntime,
        nri: RawNri,
        streaming: RawStreaming,
        docker: RawDocker,
    }
}

raw! {
    /// `[network]`
    RawNetwork {
        cni_conf_dir: Option<String>,
        cni_bin_dir: Option<String>,
        bridge: Option<String>,
        subnet: Option<String>,
        subnet6: Option<String>,
        mtu: Option<u32>,
        nft_table: Option<String>,
        netns_pool: Option<usize>,
    }
}

raw! {
    /// `[images]`
    RawImages {
        registry_config_dir: Option<String>,
        registries_conf: Option<String>,
        max_parallel_layers: Option<usize>,
        pull_progress_timeout: Option<String>,
        signature_policy: Option<String>,
        auth_file: Option<String>,
        credential_helper_dir: Option<String>,
        pinned_images: Option<Vec<String>>,
    }
}

raw! {
    /// `[cgroup]`
    RawCgroup { driver: Option<String>, parent: Option<String> }
}

raw! {
    /// `[log]`
    RawLog { level: Option<String>, format: Option<String> }
}

raw! {
    /// `[metrics]`
    RawMetrics { address: Option<String> }
}

raw! {
    /// `[tracing]`
    RawTracing { endpoint: Option<String>, sampling_rate_per_million: Option<u32>, tls_ca: Option<String> }
}

raw! {
    /// `[doctor]`
    RawDoctor { interval: Option<String>, repair: Option<bool> }
}

raw! {
    /// `[runtime]`
    RawRuntime {
        podmon: Option<String>,
        pause: Option<String>,
        cdi_dirs: Option<Vec<String>>,
        handlers: Option<Vec<String>>,
        unprivileged_ports: Option<bool>,
        unprivileged_icmp: Option<bool>,
    }
}

raw! {
    /// `[nri]`
    RawNri {
        enabled: Option<bool>,
        socket: Option<String>,
        plugin_dir: Option<String>,
        plugin_config_dir: Option<String>,
        registration_timeout: Option<String>,
        request_timeout: Option<String>,
    }
}

raw! {
    /// `[streaming]`
    RawStreaming {
        address: Option<String>,
        tls_certificate: Option<String>,
        tls_key: Option<String>,
        tls_client_ca: Option<String>,
        idle_timeout: Option<String>,
        creation_timeout: Option<String>,
        max_sessions: Option<usize>,
    }
}

raw! {
    /// `[docker]`
    RawDocker { address: Option<String>, group: Option<String>, mode: Option<String>, buildkitd: Option<String> }
}

/// Keys of a section by its name; the empty name is the top level.
pub(crate) fn keys(section: &str) -> Option<&'static [&'static str]> {
    match section {
        "" => Some(Raw::KEYS),
        "network" => Some(RawNetwork::KEYS),
        "images" => Some(RawImages::KEYS),
        "cgroup" => Some(RawCgroup::KEYS),
        "log" => Some(RawLog::KEYS),
        "metrics" => Some(RawMetrics::KEYS),
        "tracing" => Some(RawTracing::KEYS),
        "doctor" => Some(RawDoctor::KEYS),
        "runtime" => Some(RawRuntime::KEYS),
        "nri" => Some(RawNri::KEYS),
        "streaming" => Some(RawStreaming::KEYS),
        "docker" => Some(RawDocker::KEYS),
        _ => None,
    }
}
