//! A pod of a manifest as what the CRI is asked for. Pure: files of volumes are planned here and made by `volumes`.

use std::collections::BTreeMap;

use husk_proto::cri::v1;

use super::{
    environment,
    manifest::{Data, Wanted},
    names, quantity,
    types::{Container, PodSecurity, PodSpec, Port, Profile, Protocol, PullPolicy, RestartPolicy, Security},
    volumes::{Places, Volumes},
};

/// The label of pods that `husk run` and `husk kube play` made: of which document they are.
pub(super) const OWNER: &str = "io.husk.kube.owner";
/// Keys that are husk's.
const RESERVED: &str = "io.husk.";
/// The period of a CPU quota in microseconds, as the kubelet has it.
const PERIOD: i64 = 100_000;
/// What a container has to end by itself, in seconds, where the pod says nothing.
pub(super) const GRACE: u32 = 30;

/// What is asked for, in order.
#[derive(Debug)]
pub(super) struct Plan {
    /// `namespace/name`.
    pub(super) name: String,
    pub(super) sandbox: v1::PodSandboxConfig,
    pub(super) init: Vec<Planned>,
    pub(super) containers: Vec<Planned>,
    pub(super) volumes: Volumes,
    pub(super) restart: Option<RestartPolicy>,
    /// Seconds.
    pub(super) grace: u32,
}

/// A container, and when its image is pulled.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) pull: PullPolicy,
    pub(super) config: v1::ContainerConfig,
}

/// Plans a pod.
///
/// # Errors
/// In words, with the field.
pub(super) fn plan(wanted: &Wanted, data: &Data, places: &Places) -> Result<Plan, String> {
    let Wanted { name, namespace, spec, .. } = wanted;
    if spec.containers.is_empty() {
        return Err("spec.containers: there are none".to_owned());
    }
    let uid = format!("{namespace}_{name}");
    let volumes = Volumes::plan(spec, namespace, data, &places.of(&uid))?;
    let mut labels = own("metadata.labels", &wanted.labels)?;
    labels.insert(OWNER.to_owned(), wanted.owner.clone());
    let namespaces = namespaces(spec);
    let hostname = hostname(wanted)?;
    let sandbox = v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: name.clone(),
            uid,
            namespace: namespace.clone(),
            attempt: 0,
        }),
        hostname,
        log_directory: volumes.logs().display().to_string(),
        dns_config: dns(spec)?,
        port_mappings: ports(spec),
        labels: labels.into_iter().collect(),
        annotations: own("metadata.annotations", &wanted.annotations)?.into_iter().collect(),
        linux: Some(v1::LinuxPodSandboxConfig {
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces.clone()),
                privileged: spec.containers.iter().any(|container| container.security_context.privileged),
                seccomp: Some(v1::SecurityProfile::default()),
                ..Default::default()
            }),
            sysctls: spec
                .security_context
                .sysctls
                .iter()
                .map(|sysctl| (sysctl.name.clone(), sysctl.value.clone()))
                .collect(),
            ..Default::default()
        }),
        windows: None,
    };
    let maker = Maker { wanted, data, volumes: &volumes, namespaces };
    let (init, containers) =
        (maker.all("initContainers", &spec.init_containers)?, maker.all("containers", &spec.containers)?);
    let mut seen = std::collections::BTreeSet::new();
    for planned in init.iter().chain(&containers) {
        if !seen.insert(planned.name.clone()) {
            return Err(format!("spec.containers: two are called {:?}", planned.name));
        }
    }
    Ok(Plan {
        name: format!("{namespace}/{name}"),
        sandbox,
        init,
        containers,
        restart: spec.restart_policy,
        grace: spec.termination_grace_period_seconds.unwrap_or(GRACE),
        volumes,
    })
}

