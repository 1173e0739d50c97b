//! Builds C and C++ programs against this crate's static library and runs them, for the C tests and
//! the README.
//!
//! Cargo puts a static library where a test cannot find it. So it is built here, once for each test
//! binary, in a separate target folder, where cargo finds it fresh the next time.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// What the static library needs from the system (`--print native-static-libs`).
const NATIVE_LIBRARIES: &[&str] = &["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl", "-lc"];

/// The flags for every C and C++ source here.
const WARNINGS: &[&str] = &["-Wall", "-Wextra", "-Wpedantic", "-Werror"];

/// Further flags for every source that includes the C++ header, or the C header from C++: both must
/// be clean under strict warnings. Not every compiler knows each of them.
const CXX_WARNINGS: &[&str] = &[
    "-Wno-unknown-warning-option",
    "-Wconversion",
    "-Wshadow",
    "-Wold-style-cast",
    "-Wuseless-cast",
    "-Wzero-as-null-pointer-constant",
    "-Weffc++",
];

/// The exit status of a program that found nothing to test on this machine.
const SKIPPED: i32 = 77;

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The C headers, one after the other.
pub(crate) fn headers() -> String {
    ["shmslot.h", "shmslot_events.h", "shmslot_reference.h", "shmslot_pool.h"]
        .map(|name| std::fs::read_to_string(root().join("include").join(name)))
        .map(|text| text.expect("the header is there"))
        .concat()
}

/// A folder for files that the tests make.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).expect("the target folder can be written");
    folder
}

/// The blocks of the given language in a Markdown text.
pub(crate) fn blocks<'a>(markdown: &'a str, language: &str) -> impl Iterator<Item = &'a str> {
    let fence = format!("```{language}\n");
    let starts: Vec<usize> =
        markdown.match_indices(&fence).map(|(at, fence)| at + fence.len()).collect();
    starts.into_iter().map(|start| markdown[start..].split_once("```").expect("the block ends").0)
}

/// Runs a command that must succeed.
pub(crate) fn run(command: &mut Command) -> Output {
    let output =
        command.output().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    assert!(
        output.status.success(),
        "{command:?} failed with {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    output
}

/// The static library, in the profile of the test itself.
pub(crate) fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("staticlib");
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args([
                "rustc",
                "--lib",
                "--crate-type",
                "staticlib",
                "--locked",
                "--offline",
                "--quiet",
            ])
            .arg("--manifest-path")
            .arg(root().join("Cargo.toml"))
            .arg("--target-dir")
            .arg(&target);
        let profile = if cfg!(debug_assertions) {
            "debug"
        } else {
            cargo.arg("--release");
            "release"
        };
        run(&mut cargo);
        target.join(profile).join("libshmslot.a")
    })
}

/// The triple of this machine, for which the tests are built.
fn host() -> &'static str {
    static HOST: OnceLock<String> = OnceLock::new();
    HOST.get_or_init(|| {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let output = run(Command::new(rustc).arg("-vV"));
        let text = String::from_utf8(output.stdout).expect("rustc prints text");
        text.lines()
            .find_map(|line| line.strip_prefix("host: "))
            .expect("rustc names its host")
            .to_owned()
    })
}

/// The system's C or C++ compiler, as the `cc` crate finds it.
fn compiler(cpp: bool) -> Command {
    cc::Build::new()
        .cargo_metadata(false)
        .cpp(cpp)
        .host(host())
        .target(host())
        .opt_level(1)
        .debug(true)
        .get_compiler()
        .to_command()
}

/// The C compiler.
pub(crate) fn c_compiler() -> Command {
    compiler(false)
}

/// The C++ compiler.
pub(crate) fn cxx_compiler() -> Command {
    compiler(true)
}

/// Adds the standard, the warnings and the folder of the C header to a compiler's command line.
pub(crate) fn with_header<'a>(compiler: &'a mut Command, standard: &str) -> &'a mut Command {
    compiler.arg(format!("-std={standard}")).args(WARNINGS).arg("-I").arg(root().join("include"))
}

/// Adds the same for C++, and the folder of the C++ header.
pub(crate) fn with_cxx_header<'a>(compiler: &'a mut Command, standard: &str) -> &'a mut Command {
    with_header(compiler, standard).args(CXX_WARNINGS).arg("-I").arg(root().join("bindings/cpp"))
}

/// Adds the static library, after the sources.
pub(crate) fn with_library(compiler: &mut Command) -> &mut Command {
    compiler.arg(library()).args(NATIVE_LIBRARIES)
}

/// Compiles one C or C++ source against the headers and links it with the static library.
pub(crate) fn build(source: &Path, program: &Path) {
    let cpp = source.extension().is_some_and(|extension| extension == "cpp");
    let mut compiler = compiler(cpp);
    if cpp {
        with_cxx_header(&mut compiler, "c++17")
    } else {
        with_header(&mut compiler, "c99")
    };
    compiler.arg(source).arg("-o").arg(program);
    run(with_library(&mut compiler));
}

/// Runs a test program: status 0 passes, 77 is skipped with its reason, and anything else fails
/// with its output.
pub(crate) fn check(program: &Path) {
    let output = Command::new(program).output().expect("the program was built and starts");
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => {}
        // Bypasses the capture of the test runner, so that a skipped test does not look like a
        // passed one.
        Some(SKIPPED) => {
            drop(writeln!(std::io::stderr(), "{}: {}", program.display(), said.trim_end()))
        }
        _ => panic!("{} ended with {}\n{said}", program.display(), output.status),
    }
}
