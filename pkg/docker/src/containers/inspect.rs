//! `GET /containers/{id}/json`.

use serde_json::{Map, Value, json};

use super::{
    container::Container,
    ports,
    record::{LOG, Phase, Record},
    store::Store,
};
use crate::{threads, when};

impl Store {
    /// All that is known of a container.
    pub(super) async fn inspect(&self, container: &Container, with_size: bool) -> Value {
        let record = container.record();
        let engine = &self.0.shared.engine;
        let run = record.state.run.as_ref().and_then(|run| run.container.clone());
        let status = run.and_then(|id| engine.container_status(id.as_str()).ok());
        let pid = status.as_ref().and_then(|status| status.process).map_or(0, |process| process.pid);
        let words: Vec<String> = super::merge::command(&record.config).unwrap_or_default();
        let image = self.0.shared.images.resolve(record.image.as_str());
        let platform = image.as_ref().map(|image| image.config.platform.os.clone()).unwrap_or_default();
        let mut value = json!({
            "Id": record.id,
            "Created": when::text(record.created),
            "Path": words.first().cloned().unwrap_or_default(),
            "Args": words.get(1..).unwrap_or_default(),
            "State": state(container, &record, if record.state.is_running() { pid } else { 0 }),
            "Image": record.image.as_str(),
            "ResolvConfPath": "",
            "HostnamePath": "",
            "HostsPath": "",
            "LogPath": log_path(container, &record),
            "Name": format!("/{}", record.name),
            "RestartCount": record.state.restarts,
            "Driver": "overlay2",
            "Platform": if platform.is_empty() { "linux".to_owned() } else { platform },
            "MountLabel": "",
            "ProcessLabel": "",
            "AppArmorProfile": "",
            "ExecIDs": ids(self.0.execs.of(container)),
            "HostConfig": host_config(&record),
            "GraphDriver": { "Name": "overlay2", "Data": null },
            "Mounts": record.mounts.iter().filter(|point| point.kind != "tmpfs").map(mount).collect::<Vec<_>>(),
            "Config": config(&record),
            "NetworkSettings": self.network_settings(&record),
        });
        if with_size {
            let size = self.written(container).await;
            value["SizeRw"] = size.into();
            value["SizeRootFs"] = (size + image.map_or(0, |image| image.size)).into();
        }
        value
    }

    /// Bytes that its writable layer takes.
    pub(super) async fn written(&self, container: &Container) -> u64 {
        let upper = super::record::layer(&container.dir).join("upper");
        let measured = threads::walk(move |is_wanted| husk_stats::disk_usage(&upper, is_wanted)).await;
        measured.ok().and_then(Result::ok).flatten().map_or(0, |usage| usage.bytes)
    }
}

fn ids(ids: Vec<String>) -> Value {
    if ids.is_empty() { Value::Null } else { ids.into() }
}

fn log_path(container: &Container, record: &Record) -> String {
    match record.host.log_config.kind.as_str() {
        "none" => String::new(),
        _ => container.dir.join(LOG).display().to_string(),
    }
}

fn state(container: &Container, record: &Record, pid: u32) -> Value {
    let state = &record.state;
    let time = |at| if at == 0 { when::NEVER.to_owned() } else { when::text(at) };
    let mut value = json!({
        "Status": state.status(),
        "Running": state.is_running() || state.phase == Phase::Restarting,
        "Paused": state.paused,
        "Restarting": state.phase == Phase::Restarting,
        "OOMKilled": state.oom_killed,
        "Dead": false,
        "Pid": pid,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": time(state.started_at),
        "FinishedAt": time(state.finished_at),
    });
    if let Some(health) = container.health() {
        value["Health"] = health.shown();
    }
    value
}

/// A mount without what inspection does not show.
pub(super) fn mount(point: &super::mounts::MountPoint) -> Value {
    let mut point = point.clone();
    point.besides = None;
    serde_json::to_value(point).unwrap_or_default()
}

