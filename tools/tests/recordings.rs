//! `record` and `replay`: what Python reads of a recording, and what comes back from it.

mod harness;

use std::fs;
use std::process::Command;
use std::time::Duration;

use harness::{Directory, python, run, small, until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use shmslot::{AttachOptions, CreateOptions, Policy, Segment};

/// Prints all that the package `mcap` finds in a file, as JSON. It reads what is there of a file
/// without an end.
const READ: &str = r#"
import json, sys
from mcap.exceptions import EndOfFile
from mcap.reader import make_reader
from mcap.records import Channel, Message, Metadata
from mcap.stream_reader import StreamReader

found = {"channels": {}, "messages": [], "metadata": {}, "summary": None}
names = {}
with open(sys.argv[1], "rb") as file:
    try:
        for record in StreamReader(file, validate_crcs=True).records:
            if isinstance(record, Channel):
                names[record.id] = record.topic
                found["channels"][record.topic] = [record.message_encoding, record.metadata]
            elif isinstance(record, Message):
                found["messages"].append([names[record.channel_id], record.sequence,
                                          record.data.hex(), record.log_time, record.publish_time])
            elif isinstance(record, Metadata):
                found["metadata"][record.name] = record.metadata
    except EndOfFile:
        pass
with open(sys.argv[1], "rb") as file:
    try:
        summary = make_reader(file).get_summary()
        found["summary"] = summary.statistics.message_count
        found["schemas"] = [[s.name, s.encoding, s.data.decode()] for s in summary.schemas.values()]
    except Exception:
        pass
print(json.dumps(found))
"#;

fn read(path: &str) -> Value {
    let text = run(Command::new(python()).args(["-c", READ, path]));
    serde_json::from_str(&text).expect("it prints JSON")
}

fn wait_for_reader(segment: &Segment) {
    until("a reader has joined", || segment.info().expect("info").readers != 0);
}

fn now_ns() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("it is after 1970").as_nanos() as u64
}

