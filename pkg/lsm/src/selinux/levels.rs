//! Multi-category security: a pair of categories per pod, which no other pod has, keeps pods of one type apart.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::context::CATEGORIES;

/// Levels in use, and by how many.
type Held = Mutex<BTreeMap<String, usize>>;

/// Which levels are in use.
#[derive(Debug, Default)]
pub(crate) struct Levels(Arc<Held>);

/// A level that is in use until this is dropped.
#[derive(Debug)]
pub struct Hold {
    level: String,
    held: Arc<Held>,
}

impl Levels {
    /// Takes a level whoever has it already: it was asked for, or it is on record.
    pub(crate) fn hold(&self, level: &str) -> Hold {
        *locked(&self.0).entry(level.to_owned()).or_default() += 1;
        Hold { level: level.to_owned(), held: Arc::clone(&self.0) }
    }

    /// Takes a level that nobody has: `sensitivity` with two categories. `random` gives 32 random bits. `None` when there is
    /// none to be found, which takes some hundred thousand pods.
    pub(crate) fn choose(&self, sensitivity: &str, mut random: impl FnMut() -> Option<u32>) -> Option<Hold> {
        const TRIES: usize = 10_000;
        let mut held = locked(&self.0);
        for _ in 0..TRIES {
            let bits = random()?;
            // A power of two: the halves are evenly spread.
            let (one, other) = (bits as u16 % CATEGORIES, (bits >> 16) as u16 % CATEGORIES);
            if one == other {
                continue;
            }
            let level = format!("{sensitivity}:c{},c{}", one.min(other), one.max(other));
            if !held.contains_key(&level) {
                held.insert(level.clone(), 1);
                return Some(Hold { level, held: Arc::clone(&self.0) });
            }
        }
        None
    }
}

impl Hold {
    /// The level.
    pub fn level(&self) -> &str {
        &self.level
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = locked(&self.held);
        if let Some(count) = held.get_mut(&self.level) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.level);
            }
        }
    }
}

fn locked(held: &Held) -> MutexGuard<'_, BTreeMap<String, usize>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_given_once_until_it_is_given_back() {
        let levels = Levels::default();
        let bits = [7 | 3 << 16, 3 | 7 << 16, 5 | 5 << 16, 1023 | 1024 << 16];
        let mut numbers = bits.into_iter();
        let mut random = || numbers.next();
        let first = levels.choose("s0", &mut random).unwrap();
        assert_eq!(first.level(), "s0:c3,c7");
        let second = levels.choose("s0", &mut random).unwrap();
        assert_eq!(second.level(), "s0:c0,c1023", "the same pair, and equal categories, are skipped");
        drop(first);
        assert_eq!(levels.choose("s0", || Some(bits[1])).unwrap().level(), "s0:c3,c7");
    }

    #[test]
    fn a_level_that_was_asked_for_or_recorded_is_not_given_to_others() {
        let levels = Levels::default();
        let (first, second) = (levels.hold("s0:c1,c2"), levels.hold("s0:c1,c2"));
        assert!(levels.choose("s0", || Some(1 | 2 << 16)).is_none());
        drop(first);
        assert!(levels.choose("s0", || Some(1 | 2 << 16)).is_none(), "somebody still has it");
        drop(second);
        assert!(levels.choose("s0", || Some(1 | 2 << 16)).is_some());
    }
}
