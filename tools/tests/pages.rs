//! Help, completions, man pages, and what the README says about them.

mod harness;

use harness::{Directory, run};
use std::process::Command;

const COMMANDS: [&str; 17] = [
    "ls", "info", "top", "hz", "bw", "delay", "echo", "send", "recv", "record", "replay",
    "metrics", "bench", "recover", "clean", "rm", "generate",
];

#[test]
fn every_command_is_in_the_help_the_pages_and_the_readme() {
    let directory = Directory::new();
    let help = directory.run(&["--help"]).out;
    let readme = include_str!("../README.md");
    let pages = directory.name("man");
    assert_eq!(directory.run(&["generate", "man", &pages]).status, 0);
    for command in COMMANDS {
        assert!(help.contains(&format!("\n  {command} ")), "{command}: {help}");
        let own = directory.run(&[command, "--help"]);
        assert_eq!(own.status, 0, "{command}");
        assert!(own.out.contains("--json"), "{command}: {}", own.out);
        let page = std::fs::read_to_string(format!("{pages}/shmslot-{command}.1"));
        assert!(
            page.is_ok_and(|page| page.starts_with(".ie") || page.contains(".TH")),
            "{command}"
        );
        assert!(readme.contains(&format!("`{command}")), "{command} is not in the README");
    }
    let count = std::fs::read_dir(&pages).expect("it was made").count();
    assert_eq!(count, COMMANDS.len() + 1, "one for each, and one for all");
    assert!(!help.contains("--peer"));
}

#[test]
fn completions_are_programs_of_their_shells() {
    let directory = Directory::new();
    for shell in ["bash", "zsh", "fish"] {
        let ended = directory.run(&["generate", "completions", shell]);
        assert_eq!(ended.status, 0, "{ended:?}");
        assert!(ended.out.contains("recover"), "{shell}");
        if shell == "bash" {
            let file = directory.name("completions");
            std::fs::write(&file, ended.out).expect("a file");
            run(Command::new("bash").args(["-n", &file]));
        }
    }
}

#[test]
fn the_version_is_that_of_the_library() {
    let directory = Directory::new();
    let library = include_str!("../../Cargo.toml");
    let version = directory.run(&["--version"]).out;
    let number = version.trim().strip_prefix("shmslot ").expect("its name");
    assert!(library.contains(&format!("\nversion = \"{number}\"\n")), "{version}");
}
