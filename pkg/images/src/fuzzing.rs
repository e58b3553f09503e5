//! Doors for test/fuzz: what reads strangers' bytes, one function each. Panics are findings.

use std::{
    fs,
    io::{BufReader, Read},
    path::Path,
};

use crate::{
    DiffId, Reference, UnpackError,
    archive::{docker_names, reproduce},
    details,
    inflate::decoder,
    make,
    manifest::{ConfigFile, DOCKER_INDEX, DOCKER_MANIFEST, Document, OCI_INDEX, OCI_MANIFEST},
    platform::Platform,
    registry,
    root::put_small,
    stop::Stop,
    tar::{EntryKind, Sink, TarError, TarReader},
    unpack::{
        Destination,
        limits::{Budget, Meter, Resource, TRAILING_MAX},
        unpack,
    },
};

/// A member of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// As the archive spells it.
    pub path: Vec<u8>,
    /// Whether it is a regular file.
    pub regular: bool,
    /// Target of a link.
    pub link: Vec<u8>,
    /// Content without the holes of a sparse file.
    pub content: Vec<u8>,
    /// Whether it has holes.
    pub sparse: bool,
}

/// Everything that came out of an archive.
#[derive(Debug, Default)]
pub struct Archive {
    /// The members, in order.
    pub members: Vec<Member>,
    /// All bytes in the order in which they were seen: an export is made of them.
    pub seen: Vec<u8>,
    /// Whether the archive was read to its end without an error.
    pub whole: bool,
}

#[derive(Default)]
struct Seen(Vec<u8>);

