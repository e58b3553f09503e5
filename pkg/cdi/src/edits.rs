//! What devices change in a container's OCI spec.

use std::path::Path;

use oci_spec::runtime::{
    LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType, Mount,
    MountBuilder, Spec,
};
use rustix::fs::{FileType, major, minor, stat};

use crate::{CdiError, Name, spec};

/// The sum of the edits of some devices, checked and looked up on the node.
#[derive(Debug, Default, Clone)]
pub struct Edits {
    pub(crate) env: Vec<String>,
    devices: Vec<Node>,
    mounts: Vec<Mount>,
    /// Groups that the container's processes are members of.
    pub additional_gids: Vec<u32>,
    /// What is left out, one sentence each.
    pub warnings: Vec<String>,
}

#[derive(Debug, Clone)]
struct Node {
    path: String,
    kind: LinuxDeviceType,
    major: i64,
    minor: i64,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    access: String,
}

impl Edits {
    /// Adds the edits that `file` has for `device`.
    pub(crate) fn add(
        &mut self,
        device: &Name,
        file: &Path,
        edits: &spec::ContainerEdits,
    ) -> Result<(), CdiError> {
        let unsupported =
            |what: String| CdiError::Unsupported { name: device.to_string(), file: file.to_owned(), what };
        let invalid =
            |reason: String| CdiError::Invalid { name: device.to_string(), file: file.to_owned(), reason };
        if let Some(hook) = edits.hooks.first() {
            return Err(unsupported(format!("the {} hook {}", hook.hook_name, hook.path)));
        }
        if !edits.net_devices.is_empty() {
            return Err(unsupported("network devices".to_owned()));
        }
        if edits.intel_rdt.is_some() {
            self.warnings.push(format!("{device}: intelRdt of {} is not applied", file.display()));
        }
        for variable in &edits.env {
            if variable.split_once('=').is_none_or(|(name, _)| name.is_empty()) || variable.contains('\0') {
                return Err(invalid(format!("{variable:?} is not NAME=value")));
            }
            self.env.push(variable.clone());
        }
        for node in &edits.device_nodes {
            self.devices
                .push(look_up(node).map_err(|reason| invalid(format!("device {}: {reason}", node.path)))?);
        }
        for request in &edits.mounts {
            for path in [&request.host_path, &request.container_path] {
                check_path(path).map_err(|reason| invalid(format!("mount {path:?}: {reason}")))?;
            }
            self.mounts.push(mount(request)?);
        }
        self.additional_gids.extend(edits.additional_gids.iter().filter(|gid| **gid != 0));
        Ok(())
    }

    /// Puts everything into a container's spec. Variables and devices of the same name or path are replaced. Devices without
    /// an owner of their own belong to `owner`, the container's user if it is known.
    ///
    /// # Errors
    /// When the spec's types refuse a value.
    pub fn apply(&self, spec: &mut Spec, owner: Option<u32>) -> Result<(), CdiError> {
        if let Some(process) = spec.process_mut() {
            let mut env = process.env().clone().unwrap_or_default();
            self.env.iter().for_each(|variable| set_variable(&mut env, variable));
            process.set_env(Some(env));
        }
        if !self.mounts.is_empty() {
            let mut mounts = spec.mounts().clone().unwrap_or_default();
            mounts.retain(|mount| self.mounts.iter().all(|own| own.destination() != mount.destination()));
            mounts.extend(self.mounts.iter().cloned());
            // Outer ones first: a later mount hides what is below it.
            mounts.sort_by_key(|mount| mount.destination().components().count());
            spec.set_mounts(Some(mounts));
        }
        let Some(linux) = spec.linux_mut().as_mut().filter(|_| !self.devices.is_empty()) else {
            return Ok(());
        };
        let mut devices = linux.devices().clone().unwrap_or_default();
        devices.retain(|device| self.devices.iter().all(|own| Path::new(&own.path) != device.path()));
        for node in &self.devices {
            devices.push(node.device(owner)?);
        }
        linux.set_devices(Some(devices));
        let mut resources = linux.resources().clone().unwrap_or_default();
        let mut rules = resources.devices().clone().unwrap_or_default();
        for node in &self.devices {
            rules.push(node.rule()?);
        }
        resources.set_devices(Some(rules));
        linux.set_resources(Some(resources));
        Ok(())
    }
}

fn set_variable(env: &mut Vec<String>, variable: &str) {
    let name = variable.split('=').next().unwrap_or_default();
    let same = |entry: &&mut String| entry.split('=').next() == Some(name);
    match env.iter_mut().find(same) {
        Some(entry) => *entry = variable.to_owned(),
        None => env.push(variable.to_owned()),
    }
}

