//! Addresses and links of pods that are gone, until the kernel has let go of them.
//!
//! Teardown never deletes a link on its way: RTM_DELLINK of a bridged veth holds RTNL for 16 ms. The pair dies with the pod's
//! namespace, in the kernel's own time and in batches. Until then its addresses go to nobody else.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{NetworkError, netlink::Netlink};

/// How long the addresses of a pod that is gone stay reserved in memory, and how long its link may take to vanish by itself
/// before it is deleted.
const HOLD: Duration = Duration::from_secs(1);

/// The addresses that are on hold, each with the link that may still have it. In memory only: after a restart, what is left of
/// links is found by their names.
#[derive(Debug)]
pub(crate) struct Holds {
    netlink: Arc<Netlink>,
    links: Mutex<HashMap<IpAddr, String>>,
}

impl Holds {
    pub(crate) fn new(netlink: Arc<Netlink>) -> Self {
        Self { netlink, links: Mutex::default() }
    }

    /// Puts addresses on hold, because `link` may still have them. [`Self::end_later`] is to follow.
    pub(crate) fn hold(&self, ips: impl IntoIterator<Item = IpAddr>, link: &str) {
        self.links().extend(ips.into_iter().map(|ip| (ip, link.to_owned())));
    }

    /// The link that an address waits for.
    pub(crate) fn holder(&self, ip: IpAddr) -> Option<String> {
        self.links().get(&ip).cloned()
    }

    pub(crate) fn are_none(&self) -> bool {
        self.links().is_empty()
    }

    /// The links that are about to vanish by themselves.
    pub(crate) fn all_links(&self) -> HashSet<String> {
        self.links().values().cloned().collect()
    }

    /// Takes off hold what waits for this link, which is about to be made again for the same pod: the end of the hold must not be
    /// the end of that one.
    pub(crate) fn forget(&self, link: &str) {
        self.links().retain(|_, held| held != link);
    }

    /// Ends the hold on what waits for this link, which is normally gone with its namespace by now. One that was taken off hold
    /// meanwhile stays.
    pub(crate) async fn end(&self, link: &str) -> Result<(), NetworkError> {
        if !self.links().values().any(|held| held == link) {
            return Ok(());
        }
        let deleted = self.netlink.delete_link(link).await;
        self.forget(link);
        deleted
    }

    /// Ends all holds at once: a subnet is full but for them.
    pub(crate) async fn end_all(&self) -> Result<(), NetworkError> {
        for link in self.all_links() {
            self.end(&link).await?;
        }
        Ok(())
    }

    /// Ends the hold on what waits for these links when its time is over.
    pub(crate) fn end_later(self: &Arc<Self>, links: impl IntoIterator<Item = String> + Send + 'static) {
        let this = Arc::clone(self);
        let links: HashSet<String> = links.into_iter().collect();
        tokio::spawn(async move {
            tokio::time::sleep(HOLD).await;
            for link in links {
                if let Err(error) = this.end(&link).await {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(link, error, "delete the veth of a pod that is gone");
                }
            }
        });
    }

    fn links(&self) -> MutexGuard<'_, HashMap<IpAddr, String>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
