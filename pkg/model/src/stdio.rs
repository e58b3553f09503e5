//! Standard streams, whatever an end of one is where it is held.

/// A terminal's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSize {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// The three standard streams; one that is not there is as /dev/null.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Streams<T> {
    /// Read until its end.
    pub stdin: Option<T>,
    /// Written to.
    pub stdout: Option<T>,
    /// Written to.
    pub stderr: Option<T>,
}

/// What the standard streams of a process are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stdio<T> {
    /// Each its own.
    Pipes(Streams<T>),
    /// One terminal for all three; its window has the kernel's default size unless one is given.
    Terminal(Option<WindowSize>),
}

// === impl Streams ===

impl<T> Streams<T> {
    /// Those that are there, in the order of their descriptors.
    pub fn ends(&self) -> impl Iterator<Item = &T> {
        [&self.stdin, &self.stdout, &self.stderr].into_iter().flatten()
    }

    /// As [`Streams::ends`], handed over.
    pub fn into_ends(self) -> impl Iterator<Item = T> {
        [self.stdin, self.stdout, self.stderr].into_iter().flatten()
    }
}

/// None of them, whatever an end is.
impl<T> Default for Streams<T> {
    fn default() -> Self {
        Self { stdin: None, stdout: None, stderr: None }
    }
}
