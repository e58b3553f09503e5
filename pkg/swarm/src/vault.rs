//! Sealed files: a directory of records that only the holder of the key can read.
//!
//! ```text
//! <dir>/key.json          the key of all others: as it is, or itself sealed with the unlock key
//! <dir>/<kind>/<id>       a record: 12 bytes of nonce, then ChaCha20-Poly1305 of its JSON; bound to its kind and id
//! ```
//!
//! `key.json` is what makes the directory a swarm: it is written after the first records and removed before the last. Each file is written
//! whole, for nobody but root. Another unlock key rewrites `key.json` alone.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use husk_node::file::{is_unfinished, replace_private};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    error::{Result, SwarmError},
    ids::{KEY, random},
};

const KEY_FILE: &str = "key.json";
/// Which form the files have. A higher one is a newer husk's.
const FORMAT: u32 = 1;

/// What can be read without a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyFile {
    format: u32,
    /// The node's id, which its containers have as a label.
    pub(crate) node: String,
    /// The key, in base 64: sealed or not.
    key: String,
    /// Whether the unlock key is needed.
    pub(crate) locked: bool,
    /// The swarm is being left; whoever comes next finishes that.
    pub(crate) leaving: bool,
}

/// An open vault.
pub(crate) struct Vault {
    dir: PathBuf,
    key: [u8; KEY],
    file: KeyFile,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl KeyFile {
    /// That of a directory; `None` where there is no swarm.
    ///
    /// # Errors
    /// [`SwarmError::Disk`], [`SwarmError::Broken`].
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(KEY_FILE);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(SwarmError::disk("read", &path))?,
        };
        let file: Self = serde_json::from_slice(&bytes).map_err(|error| broken(dir, &path, error))?;
        match file.format {
            FORMAT => Ok(Some(file)),
            other => Err(broken(dir, &path, format!("its format is {other}, and this husk's is {FORMAT}"))),
        }
    }

    /// Opens the directory; `unlock` is the key of whoever unlocks it.
    ///
    /// # Errors
    /// [`SwarmError::Locked`] without the key, [`SwarmError::WrongKey`], [`SwarmError::Broken`].
    pub(crate) fn open(self, dir: &Path, unlock: Option<&[u8; KEY]>) -> Result<Vault> {
        let path = dir.join(KEY_FILE);
        let bytes = STANDARD.decode(&self.key).map_err(|error| broken(dir, &path, error))?;
        let bytes = match (self.locked, unlock) {
            (false, _) => bytes,
            (true, None) => return Err(SwarmError::Locked),
            (true, Some(unlock)) => opened(unlock, &self.node, bytes).ok_or(SwarmError::WrongKey)?,
        };
        let key = bytes.try_into().map_err(|_| broken(dir, &path, "the key has the wrong length"))?;
        Ok(Vault { dir: dir.to_owned(), key, file: self })
    }

    /// In place of one that cannot be read, of a swarm that is to be left.
    pub(crate) fn unknown() -> Self {
        let (node, key) = Default::default();
        Self { format: FORMAT, node, key, locked: false, leaving: false }
    }

    /// Writes down that the swarm is being left, which needs no key.
    ///
    /// # Errors
    /// [`SwarmError::Disk`].
    pub(crate) fn leave(&mut self, dir: &Path) -> Result<()> {
        let next = Self { leaving: true, ..self.clone() };
        next.write(dir)?;
        *self = next;
        Ok(())
    }

    fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join(KEY_FILE);
        let bytes = serde_json::to_vec(self).map_err(|error| broken(dir, &path, error))?;
        replace_private(&path, &bytes).map_err(SwarmError::disk("write", path))
    }
}

impl Vault {
    /// A new one, which is none before [`Vault::keep`].
    ///
    /// # Errors
    /// [`SwarmError::Disk`].
    pub(crate) fn create(dir: &Path, node: &str) -> Result<Self> {
        erase(dir)?;
        make(dir)?;
        let key = random();
        let file = KeyFile {
            format: FORMAT,
            node: node.to_owned(),
            key: String::new(),
            locked: false,
            leaving: false,
        };
        Ok(Self { dir: dir.to_owned(), key, file })
    }

    /// Writes the key down: as it is, or sealed with another.
    ///
    /// # Errors
    /// [`SwarmError::Disk`].
    pub(crate) fn keep(&mut self, unlock: Option<&[u8; KEY]>) -> Result<()> {
        let bytes = match unlock {
            Some(unlock) => sealed(unlock, &self.file.node, &self.key),
            None => self.key.to_vec(),
        };
        let file = KeyFile { key: STANDARD.encode(bytes), locked: unlock.is_some(), ..self.file.clone() };
        file.write(&self.dir)?;
        self.file = file;
        Ok(())
    }

    /// What can be read without a key.
    pub(crate) fn file(&self) -> &KeyFile {
        &self.file
    }

    /// Writes a record.
    ///
    /// # Errors
    /// [`SwarmError::Disk`].
    pub(crate) fn put(&self, kind: &'static str, id: &str, record: &impl Serialize) -> Result<()> {
        let dir = self.dir.join(kind);
        make(&dir)?;
        let path = dir.join(id);
        let bytes = serde_json::to_vec(record).map_err(|error| broken(&self.dir, &path, error))?;
        replace_private(&path, &sealed(&self.key, &bound(kind, id), &bytes))
            .map_err(SwarmError::disk("write", path))
    }

