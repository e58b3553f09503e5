//! Ids as people type them: crictl shows thirteen characters and sends on whatever its user copies.

use std::borrow::Cow;

use tonic::Status;

use super::RuntimeApi;
use crate::{about, convert::invalid};

/// Length of a full id.
const FULL: usize = 64;

/// The one id that begins with `typed`. Without any, `typed` itself: the engine says what that means for the call.
fn complete<'a>(
    field: &str,
    typed: &'a str,
    ids: impl FnOnce() -> Vec<String>,
) -> Result<Cow<'a, str>, Status> {
    if typed.is_empty() || typed.len() >= FULL {
        return Ok(typed.into());
    }
    let mut matching = ids().into_iter().filter(|id| id.starts_with(typed));
    match (matching.next(), matching.next()) {
        (None, _) => Ok(typed.into()),
        (Some(id), None) => Ok(id.into()),
        (Some(_), Some(_)) => {
            let count = matching.count() + 2;
            Err(invalid(field, format!("{count} ids begin with {typed:?}")).into())
        }
    }
}

/// The id of a sandbox from a unique beginning of it.
pub(super) fn pod<'a>(api: &RuntimeApi, typed: &'a str) -> Result<Cow<'a, str>, Status> {
    let ids = || api.engine.list_pods().iter().map(|pod| pod.id.to_string()).collect();
    let id = complete("pod_sandbox_id", typed, ids)?;
    about::pod(&api.engine, &id);
    Ok(id)
}

/// The id of a container from a unique beginning of it.
pub(super) fn container<'a>(api: &RuntimeApi, typed: &'a str) -> Result<Cow<'a, str>, Status> {
    let ids = || api.engine.list_containers().iter().map(|container| container.id.to_string()).collect();
    let id = complete("container_id", typed, ids)?;
    about::container(&api.engine, &id);
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unique_beginning_stands_for_the_id() {
        let (a, b) = ("ab".repeat(32), format!("ac{}", "0".repeat(62)));
        let find = |typed: &str| complete("id", typed, || vec![a.clone(), b.clone()]).map(Cow::into_owned);
        assert_eq!(find("ab").unwrap(), a);
        assert_eq!(find(&b).unwrap(), b);
        assert_eq!(find("f").unwrap(), "f", "what is not found is for the engine to answer");
        assert_eq!(find("").unwrap(), "", "nothing is the beginning of every id, and none of them is meant");
        assert!(find("a").unwrap_err().message().contains("2 ids"));
    }
}
