//! `hz`, `bw`, `delay` and `echo`; and `send` with messages, which feeds them.

mod harness;

use std::process::Stdio;

use harness::{Directory, small, until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use shmslot::{CreateOptions, Segment};

fn wait_for_reader(segment: &Segment) {
    until("a reader has joined", || segment.info().expect("info").readers != 0);
}

#[test]
fn echo_prints_text_as_text_and_other_bytes_as_a_dump() {
    let directory = Directory::new();
    let options = CreateOptions { user_header_size: 4, timestamps: true, ..small() };
    let segment = directory.create("talk", &options);
    let writer = segment.writer().expect("open");
    let mut echo = directory.start(&["echo", "-n", "3", "--limit", "20", "talk"]);
    wait_for_reader(&segment);
    let mut loan = writer.reserve(5, None).expect("reserve");
    loan.write_user_header(&[1, 2, 3, 4]).expect("it fits");
    loan.copy_from(b"hello").expect("it fits");
    loan.commit(5).expect("commit");
    writer.write(b"\x1b[31mred", None).expect("write");
    writer.write(&[b'x'; 30], None).expect("write");
    let first = echo.line();
    assert!(first.starts_with("--- 1 (writer ") && first.contains(", 5 bytes, "), "{first}");
    let ended = echo.wait();
    assert_eq!(ended.status, 0, "{ended:?}");
    assert!(ended.out.starts_with("user header: 01020304\nhello\n"), "{ended:?}");
    let dump = "00000000  1b 5b 33 31 6d 72 65 64                           |.[31mred|\n";
    assert!(ended.out.contains(dump), "{ended:?}");
    assert!(ended.out.ends_with("xxxxxxxxxxxxxxxxxxxx\n... (10 more bytes)\n"), "{ended:?}");
    assert!(ended.err.contains("as reader") && ended.err.contains("wait for this reader"));
    let counters = segment.counters().expect("counters");
    assert_eq!((counters.free, counters.readers), (8, 0), "it has marked and left");
    assert_eq!(counters.participants, 1, "and closed the segment");
}

#[test]
fn echo_gives_programs_json_or_the_bytes() {
    let directory = Directory::new();
    let segment = directory.create("talk", &CreateOptions { history: 3, ..small() });
    let writer = segment.writer().expect("open");
    for bytes in [&b"one"[..], b"", b"\xff\n"] {
        writer.write(bytes, None).expect("write");
    }
    let echoed = directory.jsons(&["echo", "--history", "3", "-n", "3", "talk"]);
    let part = |name: &str| echoed.iter().map(|one| one[name].clone()).collect::<Vec<Value>>();
    assert_eq!(part("sequence"), [1, 2, 3]);
    assert_eq!(part("text"), [json!("one"), json!(""), Value::Null]);
    assert_eq!(part("hex"), [Value::Null, Value::Null, json!("ff0a")]);

    let mut raw = directory.command(&["-q", "echo", "--raw", "--history", "3", "-n", "3", "talk"]);
    let output = raw.stdout(Stdio::piped()).stderr(Stdio::piped()).output().expect("it starts");
    assert_eq!((output.stdout, output.stderr), (b"one\xff\n".to_vec(), Vec::new()));
}

#[test]
fn echo_waits_for_a_name_and_gives_up_in_time() {
    let directory = Directory::new();
    assert_eq!(directory.run(&["echo", "later"]).status, 3);
    let late = directory.run(&["--timeout", "0.05", "echo", "later"]);
    assert_eq!(late.status, 124, "{late:?}");
    let mut echo = directory.start(&["--timeout", "600", "echo", "--once", "later"]);
    let segment = directory.create("later", &small());
    let writer = segment.writer().expect("open");
    wait_for_reader(&segment);
    writer.write(b"here", None).expect("write");
    assert!(echo.line().starts_with("--- 1 "));
    assert_eq!(echo.wait().status, 0);
    let silent = directory.run(&["--timeout", "0.05", "echo", "later"]);
    assert_eq!((silent.status, silent.out), (124, String::new()));
}

#[test]
fn signals_the_end_of_the_name_and_a_closed_pipe_end_echo_quietly() {
    let directory = Directory::new();
    let segment = directory.create("talk", &small());
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let echo = directory.start(&["echo", "talk"]);
        wait_for_reader(&segment);
        echo.signal(signal);
        assert_eq!(echo.wait().status, 0, "{signal}");
    }
    // As `shmslot echo | head -n 1`.
    let mut echo = directory.command(&["-q", "echo", "talk"]);
    let mut child = echo.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    drop(child.stdout.take());
    wait_for_reader(&segment);
    segment.writer().expect("open").write(b"nobody reads", None).expect("write");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));

    let echo = directory.start(&["echo", "talk"]);
    wait_for_reader(&segment);
    Segment::unlink(&directory.name("talk")).expect("unlink");
    let ended = echo.wait();
    assert_eq!(ended.status, 0);
    assert!(ended.err.contains("the segment was removed"), "{ended:?}");
}

