//! A balanced tree of comparisons over ranges of syscall numbers.

use super::{
    insn::{Builder, Compare, Target},
    rules::Outcome,
};

/// The numbers from `start` up to the next range's start.
#[derive(Debug, Clone)]
pub(super) struct Range {
    pub(super) start: u32,
    pub(super) outcome: Outcome,
}

/// Places code that returns the outcome for the number in the accumulator. `ranges` is sorted and starts at 0.
pub(super) fn emit(ranges: Vec<Range>, builder: &mut Builder) -> Target {
    let mut merged: Vec<Range> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last() {
            Some(last) if last.outcome == range.outcome => {}
            _ => merged.push(range),
        }
    }
    subtree(&merged, builder)
}

/// `nr >= middle ? right : left`
fn subtree(ranges: &[Range], builder: &mut Builder) -> Target {
    if let [only] = ranges {
        return only.outcome.emit(builder);
    }
    let (left, right) = ranges.split_at(ranges.len() / 2);
    let middle = right[0].start;
    let right = subtree(right, builder);
    let left = subtree(left, builder);
    builder.branch(Compare::AtLeast, middle, right, left)
}
