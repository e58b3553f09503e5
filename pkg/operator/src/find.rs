//! What a name means: an id or the beginning of one, a pod's name, a container's name, or both with a slash in between.

use std::sync::Arc;

use husk_model::{ContainerStatus, Door, PodStatus};
use husk_pods::Engine;

use crate::error::{OperatorError, Result};

/// Labels that Docker's door gives its pods: the id and the name that its clients know.
const DOCKER_ID: &str = "io.docker.container";
const DOCKER_NAME: &str = "io.docker.name";
/// Ids that an error names.
const SHOWN: usize = 4;

/// All pods and containers of a moment.
pub(crate) struct Node {
    pub(crate) pods: Vec<Arc<PodStatus>>,
    /// Oldest first.
    pub(crate) containers: Vec<Arc<ContainerStatus>>,
}

/// What a name means.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    Pod(Arc<PodStatus>),
    Container(Arc<PodStatus>, Arc<ContainerStatus>),
}

impl Found {
    pub(crate) fn pod(&self) -> &Arc<PodStatus> {
        match self {
            Self::Pod(pod) | Self::Container(pod, _) => pod,
        }
    }

    fn id(&self) -> &str {
        match self {
            Self::Pod(pod) => pod.id.as_str(),
            Self::Container(_, container) => container.id.as_str(),
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Pod(pod) => format!("pod {} ({})", pod_name(pod), short(pod.id.as_str())),
            Self::Container(pod, container) => {
                let id = short(container.id.as_str());
                format!("container {}/{} ({id})", pod_name(pod), container_name(pod, container))
            }
        }
    }
}

impl Node {
    pub(crate) fn of(engine: &Engine) -> Self {
        let mut containers = engine.list_containers();
        containers.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Self { pods: engine.list_pods(), containers }
    }

    /// The containers of a pod, oldest first.
    pub(crate) fn of_pod<'n>(&'n self, pod: &'n PodStatus) -> impl Iterator<Item = &'n Arc<ContainerStatus>> {
        self.containers.iter().filter(move |container| container.pod_id == pod.id)
    }

    /// What `name` means; of a pod and its containers, the pod.
    ///
    /// # Errors
    /// Nothing or several things have it.
    pub(crate) fn find(&self, name: &str) -> Result<Found> {
        let pods = || self.pods.iter().cloned().map(Found::Pod);
        let by_name = |found: &Found| match found {
            Found::Pod(pod) => is_pod(pod, name),
            Found::Container(pod, container) => is_container(pod, container, name),
        };
        let by_id = |found: &Found| found.id() == name || docker(found.pod(), DOCKER_ID) == Some(name);
        let begins = |found: &Found| {
            let of_docker = docker(found.pod(), DOCKER_ID).is_some_and(|id| id.starts_with(name));
            found.id().starts_with(name) || of_docker
        };
        for wanted in [&by_id as &dyn Fn(&Found) -> bool, &by_name, &begins] {
            let found = pods().chain(self.all_containers()).filter(wanted);
            if let Some(found) = one(name, found.collect())? {
                return Ok(found);
            }
        }
        Err(OperatorError::Nothing { name: name.to_owned() })
    }

    /// The container that `name` means: itself, or the only one of the pod that it means.
    ///
    /// # Errors
    /// As [`Self::find`]; or the pod has none or several.
    pub(crate) fn container(&self, name: &str) -> Result<(Arc<PodStatus>, Arc<ContainerStatus>)> {
        match self.find(name)? {
            Found::Container(pod, container) => Ok((pod, container)),
            Found::Pod(pod) => {
                let containers: Vec<_> = self.of_pod(&pod).cloned().collect();
                match &containers[..] {
                    [container] => Ok((pod, Arc::clone(container))),
                    several => {
                        let name = pod_name(&pod);
                        let mut names: Vec<_> = several
                            .iter()
                            .map(|one| format!("{name}/{}", one.config.metadata.name))
                            .collect();
                        if names.is_empty() {
                            names.push("no container".to_owned());
                        }
                        Err(OperatorError::WhichContainer { pod: name, containers: names })
                    }
                }
            }
        }
    }

    fn all_containers(&self) -> impl Iterator<Item = Found> + '_ {
        self.containers.iter().filter_map(|container| {
            let pod = self.pods.iter().find(|pod| pod.id == container.pod_id)?;
            Some(Found::Container(Arc::clone(pod), Arc::clone(container)))
        })
    }
}

/// The one that is meant, if any is. A container that was made anew, or a pod, is the latest of its name; the only container of a
/// Docker pod is that pod.
fn one(name: &str, mut found: Vec<Found>) -> Result<Option<Found>> {
    if let Some(Found::Pod(pod)) = found.first().cloned() {
        // Its containers go without saying.
        found.retain(|other| matches!(other, Found::Pod(_)) || other.pod().id != pod.id);
    }
    let latest = found.iter().max_by_key(|found| created(found)).cloned();
    let Some(latest) = latest else { return Ok(None) };
    if found.iter().all(|other| same_name(other, &latest)) {
        return Ok(Some(latest));
    }
    let mut meant: Vec<String> = found.iter().take(SHOWN).map(Found::shown).collect();
    if found.len() > SHOWN {
        meant.push(format!("{} more", found.len() - SHOWN));
    }
    Err(OperatorError::Several { name: name.to_owned(), meant })
}

fn created(found: &Found) -> i64 {
    match found {
        Found::Pod(pod) => pod.created_at,
        Found::Container(_, container) => container.created_at,
    }
}

