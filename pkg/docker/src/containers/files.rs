//! Files of a container, whether it runs or not: archives of a path (`docker cp`), its whole root, what it changed.

use std::{
    io::Read,
    ops::ControlFlow,
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use husk_images::{ChangeKind, Owners, PathStat, PutRequest, TreeArchive};
use husk_model::Rootfs;
use husk_runtime::stopped_root;
use hyper::{
    StatusCode,
    header::{HeaderName, HeaderValue},
};
use rustix::fs::{CWD, FileType, Mode, OFlags, openat};
use serde_json::{Value, json};
use tokio::sync::OwnedMutexGuard;

use super::{
    container::Container,
    mounts::MountPoint,
    record::{self, Record},
    store::Store,
};
use crate::{
    error::{Failure, Result},
    http::{Answer, Call, empty, streamed_as},
    threads::{self, Place},
    when,
};

/// Where a client reads what is at a path.
const STAT: HeaderName = HeaderName::from_static("x-docker-container-path-stat");
/// Bytes of an archive that are sent at once.
const PIECE: usize = 64 << 10;
/// Most changes that are told.
const MOST_CHANGES: usize = 1 << 20;

/// A directory of the node that stands for a part of a container's tree.
struct Root {
    dir: OwnedFd,
    /// The path in it.
    path: PathBuf,
    writable: bool,
    _place: Place,
    /// While its root is mounted here it is not started.
    _turn: Option<OwnedMutexGuard<()>>,
}

impl Store {
    // === docker cp ===

    /// HEAD: what is at a path.
    ///
    /// # Errors
    /// 404 when nothing is there.
    pub(super) async fn stat_archive(&self, container: &Arc<Container>, call: &Call) -> Result<Answer> {
        let root = self.root_at(container, call.query.need("path")?, false).await?;
        let stat = blocking(move || Ok(husk_images::stat_path(&root.dir, &root.path)?)).await?;
        let mut answer = empty(StatusCode::OK);
        answer.headers_mut().insert(STAT, stat_header(&stat)?);
        Ok(answer)
    }

    /// GET: an archive of what is at a path.
    ///
    /// # Errors
    /// 404 when nothing is there.
    pub(super) async fn get_archive(&self, container: &Arc<Container>, call: &Call) -> Result<Answer> {
        let root = self.root_at(container, call.query.need("path")?, false).await?;
        let found = blocking(move || {
            let (stat, archive) = husk_images::archive_path(&root.dir, &root.path)?;
            Ok((stat, archive, root))
        });
        let (stat, archive, root) = found.await?;
        let mut answer = send(archive, root);
        answer.headers_mut().insert(STAT, stat_header(&stat)?);
        Ok(answer)
    }

    /// PUT: unpacks an archive at a path.
    ///
    /// # Errors
    /// 404 without a directory there, 403 where nothing may be written, 400 for what is no archive.
    pub(super) async fn put_archive(&self, container: &Arc<Container>, call: Call) -> Result<Answer> {
        let path = call.query.need("path")?.to_owned();
        let request = PutRequest {
            // The client asks for the archive's; without it files are root's.
            owners: if call.query.flag("copyUIDGID") { Owners::Archive } else { Owners::All(0, 0) },
            keep_kinds: call.query.flag("noOverwriteDirNonDir"),
        };
        // Also where it is refused: a client that is still sending reads no answer.
        let archive = call.content.into_blocking();
        let root = self.root_at(container, &path, true).await?;
        if !root.writable {
            return Err(Failure::forbidden("container rootfs is marked read-only"));
        }
        blocking(move || Ok(husk_images::put_archive(&root.dir, &root.path, archive, request)?)).await?;
        Ok(empty(StatusCode::OK))
    }

    /// GET export: all of it.
    ///
    /// # Errors
    /// Those of mounting it.
    pub(super) async fn export(&self, container: &Arc<Container>) -> Result<Answer> {
        let root = self.whole_root(container, false, threads::place().await?).await?;
        let (archive, root) = blocking(move || Ok((husk_images::flatten(&root.dir)?, root))).await?;
        self.publish(&container.record(), "export", []);
        Ok(send(archive, root))
    }

    /// GET changes: against its image.
    ///
    /// # Errors
    /// Those of reading it.
    pub(super) async fn changes(&self, container: &Arc<Container>) -> Result<Value> {
        let record = container.record();
        let _place = threads::place().await?;
        let (tell, told) = std::sync::mpsc::channel();
        let mut left = MOST_CHANGES;
        let each = move |change: husk_images::Change| {
            left -= 1;
            match tell.send(change) {
                Ok(()) if left > 0 => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            }
        };
        let upper = upper(&container.dir)?;
        self.0.shared.images.changes(&record.image, upper, places(&record), each).await?;
        let mut changes: Vec<_> = told.into_iter().collect();
        changes.sort_by(|a, b| a.path.cmp(&b.path));
        let kind = |kind| match kind {
            ChangeKind::Modified => 0,
            ChangeKind::Added => 1,
            ChangeKind::Deleted => 2,
        };
        let changes = changes
            .iter()
            .map(|change| json!({ "Path": change.path.to_string_lossy(), "Kind": kind(change.kind) }));
        Ok(changes.collect::<Vec<_>>().into())
    }

    // === roots ===

    /// The tree that a path of a container is in: its root, or a volume's where it does not run.
    async fn root_at(&self, container: &Arc<Container>, path: &str, writable: bool) -> Result<Root> {
        let place = threads::place().await?;
        let path = clean(path);
        let record = container.record();
        if !record.state.is_running()
            && let Some((point, rest)) = mounted_at(&record, &path)
        {
            let source = match point.kind.as_str() {
                "volume" => self.0.shared.volumes.get(&point.name)?.data(),
                _ => PathBuf::from(&point.source),
            };
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let subpath = point.besides.as_ref().map(|besides| besides.subpath.as_str()).unwrap_or_default();
            let whole = openat(CWD, &source, flags, Mode::empty());
            if let Ok(dir) = whole.map_err(Into::into).and_then(|whole| part_of(whole, subpath)) {
                return Ok(Root { dir, path: rest, writable: point.rw, _place: place, _turn: None });
            }
        }
        let root = self.whole_root(container, writable, place).await?;
        let read_only =
            mounted_at(&record, &path).map_or(record.host.readonly_rootfs, |(point, _)| !point.rw);
        Ok(Root { path, writable: !read_only, ..root })
    }

    /// Its root: that which its processes see, or one that is mounted for the caller alone.
    async fn whole_root(&self, container: &Arc<Container>, writable: bool, place: Place) -> Result<Root> {
        let path = PathBuf::from("/");
        if let Some(dir) = self.running_root(container)? {
            return Ok(Root { dir, path, writable: true, _place: place, _turn: None });
        }
        // Two mounts of one writable layer would corrupt it.
        let turn = container.own_turn().await;
        if let Some(dir) = self.running_root(container)? {
            return Ok(Root { dir, path, writable: true, _place: place, _turn: None });
        }
        let rootfs = self.rootfs(container)?;
        let dir = blocking(move || {
            stopped_root(&rootfs, writable)
                .map_err(|failure| Failure::internal(format!("mount the container's root: {failure}")))
        });
        Ok(Root { dir: dir.await?, path, writable: true, _place: place, _turn: Some(turn) })
    }

    fn running_root(&self, container: &Container) -> Result<Option<OwnedFd>> {
        let Ok((_, id)) = container.running() else { return Ok(None) };
        let engine = &self.0.shared.engine;
        let status = engine.container_status(id.as_str())?;
        let Some(process) = status.process else { return Ok(None) };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, format!("/proc/{}/root", process.pid), flags, Mode::empty());
        // The number may be another's by now, but not while the process that had it is there.
        let is_it = husk_node::process::is_alive(process);
        match root {
            Ok(root) if is_it => Ok(Some(root)),
            _ => Ok(None),
        }
    }

    /// Its tree, from the image's layers and its own.
    ///
    /// # Errors
    /// The image is not whole.
    pub(super) fn rootfs(&self, container: &Container) -> Result<Rootfs> {
        let stack = self.0.shared.images.rootfs(&container.record().image)?;
        let layer = record::layer(&container.dir);
        Ok(Rootfs {
            base: stack.base,
            lowers: stack.lowers,
            upper: layer.join("upper"),
            work: layer.join("work"),
            readonly: false,
            durable: true,
        })
    }
}

