//! `POST /containers/create`.

use std::{collections::BTreeMap, sync::Arc};

use husk_cgroup::Version;
use serde_json::{Value, json};

use super::{
    container::Container,
    discard::holder,
    links, making,
    mounts::{MountPoint, VolumeWanted, Wanted},
    plan,
    record::{BRIDGE, Record, State},
    runs::note,
    store::Store,
};
use crate::{
    api::{
        container::{Config, CreateBesides, HostConfig},
        network::EndpointSettings,
    },
    error::{Failure, Result},
    volumes::{self, Held},
};

/// A request to make one.
#[derive(Debug)]
pub(super) struct Create {
    /// Its name; empty is made up.
    pub(super) name: String,
    /// What it is.
    pub(super) config: Config,
    /// The rest.
    pub(super) besides: CreateBesides,
}

/// What one that is being made has of volumes.
#[derive(Debug, Default)]
struct Taken {
    /// Nobody removes them meanwhile.
    held: Vec<Held>,
    /// Names of those that were made for it.
    made: Vec<String>,
}

impl Store {
    /// Makes a container. Returns it with what it has to be warned of.
    ///
    /// # Errors
    /// 400 for what cannot be, 404 for an image that is not here, 409 for a name that is taken; nothing is left.
    pub(super) async fn make(&self, wanted: Create) -> Result<(Arc<Container>, Vec<String>)> {
        let Create { name, mut config, besides: CreateBesides { host_config: mut host, networking_config } } =
            wanted;
        let shared = &self.0.shared;
        super::conflicts::check(&config, &host)?;
        let image = shared.images.resolve(&config.image).ok_or_else(|| no_such_image(&config.image))?;
        let lease = shared.images.acquire(&image.id)?;
        super::merge::merge(&mut config, &image.config);
        let inherits =
            config.healthcheck.as_ref().and_then(|check| check.test.as_ref()).is_none_or(Vec::is_empty);
        if inherits {
            let own = config.healthcheck.take().unwrap_or_default();
            config.healthcheck = super::health::of_image(&shared.images.details(&image.id).await?.config)
                .map(|image| super::health::overlaid(image, own));
        }
        check_host(&config, &mut host)?;
        if host.cgroupns_mode.is_empty() {
            // As dockerd.
            let own = shared.engine.hierarchy().version() == Version::V2;
            (if own { "private" } else { "host" }).clone_into(&mut host.cgroupns_mode);
        }
        let networks = networks(&mut host, &config, networking_config.endpoints_config)?;
        self.check_others(&host)?;
        let mounts = Wanted::new(&config, &host, self.mounts_of_others(&host)?)?;
        let id = made_up_id();
        let named = self.take_name(&name, &id)?;
        let mut record = Record {
            name: named.name().clone(),
            created: husk_node::now(),
            image: image.id.clone(),
            config,
            host,
            networks,
            mounts: Vec::new(),
            state: State::default(),
            id,
        };
        let warnings = warnings(&record);
        let mut taken = Taken::default();
        let prepared = self.prepare(&mut record, mounts, &mut taken).await;
        let container = Arc::new(Container::new(self.dir(&record.id), record, lease));
        let built = match prepared {
            Ok(()) => self.furnish(&container).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = built {
            self.take_back(&container, taken).await;
            return Err(failure);
        }
        self.add(named, Arc::clone(&container));
        // From here on the record says that the volumes are used.
        drop(taken);
        self.publish(&container.record(), "create", []);
        Ok((container, warnings))
    }

    /// Its directory, and its places in networks and volumes. Those volumes whose names are made up for it are on record before they are
    /// made.
    async fn prepare(&self, record: &mut Record, mut mounts: Wanted, taken: &mut Taken) -> Result<()> {
        let mut made_up = Vec::new();
        for VolumeWanted { at, .. } in &mounts.volumes {
            let name = &mut mounts.points[*at].name;
            if name.is_empty() {
                *name = volumes::made_up_name();
                made_up.push(name.clone());
            }
        }
        making::begin(&self.dir(&record.id), &made_up)
            .map_err(Failure::io(format!("make container {}", record.name)))?;
        self.volumes(&mut mounts, &made_up, taken)?;
        record.mounts = mounts.points;
        plan::check(record)?;
        self.find_networks(record).await
    }

    /// What is in its directory, its image for as long as it is there, and what new volumes begin with; last the record.
    async fn furnish(&self, container: &Arc<Container>) -> Result<()> {
        let record = container.record();
        let failed = || Failure::io(format!("make container {}", record.name));
        making::build(&container.dir, &record).map_err(failed())?;
        // One that goes with its end holds the image by its run.
        if !record.host.auto_remove {
            self.0.shared.images.hold(&record.image, &holder(&record.id)).await?;
        }
        self.copy_up(container)
            .await
            .map_err(|failure| failure.of("fill new volumes with what the image has"))?;
        making::finish(&container.dir, &record).map_err(failed())
    }

    /// Undoes what was made of one that cannot be.
    async fn take_back(&self, container: &Container, taken: Taken) {
        let Taken { held, made } = taken;
        drop(held);
        for name in made {
            // It was made for nobody; what else it is in use for keeps it.
            let _ = self.0.shared.volumes.remove(&name, |name| self.ids_of_volume(name));
        }
        self.release_image(container).await;
        note(&container.id, self.bury(&container.dir).map_err(Failure::io("take back a container")));
    }

    /// Finds or makes the volumes.
    fn volumes(&self, mounts: &mut Wanted, made_up: &[String], taken: &mut Taken) -> Result<()> {
        for VolumeWanted { at, options, driver, labels } in std::mem::take(&mut mounts.volumes) {
            let point = &mut mounts.points[at];
            let name = point.name.clone();
            let made_up = made_up.contains(&name);
            let wanted = volumes::Wanted { name, made_up, driver, options, labels };
            let (volume, is_new) = self.0.shared.volumes.ensure(wanted)?;
            point.source = volume.volume().data().display().to_string();
            "local".clone_into(&mut point.driver);
            if is_new {
                taken.made.push(point.name.clone());
            }
            taken.held.push(volume);
        }
        Ok(())
    }

    fn mounts_of_others(&self, host: &HostConfig) -> Result<Vec<(MountPoint, bool)>> {
        let mut all = Vec::new();
        for text in host.volumes_from.iter().flatten() {
            let (name, mode) = text.split_once(':').unwrap_or((text, "rw"));
            let writable = match mode.split(',').find(|word| matches!(*word, "ro" | "rw")) {
                Some("ro") => false,
                Some(_) => true,
                None => return Err(Failure::bad(format!("invalid mode for volumes-from: {}", cut(mode)))),
            };
            let points = self.find(name)?.record().mounts.clone();
            all.extend(
                points.into_iter().filter(|point| point.kind != "tmpfs").map(|point| (point, writable)),
            );
        }
        Ok(all)
    }

    /// Containers whose namespaces it joins, or that it is linked to, have to be there.
    fn check_others(&self, host: &HostConfig) -> Result<()> {
        for mode in [&host.pid_mode, &host.ipc_mode] {
            mode.strip_prefix(plan::CONTAINER).map_or(Ok(()), |other| self.find(other).map(drop))?;
        }
        for link in links::of(host)? {
            // In a network of a user the other may come later: it is found by its name then.
            if host.network_mode == "bridge" {
                self.find(&link.target)
                    .map_err(|failure| failure.of("could not get container for a link"))?;
            }
        }
        Ok(())
    }
}

fn no_such_image(name: &str) -> Failure {
    Failure::not_found(format!("No such image: {}", cut(name)))
}

fn cut(text: &str) -> String {
    text.chars().take(200).collect()
}

fn made_up_id() -> String {
    husk_model::ContainerId::generate().to_string()
}

/// What contradicts itself, and the words that stand for others.
fn check_host(config: &Config, host: &mut HostConfig) -> Result<()> {
    let policy = &host.restart_policy;
    match policy.name.as_str() {
        "" | "no" | "always" | "unless-stopped" if policy.maximum_retry_count != 0 => {
            return Err(Failure::bad(
                "invalid restart policy: maximum retry count can only be used with 'on-failure'",
            ));
        }
        "" | "no" | "always" | "unless-stopped" | "on-failure" if policy.maximum_retry_count >= 0 => {}
        name => return Err(Failure::bad(format!("invalid restart policy: {:?}", cut(name)))),
    }
    if host.auto_remove && !matches!(host.restart_policy.name.as_str(), "" | "no") {
        return Err(Failure::bad("can't create 'AutoRemove' container with restart policy"));
    }
    if config.hostname.len() > 63
        || config.hostname.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/')
    {
        return Err(Failure::bad(format!("invalid hostname {:?}", cut(&config.hostname))));
    }
    if config.domainname.len() > 255
        || config.domainname.contains(|c: char| c.is_whitespace() || c.is_control())
    {
        return Err(Failure::bad(format!("invalid domain name {:?}", cut(&config.domainname))));
    }
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return Err(Failure::bad(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            cut(&config.working_dir)
        )));
    }
    if config.network_disabled {
        "none".clone_into(&mut host.network_mode);
    }
    if matches!(host.network_mode.as_str(), "" | "default") {
        "bridge".clone_into(&mut host.network_mode);
    }
    if !matches!(host.isolation.as_str(), "" | "default") {
        let asked: String = host.isolation.chars().take(80).collect();
        return Err(Failure::bad(format!("invalid isolation {asked:?}: linux only supports 'default'")));
    }
    if host.shm_size < 0 {
        return Err(Failure::bad("SHM size can not be less than 0"));
    }
    Ok(())
}