fn check_path(path: &str) -> Result<(), &'static str> {
    if !path.starts_with('/') || path.contains('\0') {
        return Err("is not an absolute path");
    }
    if path.split('/').any(|part| part == "..") {
        return Err("contains \"..\"");
    }
    Ok(())
}

fn mount(request: &spec::Mount) -> Result<Mount, CdiError> {
    // Vendors write bind mounts without a type, some without saying "bind".
    let kind = request.kind.as_deref().filter(|kind| !kind.is_empty()).unwrap_or("bind");
    Ok(MountBuilder::default()
        .destination(request.container_path.as_str())
        .source(request.host_path.as_str())
        .typ(kind)
        .options(request.options.clone())
        .build()?)
}

/// Completes a device node from the node's own device.
fn look_up(request: &spec::DeviceNode) -> Result<Node, String> {
    let host = request.host_path.as_deref().filter(|path| !path.is_empty()).unwrap_or(&request.path);
    for path in [&request.path, host] {
        check_path(path).map_err(|reason| format!("{path:?} {reason}"))?;
    }
    let access = request.permissions.as_deref().filter(|text| !text.is_empty()).unwrap_or("rwm");
    if !access.chars().all(|letter| "rwm".contains(letter)) {
        return Err(format!("permissions {access:?} are not made of r, w and m"));
    }
    let wanted = match request.kind.as_deref() {
        None | Some("") => None,
        Some("b") => Some(LinuxDeviceType::B),
        Some("c" | "u") => Some(LinuxDeviceType::C),
        Some(other) => return Err(format!("type {other:?} is neither b nor c")),
    };
    let (kind, numbers) = match (wanted, request.major, request.minor) {
        (Some(kind), Some(major), Some(minor)) => (kind, (major, minor)),
        _ => {
            let status = stat(host).map_err(|errno| format!("{host}: {errno}"))?;
            let kind = match FileType::from_raw_mode(status.st_mode) {
                FileType::BlockDevice => LinuxDeviceType::B,
                FileType::CharacterDevice => LinuxDeviceType::C,
                _ => return Err(format!("{host} is not a device")),
            };
            if wanted.is_some_and(|wanted| wanted != kind) {
                return Err(format!("{host} is of another type"));
            }
            (kind, (major(status.st_rdev).into(), minor(status.st_rdev).into()))
        }
    };
    Ok(Node {
        path: request.path.clone(),
        kind,
        major: numbers.0,
        minor: numbers.1,
        mode: request.file_mode,
        uid: request.uid,
        gid: request.gid,
        access: access.to_owned(),
    })
}

impl Node {
    fn device(&self, owner: Option<u32>) -> Result<LinuxDevice, CdiError> {
        Ok(LinuxDeviceBuilder::default()
            .path(self.path.as_str())
            .typ(self.kind)
            .major(self.major)
            .minor(self.minor)
            .file_mode(self.mode.unwrap_or(0o666) & 0o7777)
            .uid(self.uid.or(owner).unwrap_or(0))
            .gid(self.gid.unwrap_or(0))
            .build()?)
    }

    fn rule(&self) -> Result<LinuxDeviceCgroup, CdiError> {
        Ok(LinuxDeviceCgroupBuilder::default()
            .allow(true)
            .typ(self.kind)
            .major(self.major)
            .minor(self.minor)
            .access(self.access.as_str())
            .build()?)
    }
}

#[cfg(test)]
mod tests {
    use husk_model::{Classify, Kind};
    use serde_json::{Value, json};

    use super::*;

    fn edits(value: Value) -> Result<Edits, CdiError> {
        let mut edits = Edits::default();
        let device = "v.com/c=d".parse().unwrap();
        edits.add(&device, Path::new("/etc/cdi/v.json"), &serde_json::from_value(value).unwrap())?;
        Ok(edits)
    }

    fn applied(value: Value, owner: Option<u32>) -> Value {
        let mut spec: Spec = serde_json::from_value(json!({
            "ociVersion": "1.2.1",
            "process": { "cwd": "/", "args": ["x"], "env": ["PATH=/bin", "A=1"], "user": { "uid": 0, "gid": 0 } },
            "mounts": [{ "destination": "/dev", "type": "tmpfs" }, { "destination": "/a/b", "type": "tmpfs" }],
            "linux": { "devices": [{ "path": "/dev/null", "type": "c", "major": 9, "minor": 9 }],
                       "resources": { "devices": [{ "allow": false, "access": "rwm" }] } },
        }))
        .unwrap();
        edits(value).unwrap().apply(&mut spec, owner).unwrap();
        serde_json::to_value(spec).unwrap()
    }

