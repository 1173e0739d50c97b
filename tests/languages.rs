//! C and Rust processes, both ways: the same bytes, lengths, user headers and sequences, through segments with a name and
//! segments sent over a channel, in slots and behind them, and in mapped regions.

mod harness;

use std::collections::{HashMap, VecDeque};
use std::fmt::Display;
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use shmslot::{
    Attachments, Channel, ChannelOptions, EndWaits, Lease, Options, Policy, Reader, Registry,
    RegistryOptions, Segment,
};

/// Longer than anything takes; a test that would hang fails instead.
const PATIENT: Option<Duration> = Some(Duration::from_secs(100));

const TEXTS: u64 = 5000;
const PAYLOADS: u64 = 40;
const CAPACITY: u64 = 64;
const LARGEST: u64 = 3 << 20;

/// The C program, with its standard streams as pipes to this one. It ends with the test.
struct Peer {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Peer {
    /// Each test has its own program, so that none is written while another runs.
    fn start(test: &str, job: &str, count: u64, way: &[&str], input: Stdio) -> Peer {
        let program = harness::scratch("languages").join(format!("peer-{test}"));
        harness::build(&harness::root().join("tests/languages/peer.c"), &program);
        let mut child = Command::new(program)
            .args([job, &count.to_string()])
            .args(way)
            .stdin(input)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the C program starts");
        let said = BufReader::new(child.stdout.take().expect("a pipe"));
        Peer { child, said }
    }

    fn say(&mut self, line: impl Display) {
        writeln!(self.child.stdin.as_mut().expect("a pipe"), "{line}").expect("it listens");
    }

    /// Its next line; empty if it has ended.
    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("it speaks");
        line.trim_end().to_owned()
    }

