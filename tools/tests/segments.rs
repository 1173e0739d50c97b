//! `ls`, `info`, `recover`, `clean` and `rm`.

mod harness;

use std::time::Duration;

use harness::{Directory, small, until};
use serde_json::{Value, json};
use shmslot::{AttachOptions, CreateOptions, Policy, Segment};

/// Kills a process that is a reader of a segment, which leaves it with a dead participant.
fn kill_a_reader(directory: &Directory, name: &str) -> u32 {
    let segment = directory.attach(name);
    let before = segment.counters().expect("counters").readers;
    let mut reader = directory.start(&["echo", name]);
    until("it has joined", || segment.counters().expect("counters").readers > before);
    reader.kill();
    reader.pid()
}

fn names(list: &Value) -> Vec<(&str, &str)> {
    let list = list.as_array().expect("a list");
    list.iter()
        .map(|one| (one["name"].as_str().expect("a name"), one["state"].as_str().expect("a state")))
        .collect()
}

#[test]
fn ls_shows_each_segment_and_whether_a_process_uses_it() {
    let directory = Directory::new();
    let options =
        CreateOptions { policy: Some(Policy::DropOldest), type_name: "pose".into(), ..small() };
    let alive = directory.create("alive", &options);
    drop(directory.create("dead", &small()));
    std::fs::write(directory.0.join("stranger"), b"no segment").expect("a file");
    std::fs::write(directory.0.join("old"), b"SHMSLOT\0").expect("a file");
    let (_reader, _writer) = (alive.reader(0).expect("join"), alive.writer().expect("open"));

    let list = directory.json(&["ls"]);
    assert_eq!(names(&list)[..2], [("alive", "alive"), ("dead", "dead")]);
    let info = &list[0]["info"];
    assert_eq!(info["geometry"]["type_name"], "pose");
    assert_eq!(info["geometry"]["policy"], "drop-oldest");
    assert_eq!(info["readers"][0]["pid"], std::process::id());
    assert_eq!(info["participants"][0]["writers"], 1);
    assert_eq!(names(&directory.json(&["ls", "d*", "nothing"])), [("dead", "dead")]);
    assert_eq!(directory.run(&["ls", "-1", "*e*"]).out, "alive\ndead\n");

    let table = directory.run(&["ls"]).out;
    let line = table.lines().find(|line| line.starts_with("alive")).expect("it is listed");
    for cell in ["1/15", "drop-oldest", "0600", "pose"] {
        assert!(line.contains(cell), "{cell}: {table}");
    }
    assert_eq!(alive.info().expect("info").participants, 1, "a look leaves nothing behind");
}

