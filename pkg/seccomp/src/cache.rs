//! Compiled filters by what they were made from.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use oci_spec::runtime::LinuxSeccomp;
use sha2::{Digest, Sha256};

use crate::{Context, Program, Result, compile, parse, runtime_default};

/// Filters kept at most. A node has a handful of profiles, each with a few capability sets; a tenant that writes new
/// ones all the time only makes the cache start over.
const MAX_ENTRIES: usize = 256;

/// A cache of compiled filters, shared by all containers. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Cache(Arc<Mutex<HashMap<Key, Arc<Program>>>>);

type Key = [u8; 32];

impl Cache {
    /// The default profile's filter for a process with these capabilities.
    ///
    /// # Errors
    /// As [`compile`].
    pub fn runtime_default(&self, context: &Context) -> Result<Arc<Program>> {
        self.get(key(b"default", context), || runtime_default(context))
    }

    /// The filter of a localhost profile file with this content.
    ///
    /// # Errors
    /// As [`parse`] and [`compile`].
    pub fn localhost(&self, json: &[u8], context: &Context) -> Result<Arc<Program>> {
        self.get(key(json, context), || parse(json, context))
    }

    fn get(&self, key: Key, profile: impl FnOnce() -> Result<LinuxSeccomp>) -> Result<Arc<Program>> {
        if let Some(program) = self.entries().get(&key) {
            return Ok(Arc::clone(program));
        }
        // Compiled without the lock: two first users may both do it, and nobody waits.
        let program = Arc::new(compile(&profile()?)?);
        let mut entries = self.entries();
        if entries.len() >= MAX_ENTRIES {
            entries.clear();
        }
        entries.insert(key, Arc::clone(&program));
        Ok(program)
    }

    /// The map is only ever read or added to whole entries, so a panicking holder can't leave it half changed.
    fn entries(&self) -> MutexGuard<'_, HashMap<Key, Arc<Program>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(text: &[u8], context: &Context) -> Key {
    let mut hash = Sha256::new();
    hash.update(text.len().to_le_bytes());
    hash.update(text);
    for capability in context.capabilities() {
        hash.update(capability);
        hash.update(b",");
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_compiled_once_per_profile_and_capabilities() {
        let cache = Cache::default();
        let (plain, admin) = (Context::new(["CHOWN"]), Context::new(["CAP_CHOWN", "SYS_ADMIN"]));
        let first = cache.runtime_default(&plain).unwrap();
        assert!(Arc::ptr_eq(&first, &cache.runtime_default(&Context::new(["CAP_CHOWN"])).unwrap()));
        assert!(!Arc::ptr_eq(&first, &cache.runtime_default(&admin).unwrap()));
        let json = br#"{"defaultAction":"SCMP_ACT_ALLOW"}"#;
        let local = cache.localhost(json, &plain).unwrap();
        assert!(Arc::ptr_eq(&local, &cache.localhost(json, &plain).unwrap()));
        assert!(cache.localhost(b"{}", &plain).is_err());
    }
}
