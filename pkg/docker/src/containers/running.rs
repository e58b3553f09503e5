//! What is asked of a container that runs: its processes, what it uses, its limits, its terminal.

use std::{collections::BTreeSet, process::Stdio, sync::Arc, time::Duration};

use husk_model::{NetworkStats, ResourceStats, WindowSize};
use hyper::StatusCode;
use serde_json::{Value, json};

use super::{container::Container, limits, store::Store};
use crate::{
    api::{
        container::{HostConfig, RestartPolicy},
        from_value,
    },
    error::{Failure, Result},
    http::{Answer, Call, json, streamed},
    when,
};

/// Between two samples of a stream.
const SAMPLE: Duration = Duration::from_secs(1);
/// How long ps may take.
const PATIENCE: Duration = Duration::from_secs(10);

impl Store {
    /// Processes, as ps(1) of the node shows them.
    ///
    /// # Errors
    /// 409 when it does not run, 400 for arguments that ps refuses.
    pub(super) async fn top(&self, container: &Container, arguments: Option<&str>) -> Result<Value> {
        let (_, id) = container.running()?;
        let pids: BTreeSet<u32> = self.0.shared.engine.processes(id.as_str())?.into_iter().collect();
        let arguments: Vec<&str> = arguments.unwrap_or("-ef").split_whitespace().collect();
        let ps = tokio::process::Command::new("ps")
            .args(&arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output =
            tokio::time::timeout(PATIENCE, ps).await.map_err(|_| Failure::unavailable("ps does not end"))?;
        let output = output.map_err(Failure::io("run ps"))?;
        if !output.status.success() {
            let why: String = String::from_utf8_lossy(&output.stderr).chars().take(200).collect();
            return Err(Failure::bad(format!("error running ps: {}", why.trim())));
        }
        table(&String::from_utf8_lossy(&output.stdout), &pids)
    }

    /// Changes limits and the restart policy.
    ///
    /// # Errors
    /// 400 for limits that cannot be; those of the kernel; then nothing has changed.
    pub(super) async fn update(&self, container: &Arc<Container>, change: Value) -> Result<()> {
        let _turn = container.turn().await;
        let record = container.record();
        let mut host =
            serde_json::to_value(&record.host).map_err(|error| Failure::internal(error.to_string()))?;
        let fields = change.as_object().ok_or_else(|| Failure::bad("an object is expected"))?;
        let known = |name: &str| CHANGEABLE.iter().find(|known| known.eq_ignore_ascii_case(name));
        for (name, value) in fields.iter().filter_map(|(name, value)| Some((*known(name)?, value))) {
            // Zero leaves a limit as it is.
            let is_nothing = value.is_null() || *value == json!(0) || *value == json!("");
            let no_policy = name == "RestartPolicy" && value["Name"] == json!("");
            if !is_nothing && !no_policy {
                host[name] = value.clone();
            }
        }
        let host: HostConfig =
            from_value(host).map_err(|error| Failure::bad(format!("invalid JSON: {error}")))?;
        if host.auto_remove
            && host.restart_policy != RestartPolicy::default()
            && host.restart_policy.name != "no"
        {
            return Err(Failure::bad(
                "Restart policy cannot be updated because AutoRemove is enabled for the container",
            ));
        }
        let limits = limits::resources(&host)?;
        let former = limits::resources(&record.host)?;
        let running = container.running().ok().filter(|_| former != limits).map(|(_, id)| id);
        let engine = &self.0.shared.engine;
        if let Some(id) = &running {
            engine.update_resources(id.as_str(), limits).await?;
        }
        if let Err(failure) = container.change(|record| record.host = host) {
            if let Some(id) = running
                && let Err(error) = engine.update_resources(id.as_str(), former).await
            {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(container = container.id, error, "limits stay that could not be written down");
            }
            return Err(failure);
        }
        self.publish(&container.record(), "update", []);
        Ok(())
    }

    /// Sets the size of its terminal.
    ///
    /// # Errors
    /// 409 when it does not run.
    pub(super) async fn resize(&self, container: &Container, size: WindowSize) -> Result<()> {
        let (_, id) = container.running()?;
        Ok(self.0.shared.engine.resize_terminal(id.as_str(), size).await?)
    }

    /// What it uses, once or every second.
    ///
    /// # Errors
    /// Those of measuring.
    pub(super) async fn stats(&self, container: &Arc<Container>, call: &Call) -> Result<Answer> {
        let stream = call.query.flag_or("stream", true);
        let once = call.query.flag("one-shot");
        let mut before = self.sample(container);
        if !stream {
            if !once && before.is_some() {
                // Clients take the difference of two.
                tokio::time::sleep(SAMPLE).await;
            } else {
                before = None;
            }
            let now = self.sample(container);
            return json(StatusCode::OK, &self.shown(container, now.as_ref(), before.as_ref()));
        }
        let (pieces, answer) = streamed();
        let (store, container) = (self.clone(), Arc::clone(container));
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(SAMPLE);
            let mut before = None;
            loop {
                tokio::select! {
                    _ = ticks.tick() => {}
                    () = pieces.closed() => return,
                    () = store.0.shared.closed() => return,
                }
                if container.ends().borrow().gone {
                    return;
                }
                let now = store.sample(&container);
                let line = format!("{}\n", store.shown(&container, now.as_ref(), before.as_ref()));
                if pieces.send(line).await.is_err() {
                    return;
                }
                before = now;
            }
        });
        Ok(answer)
    }

    fn sample(&self, container: &Container) -> Option<Sample> {
        let (_, id) = container.running().ok()?;
        let (_, stats) = self.0.shared.engine.container_stats(id.as_str()).ok()?;
        let interfaces = self.0.shared.engine.interfaces(id.as_str()).unwrap_or_default();
        Some(Sample { at: husk_node::now(), system: system_nanos().unwrap_or(0), stats, interfaces })
    }

    /// As the API has it; a container that does not run has zeros.
    fn shown(&self, container: &Container, now: Option<&Sample>, before: Option<&Sample>) -> Value {
        let record = container.record();
        let time = |sample: Option<&Sample>| {
            sample.map_or_else(|| when::NEVER.to_owned(), |sample| when::text(sample.at))
        };
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let cpu = |sample: Option<&Sample>| match sample {
            None => json!({
                "cpu_usage": { "total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0 },
                "throttling_data": { "periods": 0, "throttled_periods": 0, "throttled_time": 0 },
            }),
            Some(sample) => json!({
                "cpu_usage": {
                    "total_usage": sample.stats.cpu.usage_core_nanos,
                    "usage_in_kernelmode": 0,
                    "usage_in_usermode": sample.stats.cpu.usage_core_nanos,
                },
                "system_cpu_usage": sample.system,
                "online_cpus": cpus,
                "throttling_data": { "periods": 0, "throttled_periods": 0, "throttled_time": 0 },
            }),
        };
        let memory = now.map_or(json!({}), |sample| {
            let memory = &sample.stats.memory;
            let limit =
                memory.available.map_or_else(total_memory, |available| available + memory.working_set);
            let inactive = memory.usage.saturating_sub(memory.working_set);
            json!({
                "usage": memory.usage,
                "limit": limit,
                "stats": { "inactive_file": inactive, "total_inactive_file": inactive, "rss": memory.rss },
            })
        });
        json!({
            "id": record.id,
            "name": format!("/{}", record.name),
            "os_type": "linux",
            "read": time(now),
            "preread": time(before),
            "pids_stats": now.map_or(json!({}), |sample| json!({ "current": sample.stats.processes })),
            "blkio_stats": {
                "io_service_bytes_recursive": null, "io_serviced_recursive": null, "io_queue_recursive": null,
                "io_service_time_recursive": null, "io_wait_time_recursive": null, "io_merged_recursive": null,
                "io_time_recursive": null, "sectors_recursive": null,
            },
            "num_procs": 0,
            "storage_stats": {},
            "cpu_stats": cpu(now),
            "precpu_stats": cpu(before),
            "memory_stats": memory,
            "networks": now.map_or(json!({}), |sample| sample.networks()),
        })
    }
}

