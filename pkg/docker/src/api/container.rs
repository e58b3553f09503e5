//! Containers: what is asked of one, as `POST /containers/create` has it.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::{network::EndpointSettings, request};

/// A command: a list, or one word as a text (Go's `strslice`).
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub(crate) struct Words(pub(crate) Vec<String>);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            One(String),
            Many(Vec<String>),
        }
        Ok(match Form::deserialize(deserializer)? {
            Form::One(word) => Self(vec![word]),
            Form::Many(words) => Self(words),
        })
    }
}

/// A set, as Go writes one: `{"80/tcp":{}}`.
pub(crate) type Set = BTreeMap<String, Empty>;

/// `{}`
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Empty {}

request! {
    /// What a container is, wherever it runs.
    struct Config {
        /// Host name; empty is the beginning of its id.
        hostname: String = "Hostname",
        /// Domain name.
        domainname: String = "Domainname",
        /// `user:group`
        user: String = "User",
        /// Whether the client that makes it attaches to its input.
        attach_stdin: bool = "AttachStdin",
        /// Whether the client that makes it attaches to its output.
        attach_stdout: bool = "AttachStdout",
        /// Whether the client that makes it attaches to its errors.
        attach_stderr: bool = "AttachStderr",
        /// `80/tcp`
        exposed_ports: Option<Set> = "ExposedPorts",
        /// On a terminal.
        tty: bool = "Tty",
        /// Input stays open.
        open_stdin: bool = "OpenStdin",
        /// Input ends with the first client's.
        stdin_once: bool = "StdinOnce",
        /// `NAME=value`, or `NAME` to leave one out.
        env: Option<Vec<String>> = "Env",
        /// CMD.
        cmd: Option<Words> = "Cmd",
        /// HEALTHCHECK.
        healthcheck: Option<Healthcheck> = "Healthcheck",
        /// Image, as the client names it.
        image: String = "Image",
        /// Places of anonymous volumes.
        volumes: Option<Set> = "Volumes",
        /// Working directory.
        working_dir: String = "WorkingDir",
        /// ENTRYPOINT.
        entrypoint: Option<Words> = "Entrypoint",
        /// Without a network.
        network_disabled: bool = "NetworkDisabled",
        /// Hardware address, of clients before API 1.44.
        mac_address: String = "MacAddress",
        /// ONBUILD.
        on_build: Option<Vec<String>> = "OnBuild",
        /// Labels.
        labels: BTreeMap<String, String> = "Labels",
        /// What a stop sends first.
        stop_signal: String = "StopSignal",
        /// Seconds until a stop kills.
        stop_timeout: Option<i64> = "StopTimeout",
        /// SHELL.
        shell: Option<Words> = "Shell",
    }

    /// How its health is looked at. Times are nanoseconds; 0 inherits.
    struct Healthcheck {
        /// `[]` inherits, `["NONE"]`, `["CMD", ...]`, `["CMD-SHELL", line]`.
        test: Option<Vec<String>> = "Test",
        /// Between two looks.
        interval: i64 = "Interval",
        /// How long one may take.
        timeout: i64 = "Timeout",
        /// Failures that make it unhealthy.
        retries: i64 = "Retries",
        /// During which failures do not count.
        start_period: i64 = "StartPeriod",
        /// Between two looks during that.
        start_interval: i64 = "StartInterval",
    }

    /// What it has of this node.
    struct HostConfig {
        /// `source:place:options`
        binds: Option<Vec<String>> = "Binds",
        /// Where its log goes.
        log_config: LogConfig = "LogConfig",
        /// `default`, `bridge`, `host`, `none`, `container:ID` or a network.
        network_mode: String = "NetworkMode",
        /// Ports of the node that lead to it.
        port_bindings: Option<BTreeMap<String, Option<Vec<PortBinding>>>> = "PortBindings",
        /// What follows its end.
        restart_policy: RestartPolicy = "RestartPolicy",
        /// It is removed when it ends.
        auto_remove: bool = "AutoRemove",
        /// Driver of volumes without one.
        volume_driver: String = "VolumeDriver",
        /// `container[:ro]`
        volumes_from: Option<Vec<String>> = "VolumesFrom",
        /// Mounts.
        mounts: Option<Vec<MountRequest>> = "Mounts",
        /// Size of the terminal that it begins with: rows and columns.
        console_size: Option<(u16, u16)> = "ConsoleSize",
        /// How it is kept apart: `default` is all there is where containers are not Windows' own.
        isolation: String = "Isolation",
        /// Capabilities to add.
        cap_add: Option<Vec<String>> = "CapAdd",
        /// Capabilities to drop.
        cap_drop: Option<Vec<String>> = "CapDrop",
        /// `private` or `host`.
        cgroupns_mode: String = "CgroupnsMode",
        /// Name servers.
        dns: Option<Vec<String>> = "Dns",
        /// Options of resolv.conf.
        dns_options: Option<Vec<String>> = "DnsOptions",
        /// Domains to search.
        dns_search: Option<Vec<String>> = "DnsSearch",
        /// `name:address`
        extra_hosts: Option<Vec<String>> = "ExtraHosts",
        /// `container:alias`
        links: Option<Vec<String>> = "Links",
        /// Further groups.
        group_add: Option<Vec<String>> = "GroupAdd",
        /// `private`, `shareable`, `host`, `none` or `container:ID`.
        ipc_mode: String = "IpcMode",
        /// oom_score_adj.
        oom_score_adj: i64 = "OomScoreAdj",
        /// Empty, `host` or `container:ID`.
        pid_mode: String = "PidMode",
        /// Everything.
        privileged: bool = "Privileged",
        /// Every exposed port gets one of the node's.
        publish_all_ports: bool = "PublishAllPorts",
        /// The root cannot be written.
        readonly_rootfs: bool = "ReadonlyRootfs",
        /// `seccomp=...`, `apparmor=...`, `label=...`, `no-new-privileges`.
        security_opt: Option<Vec<String>> = "SecurityOpt",
        /// Places in memory, with options.
        tmpfs: Option<BTreeMap<String, String>> = "Tmpfs",
        /// Empty or `host`.
        uts_mode: String = "UTSMode",
        /// Empty or `host`.
        userns_mode: String = "UsernsMode",
        /// Bytes of /dev/shm; 0 is 64 MiB.
        shm_size: i64 = "ShmSize",
        /// Kernel parameters.
        sysctls: Option<BTreeMap<String, String>> = "Sysctls",
        /// Another runtime.
        runtime: String = "Runtime",
        /// Weight.
        cpu_shares: i64 = "CpuShares",
        /// Bytes.
        memory: i64 = "Memory",
        /// Billionths of a CPU.
        nano_cpus: i64 = "NanoCpus",
        /// Microseconds.
        cpu_period: i64 = "CpuPeriod",
        /// Microseconds in a period.
        cpu_quota: i64 = "CpuQuota",
        /// `0-3`
        cpuset_cpus: String = "CpusetCpus",
        /// `0`
        cpuset_mems: String = "CpusetMems",
        /// Parent cgroup.
        cgroup_parent: String = "CgroupParent",
        /// Devices.
        devices: Option<Vec<DeviceMapping>> = "Devices",
        /// Rules of the device cgroup.
        device_cgroup_rules: Option<Vec<String>> = "DeviceCgroupRules",
        /// Devices by driver: CDI names.
        device_requests: Option<Vec<DeviceRequest>> = "DeviceRequests",
        /// Share of block devices, 10 to 1000.
        blkio_weight: u16 = "BlkioWeight",
        /// Of single ones.
        blkio_weight_device: Option<Vec<WeightDevice>> = "BlkioWeightDevice",
        /// Bytes read per second.
        blkio_device_read_bps: Option<Vec<ThrottleDevice>> = "BlkioDeviceReadBps",
        /// Bytes written per second.
        blkio_device_write_bps: Option<Vec<ThrottleDevice>> = "BlkioDeviceWriteBps",
        /// Reads per second.
        blkio_device_read_iops: Option<Vec<ThrottleDevice>> = "BlkioDeviceReadIOps",
        /// Writes per second.
        blkio_device_write_iops: Option<Vec<ThrottleDevice>> = "BlkioDeviceWriteIOps",
        /// Bytes that it keeps under pressure.
        memory_reservation: i64 = "MemoryReservation",
        /// Bytes of memory and swap; -1 is unlimited.
        memory_swap: i64 = "MemorySwap",
        /// Processes; 0 and -1 are unlimited.
        pids_limit: Option<i64> = "PidsLimit",
        /// Limits of processes.
        ulimits: Option<Vec<Ulimit>> = "Ulimits",
        /// An init that reaps.
        init: Option<bool> = "Init",
        /// Hidden paths; absent is husk's list.
        masked_paths: Option<Vec<String>> = "MaskedPaths",
        /// Read-only paths; absent is husk's list.
        readonly_paths: Option<Vec<String>> = "ReadonlyPaths",
    }

    /// Where a log goes.
    struct LogConfig {
        /// Empty, `json-file`, `local` or `none`.
        kind: String = "Type",
        /// `max-size`, `max-file`.
        config: BTreeMap<String, String> = "Config",
    }

    /// A port of the node.
    struct PortBinding {
        /// Address; empty is every one.
        host_ip: String = "HostIp",
        /// Port or range; empty or 0 is any.
        host_port: String = "HostPort",
    }

    /// What follows an end.
    struct RestartPolicy {
        /// Empty, `no`, `always`, `unless-stopped` or `on-failure`.
        name: String = "Name",
        /// Of `on-failure`; 0 is without end.
        maximum_retry_count: i64 = "MaximumRetryCount",
    }

    /// A mount.
    struct MountRequest {
        /// Place in the container.
        target: String = "Target",
        /// Path, volume or image.
        source: String = "Source",
        /// `bind`, `volume`, `tmpfs`, `image`.
        kind: String = "Type",
        /// Cannot be written.
        read_only: bool = "ReadOnly",
        /// Ignored, as by dockerd on Linux.
        consistency: String = "Consistency",
        /// Of a bind.
        bind_options: Option<BindOptions> = "BindOptions",
        /// Of a volume.
        volume_options: Option<VolumeOptions> = "VolumeOptions",
        /// Of an image.
        image_options: Option<ImageOptions> = "ImageOptions",
        /// Of memory.
        tmpfs_options: Option<TmpfsOptions> = "TmpfsOptions",
    }

    /// Of a bind.
    struct BindOptions {
        /// `rprivate`, `rslave`, `rshared` and without `r`.
        propagation: String = "Propagation",
        /// Without the mounts below.
        non_recursive: bool = "NonRecursive",
        /// The source is made if it is not there.
        create_mountpoint: bool = "CreateMountpoint",
    }

    /// Of a volume.
    struct VolumeOptions {
        /// The image's files at the place do not come into it.
        no_copy: bool = "NoCopy",
        /// Labels of a volume that is made.
        labels: BTreeMap<String, String> = "Labels",
        /// How it is made.
        driver_config: Option<DriverConfig> = "DriverConfig",
        /// A directory in it.
        subpath: String = "Subpath",
    }

    /// How a volume is made.
    struct DriverConfig {
        /// `local`
        name: String = "Name",
        /// Options.
        options: BTreeMap<String, String> = "Options",
    }

    /// Of an image.
    struct ImageOptions {
        /// A directory in it.
        subpath: String = "Subpath",
    }

    /// Of memory.
    struct TmpfsOptions {
        /// Most bytes; 0 is half of the node's memory.
        size_bytes: i64 = "SizeBytes",
        /// Mode of its root; 0 is 1777.
        mode: u32 = "Mode",
        /// `["exec"]`, `["uid", "1"]`
        options: Option<Vec<Vec<String>>> = "Options",
    }

    /// A device.
    struct DeviceMapping {
        /// On the node.
        path_on_host: String = "PathOnHost",
        /// In the container.
        path_in_container: String = "PathInContainer",
        /// `rwm`
        cgroup_permissions: String = "CgroupPermissions",
    }

    /// A block device's share.
    struct WeightDevice {
        /// On the node.
        path: String = "Path",
        /// 10 to 1000.
        weight: u64 = "Weight",
    }

    /// A block device's rate.
    struct ThrottleDevice {
        /// On the node.
        path: String = "Path",
        /// Bytes or operations per second.
        rate: u64 = "Rate",
    }

    /// Devices by driver.
    struct DeviceRequest {
        /// `cdi`
        driver: String = "Driver",
        /// Names.
        device_ids: Vec<String> = "DeviceIDs",
    }

    /// A limit of processes.
    struct Ulimit {
        /// `nofile`
        name: String = "Name",
        /// Soft; -1 is without.
        soft: i64 = "Soft",
        /// Hard; -1 is without.
        hard: i64 = "Hard",
    }

    /// Its places in networks.
    struct NetworkingConfig {
        /// By network.
        endpoints_config: BTreeMap<String, Option<EndpointSettings>> = "EndpointsConfig",
    }

    /// `POST /containers/create`, besides the fields of [`Config`].
    struct CreateBesides {
        /// What it has of this node.
        host_config: HostConfig = "HostConfig",
        /// Its networks.
        networking_config: NetworkingConfig = "NetworkingConfig",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_a_list_or_a_word() {
        let config: Config = serde_json::from_str(r#"{"Cmd":"true","Entrypoint":["a","b"]}"#).unwrap();
        assert_eq!(config.cmd, Some(Words(vec!["true".to_owned()])));
        assert_eq!(config.entrypoint, Some(Words(vec!["a".to_owned(), "b".to_owned()])));
        assert_eq!(serde_json::from_str::<Config>(r#"{"Cmd":null}"#).unwrap().cmd, None);
    }

    #[test]
    fn what_clients_send_is_read() {
        let text = r#"{"PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"8080"}],"81/tcp":null},"ConsoleSize":[24,80],
            "Ulimits":[{"Name":"nofile","Soft":1024,"Hard":-1}],"Mounts":[{"Type":"tmpfs","Target":"/t","TmpfsOptions":{"SizeBytes":1}}]}"#;
        let host: HostConfig = serde_json::from_str(text).unwrap();
        assert_eq!(host.console_size, Some((24, 80)));
        assert_eq!(host.ulimits.unwrap()[0].hard, -1);
        assert_eq!(host.mounts.unwrap()[0].tmpfs_options.as_ref().unwrap().size_bytes, 1);
    }
}