/// Places in networks: that of the mode, with what is said of it, and those named beside.
fn networks(
    host: &mut HostConfig,
    config: &Config,
    asked: BTreeMap<String, Option<EndpointSettings>>,
) -> Result<BTreeMap<String, EndpointSettings>> {
    let mode = host.network_mode.clone();
    let mut networks: BTreeMap<String, EndpointSettings> = asked
        .into_iter()
        .map(|(name, place)| {
            (if name == "default" { "bridge".to_owned() } else { name }, place.unwrap_or_default())
        })
        .collect();
    if matches!(mode.as_str(), "host" | "none") || mode.starts_with("container:") {
        if networks.keys().any(|name| *name != mode) {
            return Err(Failure::bad(
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
            ));
        }
        networks.clear();
        if !mode.starts_with("container:") {
            networks.insert(mode, EndpointSettings::default());
        }
        return Ok(networks);
    }
    // The default one is for whoever names none: others are named to be apart from it.
    if networks.is_empty() || mode != BRIDGE {
        networks.entry(mode.clone()).or_default();
    }
    let first = match networks.contains_key(&mode) {
        true => Some(mode),
        false => networks.keys().next().cloned(),
    };
    let Some(first) = first.and_then(|first| networks.get_mut(&first)) else { return Ok(networks) };
    // Clients before API 1.44 say it of the container.
    let asked = &config.mac_address;
    if first.mac_address.is_empty() {
        first.mac_address.clone_from(asked);
    } else if !asked.is_empty() && !asked.eq_ignore_ascii_case(&first.mac_address) {
        return Err(Failure::bad(
            "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty",
        ));
    }
    Ok(networks)
}

