//! The headers in `include/` are what the sources say, compile everywhere, and are documented.

mod harness;
mod headers;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

/// The first lines in which two texts differ, if they do.
fn first_difference(committed: &str, generated: &str) -> Option<String> {
    const SHOWN: usize = 5;
    let at = committed.lines().zip(generated.lines()).take_while(|(a, b)| a == b).count();
    let mut report = format!("first difference in line {}:\n", at + 1);
    for line in committed.lines().skip(at).take(SHOWN) {
        writeln!(report, "- {line}").expect("a String grows");
    }
    for line in generated.lines().skip(at).take(SHOWN) {
        writeln!(report, "+ {line}").expect("a String grows");
    }
    (committed != generated).then_some(report)
}

/// `SHMSLOT_BLESS=1 cargo test --test header` rewrites the headers after a change of the boundary.
#[test]
fn header_is_current() {
    for header in headers::HEADERS {
        let path = harness::root().join("include").join(header.name);
        let generated = headers::generate(harness::root(), header);
        if std::env::var_os("SHMSLOT_BLESS").is_some() {
            std::fs::write(&path, &generated).expect("the header can be written");
            continue;
        }
        let committed = std::fs::read_to_string(&path).expect("the header is there");
        if let Some(difference) = first_difference(&committed, &generated) {
            let path = path.display();
            panic!(
                "{path} is not what the sources give; SHMSLOT_BLESS=1 rewrites it\n{difference}"
            );
        }
    }
}

/// The compilers of one language: the system's, and clang's if it is installed, with or without a
/// version in its name.
fn compilers(system: Command, other: &str) -> Vec<Command> {
    let there = |name: &String| {
        Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
    };
    let other = [other.to_owned(), format!("{other}-22")].into_iter().find(there);
    std::iter::once(system).chain(other.map(Command::new)).collect()
}

/// Compiles sources of `ctests/` into a program, C++ with the library, and runs it.
fn compile(mut compiler: Command, standard: &str, sources: &[&str]) {
    let compiler_name = compiler.get_program().to_string_lossy().replace('/', "_");
    let program =
        harness::scratch("header").join(format!("{}-{standard}-{compiler_name}", sources[0]));
    let folder = harness::root().join("ctests");
    let cpp = sources[0].ends_with(".cpp");
    if cpp {
        harness::with_cxx_header(&mut compiler, standard)
    } else {
        harness::with_header(&mut compiler, standard)
    };
    compiler.args(sources.iter().map(|source| folder.join(source))).arg("-o").arg(&program);
    if cpp {
        harness::with_library(&mut compiler);
    }
    harness::run(&mut compiler);
    harness::check(&program);
}

#[test]
fn header_compiles_as_c() {
    for standard in ["c99", "c11", "c17"] {
        for sources in [
            &["header_alone.c"][..],
            &["header_events_alone.c"],
            &["header_pool_alone.c"],
            &["header_reference_alone.c"],
            &["header_twice_a.c", "header_twice_b.c"],
        ] {
            for compiler in compilers(harness::c_compiler(), "clang") {
                compile(compiler, standard, sources);
            }
        }
    }
}

#[test]
fn header_compiles_as_cxx() {
    for standard in ["c++11", "c++14", "c++17", "c++20"] {
        for compiler in compilers(harness::cxx_compiler(), "clang++") {
            compile(compiler, standard, &["header_cxx.cpp"]);
        }
    }
}

/// Compiles one source of `ctests/` with the C++ header into an object, and returns its path.
fn compile_hpp(mut compiler: Command, standard: &str, flags: &[&str], source: &str) -> PathBuf {
    let compiler_name = compiler.get_program().to_string_lossy().replace('/', "_");
    let object = format!("{source}-{standard}{}-{compiler_name}.o", flags.concat());
    let object = harness::scratch("header").join(object);
    harness::with_cxx_header(&mut compiler, standard)
        .args(["-O2", "-c"]) // only an optimising compiler sees uses of uninitialised values
        .args(flags)
        .arg(harness::root().join("ctests").join(source))
        .arg("-o")
        .arg(&object);
    harness::run(&mut compiler);
    object
}

