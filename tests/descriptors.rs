//! Only one file of the sources makes or receives descriptors; it keeps them off the numbers of the
//! standard streams.

use std::path::{Path, PathBuf};

const DOOR: &str = "sys/descriptor.rs";

/// System calls that make one, by the kernel's names.
const SYSTEM_CALLS: &[&str] = &[
    "accept",
    "accept4",
    "creat",
    "dup",
    "dup2",
    "dup3",
    "epoll_create",
    "epoll_create1",
    "eventfd",
    "eventfd2",
    "inotify_init",
    "inotify_init1",
    "io_uring_setup",
    "memfd_create",
    "memfd_secret",
    "mq_open",
    "open",
    "open64",
    "openat",
    "openat2",
    "opendir",
    "perf_event_open",
    "pidfd_getfd",
    "pidfd_open",
    "pipe",
    "pipe2",
    "recvmmsg",
    "recvmsg",
    "shm_open",
    "signalfd",
    "signalfd4",
    "socket",
    "socketpair",
    "timerfd_create",
    "userfaultfd",
];

/// Further names: calls of nix and of std, arguments that only such calls have, and calls that own
/// a number without making one.
const OTHERS: &[&str] = &[
    "F_DUPFD",
    "File::",
    "OpenOptions",
    "UnixDatagram",
    "UnixListener",
    "UnixStream",
    "fcntl::open",
    "from_raw_fd",
    "fs::copy",
    "fs::read",
    "fs::write",
    "memfd::memfd_create",
    "std::net",
    "std::process::Command",
    "try_clone",
    "unistd::dup",
    "unistd::pipe",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("it can be read").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn makes_one(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let number_of = |name: &str| {
        code.match_indices("SYS_").any(|(at, prefix)| {
            let rest = &code[at + prefix.len()..];
            rest.strip_prefix(name)
                .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
        })
    };
    SYSTEM_CALLS.iter().any(|name| code.contains(&format!("libc::{name}(")) || number_of(name))
        || OTHERS.iter().any(|name| code.contains(name))
}

#[test]
fn descriptors_are_made_in_one_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut elsewhere = String::new();
    let mut at_the_door = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).expect("it can be read");
        // Unit tests are at the end of a file; the library does not own what they open.
        let library = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in (1..).zip(library.lines()).filter(|(_, line)| makes_one(line)) {
            if file.ends_with(DOOR) {
                at_the_door += 1;
            } else {
                elsewhere.push_str(&format!("{}:{number}: {}\n", file.display(), line.trim()));
            }
        }
    }
    assert!(elsewhere.is_empty(), "only src/{DOOR} makes descriptors:\n{elsewhere}");
    // The search finds the existing ones: one line for each way of making a descriptor.
    assert_eq!(at_the_door, 12, "makers in src/{DOOR}");
}
