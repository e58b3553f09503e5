//! Security contexts.

use husk_model::{
    AppArmor, Capabilities, ContainerConfig, GroupsPolicy, IdMapping, IdMappings, NamespaceMode, Namespaces,
    Propagation, SeLinuxLabel, SeccompProfile, SecurityContext, UserNamespace, UserSpec,
};
use husk_proto::cri::v1::{self, security_profile::ProfileType};
use husk_spec::is_known_capability;

use super::check::{Checked, absolute_line, filled, id, invalid, known, line};

/// Before the name of a profile of the node, in fields that have one text for all kinds of profiles.
const LOCALHOST: &str = "localhost/";

fn mode(field: &str, value: i32, allowed: &[NamespaceMode]) -> Checked<NamespaceMode> {
    let mode = match known::<v1::NamespaceMode>(field, value)? {
        v1::NamespaceMode::Pod => NamespaceMode::Pod,
        v1::NamespaceMode::Container => NamespaceMode::Container,
        v1::NamespaceMode::Node => NamespaceMode::Node,
        v1::NamespaceMode::Target => NamespaceMode::Target,
    };
    if allowed.contains(&mode) {
        Ok(mode)
    } else {
        Err(invalid(field, format!("{mode:?} is not possible here")))
    }
}

/// Whether the namespaces are those of a sandbox, which has no target.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    Sandbox,
    Container,
}

fn namespaces(field: &str, message: Option<v1::NamespaceOption>, of: Of) -> Checked<Namespaces> {
    let message = message.unwrap_or_default();
    let at = |name: &str| format!("{field}.{name}");
    let shared = [NamespaceMode::Pod, NamespaceMode::Node];
    let pid = match of {
        Of::Sandbox => &[NamespaceMode::Pod, NamespaceMode::Container, NamespaceMode::Node][..],
        Of::Container => {
            &[NamespaceMode::Pod, NamespaceMode::Container, NamespaceMode::Node, NamespaceMode::Target][..]
        }
    };
    let pid = mode(&at("pid"), message.pid, pid)?;
    if pid == NamespaceMode::Target && message.target_id.is_empty() {
        return Err(invalid(at("target_id"), "is empty although pid is TARGET"));
    }
    let namespaces = Namespaces {
        network: mode(&at("network"), message.network, &shared)?,
        pid,
        ipc: mode(&at("ipc"), message.ipc, &shared)?,
        target_id: line(&at("target_id"), message.target_id)?,
        user: user_namespace(&at("userns_options"), message.userns_options)?.mappings(),
        ..Namespaces::default()
    };
    if namespaces.user.is_some() {
        // Root of the pod's own namespace has no say in the node's.
        for (name, mode) in [("pid", namespaces.pid), ("ipc", namespaces.ipc)] {
            if mode == NamespaceMode::Node {
                return Err(invalid(at(name), "is NODE, which is not possible with a user namespace"));
            }
        }
    }
    Ok(namespaces)
}

/// What a message says of the user namespace: its mappings are exactly one range of each kind, from id 0 of the container
/// on (CRI, `UserNamespace`).
fn user_namespace(field: &str, message: Option<v1::UserNamespace>) -> Checked<UserNamespace> {
    let Some(user) = message else { return Ok(UserNamespace::Unsaid) };
    let shared = [NamespaceMode::Pod, NamespaceMode::Node];
    if mode(&format!("{field}.mode"), user.mode, &shared)? == NamespaceMode::Node {
        return match (user.uids.is_empty(), user.gids.is_empty()) {
            (true, true) => Ok(UserNamespace::Node),
            (false, _) => Err(invalid(format!("{field}.uids"), "is set although mode is NODE")),
            (true, false) => Err(invalid(format!("{field}.gids"), "is set although mode is NODE")),
        };
    }
    id_mapping(&format!("{field}.uids"), &format!("{field}.gids"), &user.uids, &user.gids)
        .map(UserNamespace::Mapped)
}

/// The one mapping of users and the one of groups.
pub(crate) fn id_mapping(
    uids_field: &str,
    gids_field: &str,
    uids: &[v1::IdMapping],
    gids: &[v1::IdMapping],
) -> Checked<IdMappings> {
    Ok(IdMappings { uids: one_mapping(uids_field, uids)?, gids: one_mapping(gids_field, gids)? })
}

