//! Network namespaces made ahead of time: empty but for `lo`, which is up, each with a netlink socket inside. Making
//! one takes half a millisecond of the kernel; taking one and pinning it takes microseconds.
//!
//! Members are open descriptors without a path, so the end of the daemon, however it comes, leaves none behind.

use std::{
    collections::VecDeque,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rtnetlink::Handle;
use tokio::sync::Notify;

use crate::{
    NetworkError,
    netlink::{self, Netlink},
    sysctl,
};

/// The pool is refilled when no namespace was taken for this long, so that the kernel's work on new ones does not
/// compete for the RTNL lock with the very pods that emptied it.
const QUIET: Duration = Duration::from_millis(25);

/// A namespace nobody uses yet.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The namespace. Shared, because a netlink message in flight must keep it open.
    pub(crate) ns: Arc<OwnedFd>,
    /// A socket inside.
    pub(crate) inside: Handle,
    /// Whether [`sysctl::harden_pod`] was done: only the embedded network wants that.
    pub(crate) hardened: bool,
}

/// How members are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavor {
    /// For the embedded bridge, with or without IPv6.
    Embedded {
        /// Whether pods get IPv6 addresses.
        ipv6: bool,
    },
    /// For CNI plugins: as the kernel makes it, `lo` up.
    Plain,
}

/// The pool.
#[derive(Debug)]
pub(crate) struct Pool {
    netlink: Arc<Netlink>,
    size: usize,
    state: Mutex<State>,
    taken: Notify,
    closed: AtomicBool,
}

#[derive(Debug)]
struct State {
    flavor: Flavor,
    ready: VecDeque<Prepared>,
}

impl Pool {
    /// An empty pool with its refilling task.
    pub(crate) fn start(netlink: Arc<Netlink>, size: usize, flavor: Flavor) -> Arc<Self> {
        let pool = Arc::new(Self {
            netlink,
            size,
            state: Mutex::new(State { flavor, ready: VecDeque::with_capacity(size) }),
            taken: Notify::new(),
            closed: AtomicBool::new(false),
        });
        if size > 0 {
            let refilled = pool.clone();
            pool.taken.notify_one();
            tokio::spawn(async move {
                while !refilled.closed.load(Ordering::Acquire) {
                    refilled.wait_for_quiet().await;
                    refilled.refill().await;
                }
            });
        }
        pool
    }

    /// A ready namespace, or one made now.
    ///
    /// # Errors
    /// When the pool is empty and the kernel refuses another namespace.
    pub(crate) async fn take(&self) -> Result<Prepared, NetworkError> {
        let (ready, flavor) = {
            let mut state = self.lock();
            (state.ready.pop_front(), state.flavor)
        };
        self.taken.notify_one();
        match ready {
            Some(prepared) => Ok(prepared),
            None => self.make(flavor).await,
        }
    }

    /// Members are made this way from now on; those of another flavor are dropped.
    pub(crate) fn set_flavor(&self, flavor: Flavor) {
        let dropped = {
            let mut state = self.lock();
            if state.flavor == flavor {
                return;
            }
            state.flavor = flavor;
            std::mem::take(&mut state.ready)
        };
        // Outside the lock: the last descriptor of a namespace starts its end.
        drop(dropped);
        self.taken.notify_one();
    }

    /// Drops all members and makes no more.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let dropped = std::mem::take(&mut self.lock().ready);
        drop(dropped);
        self.taken.notify_one();
    }

    async fn wait_for_quiet(&self) {
        self.taken.notified().await;
        // A quarter left is urgent: a burst should not find it empty.
        while self.lock().ready.len() > self.size / 4
            && tokio::time::timeout(QUIET, self.taken.notified()).await.is_ok()
        {}
    }

    async fn refill(&self) {
        loop {
            let flavor = {
                let state = self.lock();
                if state.ready.len() >= self.size || self.closed.load(Ordering::Acquire) {
                    return;
                }
                state.flavor
            };
            match self.make(flavor).await {
                Ok(prepared) => {
                    let mut state = self.lock();
                    if state.flavor == flavor && !self.closed.load(Ordering::Acquire) {
                        state.ready.push_back(prepared);
                    }
                }
                Err(error) => {
                    // Whoever takes next makes one in the foreground and gets the error itself.
                    tracing::warn!(error = &error as &dyn std::error::Error, "refill the namespace pool");
                    return;
                }
            }
        }
    }

    async fn make(&self, flavor: Flavor) -> Result<Prepared, NetworkError> {
        let netlink = self.netlink.clone();
        let (ns, inside) = tokio::task::spawn_blocking(move || {
            husk_sys::netns::create(|| {
                if let Flavor::Embedded { ipv6 } = flavor {
                    sysctl::harden_pod(ipv6)?;
                }
                netlink.connect().map_err(NetworkError::NetlinkSocket)
            })
        })
        .await
        .map_err(|error| NetworkError::TaskLost(std::io::Error::other(error)))?
        .map_err(NetworkError::netns("make a", "(unpinned)"))?;
        let inside = inside?;
        let handle = inside.clone();
        // In a fresh namespace `lo` is the link with index 1 (LOOPBACK_IFINDEX).
        self.netlink
            .run(async move { netlink::set_up(&handle, 1).await })
            .await?
            .map_err(NetworkError::netlink("set up", "lo"))?;
        Ok(Prepared { ns: Arc::new(ns), inside, hardened: matches!(flavor, Flavor::Embedded { .. }) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
