//! docs/states.md shows the machines as they are.

use std::{env, fs, path::Path};

/// Compares a section of the page, between `<!-- name:begin -->` and `<!-- name:end -->`, with the machine's own table.
fn check(name: &str, table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/states.md");
    let text = fs::read_to_string(&path).unwrap();
    let (begin, end) = (format!("<!-- {name}:begin -->\n"), format!("<!-- {name}:end -->"));
    let from = text.find(&begin).expect("the section's begin") + begin.len();
    let to = from + text[from..].find(&end).expect("the section's end");
    let expected = format!("\n{table}\n");
    if text[from..to] == expected {
        return;
    }
    if env::var_os("HUSK_BLESS").is_some() {
        fs::write(&path, format!("{}{expected}{}", &text[..from], &text[to..])).unwrap();
        return;
    }
    panic!(
        "docs/states.md does not show {name} as it is; HUSK_BLESS=1 cargo test -p husk-life --test docs -- --test-threads=1 \
         writes it"
    );
}

#[test]
fn the_page_shows_the_life_of_a_containers_init() {
    check("init", &husk_life::init::table());
}

#[test]
fn the_page_shows_the_life_of_a_pods_pause_process() {
    check("pause", &husk_life::pause::table());
}
