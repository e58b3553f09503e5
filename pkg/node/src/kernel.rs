//! Which kernel runs, for what no system call tells.

use std::fmt;

/// Major and minor version of a Linux kernel. The default is older than all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelVersion(u32, u32);

impl KernelVersion {
    /// Of these two numbers.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self(major, minor)
    }

    /// The first two numbers of a release: `6.18.4-generic`, `4.8`. `None` for what has another form.
    pub fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.trim().split(|c: char| !c.is_ascii_digit()).map(str::parse);
        Some(Self(numbers.next()?.ok()?, numbers.next()?.ok()?))
    }

    /// Of the running kernel; older than all if its release has another form.
    pub fn running() -> Self {
        Self::parse(&kernel_release()).unwrap_or_default()
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// The running kernel's release as uname(2) has it.
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_as_numbers() {
        let of = |release| KernelVersion::parse(release).unwrap();
        assert_eq!(of("5.19.17"), KernelVersion::new(5, 19));
        assert_eq!(of("5.4"), KernelVersion::new(5, 4));
        assert!(of("6.1.0-32-amd64") > of("5.19"));
        assert!(of("5.9.1") < of("5.12"));
        assert!(of("10.0\n") > of("9.99"));
    }

    #[test]
    fn what_is_no_release_is_older_than_every_kernel() {
        for other in ["", "unknown", "6", "v6.1"] {
            assert_eq!(KernelVersion::parse(other), None, "{other:?}");
        }
        assert!(KernelVersion::running() > KernelVersion::default());
    }
}
