//! Names, and who is using them: a retry with the same request joins the running attempt and shares its outcome.
//!
//! The kubelet gives up after two minutes and asks again with the same metadata while the first attempt still runs.
//! containerd answers "name is reserved" until it ends; here the second caller waits for the first one's result. A claim
//! stays with the object until it is removed, so a retry that comes after the end gets the same id.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

use crate::error::{PodsError, Result};

type Outcome<Id> = Option<std::result::Result<Id, Arc<PodsError>>>;

struct Entry<Id, Request> {
    id: Id,
    request: Arc<Request>,
    outcome: watch::Receiver<Outcome<Id>>,
}

/// The names in use, each with the id it was given and the request it was given for.
pub(crate) struct Claims<Name, Id, Request> {
    entries: Arc<Mutex<HashMap<Name, Entry<Id, Request>>>>,
}

impl<Name, Id, Request> Default for Claims<Name, Id, Request> {
    fn default() -> Self {
        Self { entries: Arc::default() }
    }
}

impl<Name, Id, Request> std::fmt::Debug for Claims<Name, Id, Request> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claims").finish_non_exhaustive()
    }
}

/// What claiming a name led to.
pub(crate) enum Claim<Name: Eq + Hash, Id: Clone, Request> {
    /// The name is the caller's: it must do the work and settle the attempt.
    Mine(Attempt<Name, Id, Request>),
    /// The same request is being worked on, or was.
    Joined(Wait<Id>),
}

/// The outcome of somebody's attempt.
pub(crate) struct Wait<Id>(watch::Receiver<Outcome<Id>>);

impl<Id: Clone> Wait<Id> {
    /// Waits for the outcome. Cancel-safe.
    pub(crate) async fn outcome(mut self) -> Result<Id> {
        let outcome = self.0.wait_for(Option::is_some).await.map_err(|_| PodsError::Lost)?;
        match outcome.as_ref() {
            Some(Ok(id)) => Ok(id.clone()),
            Some(Err(error)) => Err(PodsError::Shared(Arc::clone(error))),
            None => Err(PodsError::Lost),
        }
    }
}

/// An attempt in progress. Dropped without being settled it frees the name.
#[must_use = "dropped, it frees the name, and everybody who joined is told that the attempt was lost"]
pub(crate) struct Attempt<Name: Eq + Hash, Id: Clone, Request> {
    entries: Arc<Mutex<HashMap<Name, Entry<Id, Request>>>>,
    name: Option<Name>,
    outcome: watch::Sender<Outcome<Id>>,
}

impl<Name: Eq + Hash + Clone, Id: Clone + ToString, Request: PartialEq> Claims<Name, Id, Request> {
    /// Claims `name` for `request`; a new claim gets the id that `fresh` makes.
    pub(crate) fn claim(
        &self,
        what: &'static str,
        name: &Name,
        shown: &str,
        request: &Arc<Request>,
        id: &Id,
    ) -> Result<Claim<Name, Id, Request>> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get(name) {
            if entry.request == *request {
                return Ok(Claim::Joined(Wait(entry.outcome.clone())));
            }
            return Err(PodsError::NameTaken { what, name: shown.to_owned(), id: entry.id.to_string() });
        }
        let (sender, receiver) = watch::channel(None);
        entries
            .insert(name.clone(), Entry { id: id.clone(), request: Arc::clone(request), outcome: receiver });
        Ok(Claim::Mine(Attempt {
            entries: Arc::clone(&self.entries),
            name: Some(name.clone()),
            outcome: sender,
        }))
    }

    /// Gives a name to an object that exists already (found at start-up).
    pub(crate) fn restore(&self, name: Name, request: &Arc<Request>, id: &Id) {
        let (_, receiver) = watch::channel(Some(Ok(id.clone())));
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.insert(name, Entry { id: id.clone(), request: Arc::clone(request), outcome: receiver });
    }

    /// The ids of all that has a name: from before anything of it is made until after everything of it is gone.
    pub(crate) fn ids(&self) -> Vec<Id> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.values().map(|entry| entry.id.clone()).collect()
    }

    /// Frees the name of a removed object.
    pub(crate) fn release(&self, name: &Name) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

impl<Name: Eq + Hash, Id: Clone, Request> Attempt<Name, Id, Request> {
    /// Waits on this attempt.
    pub(crate) fn wait(&self) -> Wait<Id> {
        Wait(self.outcome.subscribe())
    }

    /// Ends the attempt: a success keeps the name, a failure frees it before anybody hears of it.
    pub(crate) fn settle(mut self, outcome: Result<Id>) {
        let name = self.name.take();
        if outcome.is_err()
            && let Some(name) = name
        {
            self.entries.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
        }
        self.outcome.send_replace(Some(outcome.map_err(Arc::new)));
    }
}

impl<Name: Eq + Hash, Id: Clone, Request> Drop for Attempt<Name, Id, Request> {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            self.entries.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(
        claims: &Claims<&'static str, u32, u32>,
        request: u32,
        id: u32,
    ) -> Result<Claim<&'static str, u32, u32>> {
        claims.claim("pod sandbox", &"web", "web", &Arc::new(request), &id)
    }

    #[tokio::test]
    async fn the_same_request_joins_and_shares_the_outcome() {
        let claims = Claims::default();
        let Ok(Claim::Mine(attempt)) = claim(&claims, 1, 10) else { panic!("the first claim is ours") };
        let Ok(Claim::Joined(wait)) = claim(&claims, 1, 11) else { panic!("the second joins") };
        attempt.settle(Ok(10));
        assert_eq!(wait.outcome().await.unwrap(), 10);
        let Ok(Claim::Joined(late)) = claim(&claims, 1, 12) else { panic!("so does a late one") };
        assert_eq!(late.outcome().await.unwrap(), 10);
    }

    #[test]
    fn another_request_for_the_same_name_is_refused() {
        let claims = Claims::default();
        let _attempt = claim(&claims, 1, 10);
        assert!(matches!(claim(&claims, 2, 11), Err(PodsError::NameTaken { id, .. }) if id == "10"));
    }

    #[tokio::test]
    async fn a_failure_frees_the_name_and_reaches_everybody() {
        let claims = Claims::default();
        let Ok(Claim::Mine(attempt)) = claim(&claims, 1, 10) else { panic!() };
        let Ok(Claim::Joined(wait)) = claim(&claims, 1, 11) else { panic!() };
        attempt.settle(Err(PodsError::NoSuchPod { id: "x".into() }));
        assert!(matches!(wait.outcome().await, Err(PodsError::Shared(_))));
        assert!(matches!(claim(&claims, 2, 12), Ok(Claim::Mine(_))));
    }

    #[tokio::test]
    async fn an_attempt_that_is_dropped_frees_the_name() {
        let claims = Claims::default();
        drop(claim(&claims, 1, 10));
        assert!(matches!(claim(&claims, 1, 11), Ok(Claim::Mine(_))));
    }
}
