//! What a segment and a participant take from the system: time to set up, memory, descriptors,
//! mappings, threads, system calls, and the processor while nothing happens.
//!
//! `cargo bench --bench resources` prints Markdown. The method is in `benches/README.md`.

#![allow(unsafe_code)] // Processes are forked.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use ::shmslot::{AttachOptions, Code, CreateOptions, Policy, Segment};

use harness::limits::{Futex, Memory};
use harness::measures::{calls_per_payload, calls_per_wake, set_up};
use harness::place::Place;
use harness::process::{alone, pin};
use harness::rows::{Aim, Row, Settings, Surroundings, calls_table, keep, place, run, staying};
use harness::shmslot::{Shmslot, asleep_at_once, options};
use harness::sleepers::calls_per_waking_commit;
use harness::transport::Transport;

mod harness;

const SMALL: usize = 8;
const PAGE: usize = 4096 / 8;

fn lazy(single_writer: bool, slots: u32) -> CreateOptions {
    CreateOptions { prefault: false, ..options::<PAGE>(single_writer, Policy::Fail, slots) }
}

fn set_ups(place: &'static Place, quick: bool) -> Vec<Row> {
    let times = if quick { 5 } else { 20 };
    let aim = Aim::Nanoseconds(300e3);
    let what = "create, attach, first sample, 64 slots of 4 KiB";
    let named = |single| move || Named::new(&lazy(single, 64));
    vec![
        staying(format!("{what}, anonymous, single writer"), aim.clone(), move || {
            set_up::<PAGE, _>(place, times, || Shmslot::new(lazy(true, 64)))
        }),
        staying(format!("{what}, anonymous, many writers"), aim.clone(), move || {
            set_up::<PAGE, _>(place, times, || Shmslot::new(lazy(false, 64)))
        }),
        staying(format!("{what}, named, single writer"), aim, move || {
            set_up::<PAGE, _>(place, times, named(true))
        }),
    ]
}

/// A name in the shared-memory directory, taken away at the end.
struct Name(String);

impl Drop for Name {
    fn drop(&mut self) {
        Segment::unlink(&self.0).expect("it was there");
    }
}

/// A segment that the two sides attach to by its name.
struct Named {
    name: Name,
    _owner: Segment,
}

impl Named {
    fn new(options: &CreateOptions) -> Named {
        let name = Name(format!("bench-named-{}", std::process::id()));
        let owner = Segment::create(&name.0, options).expect("a segment");
        Named { name, _owner: owner }
    }
}

impl Transport<PAGE> for Named {
    type Sender = ::shmslot::Writer;
    type Receiver = ::shmslot::Reader;

    fn sender(&self) -> ::shmslot::Writer {
        Segment::attach(&self.name.0, &AttachOptions::default())
            .expect("attached")
            .writer()
            .expect("a writer")
    }

    fn receiver(&self) -> ::shmslot::Reader {
        Segment::attach(&self.name.0, &AttachOptions::default())
            .expect("attached")
            .reader(0)
            .expect("a reader")
    }
}

/// What a process has at a moment, by the kernel's word.
#[derive(Clone, Copy, Default)]
struct Holdings {
    descriptors: usize,
    mappings: usize,
    threads: usize,
    /// Files in the shared-memory directory.
    files: usize,
    /// Memory that is there, in bytes: of files, and private.
    shared: u64,
    private: u64,
}

impl Holdings {
    fn now() -> Holdings {
        let entries = |path| fs::read_dir(path).expect("a directory").count();
        let status = fs::read_to_string("/proc/self/status").expect("a file");
        let kilobytes = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("a line");
            line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
        };
        Holdings {
            descriptors: entries("/proc/self/fd"),
            mappings: fs::read_to_string("/proc/self/maps").expect("a file").lines().count(),
            threads: entries("/proc/self/task"),
            files: entries("/dev/shm"),
            shared: kilobytes("RssShmem:"),
            private: kilobytes("RssAnon:"),
        }
    }

    fn put(self, since: Holdings, place: &Place) {
        let pairs = [
            (self.descriptors, since.descriptors),
            (self.mappings, since.mappings),
            (self.threads, since.threads),
            (self.files, since.files),
            (self.shared as usize, since.shared as usize),
            (self.private as usize, since.private as usize),
        ];
        for (at, (now, before)) in pairs.into_iter().enumerate() {
            place.put(at, now as f64 - before as f64);
        }
    }
}

const HOLDINGS: [&str; 6] =
    ["descriptors", "mappings", "threads", "files", "shared memory", "private memory"];

/// What comes with a step; the steps before it are not counted.
fn holdings<B, S>(
    place: &Place,
    before: impl FnOnce() -> B,
    step: impl FnOnce(&B) -> S,
) -> [f64; 6] {
    let well = alone(place, || {
        let first = before();
        // Once, so that what looking takes is not counted.
        Holdings::now();
        let since = Holdings::now();
        let second = step(&first);
        Holdings::now().put(since, place);
        drop(second);
    });
    assert!(well, "a step failed");
    std::array::from_fn(|at| place.get(at))
}

