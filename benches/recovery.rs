//! What death costs the living: cleaning up after a killed process, waiting behind one, and looking
//! for one in vain.
//!
//! `cargo bench --bench recovery` prints Markdown. The method is in `benches/README.md`.

#![allow(unsafe_code)] // Children are forked and killed.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use shmslot::{AttachOptions, Code, CreateOptions, Policy, Segment};

const PAYLOAD: usize = 64;

/// Words that parent and children share.
struct Shared {
    ready: AtomicU64,
    done_at: AtomicU64,
}

fn shared() -> &'static Shared {
    // SAFETY: a fresh anonymous mapping of zeros, larger than the struct and never unmapped; the
    // struct is made of atomics.
    unsafe {
        let map = libc::mmap(
            std::ptr::null_mut(),
            size_of::<Shared>(),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        assert_ne!(map, libc::MAP_FAILED);
        &*map.cast::<Shared>()
    }
}

/// Nanoseconds of the monotonic clock, the same in all processes.
fn now() -> u64 {
    // SAFETY: writes to a local that lives.
    unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        assert_eq!(libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time), 0);
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }
}

/// A child that does what it is given, says that it is ready, and stays until it is killed.
fn start<'a>(shared: &Shared, body: impl FnOnce() -> Box<dyn FnOnce() + 'a>) -> libc::pid_t {
    let before = shared.ready.load(Ordering::Acquire);
    // SAFETY: this program has one thread.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork");
    if child == 0 {
        // SAFETY: the child ends with its parent.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        let then = body();
        shared.ready.fetch_add(1, Ordering::Release);
        then();
        loop {
            // SAFETY: takes nothing.
            unsafe { libc::pause() };
        }
    }
    while shared.ready.load(Ordering::Acquire) == before {
        spin_loop();
    }
    child
}

/// Kills a child and waits for the kernel's word that it is dead.
fn kill(child: libc::pid_t) {
    let mut status = 0;
    // SAFETY: a child of this process that nobody has waited for.
    unsafe {
        assert_eq!(libc::kill(child, libc::SIGKILL), 0);
        assert_eq!(libc::waitpid(child, &mut status, 0), child);
    }
    assert!(libc::WIFSIGNALED(status), "the child ended by itself");
}

fn create(policy: Policy, slots: u32) -> Segment {
    let options = CreateOptions {
        slot_count: slots,
        slot_capacity: PAYLOAD as u64,
        policy: Some(policy),
        prefault: true,
        ..CreateOptions::default()
    };
    Segment::create_anonymous(&options).expect("a segment")
}

fn attach(segment: &Segment) -> Segment {
    Segment::attach_fd(segment.fd().expect("anonymous"), &AttachOptions::default()).expect("attach")
}

fn median(values: &mut [u64]) -> u64 {
    values.sort_unstable();
    values[values.len() / 2]
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Had {
    HalfOnLoan,
    AllUnread,
}

/// From the proof of death to the end of the sweep.
fn recovery(shared: &Shared, slots: u32, had: Had, rounds: usize) -> Vec<u64> {
    let segment = create(Policy::Fail, slots);
    let writer = segment.writer().expect("a writer");
    let round = |_| {
        let victim = start(shared, || {
            let segment = attach(&segment);
            match had {
                Had::HalfOnLoan => {
                    let writer = segment.writer().expect("a writer");
                    for _ in 0..slots / 2 {
                        std::mem::forget(
                            writer.reserve(PAYLOAD, Some(Duration::ZERO)).expect("a slot"),
                        );
                    }
                    std::mem::forget(writer);
                }
                Had::AllUnread => std::mem::forget(segment.reader(0).expect("a reader")),
            }
            std::mem::forget(segment);
            Box::new(|| ())
        });
        if had == Had::AllUnread {
            for _ in 0..slots {
                writer.write(&[0; PAYLOAD], Some(Duration::ZERO)).expect("a slot");
            }
            let full = writer.write(&[0], Some(Duration::ZERO)).expect_err("nothing is free");
            assert_eq!(full.code(), Code::NoFreeSlot);
        }
        kill(victim);
        let start = Instant::now();
        let dead = segment.recover().expect("recover");
        let took = start.elapsed().as_nanos() as u64;
        assert_eq!(dead, 1);
        took
    };
    (0..rounds).map(round).collect()
}

/// Whether a process sleeps, by the kernel's word.
fn is_asleep(process: libc::pid_t) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("it lives");
    text.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'))
}

