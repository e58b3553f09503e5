//! The files of an archive by name, without unpacking it: a tar is indexed once and read in place.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use crate::{
    ImageError, Result, UnpackError,
    inflate::decoder,
    stop::Stop,
    tar::{EntryKind, Sink, TarError, TarReader},
    unpack::{space::Space, tree::clean},
};

/// Most members of an archive. `docker save` writes a few per layer.
const MEMBERS_MAX: usize = 100_000;
/// Symbolic links followed for one name; old `docker save` links equal layers.
const LINKS: usize = 8;
/// Bytes inflated between two looks at whether anybody still waits.
const PIECE: u64 = 4 << 20;
/// Bytes of an inflated archive.
const INFLATED_MAX: u64 = 1 << 40;

/// Where the bytes are.
enum Place {
    Directory(PathBuf),
    /// The tar and the members' offsets and lengths.
    Tar {
        path: PathBuf,
        files: HashMap<Vec<u8>, (u64, u64)>,
        links: HashMap<Vec<u8>, Vec<u8>>,
    },
}

/// An archive that is open for import.
pub(super) struct Members {
    place: Place,
    /// The copy of an archive that was compressed, or came as a stream.
    _spooled: Option<Spooled>,
}

/// Removes its file in the end.
struct Spooled(PathBuf);

impl Drop for Spooled {
    fn drop(&mut self) {
        // What cannot be removed now goes at the next start, which empties the spool.
        let _left = fs::remove_file(&self.0);
    }
}

impl Members {
    /// Opens a directory or a tar, which may be compressed; then it is inflated into `spool` first.
    pub(super) fn open(path: &Path, spool: &Path, stop: &Stop) -> Result<Self> {
        let meta = fs::metadata(path).map_err(failed(format!("open {}", path.display())))?;
        if meta.is_dir() {
            return Ok(Self { place: Place::Directory(path.to_owned()), _spooled: None });
        }
        match inflate(path, spool, stop)? {
            Some(inflated) => {
                let place = index(&inflated.0)?;
                Ok(Self { place, _spooled: Some(inflated) })
            }
            None => Ok(Self { place: index(path)?, _spooled: None }),
        }
    }

    /// Takes a tar in from a stream, plain or compressed.
    pub(super) fn of_stream(archive: impl Read, spool: &Path, stop: &Stop) -> Result<Self> {
        let mut archive = BufReader::with_capacity(256 << 10, archive);
        let spooled = spooled(&mut archive, spool, stop).map_err(failed("take it in".to_owned()))?;
        Ok(Self { place: index(&spooled.0)?, _spooled: Some(spooled) })
    }

    /// A directory that is known to be one.
    pub(super) fn of(directory: &Path) -> Self {
        Self { place: Place::Directory(directory.to_owned()), _spooled: None }
    }

    /// A member and its length; `None` when there is none of that name.
    pub(super) fn member(&self, name: &str) -> Result<Option<(io::Take<File>, u64)>> {
        let clean_name =
            clean(name.as_bytes()).map_err(|error| ImageError::Archive { reason: error.to_string() })?;
        match &self.place {
            Place::Directory(directory) => {
                let path = directory.join(String::from_utf8_lossy(&clean_name).as_ref());
                let file = match File::open(&path) {
                    Ok(file) => file,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    Err(error) => return Err(failed(format!("open {}", path.display()))(error)),
                };
                let length = file.metadata().map_err(failed(format!("inspect {}", path.display())))?.len();
                Ok(Some((file.take(length), length)))
            }
            Place::Tar { path, files, links } => {
                let mut wanted = clean_name;
                for _ in 0..LINKS {
                    if let Some((offset, length)) = files.get(&wanted) {
                        let mut file =
                            File::open(path).map_err(failed(format!("open {}", path.display())))?;
                        file.seek(SeekFrom::Start(*offset))
                            .map_err(failed(format!("read {}", path.display())))?;
                        return Ok(Some((file.take(*length), *length)));
                    }
                    let Some(target) = links.get(&wanted) else { return Ok(None) };
                    wanted = target.clone();
                }
                Ok(None)
            }
        }
    }

