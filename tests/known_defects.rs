//! `docs/known-defects.md` and the tests that it names agree.

use std::collections::BTreeSet;
use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// One defect: its case, and the cell about its test.
struct Row {
    case: String,
    test: String,
}

fn rows() -> Vec<Row> {
    let page = read("docs/known-defects.md");
    let rows: Vec<Row> = page
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| defect"))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let [_, case, test] = cells[..] else { panic!("three cells: {line}") };
            Row { case: case.trim_matches('`').to_owned(), test: test.to_owned() }
        })
        .collect();
    assert!(!rows.is_empty());
    rows
}

/// The text in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// A case whose defect is shown for slots and for regions has a test for each.
const OF_REGIONS: &str = "_of_regions";

fn is_case_test(name: &str) -> bool {
    ["flat_", "vox_", "ffi_"].iter().any(|prefix| name.starts_with(prefix))
}

/// The named checks in one of our sources: in Rust what is marked as a test, in C what is run as a
/// check.
fn tests_of(source: &str) -> Vec<String> {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let mut found = Vec::new();
    for pair in lines.windows(2) {
        let rust = pair[1].strip_prefix("fn ").filter(|_| pair[0] == "#[test]");
        let name = match rust {
            Some(function) => function.strip_suffix("() {"),
            None => pair[1].strip_prefix("RUN(").and_then(|check| check.strip_suffix("());")),
        };
        found.extend(name.filter(|name| is_case_test(name)).map(str::to_owned));
    }
    found
}

#[test]
fn the_page_names_every_test_and_no_other() {
    let mut tests = Vec::new();
    for folder in ["tests", "ctests"] {
        for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder))
            .expect("it is there")
        {
            let name = entry.expect("it can be read").file_name().into_string().expect("ASCII");
            if name.starts_with("known_defects") {
                tests.extend(tests_of(&read(&format!("{folder}/{name}"))));
            }
        }
    }
    let once: BTreeSet<String> = tests.iter().cloned().collect();
    assert_eq!(once.len(), tests.len(), "a test twice: {tests:?}");
    let page = rows();
    let named: BTreeSet<String> = page
        .iter()
        .flat_map(|row| quoted(&row.test))
        .filter(|name| is_case_test(name))
        .map(str::to_owned)
        .collect();
    assert_eq!(named, once, "docs/known-defects.md against the tests");
}

#[test]
fn a_case_has_the_name_of_its_test() {
    let mut cases = BTreeSet::new();
    let rows = rows();
    let tests: BTreeSet<&str> =
        rows.iter().flat_map(|row| quoted(&row.test)).filter(|name| is_case_test(name)).collect();
    for Row { case, test } in &rows {
        assert!(case.contains('.') && is_case_test(&case.replace('.', "_")), "{case}");
        assert!(cases.insert(case.as_str()), "{case} stands there twice");
        let own = case.replace('.', "_");
        assert!(
            !tests.contains(own.as_str()) || quoted(test).next() == Some(own.as_str()),
            "{case}: {test}"
        );
        let other = ["none: ", "model", "`ctests/"].iter().any(|reason| test.starts_with(reason));
        assert!(
            quoted(test).next() == Some(own.as_str()) || other,
            "{case} has neither test nor reason: {test}"
        );
    }
    for test in tests {
        let case = test.strip_suffix(OF_REGIONS).unwrap_or(test).replacen('_', ".", 1);
        assert!(cases.contains(case.as_str()), "{test} has no row of its own");
    }
}

/// The files and models that the page names exist.
#[test]
fn what_the_page_points_at_exists() {
    for row in rows() {
        for name in quoted(&row.test) {
            if let Some((module, function)) = name.split_once("::") {
                let source = read(&format!("models/src/{module}.rs"));
                assert!(source.contains(&format!("fn {function}()")), "{}: {name}", row.case);
            } else if name.ends_with(".c") || name.ends_with(".rs") {
                read(name);
            }
        }
    }
}
