//! `docs/deployment.md` lists the system calls of each group of calls, for sandboxes. A tracer
//! shows whether the list is right.
#![cfg(all(target_arch = "x86_64", target_env = "gnu"))] // On other systems the calls have other names.

mod harness;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

type Groups = BTreeMap<String, BTreeSet<String>>;

/// The rows of the table, by the first cell: the words in backquotes in the second.
fn listed(page: &str) -> Groups {
    let (_, section) = page.split_once("## System calls").expect("the section is there");
    let (section, _) = section.split_once("\n## ").unwrap_or((section, ""));
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let names = cells[1].split('`').skip(1).step_by(2).map(str::to_owned).collect();
        (cells[0].to_owned(), names)
    })
    .collect()
}

fn seen(said: &str) -> Groups {
    let lines = said.lines().map(|line| line.split_once(':').expect("a group and its calls"));
    lines
        .map(|(group, names)| {
            (group.to_owned(), names.split_whitespace().map(str::to_owned).collect())
        })
        .collect()
}

#[test]
fn the_page_lists_every_system_call_and_no_other() {
    let folder = harness::scratch("system-calls");
    let program = folder.join("driver");
    harness::build(&harness::root().join("tests/system_calls/driver.c"), &program);
    let output = harness::run(&mut Command::new(&program));
    let seen = seen(&String::from_utf8_lossy(&output.stdout));
    assert!(seen.len() > 8, "only {} groups were traced", seen.len());

    let page = std::fs::read_to_string(harness::root().join("docs/deployment.md"))
        .expect("the page is there");
    let listed = listed(&page);
    let row =
        |names: &BTreeSet<String>| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>();
    for (group, names) in &seen {
        let right = format!("| {group} | {} |", row(names).join(" "));
        assert!(
            listed.get(group) == Some(names),
            "a row of docs/deployment.md is to be\n{right}\nand not {:?}",
            listed.get(group)
        );
    }
    let unknown: Vec<&String> = listed.keys().filter(|group| !seen.contains_key(*group)).collect();
    assert!(unknown.is_empty(), "rows of docs/deployment.md that nobody traces: {unknown:?}");
}
