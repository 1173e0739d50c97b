//! 4 writer and 8 reader processes on one segment, under each policy: no wrong byte, no gap, exact
//! lost counts.
//!
//! `SHMSLOT_CROWD_SAMPLES` sets how many samples pass through each segment.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use shmslot::{AttachOptions, Code, CreateOptions, Policy, Sample, Segment};

const WRITERS: u64 = 4;
const READERS: u64 = 8;
/// The role of a child, its segment, and the number of samples in total.
const ROLE: &str = "SHMSLOT_CROWD_ROLE";
const NAME: &str = "SHMSLOT_CROWD_NAME";
const SAMPLES: &str = "SHMSLOT_CROWD_SAMPLES";

fn samples() -> u64 {
    let given =
        std::env::var(SAMPLES).ok().map(|count| count.parse().expect("a number of samples"));
    let wanted: u64 = given.unwrap_or(100_000);
    wanted / WRITERS * WRITERS
}

/// The words of sample `count` of a writer: the writer, the count, then noise that depends on both.
/// Lengths differ.
fn words(writer: u64, count: u64) -> impl Iterator<Item = u64> {
    let len = 2 + (count.wrapping_mul(7) + writer) % 30;
    let mut noise = (writer << 32 | count).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    [writer, count].into_iter().chain((2..len).map(move |_| {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        noise
    }))
}

fn say(line: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "\n> {line}").and_then(|()| out.flush()).expect("the parent listens");
}

fn await_go() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("the parent speaks");
    assert_eq!(line, "go\n");
}

fn write_all(segment: &Segment, index: u64) {
    let writer = segment.writer().expect("a writer");
    say("ready");
    await_go();
    let mut last = 0;
    for count in 0..samples() / WRITERS {
        let bytes: Vec<u8> = words(index, count).flat_map(u64::to_le_bytes).collect();
        let sequence = loop {
            match writer.write(&bytes, None) {
                Ok(sequence) => break sequence,
                Err(error) if error.code() == Code::NoFreeSlot => {
                    writer.wait_space(None).expect("space comes");
                }
                Err(error) => panic!("write: {error}"),
            }
        };
        assert!(sequence > last, "the sequences of one writer rise");
        last = sequence;
    }
    say("done");
}

/// Checks every byte; returns the writer and the number among its samples.
fn check(sample: &Sample<'_>) -> (u64, u64) {
    let bytes = sample.to_vec();
    let word = |at: usize| u64::from_le_bytes(bytes[at * 8..][..8].try_into().expect("8 bytes"));
    let (writer, count) = (word(0), word(1));
    assert!(writer < WRITERS);
    let expected: Vec<u8> = words(writer, count).flat_map(u64::to_le_bytes).collect();
    assert_eq!(bytes, expected, "sample {} of writer {writer}", sample.sequence());
    (writer, count)
}

fn read_all(segment: &Segment, index: u64) {
    let lossless = segment.info().expect("not forked").geometry.policy != Policy::DropOldest;
    let reader = segment.reader(0).expect("a reader");
    say("ready");
    await_go();
    let (mut received, mut last) = (0, 0);
    let mut next_of = [0; WRITERS as usize];
    let mut hands = Vec::new();
    while last < samples() {
        let Some(sample) = reader.read().expect("a read") else {
            reader.wait(None).expect("samples come");
            continue;
        };
        assert!(sample.sequence() > last, "sequences rise");
        received += 1;
        last = sample.sequence();
        assert_eq!(received + reader.lost(), last, "each one is received or counted lost");
        let (writer, count) = check(&sample);
        let next = &mut next_of[writer as usize];
        assert!(
            if lossless { count == *next } else { count >= *next },
            "writer {writer}: {count} at {next}"
        );
        *next = count + 1;
        // Half of the readers hold some samples and release them out of order, after a second
        // check.
        if index % 2 == 1 {
            hands.push(sample);
            if hands.len() == 5 {
                for place in [3, 0, 2, 1, 0] {
                    check(&hands.remove(place));
                }
            }
        }
    }
    assert_eq!(received + reader.lost(), samples());
    assert!(!lossless || reader.lost() == 0);
    say(&format!("lost {}", reader.lost()));
}

/// The code of each child; it does nothing in the test run itself.
#[test]
fn member_of_the_crowd() {
    let (Ok(role), Ok(name)) = (std::env::var(ROLE), std::env::var(NAME)) else { return };
    let segment = Segment::attach(&name, &AttachOptions::default()).expect("attach");
    let (kind, index) = role.split_once(' ').expect("a role and its number");
    let index = index.parse().expect("a number");
    match kind {
        "writer" => write_all(&segment, index),
        _ => read_all(&segment, index),
    }
}

struct Member {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Member {
    fn start(name: &str, role: String) -> Member {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "member_of_the_crowd", "--nocapture"])
            .env(ROLE, role)
            .env(NAME, name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child");
        let to = child.stdin.take().expect("a pipe");
        let from = BufReader::new(child.stdout.take().expect("a pipe"));
        Member { child, to, from }
    }

    /// The next line from the child, without those of the test framework.
    fn listen(&mut self) -> String {
        let mut line = String::new();
        while self.from.read_line(&mut line).expect("the child speaks") > 0 {
            if let Some(said) = line.strip_prefix("> ") {
                return said.trim().to_owned();
            }
            line.clear();
        }
        panic!("the child ended: {:?}", self.child.wait());
    }
}

fn crowd(policy: Policy, history: u32) {
    let name = format!("crowd-{policy:?}-{}", std::process::id());
    // More readers than one word of marks has bits for, so that both words are used.
    let options = CreateOptions {
        slot_count: 61,
        slot_capacity: 256,
        max_readers: 20,
        history,
        policy: Some(policy),
        ..CreateOptions::default()
    };
    let segment = Segment::create(&name, &options).expect("create");
    let unlink = Unlink(&name);
    let roles = (0..READERS)
        .map(|i| format!("reader {i}"))
        .chain((0..WRITERS).map(|i| format!("writer {i}")));
    let mut members: Vec<Member> = roles.map(|role| Member::start(&name, role)).collect();
    for member in &mut members {
        assert_eq!(member.listen(), "ready");
    }
    drop(unlink);
    assert_eq!(segment.info().expect("not forked").readers.count_ones() as u64, READERS);
    for member in &mut members {
        member.to.write_all(b"go\n").expect("the child listens");
    }
    let mut lost = Vec::new();
    for member in &mut members {
        let said = member.listen();
        lost.extend(said.strip_prefix("lost ").map(str::to_owned));
        assert!(member.child.wait().expect("the child ends").success());
    }
    println!("{policy:?}: {} samples, lost {}", samples(), lost.join(" "));

    let info = segment.info().expect("not forked");
    assert_eq!(info.next_sequence, samples() + 1, "as many sequences as samples");
    assert_eq!((info.readers, info.participants), (0, 1), "everybody has left");
    // Every slot is free again, except for those that history retains.
    let writer = segment.writer().expect("a writer");
    let free = options.slot_count - history;
    let loans: Vec<_> =
        (0..free).map(|_| writer.reserve(1, Some(Duration::ZERO)).expect("a slot")).collect();
    drop(loans);
}

/// Removes the name, even if the test fails.
struct Unlink<'a>(&'a str);

impl Drop for Unlink<'_> {
    fn drop(&mut self) {
        let _ = Segment::unlink(self.0);
    }
}

#[test]
fn fail() {
    crowd(Policy::Fail, 0);
}

#[test]
fn block() {
    crowd(Policy::Block, 3);
}

#[test]
fn drop_oldest() {
    crowd(Policy::DropOldest, 0);
}
