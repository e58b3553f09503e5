//! Where a walk through a tree is, as a path: only for what is told of an entry, never to find it again.

/// The path that a walk is at.
#[derive(Debug, Default)]
pub(crate) struct Path {
    pub(crate) bytes: Vec<u8>,
    /// Length of the path at each depth.
    ends: Vec<usize>,
}

impl Path {
    /// The walk came to `name`, which has `depth` directories between the root and itself.
    pub(crate) fn enter(&mut self, depth: usize, name: &[u8]) {
        self.ends.truncate(depth);
        self.bytes.truncate(self.ends.last().copied().unwrap_or(0));
        if !self.bytes.is_empty() {
            self.bytes.push(b'/');
        }
        self.bytes.extend_from_slice(name);
        self.ends.push(self.bytes.len());
    }

    /// The directory that holds it; empty for the root.
    pub(crate) fn parent(&self) -> &[u8] {
        let end = self.ends.len().checked_sub(2).and_then(|at| self.ends.get(at)).copied().unwrap_or(0);
        &self.bytes[..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_follows_the_walk_down_and_up_again() {
        let mut path = Path::default();
        for (depth, name, whole, parent) in [
            (0, "a", "a", ""),
            (1, "b", "a/b", "a"),
            (2, "c", "a/b/c", "a/b"),
            (1, "d", "a/d", "a"),
            (0, "e", "e", ""),
        ] {
            path.enter(depth, name.as_bytes());
            assert_eq!((path.bytes.as_slice(), path.parent()), (whole.as_bytes(), parent.as_bytes()));
        }
    }
}
