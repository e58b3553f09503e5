//! The records of user networks: one file each, written whole and renamed.
//!
//! ```text
//! <root>/network/user/networks/<id>.json   the network
//! <root>/network/user/ipam/<id>/           its address reservations (ipam.rs)
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use husk_node::file::{self, Outlives};

use super::spec::UserNetwork;
use crate::{
    NetworkError,
    ipam::{Addresses, Ipam},
};

/// Larger than any record of ours; a file beyond this is none.
const MAX_RECORD: u64 = 256 << 20;

/// The directories.
#[derive(Debug, Clone)]
pub(super) struct Store {
    dir: PathBuf,
}

impl Store {
    /// # Errors
    /// When a directory cannot be made.
    pub(super) fn open(dir: PathBuf) -> Result<Self, NetworkError> {
        for name in ["networks", "ipam"] {
            let path = dir.join(name);
            fs::create_dir_all(&path).map_err(NetworkError::file("create", &path))?;
        }
        Ok(Self { dir })
    }

    /// # Errors
    /// Those of the file.
    pub(super) fn write(&self, network: &UserNetwork) -> Result<(), NetworkError> {
        let path = self.path(&network.id);
        let text = serde_json::to_vec(network)
            .map_err(|source| NetworkError::Record { path: path.clone(), source })?;
        file::replace(&path, &text, Outlives::PowerCut).map_err(NetworkError::file("write", &path))
    }

    /// Forgets a network; what is gone already is fine.
    ///
    /// # Errors
    /// Those of the files.
    pub(super) fn remove(&self, id: &str) -> Result<(), NetworkError> {
        let ipam = self.ipam_dir().join(id);
        gone(fs::remove_dir_all(&ipam)).map_err(NetworkError::file("remove", ipam))?;
        let path = self.path(id);
        gone(fs::remove_file(&path)).map_err(NetworkError::file("remove", path))
    }

    /// All networks. A record that cannot be read is left where it is and told of: its network is not there for anybody, and
    /// somebody has to look.
    ///
    /// # Errors
    /// Those of the directory.
    pub(super) fn all(&self) -> Result<Vec<UserNetwork>, NetworkError> {
        let dir = self.dir.join("networks");
        let mut found = Vec::new();
        for entry in fs::read_dir(&dir).map_err(NetworkError::file("list", &dir))? {
            let path = entry.map_err(NetworkError::file("list", &dir))?.path();
            if file::is_unfinished(&path) {
                // A write that died with the daemon before; nothing ever reads it.
                fs::remove_file(&path).map_err(NetworkError::file("remove", path))?;
                continue;
            }
            match read(&path) {
                Ok(network) => found.push(network),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "a user network cannot be loaded; remove or mend its record");
                }
            }
        }
        found.sort_by(|one, other| (one.created, &one.id).cmp(&(other.created, &other.id)));
        Ok(found)
    }

    /// The reservations of a network.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub(super) fn ipam(&self, network: &UserNetwork) -> Result<Ipam, NetworkError> {
        let ranges = network.subnets.iter().map(|subnet| Addresses {
            subnet: subnet.net,
            within: subnet.ip_range,
            taken: subnet.auxiliary.values().copied().chain([subnet.gateway]).collect(),
        });
        Ipam::of_ranges(&self.ipam_dir(), &network.id, ranges)
    }

    fn ipam_dir(&self) -> PathBuf {
        self.dir.join("ipam")
    }

    fn path(&self, id: &str) -> PathBuf {
        self.dir.join("networks").join(format!("{id}.json"))
    }
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn read(path: &Path) -> Result<UserNetwork, NetworkError> {
    let length = fs::metadata(path).map_err(NetworkError::file("look at", path))?.len();
    if length > MAX_RECORD {
        return Err(NetworkError::file("read", path)(io::ErrorKind::FileTooLarge.into()));
    }
    let text = fs::read(path).map_err(NetworkError::file("read", path))?;
    serde_json::from_slice(&text).map_err(|source| NetworkError::Record { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::spec::{NetworkSpec, SubnetSpec, check};

    fn network(id: &str) -> UserNetwork {
        let subnet = SubnetSpec::from("10.5.0.0/24".parse::<ipnet::IpNet>().unwrap());
        let spec = NetworkSpec { subnets: vec![subnet], ..NetworkSpec::new("web") };
        check(spec).unwrap().network(id.repeat(32), 7, Vec::new())
    }

    #[test]
    fn a_network_is_found_again_and_a_removed_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("user")).unwrap();
        let (one, other) = (network("ab"), network("cd"));
        store.write(&one).unwrap();
        store.write(&other).unwrap();
        store.ipam(&one).unwrap();
        assert_eq!(store.all().unwrap(), [one.clone(), other.clone()]);
        store.remove(&one.id).unwrap();
        store.remove(&one.id).unwrap();
        assert_eq!(store.all().unwrap(), [other]);
        assert!(!dir.path().join("user/ipam").join(&one.id).exists());
    }

    #[test]
    fn a_damaged_record_and_an_unfinished_write_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("user")).unwrap();
        let path = dir.path().join("user/networks").join(format!("{}.json", "ef".repeat(32)));
        fs::write(&path, "{").unwrap();
        let unfinished = file::unfinished(&path);
        fs::write(&unfinished, "{").unwrap();
        assert_eq!(store.all().unwrap(), []);
        assert!(path.exists() && !unfinished.exists());
    }
}