    /// A small member as a whole.
    pub(super) fn small(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some((mut member, length)) = self.member(name)? else { return Ok(None) };
        if length > limit {
            return Err(ImageError::Archive {
                reason: format!("{name} has {length} bytes; at most {limit} are read"),
            });
        }
        let mut bytes = Vec::new();
        member.read_to_end(&mut bytes).map_err(failed(format!("read {name}")))?;
        Ok(Some(bytes))
    }
}

pub(super) fn failed(step: String) -> impl FnOnce(io::Error) -> ImageError {
    move |source| ImageError::ArchiveIo { step, source }
}

/// Inflates a compressed tar; `None` when it is not compressed.
fn inflate(path: &Path, spool: &Path, stop: &Stop) -> Result<Option<Spooled>> {
    let fail = || failed(format!("read {}", path.display()));
    let mut input = BufReader::with_capacity(256 << 10, File::open(path).map_err(fail())?);
    let mut magic = [0; 4];
    let read = input.read(&mut magic).map_err(fail())?;
    let compressed = magic[..read].starts_with(&[0x1f, 0x8b]) || magic[..read] == [0x28, 0xb5, 0x2f, 0xfd];
    if !compressed {
        return Ok(None);
    }
    input.rewind().map_err(fail())?;
    spooled(&mut input, spool, stop).map(Some).map_err(failed(format!("inflate {}", path.display())))
}

/// Writes what `input` holds, inflated, to a file in `spool`.
fn spooled(input: &mut dyn BufRead, spool: &Path, stop: &Stop) -> io::Result<Spooled> {
    let name = format!("{}-{:?}", std::process::id(), std::thread::current().id());
    let spooled = Spooled(spool.join(name.replace(['(', ')'], "")));
    let mut output = File::create(&spooled.0)?;
    let mut stream = decoder(input, stop)?.take(INFLATED_MAX);
    let (mut space, mut written) = (Space::default(), 0);
    loop {
        stop.check()?;
        let full = |error: UnpackError| io::Error::new(io::ErrorKind::StorageFull, error);
        space.check(&output, written, 0).map_err(full)?;
        match io::copy(&mut (&mut stream).take(PIECE), &mut output)? {
            0 => break,
            more => written += more,
        }
    }
    output.flush()?;
    Ok(spooled)
}

struct Nowhere;

impl Sink for Nowhere {
    fn raw(&mut self, _bytes: &[u8]) -> Result<(), TarError> {
        Ok(())
    }
}

fn index(path: &Path) -> Result<Place> {
    let broken = |error: TarError| ImageError::Archive { reason: error.to_string() };
    let file = File::open(path).map_err(failed(format!("open {}", path.display())))?;
    let mut reader = TarReader::new(BufReader::with_capacity(256 << 10, file), Nowhere);
    let (mut files, mut links) = (HashMap::new(), HashMap::new());
    while let Some(entry) = reader.next_entry().map_err(broken)? {
        let refused = |error: crate::UnpackError| ImageError::Archive { reason: error.to_string() };
        let name = clean(&entry.path).map_err(refused)?;
        match entry.kind {
            EntryKind::Regular if entry.sparse.is_none() => {
                files.insert(name, (reader.offset(), entry.size));
            }
            EntryKind::Hardlink => {
                links.insert(name, clean(&entry.link).map_err(refused)?);
            }
            EntryKind::Symlink => {
                if let Some(target) = beside(&name, &entry.link) {
                    links.insert(name, target);
                }
            }
            _ => {}
        }
        if files.len() + links.len() > MEMBERS_MAX {
            return Err(ImageError::Archive { reason: format!("more than {MEMBERS_MAX} members") });
        }
    }
    Ok(Place::Tar { path: path.to_owned(), files, links })
}

/// The member a relative link means. Resolved within the archive's names only; one that leaves them means nothing.
fn beside(name: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    let mut parts: Vec<&[u8]> = name.split(|b| *b == b'/').collect();
    parts.pop();
    for part in target.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join(&b'/'))
}
