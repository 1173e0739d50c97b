//! The Rust peer of `tests/languages.rs`, which has the jobs and ways.

use std::collections::VecDeque;
use std::fmt::Display;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::time::Duration;

use shmslot::{
    AttachOptions, Attachments, Channel, ChannelOptions, CreateOptions, EndWaits, Lease, Listener,
    Policy, Registry, RegistryOptions, Result, Segment,
};

use crate::PATIENT;

const CAPACITY: u64 = 64;
const LARGEST: u64 = 3 << 20;

/// One of the jobs.
pub(crate) fn work(job: &str, way: &str, count: u64, name: &str) {
    match job {
        "read" => read_all(way, count, name),
        "write" => write_all(way, count, name),
        "lease" => lease_all(count, name),
        "map" => map_all(count, name),
        "occupy" => occupy(name),
        "fail" => fail_all(name),
        _ => panic!("no job: {job}"),
    }
}

fn say(line: impl Display) {
    let mut out = std::io::stdout();
    // In a line of its own, because the test framework prints, too.
    writeln!(out, "\n> {line}").and_then(|()| out.flush()).expect("the parent listens");
}

fn hear() -> String {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("the parent speaks");
    line.trim_end().to_owned()
}

fn large_len(i: u64) -> u64 {
    let step = i * 7 % 20;
    100 + (LARGEST - 100) * step * step / (19 * 19)
}

fn sample_len(i: u64) -> u64 {
    if i % 100 == 0 { large_len(i / 100) } else { i * 16 % 80 }
}

fn bytes_of(i: u64, len: u64) -> Vec<u8> {
    (0..len).map(|at| (i * 31 + at + (at >> 12)) as u8).collect()
}

/// Prints the position, not megabytes of both.
fn check_bytes(bytes: &[u8], i: u64) {
    let expected = bytes_of(i, bytes.len() as u64);
    let wrong = bytes.iter().zip(&expected).position(|(byte, expected)| byte != expected);
    assert_eq!(wrong, None, "payload {i} of {} bytes is wrong there", bytes.len());
}

fn options_of_samples() -> CreateOptions {
    CreateOptions {
        slot_count: 7,
        slot_capacity: CAPACITY,
        user_header_size: 8,
        policy: Some(Policy::Block),
        max_payload: LARGEST,
        region_count: 3,
        ..CreateOptions::default()
    }
}

fn inherited() -> Channel {
    let socket = std::io::stdin().as_fd().try_clone_to_owned().expect("a descriptor");
    Channel::from_fd(socket, &ChannelOptions::default()).expect("the standard input is a socket")
}

/// Makes a segment, or attaches to that of the other side.
fn segment_by(way: &str, name: &str) -> Segment {
    let segment = match way {
        "create" => Segment::create(name, &options_of_samples()),
        "attach" => Segment::attach(name, &AttachOptions::default()),
        "send" => Segment::create_anonymous(&options_of_samples()),
        "receive" => inherited().recv_segment(&AttachOptions::default(), PATIENT),
        _ => panic!("no way: {way}"),
    };
    let segment = segment.expect("a segment");
    let geometry = segment.info().expect("info").geometry;
    assert_eq!((geometry.slot_capacity, geometry.max_payload), (CAPACITY, LARGEST));
    segment
}

fn read_all(way: &str, count: u64, name: &str) {
    let segment = segment_by(way, name);
    let reader = segment.reader(0).expect("reader");
    reader.end_waits(EndWaits { peer_dead: true, ..EndWaits::default() }).expect("it is open");
    if way == "send" {
        inherited().send_segment(&segment, PATIENT).expect("it receives");
    }
    say("ready");
    for i in 1..=count {
        reader.wait(PATIENT).expect("samples come");
        let sample = reader.read().expect("read").expect("a sample");
        assert_eq!(sample.sequence(), i);
        assert_eq!(sample.len() as u64, sample_len(i));
        check_bytes(&sample.to_vec(), i);
        let mut header = [0; 8];
        assert_eq!(sample.read_user_header(&mut header), 8);
        assert_eq!(u64::from_ne_bytes(header), i);
    }
}

fn write_all(way: &str, count: u64, name: &str) {
    let segment = segment_by(way, name);
    let writer = segment.writer().expect("writer");
    // Otherwise the reader has joined before it sent the segment.
    if way != "receive" {
        say("ready");
        assert_eq!(hear(), "go");
    }
    for i in 1..=count {
        let bytes = bytes_of(i, sample_len(i));
        let mut loan = writer.reserve(bytes.len(), PATIENT).expect("room");
        loan.copy_from(&bytes).expect("it fits");
        loan.write_user_header(&i.to_ne_bytes()).expect("it fits");
        assert_eq!(loan.commit(bytes.len()).expect("commit"), i);
    }
}