/// What an update may change.
const CHANGEABLE: [&str; 12] = [
    "CpuShares",
    "Memory",
    "NanoCpus",
    "CpuPeriod",
    "CpuQuota",
    "CpusetCpus",
    "CpusetMems",
    "MemoryReservation",
    "MemorySwap",
    "PidsLimit",
    "RestartPolicy",
    "BlkioWeight",
];

struct Sample {
    at: i64,
    /// Time of all CPUs, nanoseconds.
    system: u64,
    stats: ResourceStats,
    interfaces: Vec<NetworkStats>,
}

impl Sample {
    fn networks(&self) -> Value {
        let interface = |stats: &NetworkStats| {
            let counted = json!({
                "rx_bytes": stats.rx_bytes,
                "rx_packets": stats.rx_packets,
                "rx_errors": stats.rx_errors,
                "rx_dropped": stats.rx_dropped,
                "tx_bytes": stats.tx_bytes,
                "tx_packets": stats.tx_packets,
                "tx_errors": stats.tx_errors,
                "tx_dropped": stats.tx_dropped,
            });
            (stats.name.clone(), counted)
        };
        Value::Object(self.interfaces.iter().map(interface).collect())
    }
}

/// What all CPUs spent, of /proc/stat: user, nice, system, idle, iowait, irq, softirq.
fn system_nanos() -> Option<u64> {
    const TICK: u64 = 10_000_000;
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let ticks = text.lines().next()?.split_whitespace().skip(1).take(7);
    Some(ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>().saturating_mul(TICK))
}

fn total_memory() -> u64 {
    let kib = || {
        let text = std::fs::read_to_string("/proc/meminfo").ok()?;
        text.lines().next()?.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    kib().unwrap_or(0) * 1024
}

/// The lines of ps that are of the container, as titles and rows.
fn table(text: &str, pids: &BTreeSet<u32>) -> Result<Value> {
    let mut lines = text.lines();
    let titles: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    let at = titles.iter().position(|title| *title == "PID");
    let at = at.ok_or_else(|| Failure::bad("Couldn't find PID field in ps output"))?;
    let row = |line: &str| {
        // The last column has blanks of its own.
        let mut rest = line.trim_start();
        let mut row = Vec::new();
        while row.len() + 1 < titles.len() {
            let (word, more) = rest.split_once(char::is_whitespace)?;
            row.push(word.to_owned());
            rest = more.trim_start();
        }
        row.push(rest.to_owned());
        pids.contains(&row.get(at)?.parse().ok()?).then_some(row)
    };
    Ok(json!({ "Titles": titles, "Processes": lines.filter_map(row).collect::<Vec<_>>() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_container_s_processes_are_shown_with_their_whole_command() {
        let text = "UID   PID CMD\nroot    1 /sbin/init\nroot   77 sh -c  sleep 1\n";
        let table = table(text, &BTreeSet::from([77])).unwrap();
        assert_eq!(table["Titles"], json!(["UID", "PID", "CMD"]));
        assert_eq!(table["Processes"], json!([["root", "77", "sh -c  sleep 1"]]));
        assert!(super::table("A B\n1 2\n", &BTreeSet::new()).is_err());
    }
}