impl Sink for Seen {
    fn raw(&mut self, bytes: &[u8]) -> Result<(), TarError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Reads an archive through buffers of `buffer` bytes.
pub fn tar(bytes: &[u8], buffer: usize) -> Archive {
    let mut archive = Archive::default();
    let mut reader = TarReader::new(BufReader::with_capacity(buffer.max(1), bytes), Seen::default());
    archive.whole = members(&mut reader, &mut archive.members).is_ok();
    archive.seen = reader.sink.0;
    archive
}

fn members<R: std::io::BufRead>(
    reader: &mut TarReader<R, Seen>,
    members: &mut Vec<Member>,
) -> Result<(), TarError> {
    while let Some(entry) = reader.next_entry()? {
        let mut content = Vec::new();
        loop {
            let piece = reader.content()?.to_vec();
            if piece.is_empty() {
                break;
            }
            reader.consume(piece.len());
            reader.sink.raw(&piece)?;
            content.extend(piece);
        }
        members.push(Member {
            path: entry.path,
            regular: entry.kind == EntryKind::Regular,
            link: entry.link,
            content,
            sparse: entry.sparse.is_some(),
        });
    }
    reader.drain(TRAILING_MAX)
}

/// What a layer came to.
#[derive(Debug)]
pub struct Layer {
    /// Files, directories and links that were counted, and directories that it uses without describing them.
    pub inodes: u64,
    /// What an export makes of it.
    pub exported: Vec<u8>,
}

/// Unpacks an archive into `dir/layer`; what the unpacker keeps beside it is in `dir/aside` and `dir/record`.
///
/// # Errors
/// Why it was refused.
pub fn layer(bytes: &[u8], dir: &Path) -> Result<Layer, UnpackError> {
    let destination =
        Destination { root: dir.join("layer"), aside: dir.join("aside"), record: dir.join("record") };
    let io = |source| UnpackError::Io { step: "make", path: dir.display().to_string(), source };
    fs::create_dir(&destination.root).map_err(io)?;
    let meter = Meter::new(&Budget::default())
        .limited(Resource::Bytes, 16 << 20)
        .limited(Resource::Inodes, 10_000)
        .limited(Resource::Lookups, 1 << 20);
    let (unpacked, _spent) = unpack(bytes, &destination, None, meter, &Stop::default())?;
    let mut exported = Vec::new();
    reproduce(&destination, &mut exported).map_err(io)?;
    Ok(Layer { inodes: unpacked.inodes, exported })
}

/// Inflates what a layer may be compressed with; at most `limit` bytes.
pub fn inflate(mut bytes: &[u8], limit: u64) -> Vec<u8> {
    let mut out = Vec::new();
    if let Ok(decoder) = decoder(&mut bytes, &Stop::default()) {
        let _damaged = decoder.take(limit).read_to_end(&mut out);
    }
    out
}

/// Reads a manifest or index as each of the types that a registry may call it, and as a configuration.
///
/// # Panics
/// When one document is read in two ways (CVE-2021-41190).
pub fn manifest(bytes: &[u8]) {
    let index_as = |content_type| match Document::parse(bytes, content_type) {
        Ok(Document::Index(entries)) => {
            entries.iter().flat_map(|entry| &entry.platform).for_each(|platform| {
                let _suits = Platform::host().suits(platform);
                let _text = platform.to_string();
            });
            Some(true)
        }
        Ok(Document::Manifest(_)) => Some(false),
        Err(_) => None,
    };
    let unnamed = index_as(None);
    for (content_type, is_index) in
        [(OCI_INDEX, true), (DOCKER_INDEX, true), (OCI_MANIFEST, false), (DOCKER_MANIFEST, false)]
    {
        let named = index_as(Some(content_type));
        assert!(named.is_none() || named == Some(is_index), "read as what it was not called");
        assert!(named.is_none() || named == unnamed, "two readings of one document");
    }
    if let Ok(config) = ConfigFile::parse(bytes) {
        let _parts = (config.diff_ids().len(), config.platform());
    }
}

/// Reads a configuration for its history, and makes that of a child of it. What a child is made of can be read again.
///
/// # Panics
/// When the child has another layer than it was given, or another history than its parent's and one step.
pub fn child_config(bytes: &[u8]) {
    let before = details::steps(bytes);
    let layer = DiffId::new(husk_model::Digest::from_sha256(&[7; 32]));
    let Ok(child) =
        make::build(Some(bytes), &crate::NewConfig::default(), std::slice::from_ref(&layer), true)
    else {
        return;
    };
    let file = ConfigFile::parse(&child).unwrap_or_else(|error| panic!("the child cannot be read: {error}"));
    assert_eq!(file.diff_ids(), [layer], "the parent's layers are the child's");
    assert!(details::steps(&child) <= before.max(16 << 10) + 1, "steps that nobody made");
}

/// Unpacks an archive into `root`, as into a container, and archives that again; how many members come out, if it was taken.
///
/// # Errors
/// Why it was refused.
///
/// # Panics
/// When the archive that is made cannot be read.
pub fn put(bytes: &[u8], root: &Path, keep_kinds: bool) -> Result<usize, UnpackError> {
    let io = |source| UnpackError::Io { step: "open", path: root.display().to_string(), source };
    let root: std::os::fd::OwnedFd = fs::File::open(root).map_err(io)?.into();
    let put = put_small(&root, bytes, crate::PutRequest { keep_kinds, ..crate::PutRequest::default() });
    let mut again = Vec::new();
    let flat = crate::flatten(&root).unwrap_or_else(|error| panic!("the root cannot be read: {error}"));
    // A file may be longer than what was unpacked of it.
    flat.take(64 << 20)
        .read_to_end(&mut again)
        .unwrap_or_else(|error| panic!("the root cannot be archived: {error}"));
    put?;
    let mut members = 0;
    let mut reader = TarReader::new(&again[..], Seen::default());
    while again.len() < 64 << 20 && reader.next_entry()?.is_some() {
        members += 1;
    }
    Ok(members)
}

/// Reads `hosts.toml` for a reference.
pub fn hosts(text: &str) {
    for reference in ["docker.io/library/busybox", "localhost:5000/a", "[::1]:5000/a"] {
        if let Ok(reference) = Reference::parse(reference) {
            registry::hosts_of(&reference, text);
        }
    }
}

/// Reads a registries.conf and asks it for names.
pub fn registries_conf(text: &str) {
    crate::registries::fuzz(text);
}

/// Reads what a signature says: the digest and the name that it is about.
pub fn signature(bytes: &[u8]) -> Option<(String, String)> {
    let payload = crate::trust::Payload::read(bytes).ok()?;
    Some((payload.digest, payload.reference))
}

/// Reads a signature policy whose keys are not there.
pub fn policy(bytes: &[u8]) {
    let absent = |_: &Path| Err(std::io::Error::from(std::io::ErrorKind::NotFound));
    let _refused = crate::trust::read_policy(Path::new("/nowhere"), bytes, &absent);
}

/// Reads a file of credentials and looks up a name in it.
pub fn credentials(bytes: &[u8]) {
    registry::credentials(bytes);
}

/// Reads a file as containerd's database.
pub fn bolt(path: &Path) {
    crate::takeover::fuzz::bolt(path);
}

/// Reads a tar-split record whose files are in `root`; the beginning of the archive.
pub fn tar_split(bytes: &[u8], root: &Path) -> Vec<u8> {
    crate::takeover::fuzz::tar_split(bytes, root)
}

/// Reads `WWW-Authenticate`; the schemes and parameters.
pub fn challenges(header: &str) -> Vec<(String, Vec<(String, String)>)> {
    registry::challenges(header)
}

/// Opens an archive of `docker save` and reads the names in it.
pub fn docker_archive(path: &Path, spool: &Path) {
    let _refused = docker_names(path, spool);
}
