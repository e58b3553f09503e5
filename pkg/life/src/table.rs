//! The tables of docs/states.md, made of the machines themselves.

use std::{fs, path::Path};

/// One event, and what it does in each state.
pub(crate) struct Row {
    pub(crate) event: String,
    pub(crate) cells: Vec<String>,
}

/// What an accepted event does: the next state, if it is another one, and the effects.
pub(crate) fn cell(next: Option<&str>, effects: impl Iterator<Item = String>) -> String {
    let effects = effects.collect::<Vec<_>>().join(", ");
    match (next, effects.as_str()) {
        (None, "") => "–".to_owned(),
        (None, effects) => effects.to_owned(),
        (Some(next), "") => format!("**{next}**"),
        (Some(next), effects) => format!("**{next}**; {effects}"),
    }
}

/// Compares a table with the section of that name in docs/states.md, or writes it there when `HUSK_BLESS` is set.
pub(crate) fn table(name: &str, states: &[String], rows: Vec<Row>) {
    let mut text = format!("| event | {} |\n| --- |{}\n", states.join(" | "), " --- |".repeat(states.len()));
    for row in rows {
        text.push_str(&format!("| {} | {} |\n", row.event, row.cells.join(" | ")));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/states.md");
    let page = fs::read_to_string(&path).unwrap();
    let (begin, end) = (format!("<!-- {name}:begin -->\n"), format!("<!-- {name}:end -->"));
    let (head, rest) = page.split_once(&begin).expect("the page has a section of this name");
    let (stands, tail) = rest.split_once(&end).expect("the section ends");
    if stands == text {
        return;
    }
    assert!(
        std::env::var_os("HUSK_BLESS").is_some(),
        "docs/states.md is not what {name}.rs says: run HUSK_BLESS=1 cargo test -p husk-life -- --test-threads=1"
    );
    fs::write(&path, format!("{head}{begin}{text}{end}{tail}")).unwrap();
}
