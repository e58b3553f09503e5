//! What several plugins want of a new container, put into its spec in their order.
//!
//! The spec itself is the merged state: each plugin's answer changes it, and the next plugin is shown the result. A key that
//! starts with `-` takes away; what a plugin takes away it may set anew, whoever set it before.

use std::{collections::BTreeMap, path::Path};

use husk_model::Resources;
use husk_proto::nri::{self, Field};
use oci_spec::runtime::{
    LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType, Mount,
    MountBuilder, PosixRlimitBuilder, Spec,
};

use crate::{
    NriError, claims,
    limits::{self, Limits},
    owners::Owners,
    refuse, seccomp,
    updates::{Eviction, Update, Updates},
};

/// A new container after all plugins were asked.
#[derive(Debug)]
pub struct Adjusted {
    /// Its spec.
    pub spec: Spec,
    /// Limits that plugins set.
    pub resources: Resources,
    /// Its OOM score, if a plugin set it.
    pub oom_score_adj: Option<i32>,
    /// A seccomp profile in OCI form that replaces the request's, and whose it is.
    pub seccomp: Option<(Vec<u8>, String)>,
    /// CDI devices to add, and whose wish each is.
    pub cdi_devices: Vec<(String, String)>,
    /// Changes to other containers.
    pub updates: Vec<Update>,
    /// Containers to end.
    pub evictions: Vec<Eviction>,
}

/// The marker of keys to take away.
fn removal(key: &str) -> Option<&str> {
    key.strip_prefix('-')
}

/// The merge in progress.
pub(crate) struct Merge {
    container: String,
    adjusted: Adjusted,
    updates: Updates,
    owners: Owners,
    /// Everything that was asked for, for validators.
    asked: nri::ContainerAdjustment,
}

impl Merge {
    pub(crate) fn new(container: &str, spec: Spec) -> Self {
        Self {
            container: container.to_owned(),
            adjusted: Adjusted {
                spec,
                resources: Resources::default(),
                oom_score_adj: None,
                seccomp: None,
                cdi_devices: Vec::new(),
                updates: Vec::new(),
                evictions: Vec::new(),
            },
            updates: Updates::default(),
            owners: Owners::default(),
            asked: nri::ContainerAdjustment::default(),
        }
    }

    /// The spec as it is now.
    pub(crate) fn spec(&self) -> &Spec {
        &self.adjusted.spec
    }

    /// What validators are asked about.
    pub(crate) fn validation(&self) -> nri::ValidateContainerAdjustmentRequest {
        nri::ValidateContainerAdjustmentRequest {
            adjust: Some(self.asked.clone()),
            update: self.updates.to_plugin(),
            owners: Some(self.owners.to_plugin()),
            ..Default::default()
        }
    }

    pub(crate) fn finish(mut self) -> Adjusted {
        self.adjusted.updates = self.updates.into_updates();
        self.adjusted
    }

    /// Takes in a plugin's answer.
    pub(crate) fn apply(
        &mut self,
        plugin: &str,
        response: nri::CreateContainerResponse,
    ) -> Result<(), NriError> {
        if response.update.iter().any(|update| update.container_id == self.container) {
            return Err(NriError::Invalid {
                plugin: plugin.to_owned(),
                field: "update.container_id".to_owned(),
                reason: "is the container being created; adjust it instead".to_owned(),
            });
        }
        self.updates.add(&mut self.owners, plugin, response.update)?;
        self.adjusted.evictions.extend(Eviction::from_plugin(plugin, response.evict));
        if let Some(adjust) = response.adjust {
            refuse::adjustment(plugin, &adjust)?;
            self.note(&adjust);
            self.adjust(plugin, adjust)?;
        }
        Ok(())
    }

    fn note(&mut self, adjust: &nri::ContainerAdjustment) {
        let asked = &mut self.asked;
        asked.annotations.extend(adjust.annotations.clone());
        asked.mounts.extend(adjust.mounts.iter().cloned());
        asked.env.extend(adjust.env.iter().cloned());
        asked.rlimits.extend(adjust.rlimits.iter().cloned());
        asked.cdi_devices.extend(adjust.cdi_devices.iter().cloned());
        if !adjust.args.is_empty() {
            asked.args.clone_from(&adjust.args);
        }
        if let Some(linux) = &adjust.linux {
            let asked = asked.linux.get_or_insert_default();
            asked.devices.extend(linux.devices.iter().cloned());
            if let Some(resources) = &linux.resources {
                limits::overlay(asked.resources.get_or_insert_default(), resources);
            }
            if linux.oom_score_adj.is_some() {
                asked.oom_score_adj = linux.oom_score_adj;
            }
            if linux.seccomp_policy.is_some() {
                asked.seccomp_policy.clone_from(&linux.seccomp_policy);
            }
        }
    }