fn own(field: &str, tags: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, String> {
    match tags.keys().find(|key| key.starts_with(RESERVED)) {
        Some(key) => Err(format!("{field}.{key}: keys that begin with {RESERVED} are husk's")),
        None => Ok(tags.clone()),
    }
}

fn hostname(wanted: &Wanted) -> Result<String, String> {
    match (&wanted.spec.hostname, wanted.spec.host_network) {
        (_, true) => Ok(String::new()),
        (Some(name), false) => names::label("spec.hostname", name).map(|()| name.clone()),
        (None, false) => Ok(wanted.name.clone()),
    }
}

fn namespaces(spec: &PodSpec) -> v1::NamespaceOption {
    let of = |host: bool, otherwise: v1::NamespaceMode| match host {
        true => v1::NamespaceMode::Node,
        false => otherwise,
    };
    let pid = match spec.share_process_namespace {
        true => v1::NamespaceMode::Pod,
        false => v1::NamespaceMode::Container,
    };
    v1::NamespaceOption {
        network: of(spec.host_network, v1::NamespaceMode::Pod).into(),
        pid: of(spec.host_pid, pid).into(),
        ipc: of(spec.host_ipc, v1::NamespaceMode::Pod).into(),
        ..Default::default()
    }
}

fn dns(spec: &PodSpec) -> Result<Option<v1::DnsConfig>, String> {
    let policy = spec.dns_policy.as_deref().unwrap_or("Default");
    // There is no cluster here whose names could be asked for first.
    if !["Default", "ClusterFirst", "ClusterFirstWithHostNet", "None"].contains(&policy) {
        return Err(format!("spec.dnsPolicy: {policy:?} is none of Default, ClusterFirst and None"));
    }
    let config = spec.dns_config.as_ref().map(|config| v1::DnsConfig {
        servers: config.nameservers.clone(),
        searches: config.searches.clone(),
        options: config
            .options
            .iter()
            .map(|option| match &option.value {
                Some(value) => format!("{}:{value}", option.name),
                None => option.name.clone(),
            })
            .collect(),
    });
    match (policy, &config) {
        ("None", None) => Err("spec.dnsPolicy: None needs spec.dnsConfig.nameservers".to_owned()),
        _ => Ok(config),
    }
}

fn ports(spec: &PodSpec) -> Vec<v1::PortMapping> {
    let port = |port: &Port| v1::PortMapping {
        protocol: match port.protocol.unwrap_or(Protocol::Tcp) {
            Protocol::Tcp => v1::Protocol::Tcp,
            Protocol::Udp => v1::Protocol::Udp,
            Protocol::Sctp => v1::Protocol::Sctp,
        }
        .into(),
        container_port: port.container_port.into(),
        host_port: port.host_port.into(),
        host_ip: port.host_ip.clone(),
    };
    spec.containers.iter().flat_map(|container| &container.ports).map(port).collect()
}

// === containers ===

struct Maker<'p> {
    wanted: &'p Wanted,
    data: &'p Data,
    volumes: &'p Volumes,
    namespaces: v1::NamespaceOption,
}