/// A range as an answer has it.
pub(super) fn id_mapping_message(mapping: IdMapping) -> v1::IdMapping {
    v1::IdMapping { host_id: mapping.host_id, container_id: mapping.container_id, length: mapping.length }
}

fn one_mapping(field: &str, mappings: &[v1::IdMapping]) -> Checked<IdMapping> {
    let [map] = mappings else {
        return Err(invalid(field, format!("has {} mappings, not exactly one", mappings.len())));
    };
    let at = |name: &str| format!("{field}[0].{name}");
    if map.container_id != 0 {
        return Err(invalid(at("container_id"), "is not 0: root of the container is not mapped"));
    }
    // The last id is -1 to system calls and belongs to nobody.
    if map.length == 0 || map.host_id.checked_add(map.length).is_none() {
        return Err(invalid(
            at("length"),
            format!("{} ids from {} on are no range", map.length, map.host_id),
        ));
    }
    Ok(IdMapping { host_id: map.host_id, container_id: map.container_id, length: map.length })
}

/// Network and IPC are the pod's. Callers that leave a container's to the default get the pod's, whatever it is; one that
/// asks for the node's in a pod of its own must not be told that it has them.
pub(super) fn check_shared_namespaces(pod: &Namespaces, container: &Namespaces) -> Checked<()> {
    let field = "config.linux.security_context.namespace_options";
    for (name, of_pod, wanted) in
        [("network", pod.network, container.network), ("ipc", pod.ipc, container.ipc)]
    {
        if wanted == NamespaceMode::Node && of_pod != NamespaceMode::Node {
            return Err(invalid(format!("{field}.{name}"), "is NODE although the pod has its own"));
        }
    }
    Ok(())
}

/// What a container says of its user namespace.
pub(super) fn asked_user_namespace(container: Option<&v1::ContainerConfig>) -> Checked<UserNamespace> {
    let field = "config.linux.security_context.namespace_options.userns_options";
    let message = container.and_then(|config| {
        let security = config.linux.as_ref()?.security_context.as_ref()?;
        security.namespace_options.as_ref()?.userns_options.clone()
    });
    user_namespace(field, message)
}

/// The user namespace is the pod's, for the container and for its volumes. A request that says nothing of it gets it all the
/// same; one that says something else is told so.
pub(super) fn check_user_namespace(
    pod: &Namespaces,
    asked: UserNamespace,
    container: &ContainerConfig,
) -> Checked<()> {
    let field = |name| format!("config.linux.security_context.namespace_options.{name}");
    if asked != UserNamespace::Unsaid && asked.mappings() != pod.user {
        return Err(invalid(field("userns_options"), "is not that of the pod"));
    }
    if pod.user.is_some() && container.security.namespaces.pid == NamespaceMode::Node {
        return Err(invalid(field("pid"), "is NODE, which is not possible with a user namespace"));
    }
    for (index, mount) in container.mounts.iter().enumerate() {
        let field = |name| format!("config.mounts[{index}].{name}");
        if mount.id_mapping.is_some() && mount.id_mapping != pod.user {
            let reason = "and gidMappings are not those of the pod's user namespace";
            return Err(invalid(field("uidMappings"), reason));
        }
        // What its root mounts must not appear on the node.
        if pod.user.is_some() && mount.propagation == Propagation::Bidirectional {
            let reason = "is BIDIRECTIONAL, which is not possible with a user namespace";
            return Err(invalid(field("propagation"), reason));
        }
    }
    Ok(())
}

