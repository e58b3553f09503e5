//! The steps of a call, with the time that each took: huskd puts them below its own in traces and in `husk why`.

use std::time::Instant;

use husk_model::UnixNanos;
use husk_node::now;
use husk_proto::podmon;

/// Steps one after the other; each lasts until the next begins. There are as many as are written in this program.
#[derive(Debug, Default)]
pub struct Steps {
    done: Vec<podmon::Step>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    name: &'static str,
    began_at: UnixNanos,
    /// The wall clock may be set meanwhile.
    began: Instant,
}

impl Steps {
    /// The first step begins.
    pub fn begin(name: &'static str) -> Self {
        let mut steps = Self::default();
        steps.next(name);
        steps
    }

    /// The next step begins, and the one before it is done.
    pub fn next(&mut self, name: &'static str) {
        self.end();
        self.open = Some(Open { name, began_at: now(), began: Instant::now() });
    }

    /// The last one is done.
    pub fn end(&mut self) {
        if let Some(Open { name, began_at, began }) = self.open.take() {
            let took = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.done.push(podmon::Step { name: name.to_owned(), began_at, took });
        }
    }

    /// All that are done, to be told once; the last one ends with that.
    pub fn take(&mut self) -> Vec<podmon::Step> {
        self.end();
        std::mem::take(&mut self.done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_lasts_until_the_next_begins_and_is_told_once() {
        let mut steps = Steps::begin("first");
        steps.next("second");
        steps.end();
        steps.end();
        steps.next("third");
        let told = steps.take();
        let names: Vec<_> = told.iter().map(|step| step.name.as_str()).collect();
        assert_eq!(names, ["first", "second", "third"]);
        assert!(told.is_sorted_by_key(|step| step.began_at));
        assert!(steps.take().is_empty());
    }
}
