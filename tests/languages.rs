//! Every language to every language, in two processes: bytes, lengths, user headers and sequences
//! agree, through named segments and segments sent over a channel, in slots and in regions, and in
//! leases of a pool; and so do the error codes.
//!
//! Each language has a program `peer JOB WAY COUNT NAME`, which is one row of [`LANGUAGES`]:
//!
//! - `read`, `write`: sample i has `sample_len(i)` bytes and i as 64-bit number in its user header.
//!   WAY `create` makes the segment NAME, `attach` attaches to it; with a channel as standard
//!   input, `send` makes one without a name and sends it once a reader has joined, `receive`
//!   receives it. A writer of a named segment says `ready` and waits for `go`.
//! - `lease`, `map`: payloads in regions of a pool over a channel called NAME, on which the sender
//!   is `listening`. References and `done`s go over the standard streams.
//! - `occupy`: makes a segment of the type `languages.Probe` of 8 bytes, with its one writer and
//!   its one reader, and says `ready`. `fail`: makes the calls that must fail, on that segment and
//!   elsewhere, and prints the name and the code of each.
//!
//! A line from a peer begins with `> `.

mod harness;
#[path = "languages/peer.rs"]
mod peer;

use std::collections::HashMap;
use std::fmt::Display;
use std::io::{BufRead, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use shmslot::{Channel, ChannelOptions, Code, Segment};

/// Longer than anything takes, so that a hanging test fails.
const PATIENT: Option<Duration> = Some(Duration::from_secs(100));

/// One in a hundred is large, in every size there is.
const SAMPLES: u64 = 2000;
const LEASES: u64 = 40;

/// A language, and its peer.
struct Language {
    name: &'static str,
    peer: fn() -> Command,
    /// Whether it has channels and pools.
    channels: bool,
}

const LANGUAGES: &[Language] = &[
    Language { name: "C", peer: || compiled("peer.c", &C_PEER), channels: true },
    Language { name: "C++", peer: || compiled("peer.cpp", &CPP_PEER), channels: true },
    Language { name: "Rust", peer: this_program, channels: true },
];

/// Takes part where it names an interpreter that has the package: see `bindings/python/run`.
const PYTHON: Language = Language { name: "Python", peer: python_peer, channels: false };
const PYTHON_INTERPRETER: &str = "SHMSLOT_PYTHON";

fn python_peer() -> Command {
    let interpreter = std::env::var_os(PYTHON_INTERPRETER).expect("it takes part");
    let mut command = Command::new(interpreter);
    command.arg(harness::root().join("tests/languages/peer.py"));
    command
}

static C_PEER: OnceLock<PathBuf> = OnceLock::new();
static CPP_PEER: OnceLock<PathBuf> = OnceLock::new();

/// A peer that is compiled from `tests/languages`, once.
fn compiled(source: &str, built: &OnceLock<PathBuf>) -> Command {
    Command::new(built.get_or_init(|| {
        let program =
            harness::scratch("languages").join(source).with_file_name(format!("{source}.program"));
        harness::build(&harness::root().join("tests/languages").join(source), &program);
        program
    }))
}

const RUST_PEER: &str = "SHMSLOT_LANGUAGES_PEER";

/// The Rust peer is a test of this program, which finds its arguments after those of the test
/// framework.
fn this_program() -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "rust_peer", "--nocapture", "--"]).env(RUST_PEER, "1");
    command
}

/// The code of a Rust peer; it does nothing in the test run itself.
#[test]
fn rust_peer() {
    if std::env::var_os(RUST_PEER).is_none() {
        return;
    }
    let arguments: Vec<String> =
        std::env::args().skip_while(|argument| argument != "--").skip(1).collect();
    let [job, way, count, name] = &arguments[..] else { panic!("peer JOB WAY COUNT NAME") };
    peer::work(job, way, count.parse().expect("a number"), name);
}

/// A running peer, which ends with the test.
struct Peer {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Peer {
    fn start(
        language: &Language,
        job: &str,
        way: &str,
        count: u64,
        name: &str,
        input: Stdio,
    ) -> Peer {
        let mut child = (language.peer)()
            .args([job, way, &count.to_string(), name])
            .stdin(input)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the peer starts");
        let said = BufReader::new(child.stdout.take().expect("a pipe"));
        Peer { child, said }
    }

    fn say(&mut self, line: impl Display) {
        writeln!(self.child.stdin.as_mut().expect("a pipe"), "{line}").expect("it listens");
    }

    /// Its next line; nothing if it has ended.
    fn hear(&mut self) -> Option<String> {
        let mut line = String::new();
        while self.said.read_line(&mut line).expect("it speaks") > 0 {
            if let Some(said) = line.strip_prefix("> ") {
                return Some(said.trim_end().to_owned());
            }
            line.clear();
        }
        None
    }

    fn expect(&mut self, line: &str) {
        assert_eq!(self.hear().as_deref(), Some(line));
    }

