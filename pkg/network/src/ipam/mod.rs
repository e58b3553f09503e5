//! Address reservations, in the files of the host-local IPAM plugin (containernetworking/plugins v1), so that one
//! can be replaced by the other on a running node and `ls` shows who has what:
//!
//! ```text
//! <data dir>/<network>/lock                  flock(2)ed while anything changes
//!                      10.88.0.2             "<container id>\r\n<interface>"
//!                      last_reserved_ip.0    where the round robin goes on; .0 IPv4, .1 IPv6
//! ```
//!
//! The files are the only truth: nothing is cached, so nothing can disagree. All calls block on the lock and the disk.

mod range;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    str::FromStr,
};

use husk_model::PodSandboxId;
use ipnet::IpNet;
use rustix::fs::{FlockOperation, flock};

use self::range::Range;
pub(crate) use self::range::{Addresses, gateway};
use crate::NetworkError;

/// The reservations of one network.
#[derive(Debug, Clone)]
pub(crate) struct Ipam {
    dir: PathBuf,
    ranges: Vec<Range>,
}

/// One reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reservation {
    pub(crate) ip: IpAddr,
    /// First line of the file, whoever wrote it; empty after a crash between creating and writing it.
    pub(crate) id: String,
}

impl Ipam {
    /// Reservations of `network` below `data_dir`, for pods of the given subnets (at most one of each family).
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub(crate) fn open(
        data_dir: &Path,
        network: &str,
        subnets: impl Iterator<Item = IpNet>,
    ) -> Result<Self, NetworkError> {
        Self::of_ranges(data_dir, network, subnets.map(whole))
    }

