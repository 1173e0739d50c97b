//! What death costs the living: cleaning up after a killed process, waiting behind one, and looking
//! for one in vain.
//!
//! `cargo bench --bench recovery` prints Markdown. The method is in `benches/README.md`.

#![allow(unsafe_code)] // Children are forked and killed.

use std::fmt::Write as _;
use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ::shmslot::{AttachOptions, Code, CreateOptions, Policy, Reader, Segment, Writer};

use harness::process::is_asleep;
use harness::rows::{
    AGAIN, Settings, Surroundings, disturbed, keep, median, place, show, show_ratio,
};

mod harness;

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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Had {
    HalfOnLoan,
    AllUnread,
}

/// From the proof of death to the end of the sweep.
fn recovery(shared: &Shared, slots: u32, had: Had, rounds: usize) -> Vec<f64> {
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
        time(|| assert_eq!(segment.recover().expect("recover"), 1))
    };
    (0..rounds).map(round).collect()
}

/// How long a writer that sleeps behind a reader waits for its slot after the reader was killed,
/// and nobody else looks.
fn asleep_behind(shared: &Shared, rounds: usize) -> Vec<f64> {
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
        took as f64
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
fn time(body: impl FnOnce()) -> f64 {
    let start = Instant::now();
    body();
    start.elapsed().as_nanos() as f64
}

/// A segment for as many participants as there may be, and what is measured in it.
struct Gathering {
    segment: Segment,
    writer: Writer,
    reader: Reader,
}

impl Gathering {
    fn new() -> Gathering {
        let options = CreateOptions {
            slot_count: 64,
            slot_capacity: PAYLOAD as u64,
            max_participants: 4095,
            prefault: true,
            ..CreateOptions::default()
        };
        let segment = Segment::create_anonymous(&options).expect("a segment");
        let writer = segment.writer().expect("a writer");
        let reader = segment.reader(0).expect("a reader");
        Gathering { segment, writer, reader }
    }

    /// The mean of a round of the hot calls.
    fn round(&self) -> f64 {
        const ROUNDS: u32 = 4096;
        let took = time(|| {
            for _ in 0..ROUNDS {
                let mut loan = self.writer.reserve(PAYLOAD, None).expect("a slot");
                black_box(loan.as_mut_ptr());
                loan.commit(PAYLOAD).expect("a commit");
                black_box(self.reader.read().expect("a read").expect("a sample").as_ptr());
            }
        });
        took / f64::from(ROUNDS)
    }

    fn attach_and_close(&self) -> f64 {
        time(|| drop(attach(&self.segment)))
    }

    fn join_and_leave(&self) -> f64 {
        time(|| drop(self.segment.reader(0).expect("a reader")))
    }

    fn recover(&self) -> f64 {
        time(|| assert_eq!(self.segment.recover().expect("recover"), 0))
    }

    fn recover_one(&self, shared: &Shared) -> f64 {
        let victim = start(shared, || {
            std::mem::forget(attach(&self.segment));
            Box::new(|| ())
        });
        kill(victim);
        time(|| assert_eq!(self.segment.recover().expect("recover"), 1))
    }

    fn list(&self) -> f64 {
        time(|| assert!(self.segment.participants().expect("a list").iter().all(|one| one.alive)))
    }

    /// A reserve that finds nothing. Each through an attachment of its own, because the time
    /// between two looks is that of one attachment.
    fn reserve_in_vain(&self) -> f64 {
        let reserve = || self.writer.reserve(PAYLOAD, Some(Duration::ZERO));
        let _loans: Vec<_> = (0..64).map(|_| reserve().expect("a slot")).collect();
        let segment = attach(&self.segment);
        let writer = segment.writer().expect("a writer");
        time(|| {
            let nothing =
                writer.reserve(PAYLOAD, Some(Duration::ZERO)).expect_err("nothing is free");
            assert_eq!(nothing.code(), Code::NoFreeSlot);
        })
    }

    /// Processor time that a sleeping reader takes in a second.
    fn sleeper(&self, shared: &Shared, asleep: Duration) -> f64 {
        let sleeper = start(shared, || {
            let segment = attach(&self.segment);
            let reader = segment.reader(0).expect("a reader");
            Box::new(move || {
                let _ = reader.wait(None);
                drop((reader, segment));
            })
        });
        while !is_asleep(sleeper) {
            std::thread::yield_now();
        }
        let before = cpu_time(sleeper);
        std::thread::sleep(asleep);
        let took = (cpu_time(sleeper) - before) as f64;
        kill(sleeper);
        took / asleep.as_secs_f64()
    }
}

/// A figure in a segment of many participants, each right after the same in one of few.
struct Beside {
    name: &'static str,
    /// The figure of few, and that of many.
    pairs: Vec<[f64; 2]>,
    /// How many were taken again or left out because the one of few was disturbed.
    again: usize,
}

impl Beside {
    fn measure(
        name: &'static str,
        [few, many]: [&Gathering; 2],
        rounds: usize,
        figure: impl Fn(&Gathering) -> f64,
    ) -> Beside {
        let mut again = 0;
        let mut pairs: Vec<[f64; 2]> = Vec::new();
        for last in (0..=AGAIN).map(|time| time == AGAIN) {
            while pairs.len() < rounds {
                pairs.push([figure(few), figure(many)]);
            }
            let limits: Vec<_> = pairs.iter().map(|pair| pair[0]).collect();
            let mut bad = disturbed(&limits).into_iter();
            pairs.retain(|_| bad.next() == Some(false));
            again += rounds - pairs.len();
            if last || pairs.len() == rounds {
                break;
            }
        }
        Beside { name, pairs, again }
    }
}

/// How many live in the segment of few: this process, and one more for a time.
const FEW: u32 = 2;

/// What the number of the living costs.
fn among(shared: &Shared, participants: u32, rounds: usize) -> Vec<Beside> {
    let few = Gathering::new();
    let many = Gathering::new();
    let others = crowd(shared, &many.segment, participants - FEW);
    let rounds = rounds.min(15);
    let both = [&few, &many];
    let asleep = Duration::from_millis(if rounds > 5 { 1000 } else { 200 });
    let figures = vec![
        Beside::measure("reserve + commit + read + mark", both, rounds, Gathering::round),
        Beside::measure("attach and close", both, rounds, Gathering::attach_and_close),
        Beside::measure("join and leave", both, rounds, Gathering::join_and_leave),
        Beside::measure("`recover`, nobody is dead", both, rounds, Gathering::recover),
        Beside::measure("`recover`, one is dead", both, rounds, |at| at.recover_one(shared)),
        Beside::measure("a list of the participants", both, rounds, Gathering::list),
        Beside::measure(
            "a FAIL reserve that looks and finds nothing",
            both,
            rounds,
            Gathering::reserve_in_vain,
        ),
        // Each takes a long time.
        Beside::measure("processor time of a sleeping reader, a second", both, 3, |at| {
            at.sleeper(shared, asleep)
        }),
    ];
    others.into_iter().for_each(kill);
    figures
}

/// What an observer pays for one look at the counters of a segment in which each slot is unread.
fn looking(slots: u32, rounds: usize) -> [(&'static str, Vec<f64>); 3] {
    let segment = create(Policy::Fail, slots);
    let reader = segment.reader(0).expect("a reader");
    let writer = segment.writer().expect("a writer");
    for _ in 0..slots {
        writer.write(&[0; PAYLOAD], Some(Duration::ZERO)).expect("a slot");
    }
    let options = AttachOptions { observer: true, ..AttachOptions::default() };
    let observer = Segment::attach_fd(segment.fd().expect("anonymous"), &options).expect("attach");
    assert_eq!(observer.counters().expect("counters").unread, slots);
    let repeat = |look: &dyn Fn()| (0..rounds).map(|_| time(look)).collect();
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
fn expelling(policy: Policy, slots: u32, rounds: usize) -> Vec<f64> {
    let segment = create(policy, slots);
    let writer = segment.writer().expect("a writer");
    let once = |_| {
        let reader = segment.reader(0).expect("a reader");
        for _ in 0..slots {
            writer.write(&[0; PAYLOAD], Some(Duration::ZERO)).expect("a slot");
        }
        let readers = segment.readers().expect("the readers");
        let took = time(|| segment.expel(&readers[0]).expect("membarrier"));
        drop(reader);
        took
    };
    (0..rounds).map(once).collect()
}

/// The cells of a row: how many rounds, their median, and the worst.
fn cells(figures: Vec<f64>) -> String {
    let worst = figures.iter().copied().fold(0.0, f64::max);
    format!("{} | {} | {}", figures.len(), show(median(figures)), show(worst))
}

fn recoveries(shared: &Shared, rounds: usize) -> String {
    let mut text = String::from(
        "| after the kernel's word | slots | n | median | worst | for each slot | aim |\n\
         |---|---:|---:|---:|---:|---:|---:|\n",
    );
    for (had, name) in
        [(Had::HalfOnLoan, "half of the slots on loan"), (Had::AllUnread, "all slots unread by it")]
    {
        for slots in [64, 4096, 65_536] {
            let figures = recovery(shared, slots, had, rounds);
            let each = show(median(figures.clone()) / f64::from(slots));
            let aim = show(f64::from(1_000_000 + 50 * slots));
            let cells = cells(figures);
            writeln!(text, "| recover, {name} | {slots} | {cells} | {each} | {aim} |")
                .expect("room");
        }
    }
    text
}

fn looks(_: &Shared, rounds: usize) -> String {
    let mut text = String::from(
        "| an observer's look | slots | n | median | worst |\n|---|---:|---:|---:|---:|\n",
    );
    for slots in [64, 4096, 65_536] {
        for (name, figures) in looking(slots, rounds) {
            writeln!(text, "| {name} | {slots} | {} |", cells(figures)).expect("room");
        }
    }
    text
}

fn expulsions(_: &Shared, rounds: usize) -> String {
    let mut text = String::from(
        "| expelling a reader | slots | n | median | worst |\n|---|---:|---:|---:|---:|\n",
    );
    for (policy, name) in [(Policy::Fail, "lossless"), (Policy::DropOldest, "drop-oldest")] {
        for slots in [64, 65_536] {
            let cells = cells(expelling(policy, slots, rounds));
            writeln!(text, "| {name} | {slots} | {cells} |").expect("room");
        }
    }
    text
}

fn sleepers(shared: &Shared, rounds: usize) -> String {
    format!(
        "| without a call to recover | n | median | worst |\n|---|---:|---:|---:|\n\
         | a writer asleep behind a killed reader has its slot | {} |\n",
        cells(asleep_behind(shared, rounds))
    )
}

fn crowds(shared: &Shared, rounds: usize) -> String {
    let mut text = format!(
        "| among participants that live | participants | n | median | worst | × {FEW} \
         participants |\n|---|---:|---:|---:|---:|---:|\n"
    );
    let mut again = 0;
    let crowds: &[u32] = if rounds > 1 { &[64, 512, 4095] } else { &[64] };
    for &participants in crowds {
        for figures in among(shared, participants, rounds) {
            let name = figures.name;
            let ratio = median(figures.pairs.iter().map(|[few, many]| many / few).collect());
            let cells = cells(figures.pairs.iter().map(|[_, many]| *many).collect());
            let ratio = show_ratio(ratio);
            writeln!(text, "| {name} | {participants} | {cells} | {ratio} |").expect("room");
            again += figures.again;
        }
    }
    writeln!(
        text,
        "\nTaken again, at most {AGAIN} times, or left out: {again} beside a disturbed figure of \
         {FEW} participants."
    )
    .expect("room");
    text
}

fn main() {
    let settings = Settings::from_args(false);
    let rounds = match (settings.rounds, settings.quick) {
        (1, _) => 1, // only to show that it runs
        (_, true) => 5,
        (_, false) => 31,
    };
    type Table = fn(&Shared, usize) -> String;
    let tables: [(&str, Table); 5] = [
        ("after the kernel's word", recoveries),
        ("an observer's look", looks),
        ("expelling a reader", expulsions),
        ("without a call to recover", sleepers),
        ("among participants that live", crowds),
    ];
    let (shared, place) = (shared(), place());
    let mut text = String::new();
    for (_, table) in tables.into_iter().filter(|(name, _)| settings.wants(name)) {
        let began = Surroundings::now(place);
        let table = format!("{}\n{}", table(shared, rounds), began.until_now());
        print!("{table}");
        text += &table;
    }
    if !text.is_empty() {
        keep(&settings, "recovery", &text);
    }
}
