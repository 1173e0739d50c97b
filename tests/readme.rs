//! The C programs on the README's first screen, the C example in docs/regions.md and the C++ ones
//! in bindings/README.md compile and work, word for word; so do the programs of `examples/cpp`.

mod harness;

use std::process::{Command, Stdio};

/// Compiles and runs the blocks of a page in C (`c`) or C++ (`cpp`), as one program.
fn run_example_of(page: &str, language: &str, name: &str) {
    let text = std::fs::read_to_string(harness::root().join(page)).expect("the page is there");
    let example: String = harness::blocks(&text, language).collect::<Vec<_>>().join("\n");
    assert!(!example.is_empty(), "the page has no block of this language");
    let folder = harness::scratch("readme");
    let source = folder.join(name).with_extension(language);
    std::fs::write(&source, example).expect("the target folder can be written");
    let program = folder.join(name);
    harness::build(&source, &program);
    harness::check(&program);
}

/// Two processes, in both orders: the first one makes the segment.
#[test]
fn the_first_programs_run() {
    let page =
        std::fs::read_to_string(harness::root().join("README.md")).expect("the page is there");
    let mut examples = harness::blocks(&page, "c");
    let [listen, say] = ["listen", "say"].map(|name| {
        let example = examples.next().expect("the page has two programs in C");
        assert!(example.starts_with(&format!("/* {name}.c */\n")), "the page has other programs");
        let program = harness::scratch("readme").join(name);
        let source = program.with_extension("c");
        std::fs::write(&source, example).expect("the target folder can be written");
        harness::build(&source, &program);
        program
    });
    for listener_first in [true, false] {
        let name = format!("readme-first-{listener_first}-{}", std::process::id());
        let start = |program| {
            let mut command = Command::new(program);
            command.arg(&name).stdout(Stdio::piped()).spawn().expect("it starts")
        };
        let (listener, speaker) = if listener_first {
            let listener = start(&listen);
            (listener, start(&say))
        } else {
            let speaker = start(&say);
            (start(&listen), speaker)
        };
        let heard = listener.wait_with_output().expect("it ends");
        assert!(speaker.wait_with_output().expect("it ends").status.success());
        assert!(heard.status.success());
        assert_eq!(String::from_utf8_lossy(&heard.stdout), "hello\n");
    }
}

#[test]
fn the_example_of_regions_runs() {
    run_example_of("docs/regions.md", "c", "regions");
}

#[test]
fn the_cpp_example_runs() {
    run_example_of("bindings/README.md", "cpp", "bindings");
}

/// In both orders: the first program makes the segment.
#[test]
fn the_cpp_examples_run() {
    let [publish, subscribe] = ["publish", "subscribe"].map(|name| {
        let program = harness::scratch("readme").join(name);
        let source = harness::root().join("examples/cpp").join(name).with_extension("cpp");
        harness::build(&source, &program);
        program
    });
    for subscriber_first in [false, true] {
        let name = format!("readme-{subscriber_first}-{}", std::process::id());
        let mut publisher = Command::new(&publish);
        publisher.args([&name, "5000"]);
        let mut subscriber = Command::new(&subscribe);
        subscriber.arg(&name).stdout(Stdio::piped());
        let (mut publisher, subscriber) = if subscriber_first {
            let subscriber = subscriber.spawn().expect("it starts");
            (publisher.spawn().expect("it starts"), subscriber)
        } else {
            (publisher.spawn().expect("it starts"), subscriber.spawn().expect("it starts"))
        };
        assert!(publisher.wait().expect("it ends").success());
        let output = subscriber.wait_with_output().expect("it ends");
        assert!(output.status.success());
        let said = String::from_utf8(output.stdout).expect("text");
        assert!(said.starts_with("5000 poses, "), "it said {said:?}");
    }
}
