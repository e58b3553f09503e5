//! Choosing seccomp filters; they are compiled once per profile and capabilities.

use std::{fs::File, io::Read, sync::Arc};

use husk_model::{SeccompFilter, SeccompProfile, SecurityContext, chain};
use husk_seccomp::{Cache, Context, Program};
use husk_spec::effective_capabilities;
use rustix::fs::OFlags;

use crate::error::{PodsError, Result};

/// Localhost profiles larger than this are refused; Docker's default has 12 KiB.
const MAX_PROFILE: u64 = 1 << 20;

/// The filter of a container; `None` for none.
pub(crate) fn filter(cache: &Cache, security: &SecurityContext) -> Result<Option<Arc<Program>>> {
    if security.privileged {
        return Ok(None);
    }
    let context = Context::new(effective_capabilities(security));
    let (profile, program) = match &security.seccomp {
        SeccompProfile::Unconfined => return Ok(None),
        SeccompProfile::RuntimeDefault => ("runtime/default", cache.runtime_default(&context)),
        SeccompProfile::Localhost(path) => (path.as_str(), cache.localhost(&read_profile(path)?, &context)),
    };
    program
        .map(Some)
        .map_err(|error| PodsError::Seccomp { profile: profile.to_owned(), reason: chain(&error) })
}

/// The filter of a policy that a plugin wants instead.
pub(crate) fn of_plugin(
    cache: &Cache,
    profile: Vec<u8>,
    plugin: String,
    security: &SecurityContext,
) -> Result<Arc<Program>> {
    let context = Context::new(effective_capabilities(security));
    cache.localhost(&profile, &context).map_err(|error| PodsError::Seccomp {
        profile: format!("of NRI plugin {plugin}"),
        reason: chain(&error),
    })
}

/// As the monitor is given it.
pub(crate) fn request(program: &Program) -> SeccompFilter {
    SeccompFilter { program: program.bytes().to_vec(), flags: program.flags() }
}

/// Reads a profile, but no FIFO, device or endless file.
fn read_profile(path: &str) -> Result<Vec<u8>> {
    let wrong = |reason: String| PodsError::Seccomp { profile: path.to_owned(), reason };
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, rustix::fs::Mode::empty())
        .map(File::from)
        .map_err(|errno| wrong(errno.to_string()))?;
    let status = file.metadata().map_err(|error| wrong(error.to_string()))?;
    if !status.is_file() || status.len() > MAX_PROFILE {
        return Err(wrong(format!("is not a file of at most {MAX_PROFILE} bytes")));
    }
    let mut text = Vec::new();
    file.take(MAX_PROFILE).read_to_end(&mut text).map_err(|error| wrong(error.to_string()))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn security(seccomp: SeccompProfile) -> SecurityContext {
        SecurityContext { seccomp, ..Default::default() }
    }

    #[test]
    fn privileged_and_unconfined_containers_have_no_filter() {
        let cache = Cache::default();
        assert!(filter(&cache, &security(SeccompProfile::Unconfined)).unwrap().is_none());
        let privileged =
            SecurityContext { privileged: true, ..security(SeccompProfile::Localhost("/nowhere".into())) };
        assert!(filter(&cache, &privileged).unwrap().is_none());
        assert!(filter(&cache, &security(SeccompProfile::RuntimeDefault)).unwrap().is_some());
    }

    #[test]
    fn a_profile_that_is_no_file_or_no_profile_is_named() {
        let cache = Cache::default();
        for path in ["/nowhere/profile.json", "/dev/zero", "/dev", "/etc/hostname"] {
            let error = filter(&cache, &security(SeccompProfile::Localhost(path.into()))).unwrap_err();
            assert!(error.to_string().contains(path), "{error}");
        }
    }
}
