//! What is to be known of a layer's directories when everything is in them: by inode, because a path of each would take
//! more memory than an archive should be able to spend. Directories are never deleted while a layer is unpacked, so a
//! number means one directory.

/// Time of modification: seconds and nanoseconds.
type Time = (i64, u32);

/// Notes in the order in which they were made.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    events: Vec<(u64, Option<Time>)>,
    any_implied: bool,
    /// Something happened that layers below might have led elsewhere.
    pub(crate) unsure: bool,
}

impl Notes {
    /// The archive uses this directory without having described it.
    pub(crate) fn implied(&mut self, inode: u64) {
        self.any_implied = true;
        self.events.push((inode, None));
    }

    /// The archive describes it, or a layer below does.
    pub(crate) fn described(&mut self, inode: u64, time: Time) {
        self.events.push((inode, Some(time)));
    }

    /// Whether there was an implied one, whatever became of it.
    pub(crate) fn any_implied(&self) -> bool {
        self.any_implied
    }

    /// Takes the directories that were implied at any time, sorted, and the last time that each was given, sorted too.
    pub(crate) fn take(&mut self) -> (Vec<u64>, Vec<(u64, Time)>) {
        let mut events = std::mem::take(&mut self.events);
        // Stable: the last one of a directory stays the last.
        events.sort_by_key(|(inode, _)| *inode);
        let mut implied: Vec<u64> =
            events.iter().filter(|(_, time)| time.is_none()).map(|(inode, _)| *inode).collect();
        implied.dedup();
        let mut times: Vec<(u64, Time)> = Vec::with_capacity(events.len() - implied.len());
        for (inode, time) in events {
            let Some(time) = time else { continue };
            match times.last_mut() {
                Some(last) if last.0 == inode => last.1 = time,
                _ => times.push((inode, time)),
            }
        }
        (implied, times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_time_counts_and_implied_once_is_implied() {
        let mut notes = Notes::default();
        notes.described(7, (1, 0));
        notes.implied(5);
        notes.described(7, (2, 0));
        notes.described(5, (3, 0));
        notes.implied(9);
        assert_eq!(notes.take(), (vec![5, 9], vec![(5, (3, 0)), (7, (2, 0))]));
        assert!(notes.any_implied());
    }
}