    fn adjust(&mut self, plugin: &str, adjust: nri::ContainerAdjustment) -> Result<(), NriError> {
        self.annotations(plugin, adjust.annotations)?;
        self.mounts(plugin, adjust.mounts)?;
        self.env(plugin, adjust.env)?;
        self.args(plugin, adjust.args)?;
        self.rlimits(plugin, &adjust.rlimits)?;
        for device in adjust.cdi_devices {
            self.claim(Field::CdiDevices, &device.name, plugin)?;
            self.adjusted.cdi_devices.push((device.name, plugin.to_owned()));
        }
        let Some(linux) = adjust.linux else { return Ok(()) };
        self.devices(plugin, &linux.devices)?;
        if let Some(resources) = &linux.resources {
            self.resources(plugin, resources)?;
        }
        if let Some(score) = linux.oom_score_adj {
            self.oom_score_adj(plugin, score.value)?;
        }
        if let Some(policy) = &linux.seccomp_policy {
            self.claim(Field::SeccompPolicy, "", plugin)?;
            self.adjusted.seccomp = Some((seccomp::profile(plugin, policy)?, plugin.to_owned()));
        }
        Ok(())
    }

    fn claim(&mut self, field: Field, key: &str, plugin: &str) -> Result<(), NriError> {
        self.owners.claim(&self.container, field, key, plugin)
    }

    fn annotations(&mut self, plugin: &str, annotations: BTreeMap<String, String>) -> Result<(), NriError> {
        if annotations.is_empty() {
            return Ok(());
        }
        let mut all = self.adjusted.spec.annotations().clone().unwrap_or_default();
        for key in annotations.keys().filter_map(|key| removal(key)) {
            self.owners.clear(&self.container, Field::Annotations, key);
            all.remove(key);
        }
        for (key, value) in annotations.into_iter().filter(|(key, _)| removal(key).is_none()) {
            self.claim(Field::Annotations, &key, plugin)?;
            all.insert(key, value);
        }
        self.adjusted.spec.set_annotations(Some(all));
        Ok(())
    }

    fn mounts(&mut self, plugin: &str, mounts: Vec<nri::Mount>) -> Result<(), NriError> {
        if mounts.is_empty() {
            return Ok(());
        }
        let mut all = self.adjusted.spec.mounts().clone().unwrap_or_default();
        for destination in mounts.iter().filter_map(|mount| removal(&mount.destination)) {
            self.owners.clear(&self.container, Field::Mounts, destination);
            all.retain(|mount| mount.destination() != Path::new(destination));
        }
        for wanted in mounts.into_iter().filter(|mount| removal(&mount.destination).is_none()) {
            self.claim(Field::Mounts, &wanted.destination, plugin)?;
            let mount = mount(plugin, wanted)?;
            all.retain(|old| old.destination() != mount.destination());
            self.share(mount.options().as_deref().unwrap_or_default());
            all.push(mount);
        }
        // Outer mounts first: a later one hides what is below it.
        all.sort_by_key(|mount| mount.destination().components().count());
        self.adjusted.spec.set_mounts(Some(all));
        Ok(())
    }

    /// The root must be as shared as the most shared mount in it.
    fn share(&mut self, options: &[String]) {
        let Some(linux) = self.adjusted.spec.linux_mut() else { return };
        let has = |names: [&str; 2]| options.iter().any(|option| names.contains(&option.as_str()));
        let now = linux.rootfs_propagation().clone().unwrap_or_default();
        if has(["rshared", "shared"]) {
            linux.set_rootfs_propagation(Some("rshared".to_owned()));
        } else if has(["rslave", "slave"]) && now != "rshared" {
            linux.set_rootfs_propagation(Some("rslave".to_owned()));
        }
    }

    fn env(&mut self, plugin: &str, env: Vec<nri::KeyValue>) -> Result<(), NriError> {
        if env.is_empty() {
            return Ok(());
        }
        let process = self.adjusted.spec.process_mut().get_or_insert_default();
        let mut all = process.env().clone().unwrap_or_default();
        let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
        for key in env.iter().filter_map(|variable| removal(&variable.key)) {
            self.owners.clear(&self.container, Field::Env, key);
            all.retain(|entry| name(entry) != key);
        }
        for variable in env.into_iter().filter(|variable| removal(&variable.key).is_none()) {
            if variable.key.is_empty() || variable.key.contains(['=', '\0']) || variable.value.contains('\0')
            {
                let reason = format!("{:?} is no environment variable", variable.key);
                return Err(invalid(plugin, "adjust.env", reason));
            }
            self.owners.claim(&self.container, Field::Env, &variable.key, plugin)?;
            let entry = format!("{}={}", variable.key, variable.value);
            match all.iter_mut().find(|old| name(old) == variable.key) {
                Some(old) => *old = entry,
                None => all.push(entry),
            }
        }
        process.set_env(Some(all));
        Ok(())
    }