    #[test]
    fn variables_and_mounts_are_set_and_replace_those_of_the_same_name() {
        let spec = applied(
            json!({
                "env": ["A=2", "B=x=y"],
                "mounts": [
                    { "hostPath": "/lib/x.so", "containerPath": "/a", "options": ["ro", "rbind"] },
                    { "hostPath": "/other", "containerPath": "/a/b", "type": "bind" },
                ],
            }),
            None,
        );
        assert_eq!(spec["process"]["env"], json!(["PATH=/bin", "A=2", "B=x=y"]));
        let mounts: Vec<_> = spec["mounts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|mount| (&mount["destination"], &mount["type"]))
            .collect();
        assert_eq!(
            mounts,
            [
                (&json!("/dev"), &json!("tmpfs")),
                (&json!("/a"), &json!("bind")),
                (&json!("/a/b"), &json!("bind"))
            ]
        );
        assert_eq!(spec["mounts"][1]["options"], json!(["ro", "rbind"]));
    }

    #[test]
    fn device_nodes_are_completed_from_the_node_and_allowed_in_the_cgroup() {
        let spec = applied(
            json!({ "deviceNodes": [
                { "path": "/dev/null", "permissions": "rw" },
                { "path": "/dev/renamed", "hostPath": "/dev/zero", "fileMode": 0o600, "uid": 7, "gid": 8 },
                { "path": "/dev/absent", "type": "b", "major": 259, "minor": 3 },
            ] }),
            Some(1000),
        );
        let devices = spec["linux"]["devices"].as_array().unwrap();
        let shown: Vec<_> = devices
            .iter()
            .map(|d| {
                format!("{} {} {}:{} {}:{}", d["path"], d["type"], d["major"], d["minor"], d["uid"], d["gid"])
            })
            .collect();
        assert_eq!(
            shown,
            [
                r#""/dev/null" "c" 1:3 1000:0"#,
                r#""/dev/renamed" "c" 1:5 7:8"#,
                r#""/dev/absent" "b" 259:3 1000:0"#
            ]
        );
        assert_eq!(devices[0]["fileMode"], 0o666);
        assert_eq!(devices[1]["fileMode"], 0o600);
        let rules = spec["linux"]["resources"]["devices"].as_array().unwrap();
        assert_eq!(rules.len(), 4);
        assert_eq!(rules[1], json!({ "allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw" }));
        assert_eq!(
            rules[3],
            json!({ "allow": true, "type": "b", "major": 259, "minor": 3, "access": "rwm" })
        );
    }

    #[test]
    fn groups_are_told_and_root_is_none_of_them() {
        assert_eq!(edits(json!({ "additionalGids": [44, 0, 109] })).unwrap().additional_gids, [44, 109]);
    }

    #[test]
    fn what_cannot_be_given_is_named() {
        for (value, kind, part) in [
            (
                json!({ "hooks": [{ "hookName": "createContainer", "path": "/usr/bin/vendor-hook" }] }),
                Kind::Unimplemented,
                "createContainer hook /usr/bin/vendor-hook",
            ),
            (
                json!({ "netDevices": [{ "hostInterfaceName": "e", "name": "e" }] }),
                Kind::Unimplemented,
                "network devices",
            ),
            (json!({ "env": ["=x"] }), Kind::FailedPrecondition, "=x"),
            (json!({ "deviceNodes": [{ "path": "/dev/absent" }] }), Kind::FailedPrecondition, "/dev/absent"),
            (
                json!({ "deviceNodes": [{ "path": "/dev/x", "hostPath": "/etc" }] }),
                Kind::FailedPrecondition,
                "/etc",
            ),
            (
                json!({ "deviceNodes": [{ "path": "/dev/null", "type": "b" }] }),
                Kind::FailedPrecondition,
                "another type",
            ),
            (
                json!({ "deviceNodes": [{ "path": "/dev/null", "type": "p" }] }),
                Kind::FailedPrecondition,
                "neither b nor c",
            ),
            (
                json!({ "deviceNodes": [{ "path": "/dev/null", "permissions": "x" }] }),
                Kind::FailedPrecondition,
                "\"x\"",
            ),
            (json!({ "deviceNodes": [{ "path": "/dev/../null" }] }), Kind::FailedPrecondition, ".."),
            (
                json!({ "mounts": [{ "hostPath": "x", "containerPath": "/x" }] }),
                Kind::FailedPrecondition,
                "\"x\"",
            ),
            (
                json!({ "mounts": [{ "hostPath": "/x", "containerPath": "/a/../x" }] }),
                Kind::FailedPrecondition,
                "..",
            ),
        ] {
            let error = edits(value).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            let text = error.to_string();
            assert!([part, "v.com/c=d", "/etc/cdi/v.json"].iter().all(|part| text.contains(part)), "{text}");
        }
        assert_eq!(edits(json!({ "intelRdt": { "closID": "x" } })).unwrap().warnings.len(), 1);
    }
}