fn same_name(one: &Found, other: &Found) -> bool {
    match (one, other) {
        (Found::Pod(one), Found::Pod(other)) => {
            one.config.door == other.config.door && pod_name(one) == pod_name(other)
        }
        (Found::Container(one, a), Found::Container(other, b)) => {
            one.config.door == other.config.door
                && pod_name(one) == pod_name(other)
                && a.config.metadata.name == b.config.metadata.name
        }
        _ => false,
    }
}

fn is_pod(pod: &PodStatus, name: &str) -> bool {
    let metadata = &pod.config.metadata;
    metadata.name == name
        || docker(pod, DOCKER_NAME) == Some(name)
        || name.split_once('/') == Some((&metadata.namespace, &metadata.name))
}

fn is_container(pod: &PodStatus, container: &ContainerStatus, name: &str) -> bool {
    let own = container_name(pod, container);
    own == name || name.rsplit_once('/').is_some_and(|(of, within)| within == own && is_pod(pod, of))
}

fn docker<'p>(pod: &'p PodStatus, label: &str) -> Option<&'p str> {
    (pod.config.door == Door::Docker).then(|| pod.config.labels.get(label))?.map(String::as_str)
}

/// A pod as people name it.
pub(crate) fn pod_name(pod: &PodStatus) -> String {
    format!("{}/{}", pod.config.metadata.namespace, pod.config.metadata.name)
}

/// A container as people name it: one of Docker's door by its name there.
pub(crate) fn container_name<'s>(pod: &'s PodStatus, container: &'s ContainerStatus) -> &'s str {
    docker(pod, DOCKER_NAME).unwrap_or(&container.config.metadata.name)
}

fn short(id: &str) -> &str {
    id.get(..13).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use husk_model::{
        ContainerConfig, ContainerId, ContainerMetadata, ContainerState, Digest, ImageId, PodSandboxId,
        Resources, Signal,
    };

    use super::*;

    fn pod(name: &str, door: Door, created_at: i64) -> Arc<PodStatus> {
        let mut status = husk_test_support::pod_status(PodSandboxId::generate(), name);
        let mut config = (*status.config).clone();
        config.door = door;
        if door == Door::Docker {
            config.labels.insert(DOCKER_ID.to_owned(), "d0".repeat(32));
            config.labels.insert(DOCKER_NAME.to_owned(), name.to_owned());
        }
        status.config = Arc::new(config);
        status.created_at = created_at;
        Arc::new(status)
    }

    fn container(pod: &PodStatus, name: &str, created_at: i64) -> Arc<ContainerStatus> {
        let metadata = ContainerMetadata { name: name.to_owned(), attempt: 0 };
        Arc::new(ContainerStatus {
            id: ContainerId::generate(),
            pod_id: pod.id.clone(),
            config: Arc::new(ContainerConfig::named(metadata, "image".to_owned())),
            image_id: ImageId::new(Digest::from_sha256(&[0; 32])),
            image_ref: String::new(),
            image_name: String::new(),
            state: ContainerState::Created,
            created_at,
            log_path: String::new(),
            user: None,
            resources: Resources::default(),
            stop_signal: Signal::TERM,
            process: None,
            cgroup_path: String::new(),
            image_volumes: Default::default(),
        })
    }

    fn id(found: Found) -> String {
        found.id().to_owned()
    }

    #[test]
    fn ids_their_beginnings_and_names_are_found_and_the_latest_of_a_name_counts() {
        let (web, db) = (pod("web", Door::Cri, 1), pod("db", Door::Docker, 2));
        let (old, new, main) = (container(&web, "app", 3), container(&web, "app", 4), container(&db, "x", 5));
        let node = Node {
            pods: vec![Arc::clone(&web), Arc::clone(&db)],
            containers: vec![Arc::clone(&old), Arc::clone(&new), Arc::clone(&main)],
        };
        let found = |name: &str| id(node.find(name).unwrap());
        assert_eq!(found(web.id.as_str()), web.id.as_str());
        assert_eq!(found(&web.id.as_str()[..20]), web.id.as_str());
        assert_eq!(found(old.id.as_str()), old.id.as_str());
        assert_eq!(found("web"), web.id.as_str());
        assert_eq!(found("app"), new.id.as_str());
        assert_eq!(found("web/app"), new.id.as_str());
        assert_eq!(found("db"), db.id.as_str(), "Docker's name");
        assert_eq!(found(&"d0".repeat(32)), db.id.as_str(), "Docker's id");
        assert_eq!(node.container("db").unwrap().1.id, main.id);
        let nothing = node.find("absent").unwrap_err().to_string();
        assert!(nothing.contains("husk ps -a"), "{nothing}");
    }

    #[test]
    fn what_means_several_things_is_refused_with_their_ids() {
        let (one, other) = (pod("one", Door::Cri, 1), pod("other", Door::Husk, 2));
        let (a, b) = (container(&one, "app", 3), container(&other, "app", 4));
        let node = Node {
            pods: vec![Arc::clone(&one), Arc::clone(&other)],
            containers: vec![Arc::clone(&a), Arc::clone(&b), container(&other, "more", 5)],
        };
        let error = node.find("app").unwrap_err().to_string();
        assert!(error.contains(short(a.id.as_str())) && error.contains(short(b.id.as_str())), "{error}");
        let error = node.container("other").unwrap_err().to_string();
        assert!(error.contains("other/app") && error.contains("other/more"), "{error}");
    }
}
