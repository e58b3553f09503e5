//! Keys that wait for what becomes of them, and what has become of the others.

use std::collections::{BTreeMap, BTreeSet};

use toml::Value;

use crate::{
    auth::Credentials,
    draft::Draft,
    finding::{Finding, Kind},
    hosts::Registries,
    leaf::Leaf,
    plan::PlannedFile,
    shown::shown,
};

/// A translation on its way.
#[derive(Default)]
pub(crate) struct Job {
    leaves: Vec<Leaf>,
    settled: Vec<bool>,
    /// By path, without those of `beside`.
    index: BTreeMap<Vec<String>, usize>,
    beside: Vec<usize>,
    pub(crate) findings: Vec<Finding>,
    /// What becomes husk.toml.
    pub(crate) draft: Draft,
    /// What becomes hosts.toml files.
    pub(crate) registries: Registries,
    /// What the kubelet is to send.
    pub(crate) credentials: Credentials,
    /// Files beside husk.toml that are ready.
    pub(crate) files: Vec<PlannedFile>,
    /// What no key says and somebody has to know.
    pub(crate) notes: Vec<String>,
}

/// A place in the list of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At(usize);

impl Job {
    /// Takes a key in; one with the same name of an earlier file no longer counts.
    pub(crate) fn put(&mut self, leaf: Leaf) {
        if let Some(earlier) = self.index.get(&leaf.path).copied() {
            self.override_by(At(earlier), &leaf.file);
        }
        self.index.insert(leaf.path.clone(), self.leaves.len());
        self.push(leaf);
    }

    /// Takes a key in beside another of the same name: lists that add up.
    pub(crate) fn put_beside(&mut self, leaf: Leaf) -> At {
        let at = self.leaves.len();
        self.beside.push(at);
        self.push(leaf);
        At(at)
    }

    fn push(&mut self, leaf: Leaf) {
        self.leaves.push(leaf);
        self.settled.push(false);
    }

    /// Every key whose name in its file begins with `raw` no longer counts: `file` replaces the whole table.
    pub(crate) fn replace_table(&mut self, raw: &[String], file: &str) {
        for at in 0..self.leaves.len() {
            let leaf = &self.leaves[at];
            if !self.settled[at] && leaf.file != file && leaf.raw.starts_with(raw) {
                self.index.remove(&self.leaves[at].path);
                self.override_by(At(at), file);
            }
        }
    }

    fn override_by(&mut self, at: At, file: &str) {
        if !self.settled[at.0] {
            self.settle(at, Kind::Overridden, "", format!("{file} has the last word"));
        }
    }

    pub(crate) fn leaf(&self, at: At) -> &Leaf {
        &self.leaves[at.0]
    }

    /// The unsettled keys that fit a pattern: parts between slashes, `*` for any one, `**` at the end for all below.
    pub(crate) fn find(&self, pattern: &str) -> Vec<At> {
        let pattern: Vec<&str> = pattern.split('/').collect();
        let fits = |at: &usize| !self.settled[*at] && fits(&pattern, &self.leaves[*at].path);
        (0..self.leaves.len()).filter(fits).map(At).collect()
    }

    /// The unsettled key with exactly this path.
    pub(crate) fn get(&self, path: &[&str]) -> Option<At> {
        self.below(path).into_iter().find(|at| self.leaf(*at).path.len() == path.len())
    }

    /// The unsettled keys below this path, in the order of the files.
    pub(crate) fn below(&self, path: &[&str]) -> Vec<At> {
        let first: Vec<String> = path.iter().map(|part| (*part).to_owned()).collect();
        let is_below = |found: &[String]| found.starts_with(&first);
        let indexed = self.index.range(first.clone()..).take_while(|(found, _)| is_below(found));
        let beside = self.beside.iter().filter(|at| is_below(&self.leaves[**at].path));
        let all = indexed.map(|(_, at)| at).chain(beside);
        let mut all: Vec<At> = all.filter(|at| !self.settled[**at]).map(|at| At(*at)).collect();
        all.sort_unstable();
        all
    }

    /// The names of tables right below this path, in the order of the files.
    pub(crate) fn names(&self, path: &[&str]) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let names = self.below(path).into_iter().filter_map(|at| self.leaf(at).path.get(path.len()).cloned());
        names.filter(|name| seen.insert(name.clone())).collect()
    }

    /// All that wait.
    pub(crate) fn unsettled(&self) -> Vec<At> {
        (0..self.leaves.len()).filter(|&at| !self.settled[at]).map(At).collect()
    }

    /// Says what becomes of a key. The first word counts.
    pub(crate) fn settle(&mut self, at: At, kind: Kind, husk: &str, means: impl Into<String>) {
        if std::mem::replace(&mut self.settled[at.0], true) {
            return;
        }
        let leaf = &self.leaves[at.0];
        self.findings.push(Finding {
            file: leaf.file.clone(),
            key: leaf.key.clone(),
            value: shown(&leaf.path, &leaf.value),
            kind,
            husk: husk.to_owned(),
            means: means.into(),
        });
    }

    /// Says what becomes of a file as a whole.
    pub(crate) fn settle_file(&mut self, file: &str, kind: Kind, husk: &str, means: impl Into<String>) {
        let (file, husk, means) = (file.to_owned(), husk.to_owned(), means.into());
        self.findings.push(Finding { file, key: String::new(), value: String::new(), kind, husk, means });
    }

    /// Sets a key of husk.toml from a key of the peer: Taken, or Default if husk does that anyway.
    pub(crate) fn take(&mut self, at: At, husk: &'static str, value: Value, means: impl Into<String>) {
        let leaf = self.leaf(at);
        let origin = format!("{} of {}", leaf.key, leaf.file);
        let kind = if self.draft.set(husk, value, origin) { Kind::Taken } else { Kind::Default };
        self.settle(at, kind, husk, means);
    }

    /// The text of a key; empty texts too.
    pub(crate) fn text(&self, at: At) -> Option<&str> {
        self.leaf(at).value.as_str()
    }

    /// Whether a key is set to true, also as a text: containerd's shims take both.
    pub(crate) fn is_true(&self, at: At) -> bool {
        match &self.leaf(at).value {
            Value::Boolean(flag) => *flag,
            Value::String(text) => text == "true",
            _ => false,
        }
    }
}

fn fits(pattern: &[&str], path: &[String]) -> bool {
    match (pattern, path) {
        (["**"], _) => true,
        ([], []) => true,
        ([wanted, pattern @ ..], [part, path @ ..]) => {
            (*wanted == "*" || wanted == part) && fits(pattern, path)
        }
        _ => false,
    }
}

/// The texts of a list; a text alone is a list of one. What is neither is left out.
pub(crate) fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}