/// A profile by its message, else by the deprecated text.
fn seccomp(field: &str, profile: Option<v1::SecurityProfile>, old_path: String) -> Checked<SeccompProfile> {
    if let Some(profile) = profile {
        let name = format!("{field}.seccomp");
        return match known::<ProfileType>(&format!("{name}.profile_type"), profile.profile_type)? {
            ProfileType::RuntimeDefault => Ok(SeccompProfile::RuntimeDefault),
            ProfileType::Unconfined => Ok(SeccompProfile::Unconfined),
            ProfileType::Localhost => {
                let path = profile.localhost_ref;
                // Callers that still spell it as the deprecated field did.
                let path = path.strip_prefix(LOCALHOST).map(str::to_owned).unwrap_or(path);
                absolute_line(&format!("{name}.localhost_ref"), path).map(SeccompProfile::Localhost)
            }
        };
    }
    match old_path.as_str() {
        "" | "unconfined" => Ok(SeccompProfile::Unconfined),
        "runtime/default" | "docker/default" => Ok(SeccompProfile::RuntimeDefault),
        other => match other.strip_prefix(LOCALHOST) {
            Some(path) => absolute_line(&format!("{field}.seccomp_profile_path"), path.to_owned())
                .map(SeccompProfile::Localhost),
            None => {
                Err(invalid(format!("{field}.seccomp_profile_path"), format!("{other:?} is not a profile")))
            }
        },
    }
}

/// A profile by its message, else by the deprecated text.
fn apparmor(field: &str, profile: Option<v1::SecurityProfile>, old: String) -> Checked<AppArmor> {
    if let Some(profile) = profile {
        let name = format!("{field}.apparmor");
        return match known::<ProfileType>(&format!("{name}.profile_type"), profile.profile_type)? {
            ProfileType::RuntimeDefault => Ok(AppArmor::RuntimeDefault),
            ProfileType::Unconfined => Ok(AppArmor::Unconfined),
            ProfileType::Localhost => {
                let profile = profile.localhost_ref;
                // Callers that still spell it as the deprecated field did.
                let profile = profile.strip_prefix(LOCALHOST).map(str::to_owned).unwrap_or(profile);
                filled(&format!("{name}.localhost_ref"), profile).map(AppArmor::Localhost)
            }
        };
    }
    let name = format!("{field}.apparmor_profile");
    match old.as_str() {
        "" => Ok(AppArmor::Unset),
        "runtime/default" => Ok(AppArmor::RuntimeDefault),
        "unconfined" => Ok(AppArmor::Unconfined),
        other => match other.strip_prefix(LOCALHOST) {
            Some(profile) => filled(&name, profile.to_owned()).map(AppArmor::Localhost),
            None => Err(invalid(name, format!("{other:?} is not a profile"))),
        },
    }
}