    /// As [`Ipam::open`], of the given addresses.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub(crate) fn of_ranges(
        data_dir: &Path,
        network: &str,
        ranges: impl Iterator<Item = Addresses>,
    ) -> Result<Self, NetworkError> {
        let dir = data_dir.join(network);
        fs::create_dir_all(&dir).map_err(NetworkError::file("create", &dir))?;
        Ok(Self { dir, ranges: ranges.map(Range::new).collect() })
    }

    /// The same reservations, with pods of other subnets from now on.
    pub(crate) fn with_subnets(&self, subnets: impl Iterator<Item = IpNet>) -> Self {
        Self { dir: self.dir.clone(), ranges: subnets.map(whole).map(Range::new).collect() }
    }

    /// The same for another network of the data directory: the bridge may have had another name when a pod came.
    pub(crate) fn of_network(&self, network: &str) -> Self {
        Self { dir: self.dir.with_file_name(network), ranges: self.ranges.clone() }
    }

    /// Reserves one address of each family. Addresses that `held` names are passed over. A failure leaves none.
    ///
    /// # Errors
    /// [`NetworkError::Exhausted`], or the errors of the files.
    pub(crate) fn reserve(
        &self,
        id: &PodSandboxId,
        interface: &str,
        held: impl Fn(IpAddr) -> bool,
    ) -> Result<Vec<IpAddr>, NetworkError> {
        self.reserve_wanted(id, interface, &[], held)
    }

    /// Whether a pod that asks for this address may have it, if nobody has it.
    pub(crate) fn may_have(&self, ip: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.may_have(ip))
    }

    /// As [`Ipam::reserve`]; an address of `wanted` is taken in place of any other of its subnet, held or not.
    ///
    /// # Errors
    /// Also [`NetworkError::AddressTaken`] and [`NetworkError::AddressOutside`].
    pub(crate) fn reserve_wanted(
        &self,
        id: &PodSandboxId,
        interface: &str,
        wanted: &[IpAddr],
        held: impl Fn(IpAddr) -> bool,
    ) -> Result<Vec<IpAddr>, NetworkError> {
        if let Some(ip) = wanted.iter().find(|ip| !self.may_have(**ip)) {
            return Err(NetworkError::AddressOutside { ip: *ip });
        }
        let _lock = self.lock()?;
        let mut ips = Vec::with_capacity(self.ranges.len());
        for (number, range) in self.ranges.iter().enumerate() {
            let reserved = match wanted.iter().find(|ip| range.may_have(**ip)) {
                Some(ip) => match self.claim(*ip, id, interface) {
                    Ok(true) => Ok(*ip),
                    Ok(false) => Err(NetworkError::AddressTaken { ip: *ip }),
                    Err(error) => Err(error),
                },
                None => self.reserve_in(number, range, id, interface, &held),
            };
            match reserved {
                Ok(ip) => ips.push(ip),
                Err(error) => {
                    for ip in ips {
                        // The reservation is seconds old and ours; gc takes what stays.
                        let _ = fs::remove_file(self.dir.join(IpAddr::to_string(&ip)));
                    }
                    return Err(error);
                }
            }
        }
        Ok(ips)
    }

    /// Gives back those of `ips` that `id` has. Others, and absent ones, are left alone.
    ///
    /// # Errors
    /// Those of the files.
    pub(crate) fn release(&self, id: &PodSandboxId, ips: &[IpAddr]) -> Result<(), NetworkError> {
        if !self.dir.is_dir() {
            return Ok(());
        }
        let _lock = self.lock()?;
        for ip in ips {
            self.release_one(*ip, |owner| owner == id.as_str())?;
        }
        Ok(())
    }

    /// Finds every address whose owner `stale` names, and gives back those that `free` agrees to. `stale` is made when
    /// nobody can reserve any more.
    ///
    /// # Errors
    /// Those of the files.
    pub(crate) fn release_if<S: Fn(&str) -> bool>(
        &self,
        stale: impl FnOnce() -> S,
        free: impl Fn(IpAddr) -> bool,
    ) -> Result<Vec<Reservation>, NetworkError> {
        let _lock = self.lock()?;
        let mut found = self.reservations()?;
        let stale = stale();
        found.retain(|reservation| stale(&reservation.id));
        for reservation in found.iter().filter(|reservation| free(reservation.ip)) {
            self.release_one(reservation.ip, &stale)?;
        }
        Ok(found)
    }

    /// Gives back reservations that were found to be nobody's, if they are as they were found.
    ///
    /// # Errors
    /// Those of the files.
    pub(crate) fn give_back(&self, stray: &[Reservation]) -> Result<(), NetworkError> {
        if stray.is_empty() {
            return Ok(());
        }
        let _lock = self.lock()?;
        stray.iter().try_for_each(|found| self.release_one(found.ip, |owner| owner == found.id))
    }

    /// All reservations.
    ///
    /// # Errors
    /// Those of the directory.
    pub(crate) fn reservations(&self) -> Result<Vec<Reservation>, NetworkError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(NetworkError::file("list", &self.dir))? {
            let entry = entry.map_err(NetworkError::file("list", &self.dir))?;
            let Some(ip) = entry.file_name().to_str().and_then(|name| IpAddr::from_str(name).ok()) else {
                continue;
            };
            if let Some(id) = self.owner(ip)? {
                found.push(Reservation { ip, id });
            }
        }
        Ok(found)
    }

    fn reserve_in(
        &self,
        number: usize,
        range: &Range,
        id: &PodSandboxId,
        interface: &str,
        held: &impl Fn(IpAddr) -> bool,
    ) -> Result<IpAddr, NetworkError> {
        let last_path = self.dir.join(format!("last_reserved_ip.{number}"));
        // A damaged or foreign mark only costs the round robin its place.
        let last = fs::read_to_string(&last_path).ok().and_then(|text| text.trim().parse::<IpAddr>().ok());
        for ip in range.after(last) {
            if held(ip) || !self.claim(ip, id, interface)? {
                continue;
            }
            remember(&last_path, &ip.to_string()).map_err(|source| {
                let _ = fs::remove_file(self.dir.join(ip.to_string()));
                NetworkError::file("write", &last_path)(source)
            })?;
            return Ok(ip);
        }
        Err(NetworkError::Exhausted { subnet: range.subnet })
    }

    /// Creates the reservation file; `false` when there is one already.
    fn claim(&self, ip: IpAddr, id: &PodSandboxId, interface: &str) -> Result<bool, NetworkError> {
        let path = self.dir.join(ip.to_string());
        let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            Err(error) => return Err(NetworkError::file("create", path)(error)),
        };
        match file.write_all(format!("{id}\r\n{interface}").as_bytes()) {
            Ok(()) => Ok(true),
            Err(error) => {
                let _ = fs::remove_file(&path);
                Err(NetworkError::file("write", path)(error))
            }
        }
    }

    fn release_one(&self, ip: IpAddr, ours: impl Fn(&str) -> bool) -> Result<(), NetworkError> {
        let path = self.dir.join(ip.to_string());
        if self.owner(ip)?.is_some_and(|owner| ours(&owner)) {
            fs::remove_file(&path).map_err(NetworkError::file("remove", path))?;
        }
        Ok(())
    }

    fn owner(&self, ip: IpAddr) -> Result<Option<String>, NetworkError> {
        let path = self.dir.join(ip.to_string());
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text.lines().next().unwrap_or_default().trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(NetworkError::file("read", path)(error)),
        }
    }

    /// The lock ends with the returned file.
    fn lock(&self) -> Result<File, NetworkError> {
        let path = self.dir.join("lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(NetworkError::file("open", &path))?;
        flock(&file, FlockOperation::LockExclusive)
            .map_err(|errno| NetworkError::file("lock", path)(errno.into()))?;
        Ok(file)
    }
}