    /// Removes a record; one that is not there is no error.
    ///
    /// # Errors
    /// [`SwarmError::Disk`].
    pub(crate) fn remove(&self, kind: &str, id: &str) -> Result<()> {
        let path = self.dir.join(kind).join(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(SwarmError::Disk { step: "remove", path, source: error })
            }
            _ => Ok(()),
        }
    }

    /// All records of a kind.
    ///
    /// # Errors
    /// [`SwarmError::Disk`], [`SwarmError::Broken`].
    pub(crate) fn all<T: DeserializeOwned>(&self, kind: &str) -> Result<Vec<T>> {
        let dir = self.dir.join(kind);
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            read => read.map_err(SwarmError::disk("read", &dir))?,
        };
        let mut records = Vec::new();
        for entry in entries {
            let path = entry.map_err(SwarmError::disk("read", &dir))?.path();
            if is_unfinished(&path) {
                continue;
            }
            let bytes = fs::read(&path).map_err(SwarmError::disk("read", &path))?;
            let id = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let bytes = opened(&self.key, &bound(kind, id), bytes)
                .ok_or_else(|| broken(&self.dir, &path, "its seal is broken"))?;
            records.push(serde_json::from_slice(&bytes).map_err(|error| broken(&self.dir, &path, error))?);
        }
        Ok(records)
    }
}

/// Removes all of a swarm's directory: the key first, so that no half of it is ever taken for a swarm.
///
/// # Errors
/// [`SwarmError::Disk`].
pub(crate) fn erase(dir: &Path) -> Result<()> {
    let key = dir.join(KEY_FILE);
    for (path, removed) in [(&key, fs::remove_file(&key)), (&dir.to_owned(), fs::remove_dir_all(dir))] {
        if let Err(source) = removed
            && source.kind() != io::ErrorKind::NotFound
        {
            return Err(SwarmError::Disk { step: "remove", path: path.clone(), source });
        }
    }
    Ok(())
}

fn make(dir: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(SwarmError::disk("make", dir))
}

fn broken(dir: &Path, path: &Path, reason: impl ToString) -> SwarmError {
    SwarmError::Broken { path: path.to_owned(), reason: reason.to_string(), dir: dir.to_owned() }
}

/// What a seal is bound to: a record in another's place is none.
fn bound(kind: &str, id: &str) -> String {
    format!("{kind}/{id}")
}

fn cipher(key: &[u8; KEY]) -> LessSafeKey {
    let key = UnboundKey::new(&CHACHA20_POLY1305, key).expect("the cipher's keys have 32 bytes");
    LessSafeKey::new(key)
}

fn sealed(key: &[u8; KEY], bound: &str, bytes: &[u8]) -> Vec<u8> {
    // Random nonces: a swarm writes far less than the 2^32 records after which two may be the same.
    let nonce = random::<NONCE_LEN>();
    let mut text = bytes.to_vec();
    cipher(key)
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound), &mut text)
        .expect("a record is far from the 256 GiB that the cipher seals");
    [&nonce[..], &text].concat()
}

fn opened(key: &[u8; KEY], bound: &str, mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let nonce = bytes.get(..NONCE_LEN)?.try_into().ok()?;
    let text = &mut bytes[NONCE_LEN..];
    let opened = cipher(key).open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(bound), text);
    opened.ok().map(|text| text.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_by_the_holder_of_the_key_alone_and_in_its_own_place() {
        let dir = tempfile::tempdir().unwrap();
        let dir = &dir.path().join("swarm");
        let mut vault = Vault::create(dir, "n").unwrap();
        vault.put("secrets", "a", &"treasure").unwrap();
        assert!(KeyFile::read(dir).unwrap().is_none(), "it is none before its key is there");
        vault.keep(None).unwrap();
        let bytes = fs::read(dir.join("secrets/a")).unwrap();
        assert!(!bytes.windows(8).any(|window| window == b"treasure"));
        let again = KeyFile::read(dir).unwrap().unwrap().open(dir, None).unwrap();
        assert_eq!(again.all::<String>("secrets").unwrap(), ["treasure"]);
        fs::rename(dir.join("secrets/a"), dir.join("secrets/b")).unwrap();
        assert!(matches!(again.all::<String>("secrets"), Err(SwarmError::Broken { .. })));
    }

    #[test]
    fn a_locked_vault_needs_the_key_that_it_was_locked_with_last() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (random(), random());
        let mut vault = Vault::create(dir.path(), "n").unwrap();
        vault.put("nodes", "n", &1).unwrap();
        vault.keep(Some(&first)).unwrap();
        vault.keep(Some(&second)).unwrap();
        let open = |key| KeyFile::read(dir.path()).unwrap().unwrap().open(dir.path(), key);
        assert!(matches!(open(None), Err(SwarmError::Locked)));
        assert!(matches!(open(Some(&first)), Err(SwarmError::WrongKey)));
        assert_eq!(open(Some(&second)).unwrap().all::<u8>("nodes").unwrap(), [1]);
    }
}
