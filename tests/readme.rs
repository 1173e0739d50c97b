//! The C examples on the README's first screen and in docs/regions.md compile and work, word for word.

mod harness;

/// Compiles and runs the first C block of a page.
fn run_example_of(page: &str, name: &str) {
    let text = std::fs::read_to_string(harness::root().join(page)).expect("the page is there");
    let example = harness::blocks(&text, "c").next().expect("the page has a ```c block");
    let folder = harness::scratch("readme");
    let source = folder.join(name).with_extension("c");
    std::fs::write(&source, example).expect("the target folder can be written");
    let program = folder.join(name);
    harness::build(&source, &program);
    harness::check(&program);
}

#[test]
fn the_first_c_example_runs() {
    run_example_of("README.md", "example");
}

#[test]
fn the_example_of_regions_runs() {
    run_example_of("docs/regions.md", "regions");
}