    fn end(mut self) {
        assert!(self.child.wait().expect("it ends").success());
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Of one that has ended, both only say so.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Nobody else has this name, and it is no file.
fn channel_name(test: &str) -> String {
    format!("@languages-{test}-{}", std::process::id())
}

/// A C program that leases, or makes a segment and sends it, and the channel to it.
fn peer_that_listens(test: &str, job: &str) -> (Peer, Channel) {
    let name = channel_name(test);
    let mut peer = Peer::start(test, job, PAYLOADS, &["listen", &name], Stdio::piped());
    assert_eq!(peer.hear(), "listening");
    let channel = Channel::connect(&name, &ChannelOptions::default(), PATIENT).expect("it listens");
    (peer, channel)
}

fn options(max_payload: u64) -> Options {
    Options {
        slot_count: 7,
        slot_capacity: CAPACITY,
        user_header_size: 8,
        policy: Policy::Block,
        max_payload,
        region_count: if max_payload == 0 { 0 } else { 3 },
        ..Options::default()
    }
}

/// A named segment whose name goes with the test.
struct Named(String, Segment);

impl Named {
    fn new(test: &str, max_payload: u64) -> Named {
        let name = format!("languages-{test}-{}", std::process::id());
        let segment = Segment::create(&name, &options(max_payload)).expect("create");
        Named(name, segment)
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = Segment::unlink(&self.0);
    }
}

/// A reader that does not wait for what a dead C program owes it.
fn reader_of(segment: &Segment) -> Reader {
    let reader = segment.reader(0).expect("reader");
    reader.end_waits(EndWaits { peer_dead: true, ..EndWaits::default() }).expect("it is open");
    reader
}

/// Twenty lengths from 100 bytes to [`LARGEST`], up and down; `peer.c` has the same three functions.
fn large_len(i: u64) -> u64 {
    let step = i * 7 % 20;
    100 + (LARGEST - 100) * step * step / (19 * 19)
}

/// Every other one fits a slot, from empty to full.
fn mixed_len(i: u64) -> u64 {
    if i.is_multiple_of(2) { i * 16 % 80 } else { large_len(i) }
}

fn bytes_of(i: u64, len: u64) -> Vec<u8> {
    (0..len).map(|at| (i * 31 + at + (at >> 12)) as u8).collect()
}

/// Tells the place, not megabytes of both.
fn check_bytes(bytes: &[u8], i: u64) {
    let expected = bytes_of(i, bytes.len() as u64);
    let wrong = bytes.iter().zip(&expected).position(|(byte, expected)| byte != expected);
    assert_eq!(wrong, None, "payload {i} of {} bytes is wrong there", bytes.len());
}

#[test]
fn rust_writes_and_c_reads() {
    let Named(name, segment) = &Named::new("rust-to-c", 0);
    let mut peer = Peer::start("rust-to-c", "read", TEXTS, &["named", name], Stdio::null());
    assert_eq!(peer.hear(), "ready");

    let writer = segment.writer().expect("writer");
    for i in 1..=TEXTS {
        let text = format!("Rust {i}");
        let mut loan = writer.reserve(text.len(), PATIENT).expect("a slot");
        loan.copy_from(text.as_bytes()).expect("it fits");
        loan.write_user_header(&i.to_ne_bytes()).expect("it fits");
        assert_eq!(loan.commit(text.len()).expect("commit"), i);
    }
    peer.end();
}

#[test]
fn c_writes_and_rust_reads() {
    let Named(name, segment) = &Named::new("c-to-rust", 0);
    let reader = reader_of(segment);
    let peer = Peer::start("c-to-rust", "write", TEXTS, &["named", name], Stdio::null());
    for i in 1..=TEXTS {
        reader.wait(PATIENT).expect("samples come");
        let sample = reader.read().expect("read").expect("a sample");
        assert_eq!(sample.sequence(), i);
        assert_eq!(sample.to_vec(), format!("C {i}").into_bytes());
        let mut header = [0; 8];
        assert_eq!(sample.read_user_header(&mut header), 8);
        assert_eq!(u64::from_ne_bytes(header), i);
    }
    peer.end();
    assert_eq!(reader.lost(), 0);
}

fn write_large(segment: &Segment) {
    let writer = segment.writer().expect("writer");
    for i in 1..=PAYLOADS {
        let bytes = bytes_of(i, mixed_len(i));
        let mut loan = writer.reserve(bytes.len(), PATIENT).expect("room");
        loan.copy_from(&bytes).expect("it fits");
        loan.write_user_header(&i.to_ne_bytes()).expect("it fits");
        assert_eq!(loan.commit(bytes.len()).expect("commit"), i);
    }
}

fn read_large(reader: &Reader) {
    for i in 1..=PAYLOADS {
        reader.wait(PATIENT).expect("samples come");
        let sample = reader.read().expect("read").expect("a sample");
        assert_eq!(sample.sequence(), i);
        assert_eq!(sample.len() as u64, mixed_len(i));
        check_bytes(&sample.to_vec(), i);
        let mut header = [0; 8];
        assert_eq!(sample.read_user_header(&mut header), 8);
        assert_eq!(u64::from_ne_bytes(header), i);
    }
}

#[test]
fn rust_writes_large_and_c_reads() {
    let Named(name, segment) = &Named::new("large-rust-to-c", LARGEST);
    let mut peer = Peer::start("large-rust-to-c", "read-large", PAYLOADS, &["named", name], Stdio::null());
    assert_eq!(peer.hear(), "ready");
    write_large(segment);
    peer.end();
}

#[test]
fn c_writes_large_and_rust_reads() {
    let Named(name, segment) = &Named::new("large-c-to-rust", LARGEST);
    let reader = reader_of(segment);
    let peer = Peer::start("large-c-to-rust", "write-large", PAYLOADS, &["named", name], Stdio::null());
    read_large(&reader);
    peer.end();
}

/// A C program that gets the segment over a channel which it inherits as its standard input.
fn peer_that_receives(test: &str, job: &str, segment: &Segment) -> Peer {
    let (near, far) = Channel::pair(&ChannelOptions::default()).expect("a pair");
    let inherited = far.fd().try_clone_to_owned().expect("a descriptor");
    let peer = Peer::start(test, job, PAYLOADS, &["inherit"], inherited.into());
    // From here on the C program alone has this end: sending fails if it is gone.
    drop(far);
    near.send_segment(segment, PATIENT).expect("it receives");
    peer
}

#[test]
fn rust_sends_a_segment_and_writes_and_c_reads() {
    let segment = Segment::create_anonymous(&options(LARGEST)).expect("create");
    let mut peer = peer_that_receives("sent-rust-to-c", "read-large", &segment);
    assert_eq!(peer.hear(), "ready");
    write_large(&segment);
    peer.end();
}

#[test]
fn rust_sends_a_segment_and_c_writes_and_rust_reads() {
    let segment = Segment::create_anonymous(&options(LARGEST)).expect("create");
    let reader = reader_of(&segment);
    let peer = peer_that_receives("sent-c-to-rust", "write-large", &segment);
    read_large(&reader);
    peer.end();
}

fn received(channel: &Channel) -> Segment {
    let segment = channel.recv_segment(&Options::default(), PATIENT).expect("it sends one");
    let geometry = segment.info().expect("info").geometry;
    assert_eq!((geometry.slot_capacity, geometry.max_payload), (CAPACITY, LARGEST));
    segment
}

#[test]
fn c_sends_a_segment_and_rust_writes_and_c_reads() {
    let (mut peer, channel) = peer_that_listens("received-rust-to-c", "read-large");
    let segment = received(&channel);
    assert_eq!(peer.hear(), "ready");
    write_large(&segment);
    peer.end();
}

#[test]
fn c_sends_a_segment_and_writes_and_rust_reads() {
    let (mut peer, channel) = peer_that_listens("received-c-to-rust", "write-large");
    let segment = received(&channel);
    let reader = reader_of(&segment);
    peer.say("ready");
    read_large(&reader);
    peer.end();
}

/// Which generation each region is in, and how often one began anew.
#[derive(Default)]
struct Generations {
    newest: HashMap<u32, u32>,
    risen: u32,
}

impl Generations {
    fn see(&mut self, map_id: u32, generation: u32) {
        if let Some(before) = self.newest.insert(map_id, generation) {
            assert!(generation >= before, "region {map_id} went back from {before} to {generation}");
            self.risen += u32::from(generation > before);
        }
    }
}

#[test]
fn rust_leases_and_c_maps() {
    let name = channel_name("leases-rust-to-c");
    let listener = Channel::listen(&name, &ChannelOptions::default()).expect("the name is free");
    let mut peer = Peer::start("leases-rust-to-c", "map", PAYLOADS, &["connect", &name], Stdio::piped());
    let channel = listener.accept(PATIENT).expect("it connects");
    let registry = Registry::new(&RegistryOptions::default()).expect("a registry");
    registry.add(&channel, PATIENT).expect("it is empty");

    // One lease is written while the other side looks at the one before it.
    let mut out: VecDeque<Lease> = VecDeque::new();
    let mut generations = Generations::default();
    for i in 1..=PAYLOADS {
        let bytes = bytes_of(i, large_len(i));
        let mut lease = registry.alloc(bytes.len(), PATIENT).expect("memory");
        lease.copy_from(&bytes).expect("it fits");
        generations.see(lease.map_id(), lease.generation());
        peer.say(format_args!(
            "{} {} {} {}",
            lease.map_id(),
            lease.generation(),
            lease.offset(),
            lease.len()
        ));
        out.push_back(lease);
        if out.len() == 2 {
            assert_eq!(peer.hear(), "done");
            out.pop_front();
        }
    }
    assert_eq!(peer.hear(), "done");
    drop(out);
    peer.end();
    assert!(generations.risen > 0, "no region was used again");
    assert_eq!(registry.info().expect("info").leases, 0);
}

#[test]
fn c_leases_and_rust_maps() {
    let (mut peer, channel) = peer_that_listens("leases-c-to-rust", "lease");
    let attachments = Attachments::new(Some(&channel), &ChannelOptions::default()).expect("attachments");
    let mut generations = Generations::default();
    for i in 1..=PAYLOADS {
        let line = peer.hear();
        let numbers: Vec<u64> = line.split(' ').map(|word| word.parse().expect("a number")).collect();
        let [map_id, generation, offset, len] = numbers[..] else { panic!("no reference: {line:?}") };
        let (map_id, generation) = (map_id as u32, generation as u32);
        generations.see(map_id, generation);
        assert_eq!(len, large_len(i));
        let mapped = attachments.resolve_wait(map_id, generation, offset, len, PATIENT).expect("it comes");
        assert_eq!(mapped.len() as u64, len);
        check_bytes(&mapped.to_vec(), i);
        drop(mapped);
        peer.say("done");
    }
    peer.end();
    assert!(generations.risen > 0, "no region was used again");
}