/// What is taken and does nothing.
fn warnings(record: &Record) -> Vec<String> {
    let compress = record.host.log_config.config.get("compress").is_some_and(|value| value == "true");
    compress.then(|| "husk does not compress the files of a log".to_owned()).into_iter().collect()
}

/// The answer of a creation.
pub(super) fn answer(container: &Container, warnings: &[String]) -> Value {
    json!({ "Id": container.id, "Warnings": warnings })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Result<HostConfig> {
        let mut host = serde_json::from_str(text).unwrap();
        check_host(&Config::default(), &mut host).map(|()| host)
    }

    #[test]
    fn policies_that_contradict_themselves_are_refused() {
        for text in [
            r#"{"RestartPolicy":{"Name":"sometimes"}}"#,
            r#"{"RestartPolicy":{"Name":"always","MaximumRetryCount":3}}"#,
            r#"{"RestartPolicy":{"Name":"on-failure","MaximumRetryCount":-1}}"#,
            r#"{"RestartPolicy":{"Name":"always"},"AutoRemove":true}"#,
        ] {
            assert_eq!(host(text).unwrap_err().status(), 400, "{text}");
        }
        assert_eq!(host("{}").unwrap().network_mode, "bridge");
        assert!(host(r#"{"RestartPolicy":{"Name":"on-failure","MaximumRetryCount":3}}"#).is_ok());
    }

    #[test]
    fn a_container_is_in_the_network_of_its_mode_and_in_those_named_beside() {
        let of = |mode: &str, asked: &[&str]| {
            let mut host = HostConfig { network_mode: mode.to_owned(), ..HostConfig::default() };
            let asked = asked.iter().map(|name| ((*name).to_owned(), None)).collect();
            networks(&mut host, &Config::default(), asked)
                .map(|networks| networks.into_keys().collect::<Vec<_>>())
        };
        assert_eq!(of("bridge", &["default"]).unwrap(), ["bridge"]);
        assert_eq!(of("web", &["web", "db"]).unwrap(), ["db", "web"]);
        assert_eq!(of("web", &["db"]).unwrap(), ["db", "web"]);
        assert_eq!(of("bridge", &["web"]).unwrap(), ["web"], "and not in the default one besides");
        assert_eq!(of("bridge", &["web", "bridge"]).unwrap(), ["bridge", "web"]);
        assert_eq!(of("bridge", &[]).unwrap(), ["bridge"]);
        assert_eq!(of("host", &["host"]).unwrap(), ["host"]);
        assert!(of("none", &["web"]).is_err());
        assert!(of("container:x", &[]).unwrap().is_empty());
    }

    #[test]
    fn a_containers_mac_address_is_that_of_its_first_network() {
        let of = |own: &str, place: &str| {
            let mut host = HostConfig { network_mode: "web".to_owned(), ..HostConfig::default() };
            let config = Config { mac_address: own.to_owned(), ..Config::default() };
            let place = EndpointSettings { mac_address: place.to_owned(), ..EndpointSettings::default() };
            let asked = [("web".to_owned(), Some(place)), ("db".to_owned(), None)].into();
            networks(&mut host, &config, asked)
                .map(|networks| (networks["web"].mac_address.clone(), networks["db"].mac_address.clone()))
        };
        let both = |first: &str| (first.to_owned(), String::new());
        assert_eq!(of("02:42:AC:11:00:0a", "").unwrap(), both("02:42:AC:11:00:0a"));
        assert_eq!(of("02:42:AC:11:00:0a", "02:42:ac:11:00:0a").unwrap(), both("02:42:ac:11:00:0a"));
        assert_eq!(of("", "02:42:ac:11:00:0a").unwrap(), both("02:42:ac:11:00:0a"));
        assert_eq!(of("02:42:ac:11:00:0a", "02:42:ac:11:00:0b").unwrap_err().status(), 400);
    }
}