/// A table of what is held for a segment, a participant, a writer and a reader.
fn held(place: &Place) -> String {
    let options = lazy(true, 64);
    let owner = Segment::create_anonymous(&options).expect("a segment");
    let named = Named::new(&options);
    let nothing = || ();
    let attach = || {
        Segment::attach_fd(owner.fd().expect("anonymous"), &AttachOptions::default())
            .expect("attached")
    };
    let rows = [
        (
            "create, anonymous, 64 slots of 4 KiB",
            holdings(place, nothing, |()| Segment::create_anonymous(&options).expect("a segment")),
        ),
        (
            "create, named, 64 slots of 4 KiB",
            holdings(place, nothing, |()| {
                let name = Name(format!("bench-held-{}", std::process::id()));
                (Segment::create(&name.0, &options).expect("a segment"), name)
            }),
        ),
        ("attach, anonymous", holdings(place, nothing, |()| attach())),
        (
            "attach, named",
            holdings(place, nothing, |()| {
                Segment::attach(&named.name.0, &AttachOptions::default()).expect("attached")
            }),
        ),
        (
            "a writer, and its first sample",
            holdings(place, attach, |segment| {
                let writer = segment.writer().expect("a writer");
                writer.write(&[1; 8 * PAGE], None).expect("a slot");
                writer
            }),
        ),
        ("a reader", holdings(place, attach, |segment| segment.reader(0).expect("a reader"))),
    ];
    let mut text = format!("| what it takes | {} | to reach |\n|---|", HOLDINGS.join(" | "));
    text += &"---:|".repeat(HOLDINGS.len());
    text += "---|\n";
    for (name, taken) in rows {
        let [descriptors, mappings, threads, files, shared, private] = taken;
        let [shared, private] = [shared, private].map(|bytes| format!("{:.0} KiB", bytes / 1024.0));
        let reached = descriptors <= 1.0 && mappings <= 3.0 && threads == 0.0 && files <= 1.0;
        let verdict = if reached { "reached" } else { "**missed**" };
        writeln!(
            text,
            "| {name} | {descriptors} | {mappings} | {threads} | {files} | {shared} | {private} | 1, 3, 0, 1: {verdict} |"
        )
        .expect("room");
    }
    text + "\n"
}

/// A table of system calls: nobody asleep, and somebody.
fn system_calls(place: &Place) -> String {
    let busy = |single| move || Shmslot::new(options::<SMALL>(single, Policy::Fail, 64));
    let drops = || Shmslot::new(options::<SMALL>(false, Policy::DropOldest, 64));
    let sleepy =
        |single| move || Shmslot::new(asleep_at_once(options::<SMALL>(single, Policy::Fail, 64)));
    let rows = [
        (
            "a sample, nobody asleep, single writer",
            0.0,
            calls_per_payload::<SMALL, _>(place, busy(true)),
        ),
        (
            "a sample, nobody asleep, many writers",
            0.0,
            calls_per_payload::<SMALL, _>(place, busy(false)),
        ),
        ("a sample, nobody asleep, drop-oldest", 0.0, calls_per_payload::<SMALL, _>(place, drops)),
        ("plain shared memory", 0.0, calls_per_payload::<SMALL, _>(place, Memory::new::<SMALL>)),
        (
            "a sleep and its wake, single writer",
            2.0,
            calls_per_wake::<SMALL, _>(place, sleepy(true)),
        ),
        (
            "a sleep and its wake, many writers",
            2.0,
            calls_per_wake::<SMALL, _>(place, sleepy(false)),
        ),
        ("a raw futex", 2.0, calls_per_wake::<SMALL, _>(place, Futex::new)),
        ("the writer's part of a wake of 1 reader", 1.0, calls_per_waking_commit(place, 1)),
        ("the writer's part of a wake of 15 readers", 1.0, calls_per_waking_commit(place, 15)),
        ("the writer's part of a wake of 63 readers", 1.0, calls_per_waking_commit(place, 63)),
    ];
    calls_table(&rows)
}

/// The processor time of a reader that waits a second, as the library is by default, and of a
/// process that sleeps as long.
fn idle(place: &Place, quick: bool) -> String {
    let time = Duration::from_millis(if quick { 300 } else { 1000 });
    let busy = || {
        // SAFETY: writes to a local that lives.
        unsafe {
            let mut usage: libc::timespec = std::mem::zeroed();
            libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut usage);
            usage.tv_sec as f64 * 1e6 + usage.tv_nsec as f64 / 1e3
        }
    };
    let measured = |wait: &dyn Fn(&::shmslot::Reader)| {
        let well = alone(place, || {
            let segment = Segment::create_anonymous(&lazy(true, 64)).expect("a segment");
            let reader = segment.reader(0).expect("a reader");
            let before = busy();
            wait(&reader);
            place.put(0, (busy() - before) / time.as_secs_f64());
        });
        assert!(well, "a wait failed");
        place.get(0)
    };
    let waiting = measured(&|reader| {
        assert_eq!(reader.wait(Some(time)).expect_err("nothing comes").code(), Code::Timeout);
    });
    let sleeping = measured(&|_| std::thread::sleep(time));
    let reach = if waiting < 1000.0 { "reached" } else { "**missed**" };
    let mut text =
        String::from("| while nothing happens | processor | to reach |\n|---|---:|---|\n");
    writeln!(text, "| a reader that waits | {waiting:.0} µs a second | 0.0 %: {reach} |")
        .expect("room");
    writeln!(text, "| a process that sleeps | {sleeping:.0} µs a second | |\n").expect("room");
    text
}

fn main() {
    pin(0);
    let settings = Settings::from_args(false);
    let place = place();
    run(&settings, place, "setting up", "set_up", set_ups(place, settings.quick));
    let tables: [(&str, &dyn Fn() -> String); 3] = [
        ("what it takes", &|| held(place)),
        ("system calls", &|| system_calls(place)),
        ("while nothing happens", &|| idle(place, settings.quick)),
    ];
    let mut text = String::new();
    for (name, table) in tables {
        if settings.wants(name) {
            let began = Surroundings::now(place);
            text += &(table() + &began.until_now());
        }
    }
    print!("{text}");
    keep(&settings, "resources", &text);
}
