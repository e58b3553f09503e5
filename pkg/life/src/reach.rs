//! Whether a pod's monitor can be asked.

/// How huskd stands to the monitor of a pod; the handle is there where it can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach<M> {
    /// It has not answered since huskd started. It may only be slow, so nothing of its pod is ended behind its back.
    Awaited,
    /// It answers.
    Attended(M),
    /// It is dead. It does not come again: a pod has one monitor in its life.
    Lost,
}

impl<M> Reach<M> {
    /// It answered. One that is lost stays lost: what answers is told to end by whoever removes the pod.
    #[must_use]
    pub fn answered(self, monitor: M) -> Self {
        match self {
            Self::Lost => Self::Lost,
            Self::Awaited | Self::Attended(_) => Self::Attended(monitor),
        }
    }

    /// The handle.
    pub fn attended(&self) -> Option<&M> {
        match self {
            Self::Attended(monitor) => Some(monitor),
            Self::Awaited | Self::Lost => None,
        }
    }

    /// Whether it may live and has not answered yet.
    pub fn is_awaited(&self) -> bool {
        matches!(self, Self::Awaited)
    }

    /// Whether it is dead.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_monitor_that_is_lost_does_not_come_again() {
        assert_eq!(Reach::Awaited.answered(1), Reach::Attended(1));
        assert_eq!(Reach::Lost.answered(1), Reach::Lost);
    }
}
