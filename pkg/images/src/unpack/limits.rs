//! What a layer and an image may spend, in one place. Each bound is checked where the resource is spent, before it is.
//!
//! The figures are far above what published images have and far below what takes a node down:
//!
//! | resource | layer | image | why |
//! | --- | --- | --- | --- |
//! | bytes of content, attributes included | 512 GiB | 1 TiB | models and their weights come as layers; a disk that fills stops a pull earlier (`DiskFull`) |
//! | inodes, replaced files included | 4 Mi | 8 Mi | the largest images known have 2 million files |
//! | directories, implied ones included | 1 Mi | 4 Mi | 24 bytes of memory each while a layer is unpacked |
//! | directories that members use without a description | 64 Ki | 256 Ki | a long path makes 2000 of them out of one header; archives have hundreds |
//! | bytes of the archive that are no content | 8 GiB | 16 GiB | 2 KiB of headers for each inode; they go through the record |
//! | steps of looking up names | 64 Mi | 256 Mi | each costs about a microsecond; links multiply them |
//! | paths of replaced members | 32 MiB | - | kept in memory by an export |
//!
//! Beside these: what follows the end of an archive ([`TRAILING_MAX`]), the length of a resolved path ([`PATH_MAX`], and
//! with it the depth), links followed for a path ([`LINKS_MAX`]), and in `tar` extended headers (16 of 1 MiB for a
//! member), attributes (256 for a member) and segments of sparse files (256 Ki).
//!
//! Memory: a layer that is unpacked needs less than 64 MiB for all of these together, and its decoder as much as the
//! window of the compressed stream, 128 MiB at most.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::UnpackError;

/// Longest path of a member after links are resolved, in bytes: what a process can name with its leading slash and NUL
/// (PATH_MAX of Linux, 4096). It bounds the depth of a layer to 2047 directories.
pub(crate) const PATH_MAX: usize = 4094;
/// Symbolic links followed for one path, as the kernel does.
pub(crate) const LINKS_MAX: usize = 40;
/// Bytes that may follow the end of an archive. Archivers pad to records of some KiB.
pub(crate) const TRAILING_MAX: u64 = 16 << 20;

/// What is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resource {
    /// Bytes of content as the filesystem allocates them, and of extended attributes.
    Bytes,
    /// Files, directories, links and whiteouts.
    Inodes,
    /// Directories.
    Directories,
    /// Directories that the archive did not describe before it used them.
    Implied,
    /// Bytes of the archive that are not content.
    Overhead,
    /// Components of paths looked up.
    Lookups,
    /// Bytes of the paths of replaced members.
    Replaced,
}

/// Limits by resource: its name, of a layer, of an image.
const LIMITS: [(&str, u64, u64); 7] = [
    ("bytes", 512 << 30, 1 << 40),
    ("files", 4 << 20, 8 << 20),
    ("directories", 1 << 20, 4 << 20),
    ("directories without a description", 64 << 10, 256 << 10),
    ("bytes of headers and padding", 8 << 30, 16 << 30),
    ("steps of path lookups", 64 << 20, 256 << 20),
    ("bytes of paths that occur again", 32 << 20, u64::MAX),
];

type Amounts = [u64; LIMITS.len()];

/// What the layers of one image have spent together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Budget(Arc<[AtomicU64; LIMITS.len()]>);

/// What one layer has spent. Gives it back to the image's budget when it is dropped, unless [`kept`](Self::keep).
#[derive(Debug)]
pub(crate) struct Meter {
    image: Budget,
    spent: Amounts,
    limits: Amounts,
    kept: bool,
}

impl Meter {
    /// Starts a layer of the image that `image` is the budget of.
    pub(crate) fn new(image: &Budget) -> Self {
        let limits = LIMITS.map(|(_, layer, _)| layer);
        Self { image: image.clone(), spent: Amounts::default(), limits, kept: false }
    }

    /// Takes `amount`.
    ///
    /// # Errors
    /// [`UnpackError::TooLarge`] when the layer or its image has had that much.
    pub(crate) fn spend(&mut self, resource: Resource, amount: u64) -> Result<(), UnpackError> {
        let at = resource as usize;
        let (what, _, image) = LIMITS[at];
        let limit = self.limits[at];
        let spent = self.spent[at].saturating_add(amount);
        if spent > limit {
            return Err(UnpackError::TooLarge { of: "layer", limit, what });
        }
        let before = self.image.0[at].fetch_add(amount, Ordering::Relaxed);
        self.spent[at] = spent;
        if before.saturating_add(amount) > image {
            return Err(UnpackError::TooLarge { of: "image", limit: image, what });
        }
        Ok(())
    }

    /// What was spent so far.
    pub(crate) fn spent(&self, resource: Resource) -> u64 {
        self.spent[resource as usize]
    }

    /// The layer stays.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }

    /// Lowers a limit, for tests.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn limited(mut self, resource: Resource, limit: u64) -> Self {
        self.limits[resource as usize] = limit;
        self
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if !self.kept {
            for (total, spent) in self.image.0.iter().zip(self.spent) {
                total.fetch_sub(spent, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_share_the_budget_of_their_image_and_failed_ones_give_back() {
        let image = Budget::default();
        let half = 4 << 20;
        let mut one = Meter::new(&image);
        one.spend(Resource::Inodes, half).unwrap();
        assert!(matches!(one.spend(Resource::Inodes, 1), Err(UnpackError::TooLarge { of: "layer", .. })));
        one.keep();
        let mut failed = Meter::new(&image);
        failed.spend(Resource::Inodes, half).unwrap();
        let mut third = Meter::new(&image);
        assert!(matches!(third.spend(Resource::Inodes, 1), Err(UnpackError::TooLarge { of: "image", .. })));
        drop((failed, third));
        Meter::new(&image).spend(Resource::Inodes, half).unwrap();
    }
}