fn lease_all(count: u64, name: &str) {
    let listener = Listener::bind(name, &ChannelOptions::default()).expect("the name is free");
    say("listening");
    let channel = listener.accept(PATIENT).expect("it connects");
    let registry = Registry::new(&RegistryOptions::default()).expect("a registry");
    registry.add(&channel, PATIENT).expect("it is empty");

    // One lease is written while the other side reads the previous one.
    let mut out: VecDeque<Lease> = VecDeque::new();
    for i in 1..=count {
        let bytes = bytes_of(i, large_len(i));
        let mut lease = registry.alloc(bytes.len(), PATIENT).expect("memory");
        lease.copy_from(&bytes).expect("it fits");
        say(format_args!(
            "{} {} {} {}",
            lease.map_id(),
            lease.generation(),
            lease.offset(),
            lease.len()
        ));
        out.push_back(lease);
        if out.len() == 2 {
            assert_eq!(hear(), "done");
            out.pop_front();
        }
    }
    assert_eq!(hear(), "done");
    drop(out);
    assert_eq!(registry.info().expect("info").leases, 0);
}

/// A reference to a place in a region: map_id, generation, offset, length.
pub(crate) fn reference(line: &str) -> [u64; 4] {
    let numbers: Vec<u64> = line.split(' ').map(|word| word.parse().expect("a number")).collect();
    numbers.try_into().unwrap_or_else(|_| panic!("no reference: {line:?}"))
}

fn map_all(count: u64, name: &str) {
    let channel = Channel::connect(name, &ChannelOptions::default(), PATIENT).expect("it listens");
    let attachments =
        Attachments::new(Some(&channel), &ChannelOptions::default()).expect("attachments");
    for i in 1..=count {
        let [map_id, generation, offset, len] = reference(&hear());
        assert_eq!(len, large_len(i));
        let mapped = attachments
            .resolve_wait(map_id as u32, generation as u32, offset, len, PATIENT)
            .expect("it comes");
        assert_eq!(mapped.len() as u64, len);
        check_bytes(&mapped.to_vec(), i);
        drop(mapped);
        say("done");
    }
}

/// The identity of a type, as bindings/README.md has it.
fn identity(name: &str, size: u64) -> [u8; 16] {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut identity = [0; 16];
    identity[..8].copy_from_slice(&hash.to_le_bytes());
    identity[8..].copy_from_slice(&size.to_le_bytes());
    identity
}

fn occupy(name: &str) {
    let options = CreateOptions {
        single_writer: true,
        slot_count: 2,
        max_readers: 1,
        max_participants: 2,
        type_hash: identity("languages.Probe", 8),
        ..CreateOptions::default()
    };
    let segment = Segment::create(name, &options).expect("create");
    let _writer = segment.writer().expect("writer");
    let _reader = segment.reader(0).expect("reader");
    say("ready");
    assert_eq!(hear(), "go");
}

fn tell<T>(what: &str, result: Result<T>) {
    let code = result.err().map_or(0, |error| error.code().number());
    say(format_args!("{what} {code}"));
}

fn fail_all(name: &str) {
    let missing = format!("{name}-missing");
    let typed = |name: &str, size| AttachOptions {
        type_hash: identity(name, size),
        ..AttachOptions::default()
    };
    let probe = typed("languages.Probe", 8);
    tell("missing", Segment::attach(&missing, &AttachOptions::default()));
    tell("name", Segment::attach("a/b", &AttachOptions::default()));
    tell("exists", Segment::create(name, &CreateOptions::default()));
    tell("size", Segment::attach(name, &typed("languages.Probe", 16)));
    tell("type", Segment::attach(name, &typed("languages.Other", 8)));
    let segment = Segment::attach(name, &probe).expect("it is there");
    tell("crowded", Segment::attach(name, &probe));
    tell("writer", segment.writer());
    tell("reader", segment.reader(0));
    tell("history", segment.reader(1));
    drop(segment);
    let looking =
        Segment::attach(name, &AttachOptions { observer: true, ..probe }).expect("it is there");
    tell("look", looking.writer());
    tell("unlink", Segment::unlink(&missing));

    let options =
        CreateOptions { policy: Some(Policy::Fail), slot_count: 2, ..options_of_samples() };
    let own = Segment::create_local(&options).expect("create");
    let (writer, reader) = (own.writer().expect("writer"), own.reader(0).expect("reader"));
    let read = reader.read();
    // An empty segment is no error here; the other languages return this code.
    assert!(matches!(read, Ok(None)));
    say(format_args!("empty {}", shmslot::Code::Again.number()));
    tell("wait", reader.wait(Some(Duration::ZERO)));
    tell("large", writer.reserve(LARGEST as usize + 1, Some(Duration::ZERO)));
    let loan = writer.reserve(1, Some(Duration::ZERO)).expect("a slot");
    let _second = writer.reserve(1, Some(Duration::ZERO)).expect("a slot");
    tell("full", writer.reserve(1, Some(Duration::ZERO)));
    tell("long", loan.commit(2));
    reader.interrupter().interrupt().expect("it is open");
    tell("interrupt", reader.wait(None));

    let (one, other) = Channel::pair(&ChannelOptions::default()).expect("a pair");
    let attachments =
        Attachments::new(Some(&one), &ChannelOptions::default()).expect("attachments");
    tell("unknown", attachments.resolve(1, 1, 0, 1));
    drop(other);
    tell("broken", attachments.resolve(1, 1, 0, 1));
}