    fn args(&mut self, plugin: &str, mut args: Vec<String>) -> Result<(), NriError> {
        if args.is_empty() {
            return Ok(());
        }
        if args[0].is_empty() {
            self.owners.clear(&self.container, Field::Args, "");
            args.remove(0);
        }
        self.claim(Field::Args, "", plugin)?;
        if args.is_empty() || args.iter().any(|arg| arg.contains('\0')) {
            return Err(invalid(plugin, "adjust.args", "is no command".to_owned()));
        }
        self.adjusted.spec.process_mut().get_or_insert_default().set_args(Some(args));
        Ok(())
    }

    fn rlimits(&mut self, plugin: &str, rlimits: &[nri::PosixRlimit]) -> Result<(), NriError> {
        for wanted in rlimits {
            self.claim(Field::Rlimits, &wanted.r#type, plugin)?;
            let kind = wanted.r#type.parse().map_err(|_| {
                invalid(plugin, "adjust.rlimits.type", format!("{:?} is unknown", wanted.r#type))
            })?;
            if wanted.soft > wanted.hard {
                let reason = format!("{}: soft {} is above hard {}", wanted.r#type, wanted.soft, wanted.hard);
                return Err(invalid(plugin, "adjust.rlimits", reason));
            }
            let limit = PosixRlimitBuilder::default().typ(kind).soft(wanted.soft).hard(wanted.hard).build();
            let limit = limit.map_err(|error| invalid(plugin, "adjust.rlimits", error.to_string()))?;
            let process = self.adjusted.spec.process_mut().get_or_insert_default();
            let mut all = process.rlimits().clone().unwrap_or_default();
            all.retain(|old| old.typ() != kind);
            all.push(limit);
            process.set_rlimits(Some(all));
        }
        Ok(())
    }

    fn devices(&mut self, plugin: &str, devices: &[nri::LinuxDevice]) -> Result<(), NriError> {
        if devices.is_empty() {
            return Ok(());
        }
        let linux = self.adjusted.spec.linux_mut().get_or_insert_default();
        let mut all = linux.devices().clone().unwrap_or_default();
        let mut resources = linux.resources().clone().unwrap_or_default();
        let mut rules = resources.devices().clone().unwrap_or_default();
        for path in devices.iter().filter_map(|device| removal(&device.path)) {
            self.owners.clear(&self.container, Field::Devices, path);
            let gone: Vec<LinuxDevice> =
                all.extract_if(.., |device| device.path() == Path::new(path)).collect();
            // The last rule that matches decides, so a denial at the end takes the access away again.
            for device in gone {
                rules.push(rule(
                    plugin,
                    false,
                    device.typ(),
                    Some(device.major()),
                    Some(device.minor()),
                    "rwm",
                )?);
            }
        }
        for wanted in devices.iter().filter(|device| removal(&device.path).is_none()) {
            self.owners.claim(&self.container, Field::Devices, &wanted.path, plugin)?;
            let device = device(plugin, wanted)?;
            if device.typ() != LinuxDeviceType::P {
                rules.push(rule(
                    plugin,
                    true,
                    device.typ(),
                    Some(device.major()),
                    Some(device.minor()),
                    "rwm",
                )?);
            }
            all.retain(|old| old.path() != device.path());
            all.push(device);
        }
        resources.set_devices(Some(rules));
        linux.set_devices(Some(all));
        linux.set_resources(Some(resources));
        Ok(())
    }

    fn resources(&mut self, plugin: &str, wanted: &nri::LinuxResources) -> Result<(), NriError> {
        claims::claim(&mut self.owners, &self.container, wanted, plugin)?;
        let change = limits::from_plugin(wanted);
        let linux = self.adjusted.spec.linux_mut().get_or_insert_default();
        let mut resources = linux.resources().clone().unwrap_or_default();
        change.overlay(&mut resources);
        let mut rules = resources.devices().clone().unwrap_or_default();
        for wanted in &wanted.devices {
            let kind = kind(plugin, &wanted.r#type)?;
            let number = |number: Option<nri::OptionalInt64>| number.map(|number| number.value);
            rules.push(rule(
                plugin,
                wanted.allow,
                kind,
                number(wanted.major),
                number(wanted.minor),
                &wanted.access,
            )?);
        }
        resources.set_devices(Some(rules));
        linux.set_resources(Some(resources));
        Limits::extend(&mut self.adjusted.resources, &change.common);
        Ok(())
    }

    fn oom_score_adj(&mut self, plugin: &str, score: i64) -> Result<(), NriError> {
        self.claim(Field::OomScoreAdj, "", plugin)?;
        let wrong = || {
            let reason = format!("{score} is not between -1000 and 1000");
            invalid(plugin, "adjust.linux.oom_score_adj", reason)
        };
        let score =
            i32::try_from(score).ok().filter(|score| (-1000..=1000).contains(score)).ok_or_else(wrong)?;
        self.adjusted.oom_score_adj = Some(score);
        self.adjusted.spec.process_mut().get_or_insert_default().set_oom_score_adj(Some(score));
        Ok(())
    }
}

fn invalid(plugin: &str, field: &str, reason: String) -> NriError {
    NriError::Invalid { plugin: plugin.to_owned(), field: field.to_owned(), reason }
}

fn mount(plugin: &str, wanted: nri::Mount) -> Result<Mount, NriError> {
    let path = Path::new(&wanted.destination);
    if !path.is_absolute() || wanted.destination.contains('\0') {
        let reason = format!("{:?} is not an absolute path", wanted.destination);
        return Err(invalid(plugin, "adjust.mounts.destination", reason));
    }
    let mut mount = MountBuilder::default().destination(wanted.destination.as_str());
    if !wanted.r#type.is_empty() {
        mount = mount.typ(wanted.r#type);
    }
    if !wanted.source.is_empty() {
        mount = mount.source(wanted.source.as_str());
    }
    mount.options(wanted.options).build().map_err(|error| invalid(plugin, "adjust.mounts", error.to_string()))
}

fn kind(plugin: &str, text: &str) -> Result<LinuxDeviceType, NriError> {
    text.parse().map_err(|_| {
        invalid(plugin, "adjust.linux.devices.type", format!("{text:?} is none of a, b, c, u, p"))
    })
}

fn device(plugin: &str, wanted: &nri::LinuxDevice) -> Result<LinuxDevice, NriError> {
    if !Path::new(&wanted.path).is_absolute() {
        let reason = format!("{:?} is not an absolute path", wanted.path);
        return Err(invalid(plugin, "adjust.linux.devices.path", reason));
    }
    let mut device = LinuxDeviceBuilder::default()
        .path(wanted.path.as_str())
        .typ(kind(plugin, &wanted.r#type)?)
        .major(wanted.major)
        .minor(wanted.minor)
        .file_mode(wanted.file_mode.map_or(0o666, |mode| mode.value));
    if let Some(uid) = wanted.uid {
        device = device.uid(uid.value);
    }
    if let Some(gid) = wanted.gid {
        device = device.gid(gid.value);
    }
    device.build().map_err(|error| invalid(plugin, "adjust.linux.devices", error.to_string()))
}

fn rule(
    plugin: &str,
    allow: bool,
    kind: LinuxDeviceType,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> Result<LinuxDeviceCgroup, NriError> {
    let mut rule = LinuxDeviceCgroupBuilder::default().allow(allow).typ(kind);
    if !access.is_empty() {
        rule = rule.access(access);
    }
    if let Some(major) = major {
        rule = rule.major(major);
    }
    if let Some(minor) = minor {
        rule = rule.minor(minor);
    }
    rule.build().map_err(|error| invalid(plugin, "adjust.linux.resources.devices", error.to_string()))
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{LinuxBuilder, ProcessBuilder, SpecBuilder};

    use super::*;

    fn merge() -> Merge {
        let process = ProcessBuilder::default()
            .args(vec!["sh".to_owned()])
            .env(vec!["PATH=/bin".to_owned(), "HOME=/root".to_owned()])
            .build()
            .unwrap();
        let spec = SpecBuilder::default()
            .process(process)
            .mounts(vec![MountBuilder::default().destination("/data").source("/a").build().unwrap()])
            .linux(LinuxBuilder::default().build().unwrap())
            .build()
            .unwrap();
        Merge::new("c1", spec)
    }

    fn adjust(adjust: nri::ContainerAdjustment) -> nri::CreateContainerResponse {
        nri::CreateContainerResponse { adjust: Some(adjust), ..Default::default() }
    }

    fn env(pairs: &[(&str, &str)]) -> nri::CreateContainerResponse {
        let env = pairs
            .iter()
            .map(|(key, value)| nri::KeyValue { key: (*key).to_owned(), value: (*value).to_owned() })
            .collect();
        adjust(nri::ContainerAdjustment { env, ..Default::default() })
    }

    fn bind(destination: &str, source: &str) -> nri::CreateContainerResponse {
        let mount = nri::Mount {
            destination: destination.to_owned(),
            source: source.to_owned(),
            options: vec!["rbind".to_owned(), "rslave".to_owned()],
            ..Default::default()
        };
        adjust(nri::ContainerAdjustment { mounts: vec![mount], ..Default::default() })
    }

    fn memory(limit: i64) -> nri::LinuxResources {
        nri::LinuxResources {
            memory: Some(nri::LinuxMemory {
                limit: Some(nri::OptionalInt64 { value: limit }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    #[test]
    fn variables_are_set_replaced_and_removed_in_place() {
        let mut merge = merge();
        merge.apply("00-a", env(&[("-HOME", ""), ("PATH", "/sbin"), ("NEW", "1")])).unwrap();
        let process = merge.spec().process().clone().unwrap();
        assert_eq!(process.env().clone().unwrap(), ["PATH=/sbin", "NEW=1"]);
    }

    #[test]
    fn two_plugins_that_set_the_same_thing_are_a_conflict_unless_the_second_removes_first() {
        let mut merge = merge();
        merge.apply("00-a", env(&[("NEW", "1")])).unwrap();
        let error = merge.apply("10-b", env(&[("NEW", "1")])).unwrap_err();
        assert_eq!(error.to_string(), "NRI plugins 00-a and 10-b both set Env NEW of container c1");
        merge.apply("10-b", env(&[("-NEW", ""), ("NEW", "2")])).unwrap();
        assert!(merge.spec().process().clone().unwrap().env().clone().unwrap().contains(&"NEW=2".to_owned()));
    }

    #[test]
    fn a_mount_replaces_the_one_at_its_place_and_shares_the_root() {
        let mut merge = merge();
        merge.apply("00-a", bind("/data", "/b")).unwrap();
        let spec = merge.spec();
        let mounts = spec.mounts().clone().unwrap();
        assert_eq!(mounts.len(), 1);
        assert_eq!(mounts[0].source().as_deref(), Some(Path::new("/b")));
        assert_eq!(spec.linux().clone().unwrap().rootfs_propagation().as_deref(), Some("rslave"));
        assert!(merge.apply("00-a", bind("relative", "/b")).is_err());
    }

    #[test]
    fn limits_reach_the_spec_and_the_engine() {
        let mut merge = merge();
        let linux = nri::LinuxContainerAdjustment { resources: Some(memory(1 << 20)), ..Default::default() };
        merge
            .apply(
                "00-a",
                adjust(nri::ContainerAdjustment { linux: Some(linux.clone()), ..Default::default() }),
            )
            .unwrap();
        assert!(matches!(
            merge
                .apply("10-b", adjust(nri::ContainerAdjustment { linux: Some(linux), ..Default::default() })),
            Err(NriError::Conflict { .. })
        ));
        let adjusted = merge.finish();
        assert_eq!(adjusted.resources.memory_limit, Some(1 << 20));
        let limits = adjusted.spec.linux().clone().unwrap().resources().clone().unwrap().memory().unwrap();
        assert_eq!((limits.limit(), limits.swap()), (Some(1 << 20), Some(1 << 20)));
    }

    #[test]
    fn a_plugin_that_updates_the_container_being_created_is_told_to_adjust_it() {
        let update = nri::ContainerUpdate { container_id: "c1".to_owned(), ..Default::default() };
        let response = nri::CreateContainerResponse { update: vec![update], ..Default::default() };
        assert!(matches!(merge().apply("00-a", response), Err(NriError::Invalid { .. })));
    }

    #[test]
    fn nonsense_is_refused_with_its_field() {
        let rlimit = |kind: &str, soft, hard| {
            let rlimits = vec![nri::PosixRlimit { r#type: kind.to_owned(), soft, hard }];
            adjust(nri::ContainerAdjustment { rlimits, ..Default::default() })
        };
        for (response, field) in [
            (env(&[("A=B", "")]), "adjust.env"),
            (rlimit("RLIMIT_NONSENSE", 1, 1), "adjust.rlimits.type"),
            (rlimit("RLIMIT_NOFILE", 2, 1), "adjust.rlimits"),
        ] {
            let error = merge().apply("00-a", response).unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
        assert!(merge().apply("00-a", rlimit("RLIMIT_NOFILE", 1, 2)).is_ok());
    }
}
