//! The node's pod CIDR as the kubelet tells it (UpdateRuntimeConfig), and where it is kept:
//!
//! ```text
//! <root>/network/pod-cidr.json      what was told last, and the subnets before it that may still have pods
//! ```
//!
//! It counts for more than the configured subnet: it comes from the cluster, which routes it to this node. Pods keep the
//! addresses they have; new ones get theirs from the new subnet.

use std::{fs, io, path::Path, str::FromStr};

use husk_node::file::{self, Outlives};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::{BridgeConfig, NetworkError};

/// At most one subnet of each family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodCidr {
    /// IPv4 addresses of the pods.
    pub ipv4: Option<Ipv4Net>,
    /// IPv6 addresses of the pods.
    pub ipv6: Option<Ipv6Net>,
}

impl FromStr for PodCidr {
    type Err = String;

    /// `10.1.2.0/24`, or two of different families with a comma between them (kubelet, dual stack).
    fn from_str(text: &str) -> Result<Self, String> {
        let mut cidr = Self::default();
        for part in text.split(',').map(str::trim) {
            let net: IpNet =
                part.parse().map_err(|_| format!("{part:?} is not a subnet such as 10.1.2.0/24"))?;
            let twice = match net {
                IpNet::V4(net) => cidr.ipv4.replace(net.trunc()).is_some(),
                IpNet::V6(net) => cidr.ipv6.replace(net.trunc()).is_some(),
            };
            if twice {
                return Err(format!("{text:?} has two subnets of one family"));
            }
        }
        Ok(cidr)
    }
}

/// What is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) cidr: PodCidr,
    pub(crate) former: Vec<IpNet>,
}

impl Kept {
    /// `None` when nothing was ever told.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, NetworkError> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(NetworkError::file("read", path)(error)),
        };
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|source| NetworkError::Record { path: path.to_owned(), source })
    }

    /// Written whole and renamed.
    pub(crate) fn write(&self, path: &Path) -> Result<(), NetworkError> {
        let text = serde_json::to_vec(self)
            .map_err(|source| NetworkError::Record { path: path.to_owned(), source })?;
        file::replace(path, &text, Outlives::PowerCut).map_err(NetworkError::file("write", path))
    }
}

impl BridgeConfig {
    /// The bridge with another pod CIDR; what it was until now becomes a former one.
    ///
    /// # Errors
    /// [`NetworkError::PodCidr`] when the embedded network cannot use it.
    pub(crate) fn with_cidr(&self, cidr: PodCidr) -> Result<Self, NetworkError> {
        let refused = |reason: String| NetworkError::PodCidr { reason };
        let subnet =
            cidr.ipv4.ok_or_else(|| refused("the embedded network needs an IPv4 subnet".to_owned()))?;
        let mut changed = Self { subnet, subnet6: cidr.ipv6, ..self.clone() };
        let wanted: Vec<IpNet> = changed.subnets().collect();
        let known = self.subnets().chain(self.former.iter().copied());
        changed.former = known.filter(|net| !wanted.contains(net)).collect();
        match changed.problems().as_slice() {
            [] => Ok(changed),
            problems => Err(refused(problems.join("; "))),
        }
    }

    /// Its present subnets as a pod CIDR.
    pub(crate) fn cidr(&self) -> PodCidr {
        PodCidr { ipv4: Some(self.subnet.trunc()), ipv6: self.subnet6.map(|net| net.trunc()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cidr_has_at_most_one_subnet_of_each_family() {
        let both: PodCidr = "10.1.2.3/24, fd00:1::/64".parse().unwrap();
        assert_eq!(both.ipv4.unwrap().to_string(), "10.1.2.0/24", "host bits do not count");
        assert_eq!(both.ipv6.unwrap().to_string(), "fd00:1::/64");
        for bad in ["", "10.1.2.3", "10.1.0.0/24,10.2.0.0/24", "10.1.0.0/33", "x", "10.1.0.0/24,"] {
            assert!(bad.parse::<PodCidr>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_was_the_subnet_stays_known_until_it_is_the_subnet_again() {
        let first = BridgeConfig::default();
        let second = first.with_cidr("10.1.2.0/24".parse().unwrap()).unwrap();
        assert_eq!(second.former, first.subnets().collect::<Vec<_>>());
        let again = second.with_cidr(first.cidr()).unwrap();
        assert_eq!(again.former, second.subnets().collect::<Vec<_>>());
        for unusable in ["fd00::/64", "10.1.2.0/30", "10.1.2.0/24,fd00::/124"] {
            let refused = first.with_cidr(unusable.parse().unwrap());
            assert!(matches!(refused, Err(NetworkError::PodCidr { .. })), "{unusable}");
        }
    }

    #[test]
    fn what_is_kept_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pod-cidr.json");
        assert_eq!(Kept::read(&path).unwrap(), None);
        let kept =
            Kept { cidr: "10.1.2.0/24".parse().unwrap(), former: vec!["10.88.0.0/16".parse().unwrap()] };
        kept.write(&path).unwrap();
        assert_eq!(Kept::read(&path).unwrap(), Some(kept));
    }
}
