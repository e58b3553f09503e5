//! A balanced tree of comparisons over ranges of syscall numbers.

use super::{insn::Insn, rules::Outcome};

/// The numbers from `start` up to the next range's start.
#[derive(Debug, Clone)]
pub(super) struct Range {
    pub(super) start: u32,
    pub(super) outcome: Outcome,
}

/// Code that returns the outcome for the number in the accumulator. `ranges` is sorted and starts at 0.
pub(super) fn emit(ranges: Vec<Range>) -> Vec<Insn> {
    let mut merged: Vec<Range> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last() {
            Some(last) if last.outcome == range.outcome => {}
            _ => merged.push(range),
        }
    }
    subtree(&merged)
}

/// `nr >= middle ? right : left`, left directly behind the comparison.
fn subtree(ranges: &[Range]) -> Vec<Insn> {
    if let [only] = ranges {
        return only.outcome.emit();
    }
    let (left, right) = ranges.split_at(ranges.len() / 2);
    let (left, right, middle) = (subtree(left), subtree(right), right[0].start);
    let mut code = Insn::if_at_least_skip(middle, left.len());
    code.extend(left);
    code.extend(right);
    code
}