#[test]
fn python_reads_a_recording() {
    let directory = Directory::new();
    let file = directory.name("out.mcap");
    let options = CreateOptions {
        user_header_size: 2,
        timestamps: true,
        type_name: "pose".into(),
        type_hash: [7; 16],
        ..small()
    };
    let pose = directory.create("pose", &options);
    let plain = directory.create("plain", &small());
    let schema = directory.name("pose.json");
    fs::write(&schema, r#"{"type":"object"}"#).expect("a file");
    let began = now_ns();
    let recorder = directory.start(&[
        "--json",
        "record",
        "-o",
        &file,
        "-n",
        "4",
        "--encoding",
        "json",
        "--schema",
        &schema,
        "--schema-encoding",
        "jsonschema",
        "p*",
    ]);
    wait_for_reader(&pose);
    wait_for_reader(&plain);
    let writer = pose.writer().expect("open");
    for number in 1..=3_u8 {
        let mut loan = writer.reserve(1, None).expect("reserve");
        loan.write_user_header(&[number, 0xee]).expect("it fits");
        loan.copy_from(&[number]).expect("it fits");
        loan.commit(1).expect("commit");
    }
    plain.writer().expect("open").write(b"", None).expect("write");
    let ended = recorder.wait();
    assert_eq!(ended.status, 0, "{ended:?}");
    let said: Value = serde_json::from_str(&ended.out).expect("JSON");
    assert_eq!(
        (&said["samples"], &said["dropped"], &said["lost"]),
        (&json!(4), &json!(0), &json!(0))
    );

    let found = read(&file);
    assert_eq!(found["summary"], 7, "four payloads and three user headers");
    assert_eq!(
        found["schemas"],
        json!([
            ["", "jsonschema", r#"{"type":"object"}"#],
            ["pose", "jsonschema", r#"{"type":"object"}"#]
        ])
    );
    let (encoding, metadata) = (&found["channels"]["pose"][0], &found["channels"]["pose"][1]);
    assert_eq!(
        (encoding, &metadata["shmslot.type_hash"]),
        (&json!("json"), &json!("07".repeat(16)))
    );
    assert_eq!(
        (&metadata["shmslot.slot_count"], &metadata["shmslot.policy"]),
        (&json!("8"), &json!("block"))
    );
    assert_eq!(found["channels"]["pose/_header"][1]["shmslot.header_of"], "pose");
    assert_eq!(found["metadata"]["shmslot.missing"], json!({ "dropped": "0", "lost": "0" }));
    let messages = found["messages"].as_array().expect("a list");
    let of = |topic: &str| -> Vec<(u64, String)> {
        let fitting = messages.iter().filter(|message| message[0] == topic);
        let part = |message: &Value| {
            (message[1].as_u64().expect("a number"), message[2].as_str().expect("text").to_owned())
        };
        fitting.map(part).collect()
    };
    let expected = |texts: [&str; 3]| (1..).zip(texts.map(str::to_owned)).collect::<Vec<_>>();
    assert_eq!(of("pose"), expected(["01", "02", "03"]));
    assert_eq!(of("pose/_header"), expected(["01ee", "02ee", "03ee"]));
    assert_eq!(of("plain"), [(1, String::new())]);
    for message in messages {
        let time = |at: usize| message[at].as_u64().expect("a time");
        assert!(began <= time(3) && time(3) <= now_ns(), "the clock of calendars: {message}");
        // The offset between the clocks was taken once, and clocks are adjusted.
        assert!(time(4) <= time(3) + 50_000_000, "committed before it was read: {message}");
    }
    assert_eq!(directory.run(&["record", "-o", &file, "pose"]).status, 1, "it is not replaced");
}

#[test]
fn the_file_of_a_killed_recorder_has_what_came_a_second_before() {
    let directory = Directory::new();
    let file = directory.name("killed.mcap");
    let segment = directory.create("talk", &small());
    let mut recorder = directory.start(&["record", "-o", &file, "talk"]);
    wait_for_reader(&segment);
    let writer = segment.writer().expect("open");
    writer.write(b"early", None).expect("write");
    // The chunk is written a second later; until then the file has only its beginning.
    let start = fs::metadata(&file).expect("it is there").len();
    until("a chunk is written", || {
        fs::metadata(&file).expect("it is there").len() > start + 20
            && fs::read(&file).expect("it can be read").windows(5).any(|part| part == b"early")
    });
    writer.write(b"late", None).expect("write");
    recorder.kill();

    let found = read(&file);
    assert_eq!(found["summary"], Value::Null, "nobody has ended it");
    assert_eq!(found["messages"][0][2], "6561726c79");
    // It plays, too.
    let played = directory.run(&["replay", &file, "--remap", "talk:=again", "--keep"]);
    assert_eq!(played.status, 0, "{played:?}");
    assert!(played.err.contains("the file ends early"), "{played:?}");
    // What the killed recorder held is released with the next wait or recovery.
    assert_eq!(segment.recover().map(|_| segment.counters().expect("counters").free), Ok(8));
}

#[test]
fn replay_rebuilds_the_segments_with_their_options_headers_and_rhythm() {
    let directory = Directory::new();
    let file = directory.name("out.mcap");
    let options = CreateOptions {
        user_header_size: 4,
        history: 2,
        max_payload: 100_000,
        policy: Some(Policy::DropOldest),
        single_writer: true,
        timestamps: true,
        max_readers: 9,
        type_name: "picture".into(),
        type_hash: shmslot::type_hash("picture", 9),
        ..small()
    };
    let segment = directory.create("camera", &options);
    let recorder = directory.start(&["-q", "record", "-o", &file, "camera"]);
    wait_for_reader(&segment);
    let writer = segment.writer().expect("open");
    let payloads = [vec![1; 10], vec![2; 99_000], Vec::new()];
    for (number, payload) in (0_u32..).zip(&payloads) {
        let mut loan = writer.reserve(payload.len(), None).expect("reserve");
        loan.write_user_header(&number.to_le_bytes()).expect("it fits");
        loan.copy_from(payload).expect("it fits");
        loan.commit(payload.len()).expect("commit");
        std::thread::sleep(Duration::from_millis(60));
    }
    recorder.signal(Signal::SIGINT);
    assert_eq!(recorder.wait().status, 0);

    let player =
        directory.start(&["-q", "replay", &file, "--remap", "camera:=copy", "--readers", "1"]);
    until("the segment is there", || directory.exists("copy"));
    let copy = Segment::attach(&directory.name("copy"), &AttachOptions::default()).expect("attach");
    let geometry = |segment: &Segment| {
        let geometry = segment.info().expect("info").geometry;
        shmslot::layout::Geometry { segment_id: 0, ..geometry }
    };
    assert_eq!(geometry(&copy), geometry(&segment));
    let reader = copy.reader(0).expect("join");
    let mut times = Vec::new();
    for (number, payload) in (0_u32..).zip(&payloads) {
        reader.wait(Some(Duration::from_secs(60))).expect("it plays");
        let sample = reader.read().expect("read").expect("a sample");
        let mut header = [0; 4];
        sample.read_user_header(&mut header);
        assert_eq!((u32::from_le_bytes(header), &sample.to_vec()), (number, payload));
        times.push(sample.timestamp_ns());
    }
    assert!(times[2] - times[0] >= 119_000_000, "it keeps the rhythm: {times:?}");
    assert_eq!(player.wait().status, 0);
    assert_eq!(reader.lost(), 0);
    drop(reader);
    assert!(directory.exists("copy"), "this process still uses it");

    drop((writer, segment));
    // Faster, in part, and again and again.
    let part = ["--json", "replay", &file, "--rate", "0", "--start", "0.05", "--end", "0.09"];
    let said: Value = serde_json::from_str(&directory.run(&part).out).expect("JSON");
    assert_eq!((&said["messages"], &said["bytes"]), (&json!(1), &json!(99_000)));
    let none = directory.jsons(&["replay", &file, "--topics", "cam", "--remap", "x:=y"]);
    assert_eq!(none[0]["messages"], 0);
    let looping =
        directory.start(&["replay", &file, "--loop", "--rate", "0", "--remap", "camera:=round"]);
    until("it has played many times", || {
        let observer = AttachOptions { observer: true, ..AttachOptions::default() };
        let round = Segment::attach(&directory.name("round"), &observer);
        round.is_ok_and(|round| round.info().expect("info").next_sequence > 20)
    });
    looping.signal(Signal::SIGINT);
    assert_eq!(looping.wait().status, 0);
    assert!(!directory.exists("round"), "it removes what it made");
}

#[test]
fn a_recorder_goes_on_without_a_segment_that_is_removed_and_ends_with_the_last() {
    let directory = Directory::new();
    let file = directory.name("out.mcap");
    let (one, two) = (directory.create("one", &small()), directory.create("two", &small()));
    let recorder = directory.start(&["--json", "record", "-o", &file, "one", "two"]);
    wait_for_reader(&one);
    wait_for_reader(&two);
    one.writer().expect("open").write(b"1", None).expect("write");
    Segment::unlink(&directory.name("one")).expect("unlink");
    until("it has left", || one.info().expect("info").readers == 0);
    two.writer().expect("open").write(b"2", None).expect("write");
    Segment::unlink(&directory.name("two")).expect("unlink");
    let ended = recorder.wait();
    assert_eq!(ended.status, 0, "{ended:?}");
    let data: Vec<Value> = read(&file)["messages"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|message| json!([message[0], message[2]]))
        .collect();
    assert_eq!(data, [json!(["one", "31"]), json!(["two", "32"])]);
    let nothing = directory.run(&["record", "-o", &file, "--force"]);
    assert_eq!(nothing.status, 1, "{nothing:?}");
    assert!(nothing.err.contains("no segment to record"), "{nothing:?}");
}

/// Writes a file as another recorder does: a topic with slashes, a schema, no options of a segment.
const WRITE: &str = r#"
import sys
from mcap.writer import CompressionType, Writer
with open(sys.argv[1], "wb") as file:
    writer = Writer(file, compression=CompressionType[sys.argv[2]])
    writer.start(profile="ros2", library="test")
    schema = writer.register_schema(name="std_msgs/msg/String", encoding="ros2msg",
                                    data=b"string data")
    channel = writer.register_channel(schema_id=schema, topic="/chat/ter", message_encoding="cdr")
    for number in range(3):
        writer.add_message(channel_id=channel, log_time=number, publish_time=number,
                           sequence=number, data=b"m%d" % number * 5000)
    writer.finish()
"#;

#[test]
fn files_of_other_recorders_play() {
    let directory = Directory::new();
    let file = directory.name("foreign.mcap");
    run(Command::new(python()).args(["-c", WRITE, &file, "NONE"]));
    let player = directory.start(&["-q", "replay", &file, "--readers", "1"]);
    until("the segment is there", || directory.exists("chat.ter"));
    let segment = directory.attach("chat.ter");
    let reader = segment.reader(0).expect("join");
    for number in 0..3 {
        reader.wait(Some(Duration::from_secs(60))).expect("it plays");
        let sample = reader.read().expect("read").expect("a sample");
        assert_eq!(sample.to_vec(), format!("m{number}").repeat(5000).into_bytes());
    }
    assert_eq!(player.wait().status, 0);
    let info = directory.json(&["info", "chat.ter"]);
    assert_eq!(info["geometry"]["type_name"], "std_msgs/msg/String");

    // The same again, compressed.
    for how in ["ZSTD", "LZ4"] {
        run(Command::new(python()).args(["-c", WRITE, &file, how]));
        // Into the segment that this process still uses.
        let player = directory.start(&["--json", "replay", &file]);
        for number in 0..3 {
            reader.wait(Some(Duration::from_secs(60))).expect("it plays");
            let sample = reader.read().expect("read").expect("a sample");
            assert_eq!(sample.to_vec(), format!("m{number}").repeat(5000).into_bytes(), "{how}");
        }
        assert_eq!(player.wait().status, 0, "{how}");
    }
    // A byte of a chunk is wrong.
    let mut damaged = fs::read(&file).expect("it was written");
    damaged[300] ^= 1;
    fs::write(&file, damaged).expect("a file");
    let refused = directory.run(&["replay", &file]);
    assert_eq!((refused.status, refused.err.lines().count()), (1, 1), "{refused:?}");
    fs::write(&file, b"no recording at all").expect("a file");
    let refused = directory.run(&["replay", &file]);
    assert_eq!((refused.status, refused.err.lines().count()), (1, 1), "{refused:?}");
}

#[test]
fn a_recorder_without_room_drops_and_counts_and_holds_nothing() {
    let directory = Directory::new();
    // Nothing can be written to it, so the queue fills up. A recorder that held its slots would
    // stop the writer below.
    let pipe = directory.name("pipe.mcap");
    run(Command::new("mkfifo").arg(&pipe));
    let segment = directory.create("fast", &CreateOptions { slot_capacity: 1 << 20, ..small() });
    let mut stuck = directory.start(&[
        "--json", "record", "--force", "-o", &pipe, "--queue", "4M", "--chunk", "1M", "fast",
    ]);
    // It opens, and is read from only at the end.
    let drain = fs::OpenOptions::new().read(true).write(true).open(&pipe).expect("the pipe");
    wait_for_reader(&segment);
    let writer = segment.writer().expect("open");
    let payload = vec![1; 1 << 20];
    for _ in 0..40 {
        writer.write(&payload, Some(Duration::from_secs(60))).expect("the recorder marks");
    }
    until("it has marked", || segment.counters().expect("counters").free == 8);
    stuck.signal(Signal::SIGINT);
    let reading = std::thread::spawn(move || {
        let mut drain = drain;
        std::io::copy(&mut drain, &mut std::io::sink()).expect("it can be read")
    });
    let said: Value = serde_json::from_str(&stuck.line()).expect("JSON");
    let number = |part: &str| said[part].as_u64().expect("a number");
    assert_eq!(number("samples") + number("dropped"), 40, "{said}");
    assert!(number("dropped") > 0 && number("samples") >= 4, "{said}");
    // The descriptor for reading also writes, so the copy never ends; the process does.
    drop(reading);
}
