//! A test that does not run says so through `husk_test_support::skip`, and its reason is on the list.

use std::{collections::BTreeSet, path::Path};

use proc_macro2::{TokenStream, TokenTree};

use crate::Tree;

/// Where the helper and the checks of it are.
const HOMES: [&str; 2] = ["test/support/", "test/tidy/"];

/// Where the list is: the rows of the table under [`HEADING`].
const PAGE: &str = "docs/testing.md";
const HEADING: &str = "## Skips";

/// Tests that stay away without the helper, reasons that are not on the list, and those that nothing gives any more.
///
/// # Errors
/// When a file cannot be parsed, in words.
pub fn undocumented(tree: &Tree) -> Result<Vec<String>, String> {
    let listed = listed(tree.get(PAGE).unwrap_or_default());
    let mut reader = Reader { path: Path::new(""), given: BTreeSet::new(), offenders: Vec::new() };
    for (path, text) in tree.ending_in(".rs") {
        if !HOMES.iter().any(|home| path.starts_with(home)) {
            reader.path = path;
            reader.tokens(text.parse().map_err(|error| format!("{}: {error}", path.display()))?, &listed);
        }
    }
    let unused =
        listed.difference(&reader.given).map(|needs| format!("{PAGE} lists {needs:?}, which nothing needs"));
    reader.offenders.extend(unused);
    Ok(reader.offenders)
}

/// The first cells of the list.
fn listed(page: &str) -> BTreeSet<String> {
    let section = page.split_once(HEADING).map_or("", |(_, rest)| rest);
    let section = section.split("\n## ").next().unwrap_or_default();
    let cells = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    // The head and the line below it.
    cells.skip(2).map(|cell| cell.trim().to_owned()).collect()
}

struct Reader<'a> {
    path: &'a Path,
    given: BTreeSet<String>,
    offenders: Vec<String>,
}

impl Reader<'_> {
    fn tokens(&mut self, tokens: TokenStream, listed: &BTreeSet<String>) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for (place, token) in tokens.iter().enumerate() {
            match token {
                TokenTree::Group(group) => self.tokens(group.stream(), listed),
                TokenTree::Ident(name) => {
                    let line = name.span().start().line;
                    let after = &tokens[place + 1..];
                    if name == "ignore" && after.is_empty() && place == 0 {
                        self.offend(line, "ignores a test and does not say why");
                    } else if (name == "println" || name == "eprintln") && says_skipped(after) {
                        self.offend(line, "skips without husk_test_support::skip");
                    } else if name == "husk_test_support" {
                        self.helper(line, after, listed);
                    }
                }
                _ => {}
            }
        }
    }

    /// What follows `husk_test_support`: one spelling of the skip, so that every one of them is seen.
    fn helper(&mut self, line: usize, after: &[TokenTree], listed: &BTreeSet<String>) {
        match after {
            [_, _, TokenTree::Ident(name), TokenTree::Group(arguments), ..] if name == "skip" => {
                let needs =
                    arguments.stream().into_iter().next().map(|token| token.to_string()).unwrap_or_default();
                match needs.strip_prefix('"').and_then(|needs| needs.strip_suffix('"')) {
                    None => self.offend(line, "skips for a reason that is no literal"),
                    Some(needs) if listed.contains(needs) => drop(self.given.insert(needs.to_owned())),
                    Some(needs) => self.offend(line, &format!("needs {needs:?}, which {PAGE} does not list")),
                }
            }
            [_, _, TokenTree::Ident(name), ..] if name == "skip" => {
                self.offend(line, "uses skip under another name than husk_test_support::skip");
            }
            [_, _, TokenTree::Group(names), ..]
                if names
                    .stream()
                    .into_iter()
                    .any(|token| matches!(token, TokenTree::Ident(name) if name == "skip")) =>
            {
                self.offend(line, "uses skip under another name than husk_test_support::skip");
            }
            _ => {}
        }
    }

    fn offend(&mut self, line: usize, what: &str) {
        self.offenders.push(format!("{}:{line} {what}", self.path.display()));
    }
}

/// Whether a macro's text begins with "skipped", however it is spelled.
fn says_skipped(after: &[TokenTree]) -> bool {
    matches!(after, [_, TokenTree::Group(arguments), ..]
        if arguments.stream().to_string().to_lowercase().starts_with("\"skipped"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "# Testing\n\n## Skips\n\n| needs | at most |\n| --- | ---: |\n| root | 0 |\n\n## More\n\n| a | b |\n";

    fn undocumented_in(test: &str) -> Vec<String> {
        undocumented(&Tree::made_up(&[(PAGE, LIST), ("pkg/a/tests/a.rs", test)])).unwrap()
    }

    #[test]
    fn a_skip_has_its_reason_on_the_list() {
        let listed = "fn f() { husk_test_support::skip(\"root\"); }";
        assert!(undocumented_in(listed).is_empty());
        assert_eq!(
            undocumented_in(&format!("{listed}\nfn g() {{ husk_test_support::skip(\"a moon\"); }}")),
            ["pkg/a/tests/a.rs:2 needs \"a moon\", which docs/testing.md does not list"]
        );
        assert_eq!(
            undocumented_in(&format!("{listed}\nfn g() {{ husk_test_support::skip(WHY); }}")),
            ["pkg/a/tests/a.rs:2 skips for a reason that is no literal"]
        );
    }

    #[test]
    fn a_reason_that_nothing_gives_is_taken_off_the_list() {
        assert_eq!(undocumented_in(""), ["docs/testing.md lists \"root\", which nothing needs"]);
    }

    #[test]
    fn there_is_one_way_to_skip() {
        let root = "fn f() { husk_test_support::skip(\"root\"); }\n";
        let offender = |text: &str| undocumented_in(&format!("{root}{text}")).concat();
        assert_eq!(
            offender("fn g() { println!(\"skipped: no\"); }"),
            "pkg/a/tests/a.rs:2 skips without husk_test_support::skip"
        );
        assert_eq!(offender("#[ignore] fn g() {}"), "pkg/a/tests/a.rs:2 ignores a test and does not say why");
        assert_eq!(offender("#[ignore = \"prints figures\"] fn g() {}"), "");
        assert_eq!(
            offender("use husk_test_support::{eventually, skip};"),
            "pkg/a/tests/a.rs:2 uses skip under another name than husk_test_support::skip"
        );
    }
}