#[test]
fn info_tells_who_holds_what() {
    let directory = Directory::new();
    let segment =
        directory.create("camera", &CreateOptions { timestamps: true, history: 1, ..small() });
    let (writer, reader) = (segment.writer().expect("open"), segment.reader(0).expect("join"));
    for text in ["one", "two", "three"] {
        writer.write(text.as_bytes(), None).expect("write");
    }
    let _held = reader.read().expect("read").expect("a sample");
    let _loan = writer.reserve(1, None).expect("reserve");
    let dead = kill_a_reader(&directory, "camera");

    let info = directory.json(&["info", "camera"]);
    let slots = json!({ "free": 4, "loaned": 1, "unread": 2, "held": 1, "retained": 0 });
    assert_eq!(info["slots"], slots);
    assert_eq!((&info["next_sequence"], &info["dead"]), (&json!(4), &json!(1)));
    let mut readers = info["readers"].as_array().expect("a list").iter();
    let own = readers.find(|one| one["pid"] == std::process::id()).expect("it has joined");
    assert_eq!((&own["held"], &own["unread"], &own["lag"]), (&json!(1), &json!(2), &json!(2)));
    assert_eq!(own["oldest_held"], 1);
    assert!(own["oldest_held_age_ns"].as_u64().expect("a time") > 0);
    assert_eq!(info["writers_with_loans"][0]["loans"], 1);
    let command = info["participants"][0]["command"].as_str().expect("it maps the segment");
    let own_command = std::fs::read_to_string("/proc/self/comm").expect("there is /proc");
    assert_eq!(command, own_command.trim_end());
    assert_eq!(
        (&info["participants"][1]["pid"], &info["participants"][1]["alive"]),
        (&json!(dead), &json!(false))
    );

    let text = directory.run(&["info", "camera"]).out;
    for part in ["4 free, 1 on loan, 2 unread, 1 held", "3 committed", "dead", "block, timestamps"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn what_is_not_there_has_its_own_status_and_the_rest_is_still_shown() {
    let directory = Directory::new();
    let _segment = directory.create("here", &small());
    let ended = directory.run(&["info", "gone", "here"]);
    assert_eq!((ended.status, ended.err.lines().count()), (3, 1), "{ended:?}");
    assert!(ended.err.contains("gone") && ended.out.starts_with("here\n"), "{ended:?}");
    assert_eq!(directory.run(&["info", "--nonsense"]).status, 2);
    assert_eq!(directory.run(&["info"]).status, 0);
    let elsewhere = directory.name("no-such-directory");
    assert_eq!(directory.run(&["--dir", &elsewhere, "ls"]).status, 3);
}

#[test]
fn recover_releases_what_a_killed_reader_had() {
    let directory = Directory::new();
    let segment = directory.create("camera", &small());
    let dead = kill_a_reader(&directory, "camera");
    segment.writer().expect("open").write(b"for the dead", None).expect("write");
    let ended = directory.run(&["recover", "camera"]);
    assert_eq!(ended.status, 0, "{ended:?}");
    assert!(
        ended.out.starts_with(&format!("recovered camera: process {dead} is dead")),
        "{ended:?}"
    );
    let counters = segment.counters().expect("counters");
    assert_eq!((counters.dead, counters.recovered, counters.free), (0, 1, 8));
    assert_eq!(directory.run(&["recover"]).out, "", "once is enough");
}

#[test]
fn clean_removes_the_dead_recovers_the_living_and_a_dry_run_does_neither() {
    let directory = Directory::new();
    let alive = directory.create("alive", &small());
    drop(directory.create("dead", &small()));
    let pid = kill_a_reader(&directory, "alive");
    let dry = directory.run(&["clean", "--dry-run"]);
    assert_eq!(
        dry.out,
        format!(
            "would recover alive: process {pid} is dead (writers: 0, readers: 1)\n\
             would remove dead: no process uses it\n"
        )
    );
    assert!(directory.exists("dead"));
    assert_eq!(alive.counters().expect("counters").dead, 1);
    assert_eq!(directory.run(&["clean", "other*"]).out, "");

    let done = directory.jsons(&["clean"]);
    assert_eq!(done[0]["action"], "recover");
    assert_eq!(done[1], json!({ "name": "dead", "action": "remove", "done": true }));
    assert!(!directory.exists("dead") && directory.exists("alive"));
    assert_eq!(alive.counters().expect("counters").dead, 0);
    assert_eq!(directory.run(&["clean"]).out, "");
}

/// While one process cleans all the time, others create, attach, close and open one name: whoever
/// is attached keeps it.
#[test]
fn clean_never_takes_the_name_of_a_living_segment() {
    let directory = Directory::new();
    let name = directory.name("contested");
    let done = std::sync::atomic::AtomicBool::new(false);
    let cleaned = std::thread::scope(|scope| {
        let cleaner = scope.spawn(|| {
            let mut cleaned = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let ended = directory.run(&["clean"]);
                assert_eq!(ended.status, 0, "{ended:?}");
                cleaned += ended.out.lines().count();
            }
            cleaned
        });
        for round in 0..2000 {
            let (segment, _) = Segment::open(&name, &small()).expect("open");
            let named = segment.is_named().expect("it can be asked");
            let other = Segment::attach(&name, &AttachOptions::default()).expect("attach");
            assert!(named, "it was taken from a living segment");
            assert_eq!(
                other.info().expect("info").geometry.segment_id,
                segment.info().expect("info").geometry.segment_id,
            );
            drop((segment, other));
            // Now it is dead, until the next round.
            std::thread::sleep(Duration::from_micros(200 * (round % 4)));
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        cleaner.join().expect("the cleaner was content")
    });
    assert!(cleaned > 0, "the test has tried nothing");
}

#[test]
fn rm_removes_what_is_dead_and_asks_for_force_else() {
    let directory = Directory::new();
    let segment = directory.create("used", &small());
    drop(directory.create("unused", &small()));
    let refused = directory.run(&["rm", "used", "unused"]);
    assert_eq!(refused.status, 1, "{refused:?}");
    assert!(refused.err.contains(&std::process::id().to_string()), "{refused:?}");
    assert!(directory.exists("used") && !directory.exists("unused"));
    assert_eq!(directory.run(&["rm", "--force", "us*"]).status, 0);
    assert!(!directory.exists("used") && segment.info().expect("info").retired);
    assert_eq!(directory.run(&["rm", "used"]).status, 3);
}
