//! `bench`.

mod harness;

use harness::{Directory, until};
use nix::sys::signal::Signal;
use serde_json::Value;

#[test]
fn it_measures_both_ways_of_reading_and_leaves_nothing_behind() {
    for arguments in [&["--size", "1"][..], &["--wait", "--many-writers", "--size", "4K"]] {
        let directory = Directory::new();
        let picture = directory.name("picture.svg");
        let bench = [&["bench", "--duration", "0.2", "--svg", &picture], arguments].concat();
        let results: Value = directory.json(&bench);
        let way = &results["one_way_ns"];
        let number = |value: &Value| value.as_f64().expect("a number");
        assert!(number(&way["count"]) >= 64.0, "{results}");
        let quantiles =
            ["p50", "p90", "p99", "p99.9", "max"].map(|name| number(&way["quantiles"][name]));
        assert!(quantiles.is_sorted() && number(&way["min"]) <= quantiles[0], "{results}");
        assert!(number(&results["throughput"]["samples_per_second"]) > 0.0, "{results}");
        let svg = std::fs::read_to_string(&picture).expect("it was drawn");
        assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"), "{svg}");
        assert_eq!(svg.matches("NaN").count() + svg.matches("inf").count(), 0, "{svg}");
        let left = std::fs::read_dir(&directory.0).expect("a directory").count();
        assert_eq!(left, 1, "only the picture");
    }
}

#[test]
fn its_text_has_a_histogram() {
    let directory = Directory::new();
    let ended = directory.run(&["bench", "--duration", "0.1"]);
    assert_eq!(ended.status, 0, "{ended:?}");
    let amounts = ended.out.lines().filter(|line| line.contains("<= ") || line.contains("more"));
    let sum: u64 = amounts
        .map(|line| line.split_whitespace().next_back().expect("an amount").parse::<u64>())
        .map(|amount| amount.expect("a number"))
        .sum();
    let first = ended.out.lines().next().expect("a title");
    assert!(first.ends_with(&format!(": {sum} samples")), "{}", ended.out);
    assert!(ended.out.lines().all(|line| line.chars().count() <= 120), "{}", ended.out);
}

#[test]
fn when_it_is_killed_or_interrupted_its_second_process_ends_too() {
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        let directory = Directory::new();
        let bench = directory.start(&["bench", "--duration", "1000"]);
        let children = format!("/proc/{0}/task/{0}/children", bench.pid());
        let child = || std::fs::read_to_string(&children).unwrap_or_default().trim().to_owned();
        until("the second process runs", || {
            let observer = shmslot::AttachOptions { observer: true, ..Default::default() };
            let name = directory.name(&format!("bench-{}-there", bench.pid()));
            shmslot::Segment::attach(&name, &observer)
                .is_ok_and(|there| there.info().expect("info").next_sequence > 100)
        });
        let child = child();
        bench.signal(signal);
        let status = bench.wait().status;
        assert_eq!(status, if signal == Signal::SIGINT { 130 } else { -1 });
        let cmdline = format!("/proc/{child}/cmdline");
        until("the second process has ended", || {
            !std::fs::read_to_string(&cmdline).is_ok_and(|line| line.contains("--peer"))
        });
    }
}