fn selinux(field: &str, option: Option<v1::SeLinuxOption>) -> Checked<Option<SeLinuxLabel>> {
    let Some(option) = option else { return Ok(None) };
    let at = |name: &str| format!("{field}.selinux_options.{name}");
    Ok(Some(SeLinuxLabel {
        user: line(&at("user"), option.user)?,
        role: line(&at("role"), option.role)?,
        kind: line(&at("type"), option.r#type)?,
        level: line(&at("level"), option.level)?,
    }))
}

fn capabilities(field: &str, message: Option<v1::Capability>) -> Checked<Capabilities> {
    let message = message.unwrap_or_default();
    let names = |name: &str, list: Vec<String>| {
        list.into_iter()
            .enumerate()
            .map(|(index, text)| {
                let upper = text.to_ascii_uppercase();
                let short = upper.strip_prefix("CAP_").unwrap_or(&upper).to_owned();
                if is_known_capability(&short) {
                    Ok(short)
                } else {
                    Err(invalid(
                        format!("{field}.capabilities.{name}[{index}]"),
                        format!("{text:?} is not a capability of Linux"),
                    ))
                }
            })
            .collect::<Checked<Vec<_>>>()
    };
    Ok(Capabilities {
        add: names("add_capabilities", message.add_capabilities)?,
        drop: names("drop_capabilities", message.drop_capabilities)?,
        ambient: names("add_ambient_capabilities", message.add_ambient_capabilities)?,
    })
}

fn groups(field: &str, list: Vec<i64>) -> Checked<Vec<u32>> {
    list.into_iter()
        .enumerate()
        .map(|(index, gid)| id(&format!("{field}.supplemental_groups[{index}]"), gid))
        .collect()
}

fn policy(field: &str, value: i32) -> Checked<GroupsPolicy> {
    Ok(match known::<v1::SupplementalGroupsPolicy>(&format!("{field}.supplemental_groups_policy"), value)? {
        v1::SupplementalGroupsPolicy::Merge => GroupsPolicy::Merge,
        v1::SupplementalGroupsPolicy::Strict => GroupsPolicy::Strict,
    })
}

fn paths(field: &str, list: Vec<String>) -> Checked<Vec<String>> {
    list.into_iter()
        .enumerate()
        .map(|(index, path)| absolute_line(&format!("{field}[{index}]"), path))
        .collect()
}

/// Of a sandbox.
pub(crate) fn sandbox(
    field: &str,
    message: Option<v1::LinuxSandboxSecurityContext>,
) -> Checked<SecurityContext> {
    let message = message.unwrap_or_default();
    let run_as_user = message
        .run_as_user
        .map(|user| id(&format!("{field}.run_as_user"), user.value).map(UserSpec::Uid))
        .transpose()?;
    // A group without a user is fine here: a pod may set only runAsGroup, and the sandbox process is husk's own.
    let run_as_group =
        message.run_as_group.map(|group| id(&format!("{field}.run_as_group"), group.value)).transpose()?;
    #[allow(deprecated)]
    let old_seccomp = message.seccomp_profile_path;
    Ok(SecurityContext {
        namespaces: namespaces(
            &format!("{field}.namespace_options"),
            message.namespace_options,
            Of::Sandbox,
        )?,
        privileged: message.privileged,
        run_as_user,
        run_as_group,
        supplemental_groups: groups(field, message.supplemental_groups)?,
        groups_policy: policy(field, message.supplemental_groups_policy)?,
        readonly_rootfs: message.readonly_rootfs,
        seccomp: seccomp(field, message.seccomp, old_seccomp)?,
        apparmor: apparmor(field, message.apparmor, String::new())?,
        selinux: selinux(field, message.selinux_options)?,
        ..SecurityContext::default()
    })
}

/// Of a container.
pub(crate) fn container(
    field: &str,
    message: Option<v1::LinuxContainerSecurityContext>,
) -> Checked<SecurityContext> {
    let message = message.unwrap_or_default();
    let run_as_user = match (message.run_as_user, message.run_as_username.as_str()) {
        (Some(_), name) if !name.is_empty() => {
            return Err(invalid(format!("{field}.run_as_username"), "is set together with run_as_user"));
        }
        (Some(user), _) => Some(UserSpec::Uid(id(&format!("{field}.run_as_user"), user.value)?)),
        (None, "") => None,
        (None, name) => Some(user_name(&format!("{field}.run_as_username"), name)?),
    };
    let run_as_group =
        message.run_as_group.map(|group| id(&format!("{field}.run_as_group"), group.value)).transpose()?;
    if run_as_group.is_some() && run_as_user.is_none() {
        return Err(invalid(
            format!("{field}.run_as_group"),
            "is set without run_as_user or run_as_username",
        ));
    }
    #[allow(deprecated)]
    let (old_seccomp, old_apparmor) = (message.seccomp_profile_path, message.apparmor_profile);
    Ok(SecurityContext {
        namespaces: namespaces(
            &format!("{field}.namespace_options"),
            message.namespace_options,
            Of::Container,
        )?,
        capabilities: capabilities(field, message.capabilities)?,
        privileged: message.privileged,
        run_as_user,
        run_as_group,
        supplemental_groups: groups(field, message.supplemental_groups)?,
        groups_policy: policy(field, message.supplemental_groups_policy)?,
        readonly_rootfs: message.readonly_rootfs,
        no_new_privs: message.no_new_privs,
        masked_paths: paths(&format!("{field}.masked_paths"), message.masked_paths)?,
        readonly_paths: paths(&format!("{field}.readonly_paths"), message.readonly_paths)?,
        seccomp: seccomp(field, message.seccomp, old_seccomp)?,
        apparmor: apparmor(field, message.apparmor, old_apparmor)?,
        selinux: selinux(field, message.selinux_options)?,
        ..SecurityContext::default()
    })
}

/// Digits are an id, whatever their size: one that does not fit must not be looked up as a name (CVE-2026-46680).
fn user_name(field: &str, name: &str) -> Checked<UserSpec> {
    if name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') && name != "-" {
        let number =
            name.parse().map_err(|_| invalid(field, format!("{name} is not between 0 and 4294967294")))?;
        return id(field, number).map(UserSpec::Uid);
    }
    if name.contains(':') {
        return Err(invalid(field, format!("{name:?} is not a user name")));
    }
    line(field, name.to_owned()).map(UserSpec::Name)
}