impl Maker<'_> {
    fn all(&self, list: &str, containers: &[Container]) -> Result<Vec<Planned>, String> {
        let one = |(index, container): (usize, &Container)| {
            let field = format!("spec.{list}[{index}]");
            if list == "initContainers" && container.restart_policy.is_some() {
                return Err(format!(
                    "{field}.restartPolicy: containers that start first and go on (sidecars) are not run; put it among the containers"
                ));
            }
            self.container(container).map_err(|reason| format!("{field}.{reason}"))
        };
        containers.iter().enumerate().map(one).collect()
    }

    fn container(&self, container: &Container) -> Result<Planned, String> {
        names::label("name", &container.name)?;
        if container.image.is_empty() {
            return Err("image: is empty".to_owned());
        }
        let variables = environment::variables(container, self.wanted, self.data)?;
        let pod = &self.wanted.spec.security_context;
        let config = v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata { name: container.name.clone(), attempt: 0 }),
            image: Some(v1::ImageSpec {
                image: container.image.clone(),
                user_specified_image: container.image.clone(),
                ..Default::default()
            }),
            command: environment::expanded(&container.command, &variables),
            args: environment::expanded(&container.args, &variables),
            working_dir: container.working_dir.clone(),
            envs: variables
                .into_iter()
                .map(|(key, value)| v1::KeyValue { key, value: value.into() })
                .collect(),
            mounts: self.volumes.mounts(container)?,
            log_path: format!("{}.log", container.name),
            stdin: container.stdin,
            stdin_once: container.stdin_once,
            tty: container.tty,
            linux: Some(v1::LinuxContainerConfig {
                resources: Some(resources(container)?),
                security_context: Some(self.security(&container.security_context, pod)?),
            }),
            ..Default::default()
        };
        Ok(Planned {
            name: container.name.clone(),
            image: container.image.clone(),
            pull: container.image_pull_policy.unwrap_or_else(|| usual_pull(&container.image)),
            config,
        })
    }

    fn security(
        &self,
        own: &Security,
        pod: &PodSecurity,
    ) -> Result<v1::LinuxContainerSecurityContext, String> {
        let user = own.run_as_user.or(pod.run_as_user);
        if own.run_as_non_root.unwrap_or(pod.run_as_non_root) && user.is_none_or(|user| user == 0) {
            return Err("securityContext.runAsNonRoot: needs runAsUser, other than 0".to_owned());
        }
        let group = own.run_as_group.or(pod.run_as_group);
        if group.is_some() && user.is_none() {
            return Err("securityContext.runAsGroup: needs runAsUser".to_owned());
        }
        let value = |value: i64| v1::Int64Value { value };
        Ok(v1::LinuxContainerSecurityContext {
            capabilities: Some(v1::Capability {
                add_capabilities: own.capabilities.add.clone(),
                drop_capabilities: own.capabilities.drop.clone(),
                ..Default::default()
            }),
            privileged: own.privileged,
            namespace_options: Some(self.namespaces.clone()),
            run_as_user: user.map(value),
            run_as_group: group.map(value),
            readonly_rootfs: own.read_only_root_filesystem,
            supplemental_groups: pod.supplemental_groups.clone(),
            no_new_privs: own.allow_privilege_escalation == Some(false),
            seccomp: Some(profile(own.seccomp_profile.as_ref().or(pod.seccomp_profile.as_ref()))?),
            ..Default::default()
        })
    }
}

/// Without a tag, or with `latest`, an image may be another one by now (Kubernetes, "Default image pull policy").
fn usual_pull(image: &str) -> PullPolicy {
    let last = image.rsplit('/').next().unwrap_or(image);
    match last.split_once(':') {
        _ if image.contains('@') => PullPolicy::IfNotPresent,
        Some((_, tag)) if tag != "latest" => PullPolicy::IfNotPresent,
        _ => PullPolicy::Always,
    }
}

fn profile(profile: Option<&Profile>) -> Result<v1::SecurityProfile, String> {
    use v1::security_profile::ProfileType as Type;
    let Some(profile) = profile else { return Ok(v1::SecurityProfile::default()) };
    let of_type = match profile.of_type.as_str() {
        "RuntimeDefault" => Type::RuntimeDefault,
        "Unconfined" => Type::Unconfined,
        "Localhost" => Type::Localhost,
        other => return Err(format!("securityContext.seccompProfile.type: there is no {other:?}")),
    };
    let localhost_ref = profile.localhost_profile.clone().unwrap_or_default();
    Ok(v1::SecurityProfile { profile_type: of_type.into(), localhost_ref })
}