/// Its writable layer.
pub(super) fn upper(dir: &Path) -> Result<OwnedFd> {
    let upper = record::layer(dir).join("upper");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(CWD, &upper, flags, Mode::empty())
        .map_err(|errno| Failure::io(format!("open {}", upper.display()))(errno.into()))
}

/// Where something is mounted in it.
pub(super) fn places(record: &Record) -> Vec<PathBuf> {
    let own = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/dev", "/proc", "/sys"];
    let own = own.into_iter().map(PathBuf::from);
    own.chain(record.mounts.iter().map(|point| PathBuf::from(&point.destination))).collect()
}

/// The mount that a path is in, and the path in that.
fn mounted_at<'record>(record: &'record Record, path: &Path) -> Option<(&'record MountPoint, PathBuf)> {
    let below = |point: &'record MountPoint| {
        let rest = path.strip_prefix(&point.destination).ok()?;
        let is_dir = path.as_os_str().to_string_lossy().ends_with("/.");
        let rest = Path::new("/").join(rest);
        Some((point, if is_dir { rest.join(".") } else { rest }))
    };
    let mounts = record.mounts.iter().filter(|point| matches!(point.kind.as_str(), "volume" | "bind"));
    mounts.filter_map(below).max_by_key(|(point, _)| point.destination.len())
}

