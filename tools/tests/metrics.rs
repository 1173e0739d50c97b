//! `metrics`: what a parser of Prometheus makes of it.

mod harness;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use harness::{Directory, python, run, small};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use shmslot::CreateOptions;

/// Parses OpenMetrics text strictly, and prints each sample by its name and labels.
const PARSE: &str = r#"
import json, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
found = {}
for family in text_string_to_metric_families(sys.stdin.read()):
    for sample in family.samples:
        labels = {k: v for k, v in sample.labels.items() if k not in ("pid", "comm", "id")}
        found[sample.name + json.dumps(labels, sort_keys=True)] = sample.value
print(json.dumps(found))
"#;

fn parse(directory: &Directory, text: &str) -> Value {
    let file = directory.name("metrics.txt");
    std::fs::write(&file, text).expect("a file");
    let stdin = std::fs::File::open(&file).expect("it was written");
    let parsed = run(Command::new(python()).args(["-c", PARSE]).stdin(stdin));
    std::fs::remove_file(&file).expect("it was written");
    serde_json::from_str(&parsed).expect("JSON")
}

fn check(directory: &Directory, text: &str, index: u32) {
    let found = parse(directory, text);
    let value =
        |name: &str, labels: Value| found[format!("{name}{}", python_json(&labels))].clone();
    let segment = json!({ "segment": "odd \"name\"" });
    assert_eq!(value("shmslot_samples_total", segment.clone()), 3.0, "{found}");
    let slots =
        |state: &str| value("shmslot_slots", json!({ "segment": "odd \"name\"", "state": state }));
    for (state, count) in [("free", 5.0), ("unread", 2.0), ("held", 1.0)] {
        assert_eq!(slots(state), count, "{state}: {found}");
    }
    let reader =
        json!({ "reader": index.to_string(), "segment": "odd \"name\"", "state": "joined" });
    assert_eq!(value("shmslot_reader_lag_samples", reader.clone()), 2.0, "{found}");
    assert_eq!(value("shmslot_reader_held_samples", reader.clone()), 1.0);
    assert_eq!(value("shmslot_reader_lost_samples_total", reader.clone()), 0.0);
    let age = value("shmslot_reader_oldest_held_age_seconds", reader);
    assert!(age.as_f64() > Some(0.0), "{found}");
    assert_eq!(value("shmslot_writers", segment), 1.0);
}

/// As Python prints it.
fn python_json(labels: &Value) -> String {
    labels.to_string().replace("\":", "\": ").replace(",\"", ", \"")
}

fn get(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers and closes");
    answer
}

#[test]
fn a_parser_of_prometheus_reads_what_is_printed_and_what_is_served() {
    let directory = Directory::new();
    let options = CreateOptions { timestamps: true, type_name: "pose".into(), ..small() };
    let segment = directory.create("odd \"name\"", &options);
    let (writer, reader) = (segment.writer().expect("open"), segment.reader(0).expect("join"));
    for _ in 0..3 {
        writer.write(b"x", None).expect("write");
    }
    let _held = reader.read().expect("read").expect("a sample");

    let printed = directory.run(&["metrics"]);
    assert_eq!(printed.status, 0, "{printed:?}");
    assert!(printed.out.ends_with("# EOF\n"));
    check(&directory, &printed.out, reader.index());
    assert_eq!(directory.run(&["metrics", "missing"]).status, 3);

    let mut server = directory.start(&["metrics", "--listen", "127.0.0.1:0"]);
    let line = server.line();
    let address = line.trim().strip_prefix("http://").and_then(|rest| rest.split('/').next());
    let address = address.expect("it prints where it listens").to_owned();
    // A client that says nothing does not keep it from ending.
    for _ in 0..2 {
        let answer = get(&address, "GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(
            head.contains("Content-Type: application/openmetrics-text; version=1.0.0"),
            "{head}"
        );
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
        check(&directory, body, reader.index());
    }
    assert!(get(&address, "GET /other HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
    assert!(get(&address, "POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
    assert!(get(&address, "HEAD / HTTP/1.1\r\n\r\n").ends_with("\r\n\r\n"));
    assert_eq!(segment.info().expect("info").participants, 1, "it only looks");
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait().status, 0);
}

#[test]
fn it_listens_for_this_machine_only_unless_asked() {
    let directory = Directory::new();
    let refused = directory.run(&["metrics", "--listen", "0.0.0.0:0"]);
    assert_eq!(refused.status, 2);
    assert!(refused.err.contains("--public"), "{refused:?}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("it has one").to_string();
    assert_eq!(directory.run(&["metrics", "--listen", &address]).status, 1);
}
