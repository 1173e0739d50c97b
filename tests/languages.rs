//! C and Rust processes on one segment, both ways: the same bytes, lengths, user headers and sequences.

mod harness;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use shmslot::{Options, Policy, Segment};

const SAMPLES: u64 = 5000;

fn c_peer(way: &str) -> PathBuf {
    let program = harness::scratch("languages").join(format!("peer-{way}"));
    harness::build(&harness::root().join("tests/languages/peer.c"), &program);
    program
}

/// A named segment whose name goes with the test.
struct Named(String, Segment);

impl Named {
    fn new(way: &str) -> Named {
        let name = format!("languages-{way}-{}", std::process::id());
        let options = Options {
            slot_count: 7,
            slot_capacity: 64,
            user_header_size: 8,
            policy: Policy::Block,
            ..Options::default()
        };
        let segment = Segment::create(&name, &options).expect("create");
        Named(name, segment)
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = Segment::unlink(&self.0);
    }
}

#[test]
fn rust_writes_and_c_reads() {
    let program = c_peer("read");
    let Named(name, segment) = &Named::new("rust-to-c");
    let mut child = Command::new(program)
        .args(["read", name, &SAMPLES.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the C program starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("it speaks");
    assert_eq!(line, "ready\n");

    let writer = segment.writer().expect("writer");
    for i in 1..=SAMPLES {
        let text = format!("Rust {i}");
        let mut loan = writer.reserve(text.len(), None).expect("a slot");
        loan.copy_from(text.as_bytes()).expect("it fits");
        loan.write_user_header(&i.to_ne_bytes()).expect("it fits");
        assert_eq!(loan.commit(text.len()).expect("commit"), i);
    }
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn c_writes_and_rust_reads() {
    let program = c_peer("write");
    let Named(name, segment) = &Named::new("c-to-rust");
    let reader = segment.reader(0).expect("reader");
    let mut child = Command::new(program)
        .args(["write", name, &SAMPLES.to_string()])
        .spawn()
        .expect("the C program starts");
    for i in 1..=SAMPLES {
        reader.wait(None).expect("samples come");
        let sample = reader.read().expect("read").expect("a sample");
        assert_eq!(sample.sequence(), i);
        assert_eq!(sample.to_vec(), format!("C {i}").into_bytes());
        let mut header = [0; 8];
        assert_eq!(sample.read_user_header(&mut header), 8);
        assert_eq!(u64::from_ne_bytes(header), i);
    }
    assert!(child.wait().expect("it ends").success());
    assert_eq!(reader.lost(), 0);
}