/// How long a writer that sleeps behind a reader waits for its slot after the reader was killed,
/// and nobody else looks.
fn asleep_behind(shared: &Shared, rounds: usize) -> Vec<u64> {
    let round = |round: usize| {
        let segment = create(Policy::Block, 8);
        let reader = start(shared, || {
            let segment = attach(&segment);
            std::mem::forget(segment.reader(0).expect("a reader"));
            std::mem::forget(segment);
            Box::new(|| ())
        });
        let writer = segment.writer().expect("a writer");
        for _ in 0..8 {
            writer.write(&[0], Some(Duration::ZERO)).expect("a slot");
        }
        shared.done_at.store(0, Ordering::Release);
        let sleeper = start(shared, || {
            let segment = attach(&segment);
            let writer = segment.writer().expect("a writer");
            Box::new(move || {
                let loan = writer.reserve(PAYLOAD, None).expect("a slot comes");
                shared.done_at.store(now(), Ordering::Release);
                std::mem::forget(loan);
                std::mem::forget(segment);
            })
        });
        while !is_asleep(sleeper) {
            std::thread::yield_now();
        }
        // The kill comes at all points of the sleeper's slice.
        std::thread::sleep(Duration::from_millis(200) * round as u32 / rounds as u32);
        kill(reader);
        let killed_at = now();
        while shared.done_at.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        let took = shared.done_at.load(Ordering::Acquire).saturating_sub(killed_at);
        kill(sleeper);
        took
    };
    (0..rounds).map(round).collect()
}

/// Participants of one segment that all live, in processes of their own; the processes share them
/// out.
fn crowd(shared: &Shared, segment: &Segment, participants: u32) -> Vec<libc::pid_t> {
    const PROCESSES: u32 = 63;
    let share = |process: u32| (participants + process) / PROCESSES;
    let stay = |count: u32| {
        (0..count).for_each(|_| std::mem::forget(attach(segment)));
        Box::new(|| ()) as Box<dyn FnOnce()>
    };
    (0..PROCESSES)
        .map(share)
        .filter(|count| *count > 0)
        .map(|count| start(shared, || stay(count)))
        .collect()
}

/// CPU time that a process has used.
fn cpu_time(process: libc::pid_t) -> u64 {
    // SAFETY: writes to locals that live.
    unsafe {
        let (mut clock, mut time): (libc::clockid_t, libc::timespec) = std::mem::zeroed();
        assert_eq!(libc::clock_getcpuclockid(process, &mut clock), 0);
        assert_eq!(libc::clock_gettime(clock, &mut time), 0);
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }
}

/// How long something takes, in nanoseconds.
fn time(body: &mut dyn FnMut()) -> u64 {
    let start = Instant::now();
    body();
    start.elapsed().as_nanos() as u64
}