/// Overwrites a small file in place. Not with O_TRUNC: ext4 starts writing such a file to the disk when it is closed
/// (`auto_da_alloc`), which takes several times as long as all the rest of a reservation. A torn mark is harmless.
fn remember(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)
}

/// All of a subnet but the first address, which is the gateway's.
fn whole(subnet: IpNet) -> Addresses {
    Addresses { subnet, within: None, taken: vec![gateway(subnet)] }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: fn(IpAddr) -> bool = |_| false;

    fn ipam(dir: &Path, subnets: &[&str]) -> Ipam {
        Ipam::open(dir, "net", subnets.iter().map(|s| s.parse().unwrap())).unwrap()
    }

    fn pod(number: usize) -> PodSandboxId {
        format!("{number:064x}").parse().unwrap()
    }

    fn ips(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|s| s.parse().unwrap()).collect()
    }

    #[test]
    fn files_are_those_of_the_host_local_plugin() {
        let dir = tempfile::tempdir().unwrap();
        let ipam = ipam(dir.path(), &["10.1.0.0/24", "fd01::/64"]);
        assert_eq!(ipam.reserve(&pod(1), "eth0", FREE).unwrap(), ips(&["10.1.0.2", "fd01::2"]));
        let read = |name: &str| fs::read_to_string(dir.path().join("net").join(name)).unwrap();
        assert_eq!(read("10.1.0.2"), format!("{}\r\neth0", pod(1)));
        assert_eq!(read("fd01::2"), format!("{}\r\neth0", pod(1)));
        assert_eq!(read("last_reserved_ip.0"), "10.1.0.2");
        assert_eq!(read("last_reserved_ip.1"), "fd01::2");
    }

    #[test]
    fn a_released_address_comes_round_again_last() {
        let dir = tempfile::tempdir().unwrap();
        let ipam = ipam(dir.path(), &["10.1.0.0/29"]);
        let mut seen = Vec::new();
        for _ in 0..6 {
            let got = ipam.reserve(&pod(1), "eth0", FREE).unwrap();
            ipam.release(&pod(1), &got).unwrap();
            seen.extend(got);
        }
        assert_eq!(seen, ips(&["10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6", "10.1.0.2"]));
    }

    #[test]
    fn a_full_subnet_says_so_and_reserves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let ipam = ipam(dir.path(), &["10.1.0.0/24", "fd01::/125"]);
        for n in 0..5 {
            ipam.reserve(&pod(n), "eth0", FREE).unwrap();
        }
        let error = ipam.reserve(&pod(9), "eth0", FREE).unwrap_err();
        assert!(
            matches!(error, NetworkError::Exhausted { subnet } if subnet == "fd01::/125".parse().unwrap())
        );
        assert!(ipam.reservations().unwrap().iter().all(|r| r.id != pod(9).as_str()));
    }

    #[test]
    fn held_addresses_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let ipam = ipam(dir.path(), &["10.1.0.0/24"]);
        let held = ips(&["10.1.0.2", "10.1.0.3"]);
        assert_eq!(ipam.reserve(&pod(1), "eth0", |ip| held.contains(&ip)).unwrap(), ips(&["10.1.0.4"]));
    }

    #[test]
    fn a_range_and_what_is_taken_bound_what_pods_get_unasked_and_a_wish_only_the_subnet() {
        let dir = tempfile::tempdir().unwrap();
        let addresses = Addresses {
            subnet: "10.1.0.0/24".parse().unwrap(),
            within: Some("10.1.0.64/30".parse().unwrap()),
            taken: ips(&["10.1.0.65", "10.1.0.1"]),
        };
        let ipam = Ipam::of_ranges(dir.path(), "net", [addresses].into_iter()).unwrap();
        let mut got = Vec::new();
        for n in 0..3 {
            got.extend(ipam.reserve(&pod(n), "eth0", FREE).unwrap());
        }
        got.sort();
        assert_eq!(got, ips(&["10.1.0.64", "10.1.0.66", "10.1.0.67"]));
        assert!(matches!(ipam.reserve(&pod(4), "eth0", FREE), Err(NetworkError::Exhausted { .. })));
        let want = |ip: &str| ipam.reserve_wanted(&pod(5), "eth0", &ips(&[ip]), FREE);
        assert_eq!(want("10.1.0.9").unwrap(), ips(&["10.1.0.9"]));
        assert!(matches!(want("10.1.0.9"), Err(NetworkError::AddressTaken { .. })));
        for outside in ["10.1.0.0", "10.1.0.255", "10.1.0.1", "10.1.0.65", "10.2.0.9", "fd00::9"] {
            assert!(matches!(want(outside), Err(NetworkError::AddressOutside { .. })), "{outside}");
        }
    }

    #[test]
    fn release_spares_what_belongs_to_others_and_is_idempotent() {
        let dir = tempfile::tempdir().unwrap();
        let ipam = ipam(dir.path(), &["10.1.0.0/24"]);
        let got = ipam.reserve(&pod(1), "eth0", FREE).unwrap();
        ipam.release(&pod(2), &got).unwrap();
        assert_eq!(ipam.reservations().unwrap().len(), 1);
        ipam.release(&pod(1), &got).unwrap();
        ipam.release(&pod(1), &got).unwrap();
        assert!(ipam.reservations().unwrap().is_empty());
    }

    #[test]
    fn an_empty_file_left_by_a_crash_is_a_reservation_of_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let ipam = ipam(dir.path(), &["10.1.0.0/24"]);
        fs::write(dir.path().join("net/10.1.0.2"), "").unwrap();
        assert_eq!(ipam.reserve(&pod(1), "eth0", FREE).unwrap(), ips(&["10.1.0.3"]));
        let freed = ipam.release_if(|| |id: &str| id != pod(1).as_str(), |_| true).unwrap();
        assert_eq!(freed, [Reservation { ip: "10.1.0.2".parse().unwrap(), id: String::new() }]);
    }

    #[test]
    fn concurrent_reservations_never_share_an_address() {
        let dir = tempfile::tempdir().unwrap();
        let ipam = ipam(dir.path(), &["10.1.0.0/24"]);
        let mut all: Vec<IpAddr> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..8)
                .map(|w| {
                    let ipam = &ipam;
                    scope.spawn(move || {
                        (0..20)
                            .flat_map(|n| ipam.reserve(&pod(w * 20 + n), "eth0", FREE).unwrap())
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            workers.into_iter().flat_map(|w| w.join().unwrap()).collect()
        });
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 160);
    }
}