    fn end(mut self) {
        assert!(self.child.wait().expect("it ends").success());
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // For a peer that has ended, both calls only fail.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A name that is removed with the test.
struct Name(String);

impl Name {
    /// A unique name.
    fn new(test: &str, sender: &Language, receiver: &Language) -> Name {
        Name(format!("languages-{test}-{}-{}-{}", sender.name, receiver.name, std::process::id()))
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _ = Segment::unlink(&self.0);
    }
}

/// Each pair of languages, one after another; a failure belongs to the pair that was printed last.
fn for_each_pair(test: impl Fn(&Language, &Language)) {
    let with_python = std::env::var_os(PYTHON_INTERPRETER).is_some();
    let languages = || LANGUAGES.iter().chain(with_python.then_some(&PYTHON));
    for sender in languages() {
        for receiver in languages() {
            println!("{} to {}", sender.name, receiver.name);
            test(sender, receiver);
        }
    }
}

/// The pairs of languages that have channels.
fn for_each_pair_with_channels(test: impl Fn(&Language, &Language)) {
    for_each_pair(|sender, receiver| {
        if sender.channels && receiver.channels {
            test(sender, receiver);
        }
    });
}

#[test]
fn the_writer_makes_a_named_segment() {
    for_each_pair(|sender, receiver| {
        let name = Name::new("writer-makes", sender, receiver);
        let mut writer = Peer::start(sender, "write", "create", SAMPLES, &name.0, Stdio::piped());
        writer.expect("ready");
        let mut reader = Peer::start(receiver, "read", "attach", SAMPLES, &name.0, Stdio::null());
        reader.expect("ready");
        writer.say("go");
        reader.end();
        writer.end();
    });
}

#[test]
fn the_reader_makes_a_named_segment() {
    for_each_pair(|sender, receiver| {
        let name = Name::new("reader-makes", sender, receiver);
        let mut reader = Peer::start(receiver, "read", "create", SAMPLES, &name.0, Stdio::null());
        reader.expect("ready");
        let mut writer = Peer::start(sender, "write", "attach", SAMPLES, &name.0, Stdio::piped());
        writer.expect("ready");
        writer.say("go");
        reader.end();
        writer.end();
    });
}

#[test]
fn a_segment_is_sent_over_a_channel() {
    for_each_pair_with_channels(|sender, receiver| {
        let (near, far) = Channel::pair(&ChannelOptions::default()).expect("a pair");
        let end = |channel: Channel| {
            Stdio::from(channel.fd().expect("its own").try_clone_to_owned().expect("a descriptor"))
        };
        let writer = Peer::start(sender, "write", "receive", SAMPLES, "", end(near));
        let reader = Peer::start(receiver, "read", "send", SAMPLES, "", end(far));
        reader.end();
        writer.end();
    });
}

/// The generation of each region, and how often one began again.
#[derive(Default)]
struct Generations {
    newest: HashMap<u64, u64>,
    risen: u32,
}

impl Generations {
    fn see(&mut self, map_id: u64, generation: u64) {
        if let Some(before) = self.newest.insert(map_id, generation) {
            assert!(
                generation >= before,
                "region {map_id} went back from {before} to {generation}"
            );
            self.risen += u32::from(generation > before);
        }
    }
}

#[test]
fn regions_are_leased_and_mapped() {
    for_each_pair_with_channels(|sender, receiver| {
        let name = format!("@{}", Name::new("leases", sender, receiver).0);
        let mut leases = Peer::start(sender, "lease", "listen", LEASES, &name, Stdio::piped());
        leases.expect("listening");
        let mut maps = Peer::start(receiver, "map", "connect", LEASES, &name, Stdio::piped());
        let mut generations = Generations::default();
        for _ in 0..LEASES {
            let line = leases.hear().expect("a reference");
            let [map_id, generation, ..] = peer::reference(&line);
            generations.see(map_id, generation);
            maps.say(line);
            maps.expect("done");
            leases.say("done");
        }
        maps.end();
        leases.end();
        assert!(generations.risen > 0, "no region was used again");
    });
}

/// The calls that must fail, and their codes.
const FAILURES: &[(&str, Code)] = &[
    ("missing", Code::NotFound),
    ("name", Code::BadName),
    ("exists", Code::Exists),
    ("size", Code::TypeMismatch),
    ("type", Code::TypeMismatch),
    ("crowded", Code::NoParticipantSlot),
    ("writer", Code::WriterExists),
    ("reader", Code::NoReaderSlot),
    ("history", Code::BadOptions),
    ("look", Code::NotSupported),
    ("unlink", Code::NotFound),
    ("empty", Code::Again),
    ("wait", Code::Again),
    ("large", Code::TooLarge),
    ("full", Code::NoFreeSlot),
    ("long", Code::BadLength),
    ("interrupt", Code::Interrupted),
];

/// The same, of channels.
const CHANNEL_FAILURES: &[(&str, Code)] =
    &[("unknown", Code::UnknownMapping), ("broken", Code::ChannelBroken)];

#[test]
fn failures_have_the_same_codes() {
    for_each_pair(|maker, prober| {
        let name = Name::new("failures", maker, prober);
        let mut occupant = Peer::start(maker, "occupy", "create", 0, &name.0, Stdio::piped());
        occupant.expect("ready");
        let mut probe = Peer::start(prober, "fail", "attach", 0, &name.0, Stdio::null());
        let of_channels = if prober.channels { CHANNEL_FAILURES } else { &[] };
        for (what, code) in FAILURES.iter().chain(of_channels) {
            probe.expect(&format!("{what} {}", code.number()));
        }
        assert_eq!(probe.hear(), None);
        probe.end();
        occupant.say("go");
        occupant.end();
    });
}
