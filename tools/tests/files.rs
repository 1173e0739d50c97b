//! `send` and `recv` with files and pipes.

mod harness;

use std::fs;

use harness::{Directory, until};
use serde_json::Value;
use shmslot::{AttachOptions, Segment};

/// Bytes that repeat late.
fn bytes(count: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..count).map(|_| next()).collect()
}

fn observe(directory: &Directory, name: &str) -> Option<Segment> {
    let observer = AttachOptions { observer: true, ..AttachOptions::default() };
    Segment::attach(&directory.name(name), &observer).ok()
}

fn path(directory: &Directory, name: &str) -> String {
    directory.name(name)
}

#[test]
fn a_file_comes_to_each_receiver_whoever_starts_first() {
    let directory = Directory::new();
    let source = bytes(3_000_001);
    fs::write(path(&directory, "source"), &source).expect("a file");
    let first = path(&directory, "first");
    let receiver = directory.start(&["--json", "recv", "pipe", &first]);
    let sender =
        directory.start(&["--json", "send", "pipe", &path(&directory, "source"), "--readers", "2"]);
    let second = path(&directory, "second");
    let other = directory.start(&["--json", "recv", "pipe", &second]);
    let ended = [sender.wait(), receiver.wait(), other.wait()];
    let said: Vec<Value> = ended
        .iter()
        .map(|ended| {
            assert_eq!(ended.status, 0, "{ended:?}");
            serde_json::from_str(&ended.out).expect("it prints JSON")
        })
        .collect();
    for one in &said {
        assert_eq!((&one["bytes"], &one["crc32"]), (&said[0]["bytes"], &said[0]["crc32"]));
        assert_eq!(one["bytes"], source.len());
    }
    assert_eq!(fs::read(&first).expect("it is there"), source);
    assert_eq!(fs::read(&second).expect("it is there"), source);
    assert!(!directory.exists("pipe"), "the name went with the last of them");
    let files = fs::read_dir(&directory.0).expect("a directory").count();
    assert_eq!(files, 3, "no part is left");
}

#[test]
fn a_pipe_goes_through_and_so_does_nothing() {
    for source in [bytes(700_000), Vec::new()] {
        let directory = Directory::new();
        let target = path(&directory, "target");
        let receiver = directory.start(&["recv", "pipe", &target]);
        let sender = directory.run_with(&["send", "pipe", "--capacity", "4K"], &source);
        assert_eq!(sender.status, 0, "{sender:?}");
        assert!(sender.err.contains("crc32"), "{sender:?}");
        let ended = receiver.wait();
        assert_eq!((ended.status, ended.out), (0, String::new()));
        assert_eq!(fs::read(&target).expect("it is there"), source);
    }
}

#[test]
fn the_standard_output_of_recv_is_the_file() {
    let directory = Directory::new();
    let receiver = directory.start(&["recv", "pipe"]);
    assert_eq!(directory.run_with(&["send", "pipe"], b"plain\ntext").status, 0);
    let ended = receiver.wait();
    assert_eq!((ended.status, &*ended.out), (0, "plain\ntext"));
    assert_eq!(directory.run(&["--json", "recv", "pipe"]).status, 2);
}

#[test]
fn a_killed_sender_leaves_no_file() {
    let directory = Directory::new();
    let target = path(&directory, "target");
    let receiver = directory.start(&["recv", "pipe", &target]);
    let mut sender = directory.start(&["send", "pipe", "/dev/zero"]);
    until("some samples have come", || {
        let segment = observe(&directory, "pipe");
        segment.is_some_and(|segment| segment.info().expect("info").next_sequence > 10)
    });
    sender.kill();
    let ended = receiver.wait();
    assert_eq!(ended.status, 1, "{ended:?}");
    assert!(ended.err.contains("the sender ended before the end"), "{ended:?}");
    assert_eq!(fs::read_dir(&directory.0).expect("a directory").count(), 0);
}

#[test]
fn a_killed_receiver_ends_the_sender() {
    let directory = Directory::new();
    let mut receiver = directory.start(&["recv", "pipe", &path(&directory, "target")]);
    let sender = directory.start(&["send", "pipe", "/dev/zero"]);
    until("some samples have come", || {
        let segment = observe(&directory, "pipe");
        segment.is_some_and(|segment| segment.info().expect("info").next_sequence > 10)
    });
    receiver.kill();
    let ended = sender.wait();
    assert_eq!(ended.status, 1, "{ended:?}");
    assert!(ended.err.contains("a receiver left before the end"), "{ended:?}");
}

#[test]
fn an_interrupted_transfer_says_so_by_its_status() {
    let directory = Directory::new();
    for arguments in [&["send", "pipe", "/dev/zero"][..], &["recv", "pipe"]] {
        let waiting = directory.start(arguments);
        until("it has opened the segment", || directory.exists("pipe"));
        until("it is attached", || {
            let segment = observe(&directory, "pipe");
            segment.is_some_and(|segment| {
                let counters = segment.counters().expect("counters");
                counters.writers + counters.readers > 0
            })
        });
        waiting.signal(nix::sys::signal::Signal::SIGINT);
        assert_eq!(waiting.wait().status, 130, "{arguments:?}");
    }
    assert_eq!(directory.run(&["--timeout", "0.05", "recv", "pipe"]).status, 124);
    assert_eq!(directory.run(&["--timeout", "0.05", "send", "pipe", "/dev/null"]).status, 124);
    let missing = path(&directory, "missing");
    let ended = directory.run(&["send", "pipe", &missing]);
    assert_eq!((ended.status, ended.err.lines().count()), (1, 1), "{ended:?}");
}
