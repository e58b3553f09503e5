//! Circles in a graph of files.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::{Path, PathBuf},
};

/// Who stands on whom, and the first line that shows it.
pub(super) type Graph = BTreeMap<PathBuf, BTreeMap<PathBuf, Step>>;

/// The line of a file that names something of another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) line: usize,
    pub(super) name: String,
}

/// The shortest circle through every step that is on one: each is reported once, and only where it shows a step that no
/// shorter one has shown.
pub(super) fn circles(graph: &Graph) -> Vec<String> {
    let mut found = BTreeSet::new();
    for (from, steps) in graph {
        for to in steps.keys() {
            if let Some(back) = way(graph, to, from) {
                found.insert((back.len(), turned(back)));
            }
        }
    }
    let mut shown = BTreeSet::new();
    found
        .into_iter()
        .filter(|(_, circle)| pairs(circle).filter(|pair| shown.insert(*pair)).count() > 0)
        .map(|(_, circle)| told(graph, &circle))
        .collect()
}

/// The shortest way from one file to another, both of them included.
fn way<'g>(graph: &'g Graph, from: &'g Path, to: &Path) -> Option<Vec<&'g Path>> {
    let mut before: BTreeMap<&Path, &Path> = BTreeMap::new();
    let mut queue = VecDeque::from([from]);
    while let Some(at) = queue.pop_front() {
        if at == to {
            let mut way = vec![at];
            while let Some(&earlier) = before.get(way[way.len() - 1])
                && way[way.len() - 1] != from
            {
                way.push(earlier);
            }
            way.reverse();
            return Some(way);
        }
        for next in graph.get(at).into_iter().flat_map(BTreeMap::keys) {
            if next != from && !before.contains_key(next.as_path()) {
                before.insert(next, at);
                queue.push_back(next);
            }
        }
    }
    None
}

/// The same circle, from its first file on.
fn turned(mut circle: Vec<&Path>) -> Vec<&Path> {
    let first = circle.iter().enumerate().min_by_key(|(_, path)| **path).map_or(0, |(place, _)| place);
    circle.rotate_left(first);
    circle
}

fn pairs<'c, 'g>(circle: &'c [&'g Path]) -> impl Iterator<Item = (&'g Path, &'g Path)> + 'c {
    circle.iter().zip(circle.iter().cycle().skip(1)).map(|(from, to)| (*from, *to))
}

fn told(graph: &Graph, circle: &[&Path]) -> String {
    let steps = pairs(circle).map(|(from, to)| {
        let Step { line, name } = &graph[from][to];
        format!("{}:{line} names {name}", from.display())
    });
    steps.collect::<Vec<_>>().join(", ")
}