/// What the number of the living costs: figures by name.
fn among(shared: &Shared, participants: u32, rounds: usize) -> [(&'static str, Vec<u64>); 6] {
    let options = CreateOptions {
        slot_count: 64,
        slot_capacity: PAYLOAD as u64,
        max_participants: 4095,
        prefault: true,
        ..CreateOptions::default()
    };
    let segment = Segment::create_anonymous(&options).expect("a segment");
    // This one, one more for a time, and the sleeper.
    let others = crowd(shared, &segment, participants - 3);
    let rounds = rounds.min(15);
    let repeat = |body: &mut dyn FnMut() -> u64| (0..rounds).map(|_| body()).collect::<Vec<_>>();
    let nobody = repeat(&mut || time(&mut || assert_eq!(segment.recover().expect("recover"), 0)));
    let listing = repeat(&mut || {
        time(&mut || {
            let list = segment.participants().expect("a list");
            assert_eq!(list.iter().filter(|one| one.alive).count(), participants as usize - 2);
        })
    });
    let one = repeat(&mut || {
        let victim = start(shared, || {
            std::mem::forget(attach(&segment));
            Box::new(|| ())
        });
        kill(victim);
        time(&mut || assert_eq!(segment.recover().expect("recover"), 1))
    });
    let attaching = repeat(&mut || time(&mut || drop(attach(&segment))));
    let writer = segment.writer().expect("a writer");
    let loans: Vec<_> =
        (0..64).map(|_| writer.reserve(PAYLOAD, Some(Duration::ZERO)).expect("a slot")).collect();
    // Each with an attachment of its own: the time between two looks is one attachment's.
    let reserving = repeat(&mut || {
        let segment = attach(&segment);
        let writer = segment.writer().expect("a writer");
        time(&mut || {
            let nothing =
                writer.reserve(PAYLOAD, Some(Duration::ZERO)).expect_err("nothing is free");
            assert_eq!(nothing.code(), Code::NoFreeSlot);
        })
    });
    drop(loans);
    let sleeper = start(shared, || {
        let segment = attach(&segment);
        let reader = segment.reader(0).expect("a reader");
        Box::new(move || {
            let _ = reader.wait(None);
            drop((reader, segment));
        })
    });
    while !is_asleep(sleeper) {
        std::thread::yield_now();
    }
    const SLEEP: Duration = Duration::from_secs(2);
    let before = cpu_time(sleeper);
    std::thread::sleep(if rounds > 1 { SLEEP } else { SLEEP / 10 });
    let per_second = (cpu_time(sleeper) - before) / if rounds > 1 { SLEEP.as_secs() } else { 1 };
    kill(sleeper);
    others.into_iter().for_each(kill);
    [
        ("`recover`, nobody is dead", nobody),
        ("`recover`, one is dead", one),
        ("a list of the participants", listing),
        ("attach and close", attaching),
        ("a FAIL reserve that looks and finds nothing", reserving),
        ("CPU time of a sleeping reader, a second", vec![per_second]),
    ]
}

/// What an observer pays for one look at the counters of a segment in which each slot is unread.
fn looking(slots: u32, rounds: usize) -> [(&'static str, Vec<u64>); 3] {
    let segment = create(Policy::Fail, slots);
    let reader = segment.reader(0).expect("a reader");
    let writer = segment.writer().expect("a writer");
    for _ in 0..slots {
        writer.write(&[0; PAYLOAD], Some(Duration::ZERO)).expect("a slot");
    }
    let options = AttachOptions { observer: true, ..AttachOptions::default() };
    let observer = Segment::attach_fd(segment.fd().expect("anonymous"), &options).expect("attach");
    assert_eq!(observer.counters().expect("counters").unread, slots);
    let repeat = |look: &dyn Fn()| (0..rounds).map(|_| time(&mut || look())).collect();
    let figures = [
        ("`counters`", repeat(&|| _ = observer.counters().expect("counters"))),
        ("`readers`", repeat(&|| _ = observer.readers().expect("readers"))),
        ("`writers`", repeat(&|| _ = observer.writers().expect("writers"))),
    ];
    drop(reader);
    figures
}

/// An operator expels a reader that has read nothing. In a lossless segment that contains a fence
/// of all processors.
fn expelling(policy: Policy, slots: u32, rounds: usize) -> Vec<u64> {
    let segment = create(policy, slots);
    let writer = segment.writer().expect("a writer");
    let once = |_| {
        let reader = segment.reader(0).expect("a reader");
        for _ in 0..slots {
            writer.write(&[0; PAYLOAD], Some(Duration::ZERO)).expect("a slot");
        }
        let readers = segment.readers().expect("the readers");
        let took = time(&mut || segment.expel(&readers[0]).expect("membarrier"));
        drop(reader);
        took
    };
    (0..rounds).map(once).collect()
}

fn main() {
    // Under `cargo test --benches` only show that it runs.
    let given = |wanted: &str| std::env::args().any(|arg| arg == wanted);
    let rounds = match (given("--bench"), given("--quick")) {
        (false, _) => 1,
        (true, true) => 5,
        (true, false) => 31,
    };
    let shared = shared();
    let microseconds = |nanoseconds: u64| nanoseconds as f64 / 1e3;
    println!("| after the kernel's word | slots | median µs | worst µs | ns a slot | aim µs |");
    println!("|---|---:|---:|---:|---:|---:|");
    for (had, name) in
        [(Had::HalfOnLoan, "half of the slots on loan"), (Had::AllUnread, "all slots unread by it")]
    {
        for slots in [64, 4096, 65_536] {
            let mut figures = recovery(shared, slots, had, rounds);
            let middle = median(&mut figures);
            println!(
                "| recover, {name} | {slots} | {:.1} | {:.1} | {:.1} | {:.0} |",
                microseconds(middle),
                microseconds(figures[figures.len() - 1]),
                middle as f64 / f64::from(slots),
                microseconds(1_000_000 + 50 * u64::from(slots)),
            );
        }
    }
    println!("\n| an observer's look | slots | median µs | worst µs |\n|---|---:|---:|---:|");
    for slots in [64, 4096, 65_536] {
        for (name, mut figures) in looking(slots, rounds) {
            let middle = median(&mut figures);
            println!(
                "| {name} | {slots} | {:.1} | {:.1} |",
                microseconds(middle),
                microseconds(figures[figures.len() - 1])
            );
        }
    }
    println!("\n| expelling a reader | slots | median µs | worst µs |\n|---|---:|---:|---:|");
    for (policy, name) in [(Policy::Fail, "lossless"), (Policy::DropOldest, "drop-oldest")] {
        for slots in [64, 65_536] {
            let mut figures = expelling(policy, slots, rounds);
            let middle = median(&mut figures);
            println!(
                "| {name} | {slots} | {:.0} | {:.0} |",
                microseconds(middle),
                microseconds(figures[figures.len() - 1])
            );
        }
    }
    println!("\n| without a call to recover | median µs | worst µs |\n|---|---:|---:|");
    let mut figures = asleep_behind(shared, rounds);
    let middle = median(&mut figures);
    println!(
        "| a writer asleep behind a killed reader has its slot | {:.0} | {:.0} |",
        microseconds(middle),
        microseconds(figures[figures.len() - 1])
    );
    const CROWDS: [u32; 3] = [64, 512, 4095];
    let given: Vec<u32> =
        std::env::args().filter_map(|arg| arg.strip_prefix("crowd=")?.parse().ok()).collect();
    let crowds = if rounds == 1 {
        &CROWDS[..1]
    } else if given.is_empty() {
        &CROWDS[..]
    } else {
        &given[..]
    };
    println!(
        "\n| among participants that live | participants | median µs | worst µs |\n|---|---:|---:|---:|"
    );
    for &participants in crowds {
        for (name, mut figures) in among(shared, participants, rounds) {
            let middle = median(&mut figures);
            println!(
                "| {name} | {participants} | {:.0} | {:.0} |",
                microseconds(middle),
                microseconds(figures[figures.len() - 1])
            );
        }
    }
}
