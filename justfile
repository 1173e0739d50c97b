# Short names for the scripts, which need no `just`. CONTRIBUTING.md says what each does.

set positional-arguments

_list:
    @just --list --unsorted

# A file from a C sender to a C, a Rust and a Python receiver.
demo *ARGUMENTS:
    @scripts/demo "$@"

# All tests, or one program of ctests/, or one check of it: just test holds max_readers
test *ARGUMENTS:
    @if [ $# = 0 ]; then scripts/test; else ctests/run "$@"; fi

# Rewrites the headers in include/ after a change of src/ffi.
bless:
    SHMSLOT_BLESS=1 cargo test --locked --test header

# Rewrites the snapshot of the C ABI; its diff shows what was meant, and no more.
bless-abi:
    SHMSLOT_BLESS=1 ctests/abi/run

# Format and lints of Rust, C++ and scripts.
lint:
    cargo fmt --check
    cargo clippy --all-targets --locked -- -D warnings
    cargo clippy --all-targets --features tokio --locked -- -D warnings
    scripts/lint

# The command in tools/: format, lints, tests.
tools *ARGUMENTS:
    @tools/run "$@"

# The models, or those whose names contain NAME.
model *NAME:
    @models/run "$@"

# Random schedules, kills and stops: just simulate --seed 4711
simulate *ARGUMENTS:
    @simulator/run "$@"

# All targets, or one, for so many seconds: just fuzz attach 30
fuzz *ARGUMENTS:
    @fuzz/run "$@"

# The C and C++ tests under asan, ubsan, tsan, valgrind, or some of them.
sanitize *TOOLS:
    @ctests/sanitizers/run "$@"

# Pages of the headers and of the Rust API.
docs:
    @scripts/docs

# The measurements of benches/README.md.
bench *ARGUMENTS:
    @scripts/bench "$@"

# Everything that must hold before a change is taken.
ci:
    @.ci/run
