//! Huge pages.

use oci_spec::runtime::LinuxHugepageLimit;
use rustix::io::Errno;

use super::Apply;
use crate::{Controller, Error, Result};

impl Apply<'_> {
    /// The kubelet sends a limit for every page size to every container, so a node without the controller, or without
    /// that size, is not an error.
    pub(super) fn hugetlb(&mut self, limits: &[LinuxHugepageLimit]) -> Result<()> {
        for limit in limits {
            let noted = self.degraded.len();
            self.huge_pages(limit)?;
            // None of what the node has not is what it gives: nothing worth a line of log for every container.
            if limit.limit() == 0 {
                self.degraded.truncate(noted);
            }
        }
        Ok(())
    }

    fn huge_pages(&mut self, limit: &LinuxHugepageLimit) -> Result<()> {
        let size = limit.page_size();
        check_size(size)?;
        let Some(home) = self.prefer(Controller::HugeTlb, "hugepageLimits") else {
            return Ok(());
        };
        let name = if home.is_v2() { "max" } else { "limit_in_bytes" };
        let value = if limit.limit() < 0 {
            if home.is_v2() { "max".to_owned() } else { "-1".to_owned() }
        } else {
            limit.limit().to_string()
        };
        self.write_or_degrade(home, &format!("hugetlb.{size}.{name}"), &value, "hugepageLimits")?;
        // Reservations are counted apart since Linux 5.7; an older kernel has the fault-time limit above.
        let reserved = format!("hugetlb.{size}.rsvd.{name}");
        match home.try_write(&reserved, &value) {
            Ok(()) | Err(Errno::NOENT | Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(home.write_error(&reserved, &value, errno)),
        }
        Ok(())
    }
}

/// The size becomes part of a file name: `64KB`, `2MB`, `1GB`.
fn check_size(size: &str) -> Result<()> {
    let digits =
        size.strip_suffix("KB").or_else(|| size.strip_suffix("MB")).or_else(|| size.strip_suffix("GB"));
    if digits.is_some_and(|d| !d.is_empty() && d.len() <= 6 && d.bytes().all(|b| b.is_ascii_digit())) {
        return Ok(());
    }
    let reason = format!("{:?} is not a page size such as 2MB", size.chars().take(40).collect::<String>());
    Err(Error::InvalidValue { setting: "hugepageLimits.pageSize", reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_size_cannot_name_another_file() {
        for good in ["2MB", "1GB", "64KB", "512MB"] {
            check_size(good).unwrap();
        }
        for bad in ["", "MB", "2M", "../2MB", "2/MB", "-2MB", "2MB\n"] {
            assert!(check_size(bad).is_err(), "{bad}");
        }
    }
}
