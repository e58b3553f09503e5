//! The build cache: what it takes, and pruning it.

use std::{sync::Arc, time::Duration};

use husk_proto::buildkit::{DiskUsageRequest, DiskUsageResponse, PruneRequest, UsageRecord};

use crate::{error::Result, grpc, site::Builder};

const DISK_USAGE: &str = "/moby.buildkit.v1.Control/DiskUsage";
const PRUNE: &str = "/moby.buildkit.v1.Control/Prune";

/// A piece of the build cache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheRecord {
    /// buildkitd's name of it.
    pub id: String,
    /// What it was made from.
    pub parents: Vec<String>,
    /// `regular`, `source.local`, `exec.cachemount`…
    pub kind: String,
    /// What made it.
    pub description: String,
    /// A build uses it now.
    pub in_use: bool,
    /// Others share its bytes.
    pub shared: bool,
    /// Its bytes.
    pub size: u64,
    /// Seconds and nanoseconds since 1970.
    pub created: Option<(i64, i32)>,
    /// Likewise.
    pub last_used: Option<(i64, i32)>,
    /// How often it was used.
    pub usage_count: u64,
}

/// What shall be pruned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneWish {
    /// Also what builds of the future would use.
    pub all: bool,
    /// Only what was not used for so long.
    pub unused_for: Duration,
    /// Filters in BuildKit's spelling (`type==exec.cachemount`).
    pub filters: Vec<String>,
    /// Bytes that stay in any case; 0 for none.
    pub reserved: u64,
    /// Bytes that may stay; 0 for all that is not pruned for another reason.
    pub most: u64,
    /// Bytes of the disk that shall be free.
    pub free: u64,
}

impl Builder {
    /// All of the build cache.
    ///
    /// # Errors
    /// What could not be started; what buildkitd says.
    pub async fn cache(self: &Arc<Self>) -> Result<Vec<CacheRecord>> {
        let visit = self.enter().await?;
        let buildkitd = visit.site.running.connect().await?;
        let request = DiskUsageRequest::default();
        let answer: DiskUsageResponse = grpc::ask(&buildkitd, DISK_USAGE, &request).await?;
        Ok(answer.record.into_iter().map(CacheRecord::from).collect())
    }

    /// Removes cache; what went.
    ///
    /// # Errors
    /// As [`Self::cache`].
    pub async fn prune(self: &Arc<Self>, wish: PruneWish) -> Result<Vec<CacheRecord>> {
        let visit = self.enter().await?;
        let buildkitd = visit.site.running.connect().await?;
        let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let request = PruneRequest {
            filter: wish.filters,
            all: wish.all,
            keep_duration: i64::try_from(wish.unused_for.as_nanos()).unwrap_or(i64::MAX),
            reserved_space: number(wish.reserved),
            max_used_space: number(wish.most),
            min_free_space: number(wish.free),
        };
        let mut answers = grpc::call(&buildkitd, PRUNE, &request).await?;
        let mut gone = Vec::new();
        while let Some(record) = answers.next::<UsageRecord>().await? {
            gone.push(record.into());
        }
        Ok(gone)
    }
}

impl From<UsageRecord> for CacheRecord {
    fn from(record: UsageRecord) -> Self {
        let parents = if record.parents.is_empty() { vec![record.parent] } else { record.parents };
        Self {
            id: record.id,
            parents: parents.into_iter().filter(|parent| !parent.is_empty()).collect(),
            kind: record.record_type,
            description: record.description,
            in_use: record.in_use,
            shared: record.shared,
            size: u64::try_from(record.size).unwrap_or(0),
            created: record.created_at.map(|time| (time.seconds, time.nanos)),
            last_used: record.last_used_at.map(|time| (time.seconds, time.nanos)),
            usage_count: u64::try_from(record.usage_count).unwrap_or(0),
        }
    }
}
