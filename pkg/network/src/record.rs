//! What setup leaves on disk so that teardown and gc need nothing else: one JSON file a pod, written whole and renamed.
//!
//! The record is written before the first thing outside the reservation directory changes, and removed after the last
//! thing was undone. So a crash at any instruction leaves either a record that names all there may be, or an address
//! reservation that carries the pod's id itself.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use husk_model::{HostPort, PodSandboxId};
use husk_node::file::{self, Outlives};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use crate::embedded::mapping::Mapping;
use crate::{NetworkError, PodNetwork, PodNetworkRequest, cni::config::NetworkList};

/// One pod's record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    /// What was asked.
    pub(crate) request: PodNetworkRequest,
    /// The answer; `None` while setup is under way, or when it died.
    pub(crate) network: Option<PodNetwork>,
    /// What was, or may have been, made, and by whom.
    pub(crate) attachment: Attachment,
}

/// Who made a pod's network, with all that undoing it takes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Attachment {
    /// The embedded bridge.
    Bridge(BridgeAttachment),
    /// CNI plugins.
    Cni(CniAttachment),
    /// User networks.
    User(UserAttachment),
}

/// What undoing a pod's place on the bridge takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BridgeAttachment {
    /// Name of the bridge at the time, which is also that of the directory of reservations.
    pub(crate) bridge: String,
    /// Its addresses.
    pub(crate) ips: Vec<IpAddr>,
    /// Its ports of the node.
    pub(crate) mappings: Vec<Mapping>,
}

/// What undoing the work of CNI plugins takes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CniAttachment {
    /// The network as it was at the time.
    pub(crate) list: NetworkList,
    /// The result of the last plugin, once ADD was through.
    pub(crate) result: Option<Value>,
}

/// What undoing a pod's places in user networks takes, and what keeping them does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UserAttachment {
    /// In the order in which they came.
    pub(crate) plugs: Vec<Plug>,
    /// What was published: the ports that were asked for, each with the port of the node that it got.
    pub(crate) ports: Vec<HostPort>,
    /// Where the ports lead now.
    pub(crate) mappings: Vec<Mapping>,
    /// The port in the pod's namespace that queries for names are led to.
    #[serde(default)]
    pub(crate) name_port: Option<u16>,
}

/// A pod's place in one user network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plug {
    /// What was asked, the network's id with it.
    pub(crate) wanted: husk_model::Attachment,
    /// Name of the pod's end.
    pub(crate) interface: String,
    /// Name of the node's end.
    pub(crate) link: String,
    /// Addresses with the prefix of their subnet.
    pub(crate) addresses: Vec<IpNet>,
    /// The node's addresses in the network.
    pub(crate) gateways: Vec<IpAddr>,
    /// Hardware address of the pod's end.
    pub(crate) mac: [u8; 6],
    /// The network has no way out.
    pub(crate) internal: bool,
    /// It is on its way in or out while the pod runs; whoever finds it so after a crash takes it out.
    #[serde(default)]
    pub(crate) unsettled: bool,
}

impl Plug {
    pub(crate) fn ips(&self) -> Vec<IpAddr> {
        self.addresses.iter().map(IpNet::addr).collect()
    }
}

/// A pod with its record, or why that cannot be read.
pub(crate) type Found = (PodSandboxId, Result<Record, NetworkError>);

/// The directory of records.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    dir: PathBuf,
}

impl Records {
    /// # Errors
    /// When the directory cannot be made.
    pub(crate) fn open(dir: PathBuf) -> Result<Self, NetworkError> {
        fs::create_dir_all(&dir).map_err(NetworkError::file("create", &dir))?;
        for entry in fs::read_dir(&dir).map_err(NetworkError::file("list", &dir))? {
            let path = entry.map_err(NetworkError::file("list", &dir))?.path();
            if file::is_unfinished(&path) {
                // A write that died with the daemon before; nothing ever reads it.
                fs::remove_file(&path).map_err(NetworkError::file("remove", path))?;
            }
        }
        Ok(Self { dir })
    }

    /// Writes the record of a pod, in place of an older one.
    ///
    /// # Errors
    /// Those of the files.
    pub(crate) fn write(&self, record: &Record) -> Result<(), NetworkError> {
        let path = self.path(&record.request.id);
        let text = serde_json::to_vec(record)
            .map_err(|source| NetworkError::Record { path: path.clone(), source })?;
        file::replace(&path, &text, Outlives::Process).map_err(NetworkError::file("write", &path))
    }

    /// The record of a pod, if it has one.
    ///
    /// # Errors
    /// [`NetworkError::Record`] when it is damaged, or those of the file.
    pub(crate) fn read(&self, id: &PodSandboxId) -> Result<Option<Record>, NetworkError> {
        read_at(&self.path(id))
    }

    /// Removes the record of a pod; an absent one is fine.
    ///
    /// # Errors
    /// Those of the file.
    pub(crate) fn remove(&self, id: &PodSandboxId) -> Result<(), NetworkError> {
        let path = self.path(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(NetworkError::file("remove", path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Every record with its pod's id; a damaged one is an error in its place.
    ///
    /// # Errors
    /// Those of the directory.
    pub(crate) fn all(&self) -> Result<Vec<Found>, NetworkError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(NetworkError::file("list", &self.dir))? {
            let path = entry.map_err(NetworkError::file("list", &self.dir))?.path();
            let id = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
            if let (Some(id), true) = (id, has_extension(&path, "json"))
                && let Some(record) = read_at(&path).transpose()
            {
                found.push((id, record));
            }
        }
        Ok(found)
    }

    fn path(&self, id: &PodSandboxId) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

fn read_at(path: &Path) -> Result<Option<Record>, NetworkError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(NetworkError::file("read", path)(error)),
    };
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|source| NetworkError::Record { path: path.to_owned(), source })
}
