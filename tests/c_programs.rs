//! Runs every program of `ctests/` under plain `cargo test`.

mod harness;

use std::collections::BTreeSet;

/// The extension of a C or a C++ program: the second begin with `cpp_`.
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
    cancellation
    channel_bad
    core_dumps
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
    error_codes
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
    resource_limits
    single_writer
    sizes
    soak
    stopped_commit
    stopped_recovery
    threads
    tokens
    waiting
}

/// A program that nobody runs tests nothing: each one stands in the list above and in `ctests/CMakeLists.txt`.
/// The `header_…` sources belong to `tests/header.rs`.
#[test]
fn every_program_is_listed() {
    let folder = harness::root().join("ctests");
    let programs: BTreeSet<String> = std::fs::read_dir(&folder)
        .expect("ctests/ is there")
        .map(|entry| entry.expect("ctests/ can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "c" || extension == "cpp"))
        .map(|path| path.file_stem().expect("it has a name").to_string_lossy().into_owned())
        .filter(|name| !name.starts_with("header_"))
        .collect();
    let listed: BTreeSet<String> = LISTED.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(programs, listed, "ctests/*.c and *.cpp against the list in tests/c_programs.rs");

    let cmake =
        std::fs::read_to_string(folder.join("CMakeLists.txt")).expect("ctests/CMakeLists.txt is there");
    let words: BTreeSet<&str> = cmake.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    for name in &programs {
        assert!(words.contains(name.as_str()), "{name} is missing in ctests/CMakeLists.txt");
    }
}