/// As the kubelet computes them: shares from the CPU that is asked for, a quota from the CPU limit.
fn resources(container: &Container) -> Result<v1::LinuxContainerResources, String> {
    let of = |name: &str, scale: u64| {
        let get = |list: &str, map: &BTreeMap<String, _>| match map.get(name) {
            None => Ok(None),
            Some(quantity) => quantity::scaled(quantity, scale)
                .map(Some)
                .map_err(|reason| format!("resources.{list}.{name}: {reason}")),
        };
        let limit = get("limits", &container.resources.limits)?;
        Ok::<_, String>((get("requests", &container.resources.requests)?.or(limit), limit))
    };
    let ((cpu, cpu_limit), (_, memory_limit)) = (of("cpu", 1000)?, of("memory", 1)?);
    Ok(v1::LinuxContainerResources {
        cpu_shares: cpu.map_or(0, |millis| (millis.saturating_mul(1024) / 1000).max(2)),
        cpu_period: cpu_limit.map_or(0, |_| PERIOD),
        cpu_quota: cpu_limit.map_or(0, |millis| (millis.saturating_mul(PERIOD) / 1000).max(1000)),
        memory_limit_in_bytes: memory_limit.unwrap_or(0),
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::kube::manifest::Manifest;

    fn planned(spec: &str) -> Result<Plan, String> {
        let text = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec: {{{spec}}}\n");
        let manifest = Manifest::from_text(&text).unwrap();
        plan(&manifest.pods[0], &manifest.data, &Places::below(Path::new("/d")))
    }

    #[test]
    fn limits_users_and_namespaces_are_asked_for_as_a_kubelet_does() {
        let plan = planned(
            "hostNetwork: true, securityContext: {runAsUser: 5}, containers: [{name: c, image: i:1, \
             resources: {limits: {cpu: 500m, memory: 64Mi}}, securityContext: {runAsGroup: 6, allowPrivilegeEscalation: false}}]",
        )
        .unwrap();
        assert_eq!((&*plan.sandbox.hostname, &*plan.name), ("", "default/web"));
        assert_eq!(plan.sandbox.labels[OWNER], "Pod/default/web");
        let linux = plan.containers[0].config.linux.clone().unwrap();
        let resources = linux.resources.unwrap();
        assert_eq!(
            (resources.cpu_shares, resources.cpu_quota, resources.memory_limit_in_bytes),
            (512, 50_000, 64 << 20)
        );
        let security = linux.security_context.unwrap();
        assert_eq!(
            (
                security.run_as_user.unwrap().value,
                security.run_as_group.unwrap().value,
                security.no_new_privs
            ),
            (5, 6, true)
        );
        assert_eq!(security.namespace_options.unwrap().network, i32::from(v1::NamespaceMode::Node));
        assert_eq!(plan.containers[0].pull, PullPolicy::IfNotPresent);
    }

    #[test]
    fn what_cannot_be_done_names_its_field() {
        for (spec, part) in [
            ("containers: []", "spec.containers"),
            ("containers: [{name: C, image: i}]", "spec.containers[0].name"),
            ("containers: [{name: c}]", "spec.containers[0].image"),
            ("containers: [{name: c, image: i}, {name: c, image: i}]", "two are called"),
            ("containers: [{name: c, image: i, resources: {limits: {cpu: x}}}]", "resources.limits.cpu"),
            ("containers: [{name: c, image: i, securityContext: {runAsNonRoot: true}}]", "runAsNonRoot"),
            (
                "containers: [{name: c, image: i}], initContainers: [{name: d, image: i, restartPolicy: Always}]",
                "sidecars",
            ),
            ("containers: [{name: c, image: i}], dnsPolicy: None", "dnsConfig"),
        ] {
            let error = planned(spec).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn labels_that_are_husks_cannot_be_given() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, labels: {io.husk.kube.owner: x}}\n\
                    spec: {containers: [{name: c, image: i}]}\n";
        let manifest = Manifest::from_text(text).unwrap();
        let error = plan(&manifest.pods[0], &manifest.data, &Places::below(Path::new("/d"))).unwrap_err();
        assert!(error.contains("io.husk.kube.owner"), "{error}");
    }

    #[test]
    fn an_image_that_may_be_another_by_now_is_pulled() {
        for (image, pull) in [
            ("busybox", PullPolicy::Always),
            ("localhost:5000/busybox", PullPolicy::Always),
            ("busybox:latest", PullPolicy::Always),
            ("localhost:5000/busybox:1", PullPolicy::IfNotPresent),
            ("busybox@sha256:00", PullPolicy::IfNotPresent),
        ] {
            assert_eq!(usual_pull(image), pull, "{image}");
        }
    }
}
