//! What containers use, measured again and again.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{Stream, stream};
use husk_model::{ContainerId, UnixNanos};
use husk_node::now;
use husk_pods::{ContainerCounters, Engine};
use husk_proto::admin as v1;
use tokio::time::{Instant, sleep_until};
use tonic::Status;

use crate::{
    convert::door,
    find::{Node, container_name},
};

/// Between two measurements of an answer that comes once: long enough for a rate.
const ONCE: Duration = Duration::from_millis(500);
/// Measuring more often would measure the measuring.
const LEAST: Duration = Duration::from_millis(200);
/// Nanoseconds of CPU time a second that are a thousandth of a core.
const MILLICORE: u128 = 1_000_000;

/// A client's measurements.
struct Watched {
    engine: Arc<Engine>,
    /// `None` for one answer.
    interval: Option<Duration>,
    before: HashMap<ContainerId, (UnixNanos, u64)>,
    next: Instant,
    over: bool,
}

/// Measures until the client goes away; once, where there is no interval.
pub(crate) fn measure(
    engine: Arc<Engine>,
    interval: Option<Duration>,
) -> impl Stream<Item = Result<v1::TopResponse, Status>> {
    let interval = interval.map(|interval| interval.max(LEAST));
    let watched = Watched { engine, interval, before: HashMap::new(), next: Instant::now(), over: false };
    stream::unfold(watched, |mut watched| async move {
        if watched.over {
            return None;
        }
        if watched.interval.is_none() {
            watched.look().await;
            watched.next = Instant::now() + ONCE;
            watched.over = true;
        }
        sleep_until(watched.next).await;
        let answer = watched.look().await;
        watched.next += watched.interval.unwrap_or(ONCE);
        // Late is late: what was missed is not made up for.
        watched.next = watched.next.max(Instant::now());
        Some((Ok(answer), watched))
    })
}

impl Watched {
    async fn look(&mut self) -> v1::TopResponse {
        let counted = self.engine.container_counters().await;
        let (node, at) = (Node::of(&self.engine), now());
        let before = std::mem::take(&mut self.before);
        let mut usages = Vec::new();
        for counters in counted {
            let status = &counters.status;
            let Some(pod) = node.pods.iter().find(|pod| pod.id == status.pod_id) else { continue };
            let cpu = counters.counters.cpu.as_ref().map(|cpu| cpu.usage);
            let rate = cpu.zip(before.get(&status.id).copied());
            let mut usage = usage(&counters);
            usage.millicores = rate.and_then(|(cpu, before)| millicores(before, (counters.at, cpu)));
            usage.name = container_name(pod, status).to_owned();
            usage.pod_name.clone_from(&pod.config.metadata.name);
            usage.namespace.clone_from(&pod.config.metadata.namespace);
            usage.door = door(pod.config.door).into();
            usages.push(usage);
            if let Some(cpu) = cpu {
                self.before.insert(status.id.clone(), (counters.at, cpu));
            }
        }
        v1::TopResponse { at, usages }
    }
}

fn usage(counted: &ContainerCounters) -> v1::Usage {
    let (status, counters) = (&counted.status, &counted.counters);
    let memory = counters.memory.clone().unwrap_or_default();
    let sum = |of: fn(&_) -> u64| counters.io.iter().map(of).fold(0, u64::saturating_add);
    let io = !counters.io.is_empty();
    v1::Usage {
        container_id: status.id.to_string(),
        pod_id: status.pod_id.to_string(),
        memory: memory.working_set,
        memory_limit: memory.limit.unwrap_or(0),
        processes: counters.pids.as_ref().map_or(0, |pids| pids.current),
        read: io.then(|| sum(|device| device.read_bytes)),
        written: io.then(|| sum(|device| device.write_bytes)),
        ..v1::Usage::default()
    }
}

/// Thousandths of a core between two looks at a counter; none of one that began anew.
fn millicores((then, before): (UnixNanos, u64), (now, after): (UnixNanos, u64)) -> Option<u64> {
    let passed = u128::try_from(now.checked_sub(then)?).ok().filter(|passed| *passed > 0)?;
    let used = u128::from(after.checked_sub(before)?);
    u64::try_from(used * 1_000_000_000 / passed / MILLICORE).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_time_between_and_a_counter_that_began_anew_has_none() {
        const SECOND: i64 = 1_000_000_000;
        assert_eq!(millicores((0, 0), (2 * SECOND, 3_000_000_000)), Some(1500));
        assert_eq!(millicores((0, 5), (SECOND, 4)), None);
        assert_eq!(millicores((SECOND, 0), (SECOND, 4)), None);
    }
}
