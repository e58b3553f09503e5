//! What of Kubernetes' types is read (Kubernetes API v1 and apps/v1). Fields that are not here are named in a warning.

use std::collections::BTreeMap;

use serde::Deserialize;

macro_rules! read {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub(super) struct $name {
            $($(#[$field_doc])* pub(super) $field: $kind,)*
        }
    )*};
}

type Text = Option<String>;

read! {
    /// What all kinds have.
    Metadata {
        name: String,
        namespace: Text,
        labels: BTreeMap<String, String>,
        annotations: BTreeMap<String, String>,
    }
    /// A document before its kind is known.
    Head { api_version: String, kind: String, metadata: Metadata, }
    Pod { api_version: String, kind: String, metadata: Metadata, spec: PodSpec, }
    Deployment { api_version: String, kind: String, metadata: Metadata, spec: DeploymentSpec, }
    DeploymentSpec { replicas: Option<u32>, selector: Option<serde_json::Value>, template: Template, }
    Template { metadata: TemplateMetadata, spec: PodSpec, }
    /// A template needs no name.
    TemplateMetadata { labels: BTreeMap<String, String>, annotations: BTreeMap<String, String>, }
    ConfigMap {
        api_version: String,
        kind: String,
        metadata: Metadata,
        data: BTreeMap<String, String>,
        /// In base64.
        binary_data: BTreeMap<String, String>,
        immutable: bool,
    }
    Secret {
        api_version: String,
        kind: String,
        metadata: Metadata,
        #[serde(rename = "type")]
        of_type: Text,
        /// In base64.
        data: BTreeMap<String, String>,
        string_data: BTreeMap<String, String>,
        immutable: bool,
    }
    PodSpec {
        containers: Vec<Container>,
        init_containers: Vec<Container>,
        volumes: Vec<Volume>,
        restart_policy: Option<RestartPolicy>,
        termination_grace_period_seconds: Option<u32>,
        hostname: Text,
        host_network: bool,
        #[serde(rename = "hostPID")]
        host_pid: bool,
        #[serde(rename = "hostIPC")]
        host_ipc: bool,
        share_process_namespace: bool,
        dns_policy: Text,
        dns_config: Option<DnsConfig>,
        security_context: PodSecurity,
    }
    DnsConfig { nameservers: Vec<String>, searches: Vec<String>, options: Vec<DnsOption>, }
    DnsOption { name: String, value: Text, }
    PodSecurity {
        run_as_user: Option<i64>,
        run_as_group: Option<i64>,
        run_as_non_root: bool,
        supplemental_groups: Vec<i64>,
        sysctls: Vec<Sysctl>,
        seccomp_profile: Option<Profile>,
    }
    Sysctl { name: String, value: String, }
    Profile {
        #[serde(rename = "type")]
        of_type: String,
        localhost_profile: Text,
    }
    Container {
        name: String,
        image: String,
        image_pull_policy: Option<PullPolicy>,
        command: Vec<String>,
        args: Vec<String>,
        working_dir: String,
        env: Vec<Variable>,
        env_from: Vec<VariablesFrom>,
        ports: Vec<Port>,
        resources: Resources,
        volume_mounts: Vec<VolumeMount>,
        security_context: Security,
        restart_policy: Text,
        stdin: bool,
        stdin_once: bool,
        tty: bool,
    }
    Variable { name: String, value: Text, value_from: Option<ValueFrom>, }
    ValueFrom {
        config_map_key_ref: Option<KeyRef>,
        secret_key_ref: Option<KeyRef>,
        field_ref: Option<FieldRef>,
    }
    KeyRef { name: String, key: String, optional: bool, }
    FieldRef { api_version: Text, field_path: String, }
    VariablesFrom { prefix: String, config_map_ref: Option<NameRef>, secret_ref: Option<NameRef>, }
    NameRef { name: String, optional: bool, }
    Port {
        name: Text,
        container_port: u16,
        host_port: u16,
        #[serde(rename = "hostIP")]
        host_ip: String,
        protocol: Option<Protocol>,
    }
    Resources { limits: BTreeMap<String, Quantity>, requests: BTreeMap<String, Quantity>, }
    VolumeMount { name: String, mount_path: String, sub_path: String, read_only: bool, }
    Security {
        privileged: bool,
        run_as_user: Option<i64>,
        run_as_group: Option<i64>,
        run_as_non_root: Option<bool>,
        read_only_root_filesystem: bool,
        allow_privilege_escalation: Option<bool>,
        capabilities: Capabilities,
        seccomp_profile: Option<Profile>,
    }
    Capabilities { add: Vec<String>, drop: Vec<String>, }
    Volume {
        name: String,
        empty_dir: Option<EmptyDir>,
        host_path: Option<HostPath>,
        config_map: Option<Keys>,
        secret: Option<Keys>,
    }
    EmptyDir { medium: String, size_limit: Option<Quantity>, }
    HostPath {
        path: String,
        #[serde(rename = "type")]
        of_type: String,
    }
    /// A volume of a ConfigMap (by `name`) or a Secret (by `secretName`).
    Keys {
        name: String,
        secret_name: String,
        items: Vec<Item>,
        default_mode: Option<u32>,
        optional: bool,
    }
    Item { key: String, path: String, mode: Option<u32>, }
}

/// When a container that has ended is run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

/// Of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

/// A quantity as it is written: `500m`, `64Mi`, `2`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub(super) enum Quantity {
    Text(String),
    Whole(u64),
    Fraction(f64),
}