#[test]
fn hz_bw_and_delay_measure_what_comes() {
    let directory = Directory::new();
    let options = CreateOptions { timestamps: true, slot_count: 64, ..small() };
    let segment = directory.create("fed", &options);
    let feeder = ["send", "--rate", "1000", "--repeat", "0", "-m", "0123456789", "fed"];
    let _feeder = directory.start(&feeder);

    let rates = directory.jsons(&["hz", "-n", "200", "fed"]);
    let rate = rates.last().expect("a report at the end");
    assert_eq!((&rate["window"], &rate["clock"]), (&json!(199), &json!("commit")));
    // The feeder does not catch up, so it sends at most a thousand a second, give or take the
    // moment at which each commit takes its time.
    let hertz = rate["rate_hz"].as_f64().expect("a number");
    assert!(hertz > 0.0 && hertz < 1500.0, "{rate}");

    let bandwidth = directory.jsons(&["bw", "-n", "50", "fed"]);
    let bandwidth = bandwidth.last().expect("a report at the end");
    assert_eq!((&bandwidth["mean_size"], &bandwidth["window"]), (&json!(10.0), &json!(49)));

    let delays = directory.jsons(&["delay", "-n", "50", "fed"]);
    let delay = delays.last().expect("a report at the end");
    let ns = |part: &str| delay[part].as_f64().expect("a number");
    assert!(0.0 < ns("min_ns") && ns("min_ns") <= ns("median_ns"), "{delay}");
    assert!(ns("median_ns") <= ns("p99_ns") && ns("p99_ns") <= ns("max_ns"), "{delay}");

    let text = directory.run(&["hz", "-n", "20", "fed"]).out;
    assert!(text.starts_with("average rate: ") && text.contains("\n\tmin: "), "{text}");
    let text = directory.run(&["delay", "-n", "20", "fed"]).out;
    assert!(text.starts_with("average delay: 0.") && text.contains(" window: 20"), "{text}");
    let text = directory.run(&["bw", "-n", "20", "fed"]).out;
    assert!(text.contains("/s from 19 messages\n\tMessage size mean: 10 B"), "{text}");
    let readers = || segment.counters().expect("counters").readers;
    until("all have left", || readers() == 0);
    let look = directory.jsons(&["hz", "--look", "-i", "0.1", "-d", "0.3", "fed"]);
    assert!(look.iter().any(|one| one["samples"].as_u64() > Some(0)), "{look:?}");
}

#[test]
fn hz_says_that_nothing_came_and_delay_that_there_are_no_times() {
    let directory = Directory::new();
    let _segment = directory.create("silent", &small());
    let ended = directory.run(&["hz", "-i", "0.05", "-d", "0.2", "silent"]);
    assert_eq!((ended.status, &*ended.out), (0, ""), "{ended:?}");
    assert!(ended.err.contains("no new samples"), "{ended:?}");
    assert_eq!(directory.run(&["--timeout", "0.05", "hz", "silent"]).status, 124);
    let ended = directory.run(&["delay", "silent"]);
    assert_eq!(ended.status, 1);
    assert!(ended.err.contains("create it with timestamps"), "{ended:?}");
    assert!(!ended.err.contains("joined"), "it need not join to say so: {ended:?}");
}

#[test]
fn messages_and_lines_are_samples() {
    let directory = Directory::new();
    let segment = directory.create("talk", &CreateOptions { history: 7, ..small() });
    let reader = segment.reader(0).expect("join");
    let sent = |arguments: &[&str], input: &[u8]| {
        let ended = directory.run_with(arguments, input);
        let mut samples = Vec::new();
        while let Some(sample) = reader.read().expect("read") {
            samples.push(String::from_utf8(sample.to_vec()).expect("text"));
        }
        (ended.status, samples)
    };
    let (status, samples) = sent(&["send", "talk", "-m", "a", "-m", "b", "--repeat", "2"], b"");
    assert_eq!((status, samples), (0, ["a", "b", "a", "b"].map(String::from).into()));
    let (status, samples) = sent(&["send", "talk", "--lines"], b"one\n\nthree");
    assert_eq!((status, samples), (0, ["one", "", "three"].map(String::from).into()));
    let long = "x".repeat(100);
    let ended = directory.run(&["send", "talk", "-m", &long]);
    assert_eq!(ended.status, 1);
    assert!(ended.err.contains("100") && ended.err.contains("64"), "{ended:?}");
    assert_eq!(directory.run(&["send", "talk", "-m", "a", "--rate", "0"]).status, 2);
}
