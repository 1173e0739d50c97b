//! The C example on the README's first screen compiles and works, word for word.

mod harness;

/// The first block of the given language in a Markdown text.
fn first_block<'a>(markdown: &'a str, language: &str) -> Option<&'a str> {
    let (_, rest) = markdown.split_once(&format!("```{language}\n"))?;
    Some(rest.split_once("```")?.0)
}

#[test]
fn the_first_c_example_runs() {
    let readme = std::fs::read_to_string(harness::root().join("README.md")).expect("README.md is there");
    let example = first_block(&readme, "c").expect("README.md has a ```c block");
    let folder = harness::scratch("readme");
    let source = folder.join("example.c");
    std::fs::write(&source, example).expect("the target folder can be written");
    let program = folder.join("example");
    harness::build(&source, &program);
    harness::check(&program);
}
