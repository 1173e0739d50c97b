//! Runs every program of `ctests/` under plain `cargo test`.

mod harness;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The extension of a program: names of C++ programs begin with `cpp_`.
fn extension_of(name: &str) -> &'static str {
    if name.starts_with("cpp_") { "cpp" } else { "c" }
}

/// One test for each program, and the list of their names.
macro_rules! c_programs {
    ($($name:ident)+) => {
        $(
            #[test]
            fn $name() {
                let name = stringify!($name);
                let program = harness::scratch("ctests").join(name);
                let source = harness::root().join("ctests").join(name).with_extension(extension_of(name));
                harness::build(&source, &program);
                harness::check(&program);
            }
        )+

        const LISTED: &[&str] = &[$(stringify!($name)),+];
    };
}

c_programs! {
    alignment
    anonymous
    attach_bad
    attention
    batches
    cancellation
    channel_bad
    core_dumps
    counters
    cpp_batches
    cpp_calls
    cpp_errors
    cpp_ownership
    cpp_processes
    cpp_ranges
    cpp_typed
    crash_points
    crash_points_late
    crash_points_names
    descriptors
    drop_oldest
    early_publisher
    ephemeral
    events
    events_calls
    events_deaths
    events_delays
    events_memory
    events_sets
    error_codes
    error_texts
    expel
    fault_injection
    full_filesystem
    heirs
    history
    holds
    joining
    known_defects
    known_defects_calls
    large
    leftovers
    life_cycle
    list
    liveness
    local
    locked_memory
    memory_faults
    memory_limit
    mounts
    names
    no_syscalls
    null_args
    open_compares
    options
    order4
    permissions
    policies
    processes
    publication
    races_names
    read_only
    recovery
    reference_large
    reference_ops
    reference_readers
    region_races
    reference_roles
    regions
    rendezvous
    resource_limits
    retired
    signals
    single_writer
    sizes
    soak
    stopped_commit
    stopped_recovery
    threads
    timeouts
    tokens
    waiting
}

/// The sources of `ctests/`. The `header_…` ones belong to `tests/header.rs`.
fn sources() -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(harness::root().join("ctests"))
        .expect("ctests/ is there")
        .map(|entry| entry.expect("ctests/ can be read").path())
        .filter(|path| {
            path.extension().is_some_and(|extension| extension == "c" || extension == "cpp")
        })
        .filter(|path| !name_of(path).starts_with("header_"))
}

fn name_of(source: &Path) -> String {
    source.file_stem().expect("it has a name").to_string_lossy().into_owned()
}

/// Every program is listed, because a program that nobody runs tests nothing. CMake and the tools
/// use all that are in the folder.
#[test]
fn every_program_is_listed() {
    let programs: BTreeSet<String> = sources().map(|source| name_of(&source)).collect();
    let listed: BTreeSet<String> = LISTED.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(programs, listed, "ctests/*.c and *.cpp against the list in tests/c_programs.rs");
}

/// A program names in a line of its own the tools under which it cannot run. A misspelt tool would
/// run it.
#[test]
fn tools_are_known() {
    let known = ["address", "thread", "memcheck", "musl", "aarch64"];
    let mut said = 0;
    for source in sources() {
        let text = std::fs::read_to_string(&source).expect("a source is text");
        for line in text.lines().filter_map(|line| line.strip_prefix("/* not under ")) {
            let (tools, reason) = line.split_once(": ").unwrap_or((line, ""));
            assert!(
                tools.split(", ").all(|tool| known.contains(&tool)),
                "{}: {line}",
                source.display()
            );
            assert!(
                reason.ends_with(" */"),
                "{}: the reason ends in its line: {line}",
                source.display()
            );
            said += 1;
        }
    }
    assert!(said > 0, "no program says where it cannot run");
}

/// The arguments of a program select its checks, and one that selects none is an error.
#[test]
fn checks_can_be_chosen() {
    let program = harness::scratch("ctests").join("chosen_holds");
    harness::build(&harness::root().join("ctests/holds.c"), &program);
    let run = |arguments: &[&str]| {
        let output = Command::new(&program).args(arguments).output().expect("it starts");
        (output.status.code(), String::from_utf8(output.stdout).expect("it prints text"))
    };
    let (status, names) = run(&["--list"]);
    assert_eq!(status, Some(0));
    assert!(
        names.lines().count() > 1 && names.lines().any(|name| name == "max_readers"),
        "{names}"
    );
    assert_eq!(run(&["max_readers"]), (Some(0), "max_readers\n".to_owned()));
    assert_eq!(run(&["no_such_check"]), (Some(2), String::new()));
}
