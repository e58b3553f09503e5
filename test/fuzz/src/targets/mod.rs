//! The targets, by who wrote the bytes.

mod archives;
mod calls;
mod documents;
mod input;
mod messages;
mod names;
mod node;
mod requests;
mod streams;
mod takeover;

use crate::Target;

/// A request, answer or file of a few pages.
const PAGES: usize = 16 << 10;
/// An archive with some members.
const ARCHIVE: usize = 32 << 10;
/// What a small input may take: buffers of a fixed size, and what JSON becomes in memory.
const USUAL: usize = 4 << 20;

const fn target(name: &'static str, seeds: fn() -> Vec<Vec<u8>>, run: fn(&[u8])) -> Target {
    Target { name, length: PAGES, memory: USUAL, factor: 256, seeds, run }
}

const fn archive(name: &'static str, seeds: fn() -> Vec<Vec<u8>>, run: fn(&[u8])) -> Target {
    Target { name, length: ARCHIVE, memory: 8 << 20, factor: 256, seeds, run }
}

/// All of them.
pub static TARGETS: &[Target] = &[
    // What an image's author wrote.
    archive("tar", archives::tars, archives::tar),
    target("made_archive", archives::recipes, archives::made_archive),
    archive("layer", archives::tars, archives::layer),
    // What is unpacked into a container is archived again, 64 MiB of it.
    Target { memory: 160 << 20, ..archive("put", archives::tars, archives::put) },
    // A decoder gets 32 MiB of output; the windows of zstd and gzip are C's and bounded by the decoder.
    Target { memory: 80 << 20, ..archive("inflate", archives::compressed, archives::inflate) },
    target("manifest", documents::manifests, documents::manifest),
    target("child_config", documents::manifests, documents::child_config),
    // The other implementation's regular expressions are compiled by the first that it takes.
    Target { memory: 16 << 20, ..target("reference", documents::references, documents::reference) },
    target("hosts", documents::hosts_files, documents::hosts),
    target("signature", documents::signatures, documents::signature),
    target("policy", documents::policies, documents::policy),
    target("credentials", documents::credential_files, documents::credentials),
    target("registries_conf", documents::registries_confs, documents::registries_conf),
    target("challenge", documents::challenges, documents::challenge),
    archive("docker_archive", archives::docker_archives, archives::docker_archive),
    target("users", node::user_files, node::users),
    target("child", messages::child_messages, messages::child),
    // What another runtime wrote.
    archive("bolt", takeover::bolts, takeover::bolt),
    // A line of a record may have 16 MiB, and is held a few times while it is decoded.
    Target { memory: 96 << 20, ..target("tar_split", takeover::tar_splits, takeover::tar_split) },
    // What a container, or a name server, wrote.
    target("names", names::queries, names::query),
    // What a client wrote.
    // Held bytes, two results and their buffers: nothing is kept for a field.
    Target { memory: 16 << 10, factor: 10, ..target("rewritten", calls::connections, calls::rewritten) },
    target("spdy", streams::spdy_talks, streams::spdy),
    target("websocket", streams::websocket_talks, streams::websocket),
    target("upgrade", streams::upgrades, streams::upgrade),
    // What other programs of the node wrote.
    target("cni", node::cni_files, node::cni),
    target("monitor", messages::monitor_talks, messages::monitor),
    target("nri", messages::nri_talks, messages::nri),
    target("cri", requests::requests, requests::cri),
    target("seccomp", documents::seccomp_profiles, documents::seccomp),
    target("cdi", documents::cdi_files, documents::cdi),
    target("records", requests::records, requests::record),
    target("kernel", node::kernel_files, node::kernel),
    target("config", node::configs, node::config),
];

impl Target {
    /// The target called `name`.
    pub fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }
}