/// Links objects with the library and runs the program.
fn run_objects(mut compiler: Command, objects: &[PathBuf]) {
    let program = objects[0].with_extension("program");
    compiler.args(objects).arg("-o").arg(&program);
    harness::run(harness::with_library(&mut compiler));
    harness::check(&program);
}

const WITHOUT_EXCEPTIONS: &[&str] = &["-fno-exceptions", "-fno-rtti"];

/// "c++2b" is C++23 by a name that older compilers know, too.
const CXX_STANDARDS: &[&str] = &["c++17", "c++20", "c++2b"];

#[test]
fn cpp_header_compiles_alone() {
    for standard in CXX_STANDARDS {
        for flags in [&[], WITHOUT_EXCEPTIONS] {
            for compiler in compilers(harness::cxx_compiler(), "clang++") {
                let name = compiler.get_program().to_owned();
                let object = compile_hpp(compiler, standard, flags, "header_hpp_alone.cpp");
                if flags.is_empty() {
                    run_objects(Command::new(name), &[object]);
                }
            }
        }
    }
}

/// One half is compiled with exceptions, the other without and for another standard.
#[test]
fn cpp_header_mixes() {
    for (standard, other) in [("c++17", "c++20"), ("c++2b", "c++17")] {
        for compiler in compilers(harness::cxx_compiler(), "clang++") {
            let name = compiler.get_program().to_owned();
            let again = || Command::new(&name);
            let first = compile_hpp(again(), standard, &[], "header_hpp_twice_a.cpp");
            let second = compile_hpp(again(), other, WITHOUT_EXCEPTIONS, "header_hpp_twice_b.cpp");
            run_objects(again(), &[first, second]);
        }
    }
}

/// Every call and every code of the C header is in the C++ header, and in the table of
/// bindings/README.md.
#[test]
fn bindings_are_complete() {
    let read =
        |path: &str| std::fs::read_to_string(harness::root().join(path)).expect("it is there");
    let words = |text: &str| -> BTreeSet<String> {
        text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').map(str::to_owned).collect()
    };
    let without_comments = |text: String| -> String {
        text.lines().filter_map(|line| line.split("//").next()).collect::<Vec<_>>().join("\n")
    };
    let cpp = words(&without_comments(read("bindings/cpp/shmslot.hpp")));
    let (c, table) = (harness::headers(), read("bindings/README.md"));
    let calls: BTreeSet<&str> = c
        .lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_alphabetic()))
        .filter_map(|line| line.split_once('(')?.0.rsplit([' ', '*']).next())
        .filter(|name| name.starts_with("shmslot_"))
        .collect();
    assert!(calls.len() > 60, "only {} calls were found: this test does not see them", calls.len());
    let codes: BTreeSet<String> = words(&c)
        .into_iter()
        .filter(|word| word.strip_prefix("SHMSLOT_E_").is_some_and(|rest| !rest.is_empty()))
        .collect();
    assert!(codes.len() > 30, "only {} codes were found: this test does not see them", codes.len());

    let rows: Vec<&str> = table
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0))
        .filter(|row| row.starts_with("shmslot_"))
        .collect();
    // C++ makes the hash at compile time; ctests/cpp_typed.cpp has the bytes of ctests/options.c.
    let called = calls.iter().copied().filter(|call| *call != "shmslot_type_hash");
    let missing: Vec<&str> = called.filter(|call| !cpp.contains(*call)).collect();
    assert_eq!(missing, Vec::<&str>::new(), "no call in bindings/cpp/shmslot.hpp");
    let missing: Vec<&String> = codes.iter().filter(|code| !cpp.contains(*code)).collect();
    assert_eq!(missing, Vec::<&String>::new(), "no code in bindings/cpp/shmslot.hpp");
    let missing: Vec<&str> = calls.iter().copied().filter(|call| !rows.contains(call)).collect();
    assert_eq!(missing, Vec::<&str>::new(), "no row in bindings/README.md");
    let gone: Vec<&str> = rows.iter().copied().filter(|row| !calls.contains(row)).collect();
    assert_eq!(gone, Vec::<&str>::new(), "rows of bindings/README.md without a call");
}

