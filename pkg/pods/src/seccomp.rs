//! Choosing and compiling seccomp filters, once per profile.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    sync::{Arc, Mutex, PoisonError},
};

use husk_model::{SeccompProfile, SecurityContext};
use husk_seccomp::{Profile, Program, compile};
use husk_spec::effective_capabilities;

use crate::{PodsError, Result};

/// Localhost profiles larger than this are refused unread; Docker's default has 12 KiB.
const MAX_PROFILE: u64 = 1 << 20;

/// Compiled filters. Profiles depend on capabilities, so those are part of the key.
#[derive(Debug, Default)]
pub(crate) struct Filters(Mutex<HashMap<(Source, BTreeSet<String>), Arc<Program>>>);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Source {
    Default,
    Text(String),
}

/// Distinct filters kept; a node has a handful of profiles, so reaching this means somebody generates them.
const MAX_CACHED: usize = 256;

impl Filters {
    /// The filter of a container; `None` for none.
    pub(crate) fn of(&self, security: &SecurityContext) -> Result<Option<Arc<Program>>> {
        if security.privileged {
            return Ok(None);
        }
        let source = match &security.seccomp {
            SeccompProfile::Unconfined => return Ok(None),
            SeccompProfile::RuntimeDefault => Source::Default,
            SeccompProfile::Localhost(path) => Source::Text(read_profile(path)?),
        };
        let capabilities: BTreeSet<String> =
            effective_capabilities(security).into_iter().map(|name| format!("CAP_{name}")).collect();
        let key = (source, capabilities);
        if let Some(program) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(Some(Arc::clone(program)));
        }
        let wrong = |reason: String| PodsError::Seccomp {
            profile: match &security.seccomp {
                SeccompProfile::Localhost(path) => path.clone(),
                _ => "runtime/default".to_owned(),
            },
            reason,
        };
        let names: Vec<&str> = key.1.iter().map(String::as_str).collect();
        let profile = match &key.0 {
            Source::Default => Profile::runtime_default(&names),
            Source::Text(text) => Profile::parse(text, &names).map_err(|error| wrong(error.to_string()))?,
        };
        let program = Arc::new(compile(&profile).map_err(|error| wrong(error.to_string()))?);
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= MAX_CACHED {
            cache.clear();
        }
        cache.insert(key, Arc::clone(&program));
        Ok(Some(program))
    }
}

fn read_profile(path: &str) -> Result<String> {
    let wrong = |reason: String| PodsError::Seccomp { profile: path.to_owned(), reason };
    let status = fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
    if !status.is_file() || status.len() > MAX_PROFILE {
        return Err(wrong(format!("is not a file of at most {MAX_PROFILE} bytes")));
    }
    fs::read_to_string(path).map_err(|error| wrong(error.to_string()))
}