/// What is at a path in a volume, whatever links are in that.
fn part_of(volume: OwnedFd, subpath: &str) -> std::io::Result<OwnedFd> {
    match subpath {
        "" => Ok(volume),
        path => husk_sys::root::Root::new(volume)
            .open(path, OFlags::PATH | OFlags::DIRECTORY)
            .map_err(std::io::Error::other),
    }
}

/// A path from the root, whose end keeps its meaning: `/.` is what is in a directory.
fn clean(path: &str) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    match path.ends_with("/.") || path.ends_with('/') {
        true => PathBuf::from(format!("{}/.", clean.display().to_string().trim_end_matches('/'))),
        false => clean,
    }
}

/// Sends an archive from a thread of its own; the root stays until its end.
fn send(mut archive: TreeArchive, root: Root) -> Answer {
    let (pieces, answer) = streamed_as("application/x-tar");
    tokio::task::spawn_blocking(move || {
        let _held = root;
        let mut piece = vec![0; PIECE];
        loop {
            match archive.read(&mut piece) {
                Ok(0) => return,
                Ok(count) => {
                    if pieces.send_blocking(piece[..count].to_vec()).is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::info!(%error, "an archive of a container's files broke off");
                    return pieces.break_off_blocking();
                }
            }
        }
    });
    answer
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Failure::internal("work on a container's files panicked"))?
}

/// As Go's archive package has it.
fn stat_header(stat: &PathStat) -> Result<HeaderValue> {
    let mtime = stat.mtime.0.saturating_mul(1_000_000_000).saturating_add(i64::from(stat.mtime.1));
    let told = json!({
        "name": stat.name.to_string_lossy(),
        "size": stat.size,
        "mode": go_mode(stat.mode),
        "mtime": when::text(mtime),
        "linkTarget": stat.link_target.as_ref().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default(),
    });
    HeaderValue::from_str(&BASE64_STANDARD.encode(told.to_string()))
        .map_err(|_| Failure::internal("base64 is no header"))
}

/// Go's `os.FileMode`.
fn go_mode(mode: u32) -> u32 {
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => 1 << 31,
        FileType::Symlink => 1 << 27,
        FileType::BlockDevice => 1 << 26,
        FileType::Fifo => 1 << 25,
        FileType::Socket => 1 << 24,
        FileType::CharacterDevice => 1 << 26 | 1 << 21,
        _ => 0,
    };
    let bits = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];
    let special = bits.iter().filter(|(bit, _)| mode & bit != 0).fold(0, |all, (_, go)| all | go);
    kind | special | mode & 0o777
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_go_s() {
        assert_eq!(go_mode(0o040_755), 0x8000_01ed);
        assert_eq!(go_mode(0o100_644), 0o644);
        assert_eq!(go_mode(0o120_777), 1 << 27 | 0o777);
        assert_eq!(go_mode(0o041_777), 1 << 31 | 1 << 20 | 0o777);
    }

    #[test]
    fn a_path_leads_nowhere_above_its_root() {
        for (path, expected) in
            [("a/b", "/a/b"), ("/a/../../b", "/b"), ("/a/.", "/a/."), ("/a/", "/a/."), ("", "/"), ("/", "/.")]
        {
            assert_eq!(clean(path), PathBuf::from(expected), "{path}");
        }
    }
}