#[test]
fn headers_are_short() {
    for header in headers::HEADERS {
        let path = harness::root().join("include").join(header.name);
        let lines = std::fs::read_to_string(path).expect("the header is there").lines().count();
        assert!(lines < 1200, "include/{} has {lines} lines", header.name);
    }
}

/// Every function has a comment right above it, which says since when it exists.
#[test]
fn every_function_is_documented() {
    let header = harness::headers();
    let lines: Vec<&str> = header.lines().collect();
    let mut functions = 0;
    for (at, line) in lines.iter().enumerate() {
        let starts_a_line = line.starts_with(|c: char| c.is_ascii_alphabetic());
        if !starts_a_line || !line.contains("shmslot_") || !line.contains('(') {
            continue;
        }
        functions += 1;
        let above = lines[..at].iter().rev().take_while(|line| line.starts_with("///")).count();
        let comment: String =
            lines[at - above..at].iter().map(|line| line.trim_start_matches('/')).collect();
        assert!(!comment.is_empty(), "line {}: no comment above {line}", at + 1);
        assert!(comment.contains("Since 0."), "line {}: since when is there {line}", at + 1);
    }
    assert!(functions > 40, "only {functions} functions were found: this test does not see them");
}

/// The names of the C ABI in a text, where `follows` comes right after them.
fn names(text: &str, follows: char) -> BTreeSet<&str> {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(follows)
        .map(|(at, _)| {
            text[..at].rsplit(|c: char| !is_of_name(c)).next().expect("rsplit gives one at least")
        })
        .filter(|name| name.starts_with("shmslot_"))
        .collect()
}

/// The list of exports has exactly the functions of the header. `ctests/packaging/run` compares
/// both with the installed library.
#[test]
fn map_lists_the_headers() {
    let header = harness::headers();
    let declarations: Vec<&str> =
        header.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let functions = declarations.concat();
    let map = std::fs::read_to_string(harness::root().join("cmake/shmslot.map"))
        .expect("the map is there");
    let nodes = map.split_once("*/").expect("the map begins with a comment").1;
    let (functions, listed) = (names(&functions, '('), names(nodes, ';'));
    let missing: Vec<_> = functions.difference(&listed).collect();
    let superfluous: Vec<_> = listed.difference(&functions).collect();
    assert!(missing.is_empty(), "cmake/shmslot.map lacks, in its newest node: {missing:?}");
    assert!(
        superfluous.is_empty(),
        "cmake/shmslot.map lists what the header does not declare: {superfluous:?}"
    );
}

/// A code that no call lists is one that no caller expects.
#[test]
fn every_code_is_an_error_of_some_call() {
    let header = harness::headers();
    let comments: String = header.lines().filter(|line| line.starts_with("///")).collect();
    let listed = |name: &str| {
        comments.split(|c: char| !c.is_ascii_uppercase() && c != '_').any(|word| word == name)
    };
    let of_every_call = ["PANIC", "FORKED", "DESCRIPTOR_LOST"];
    for code in shmslot::Code::ALL {
        let named = format!("{code:?}");
        let name: String = named.char_indices().fold(String::new(), |mut name, (at, c)| {
            if at > 0 && c.is_ascii_uppercase() {
                name.push('_');
            }
            name.push(c.to_ascii_uppercase());
            name
        });
        assert!(of_every_call.contains(&name.as_str()) || listed(&name), "no call lists {name}");
    }
}
