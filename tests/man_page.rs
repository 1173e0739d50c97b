//! `man/shmslot.7` lists every function and every code of the headers, and names nothing else.

mod harness;

use std::collections::BTreeSet;

fn text(path: &str) -> String {
    std::fs::read_to_string(harness::root().join(path)).expect("the file is there")
}

/// Every name in a text that begins with `prefix`.
fn names<'a>(text: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty()))
        .collect()
}

/// What the header declares: everything before the bracket that opens the arguments.
fn functions(header: &str) -> BTreeSet<&str> {
    let code = header.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_alphabetic()));
    code.filter_map(|line| line.split_once('(')?.0.split([' ', '*']).next_back())
        .filter(|name| name.starts_with("shmslot_"))
        .collect()
}

#[test]
fn every_function_and_every_code_is_listed() {
    let (page, header) = (text("man/shmslot.7"), harness::headers());
    let listed: BTreeSet<&str> = page
        .lines()
        .filter(|line| line.starts_with(".It Fn "))
        .flat_map(|line| names(line, "shmslot_"))
        .collect();
    let declared = functions(&header);
    assert!(
        declared.len() > 40,
        "only {} functions were found: this test does not see them",
        declared.len()
    );
    assert_eq!(listed, declared, "the page against the header");
    assert_eq!(
        names(&page, "SHMSLOT_E_"),
        names(&header, "SHMSLOT_E_"),
        "the page against the header"
    );
}

#[test]
fn every_name_is_in_the_header() {
    let (page, header) = (text("man/shmslot.7"), harness::headers());
    for prefix in ["shmslot_", "SHMSLOT_"] {
        let unknown: Vec<&str> =
            names(&page, prefix).difference(&names(&header, prefix)).copied().collect();
        assert!(unknown.is_empty(), "not in the header: {unknown:?}");
    }
}