fn config(record: &Record) -> Value {
    let mut config = serde_json::to_value(&record.config).unwrap_or_default();
    config["Hostname"] = super::merge::hostname(record).into();
    for absent in
        ["Healthcheck", "Shell", "StopTimeout", "ExposedPorts", "StopSignal", "NetworkDisabled", "MacAddress"]
    {
        let is_empty = match &config[absent] {
            Value::Null | Value::Bool(false) => true,
            Value::String(text) => text.is_empty(),
            _ => false,
        };
        if is_empty && let Some(fields) = config.as_object_mut() {
            fields.remove(absent);
        }
    }
    config
}

/// What was asked for, with what is so by itself.
fn host_config(record: &Record) -> Value {
    let host = &record.host;
    let mut value = serde_json::to_value(host).unwrap_or_default();
    let defaults = json!({
        "ContainerIDFile": "",
        "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0,
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
        "Cgroup": "",
        "OomKillDisable": null,
        "MemorySwappiness": null,
    });
    if let (Some(fields), Value::Object(defaults)) = (value.as_object_mut(), defaults) {
        fields.extend(defaults);
    }
    let or = |text: &str, default: &str| if text.is_empty() { default.to_owned() } else { text.to_owned() };
    value["LogConfig"]["Type"] = or(&host.log_config.kind, "json-file").into();
    value["RestartPolicy"]["Name"] = or(&host.restart_policy.name, "no").into();
    value["IpcMode"] = or(&host.ipc_mode, "private").into();
    value["CgroupnsMode"] = or(&host.cgroupns_mode, "private").into();
    value["Runtime"] = or(&host.runtime, "runc").into();
    value["ShmSize"] = if host.shm_size == 0 { 64 << 20 } else { host.shm_size }.into();
    value["ConsoleSize"] = host.console_size.map_or(json!([0, 0]), |(rows, columns)| json!([rows, columns]));
    for (field, default) in
        [("PortBindings", json!({})), ("Dns", json!([])), ("DnsOptions", json!([])), ("DnsSearch", json!([]))]
    {
        if value[field].is_null() {
            value[field] = default;
        }
    }
    value
}

impl Store {
    /// Its networks, as they are now.
    pub(super) fn network_settings(&self, record: &Record) -> Value {
        let networks = self.places(record);
        let first = networks.get("bridge").cloned().unwrap_or_default();
        let own = |field: &str| first.get(field).cloned().unwrap_or_else(|| "".into());
        let number = |field: &str| first.get(field).cloned().unwrap_or_else(|| 0.into());
        json!({
            "Bridge": "",
            "SandboxID": record.state.run.as_ref().and_then(|run| run.pod.clone()).map(|pod| pod.to_string()).unwrap_or_default(),
            "SandboxKey": "",
            "HairpinMode": false,
            "LinkLocalIPv6Address": "",
            "LinkLocalIPv6PrefixLen": 0,
            "SecondaryIPAddresses": null,
            "SecondaryIPv6Addresses": null,
            "Ports": self.port_map(record),
            "EndpointID": own("EndpointID"),
            "Gateway": own("Gateway"),
            "GlobalIPv6Address": own("GlobalIPv6Address"),
            "GlobalIPv6PrefixLen": number("GlobalIPv6PrefixLen"),
            "IPAddress": own("IPAddress"),
            "IPPrefixLen": number("IPPrefixLen"),
            "IPv6Gateway": own("IPv6Gateway"),
            "MacAddress": own("MacAddress"),
            "Networks": networks,
        })
    }

    /// `80/tcp` to the node's ports that lead to it; null for one that is only exposed.
    fn port_map(&self, record: &Record) -> Map<String, Value> {
        let mut map = Map::new();
        if !record.state.is_running() {
            return map;
        }
        for port in ports::exposed(&record.config).unwrap_or_default() {
            map.insert(port.to_string(), Value::Null);
        }
        for port in self.bound_ports(record) {
            let name = format!("{}/{}", port.container_port, ports::protocol_name(port.protocol));
            let binding = json!({
                "HostIp": port.host_ip.map_or_else(|| "0.0.0.0".to_owned(), |ip| ip.to_string()),
                "HostPort": port.host_port.to_string(),
            });
            match map.entry(name).or_insert(Value::Null) {
                Value::Array(bindings) => bindings.push(binding),
                other => *other = json!([binding]),
            }
        }
        map
    }
}
