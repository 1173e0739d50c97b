//! The first table: one-thread cost, one-way latency and streaming, each beside its raw limit in the same round.
//!
//! `cargo bench --bench table` prints Markdown. The method is in `benches/README.md`.

#![allow(unsafe_code)] // Raw lines, fork and the C ABI are what it measures with.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use shmslot::{Options, Policy, Reader, Segment, Writer};

/// Rounds of everything; each figure is the median over them.
const ROUNDS: usize = 7;
const PAYLOAD: usize = 64;

fn pin(cpu: usize) {
    // SAFETY: an all-zero set is valid; the calls only read it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set);
    }
}

/// Runs `there` in a child on the second processor and `here` on the first.
fn with_child<T>(there: impl FnOnce(), here: impl FnOnce() -> T) -> T {
    // SAFETY: this program has one thread.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork");
    if child == 0 {
        pin(1);
        there();
        // SAFETY: ends the child without running the parent's destructors.
        unsafe { libc::_exit(0) };
    }
    let result = here();
    let mut status = 0;
    // SAFETY: waits for the child made above.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0, "the other process failed");
    result
}

#[repr(C, align(128))]
struct Line([AtomicU64; 8]);

/// Shared lines that parent and child map at the same place.
fn shared_lines(count: usize) -> &'static [Line] {
    let bytes = count * size_of::<Line>();
    // SAFETY: a fresh anonymous mapping of zeros, never unmapped; Line is made of atomics.
    unsafe {
        let map = libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_POPULATE,
            -1,
            0,
        );
        assert_ne!(map, libc::MAP_FAILED);
        std::slice::from_raw_parts(map.cast::<Line>(), count)
    }
}

fn await_value(word: &AtomicU64, value: u64) {
    while word.load(Ordering::Acquire) != value {
        spin_loop();
    }
}

fn per_item(start: Instant, items: u64) -> f64 {
    start.elapsed().as_nanos() as f64 / items as f64
}

/// One way of a ping-pong on two lines: the hop that nothing can beat.
fn raw_hop() -> f64 {
    const TURNS: u64 = 100_000;
    let lines = shared_lines(2);
    let (ping, pong) = (&lines[0].0[0], &lines[1].0[0]);
    with_child(
        || {
            for turn in 1..=TURNS {
                await_value(ping, turn);
                pong.store(turn, Ordering::Release);
            }
        },
        || {
            let mut start = Instant::now();
            for turn in 1..=TURNS {
                if turn == TURNS / 10 {
                    start = Instant::now();
                }
                ping.store(turn, Ordering::Release);
                await_value(pong, turn);
            }
            per_item(start, 2 * (TURNS - TURNS / 10))
        },
    )
}

/// A line written, shown 64 at a time, and read: the stream that nothing can beat.
fn raw_stream() -> f64 {
    const LINES: u64 = 4_000_000;
    const RING: u64 = 1024;
    const STEP: u64 = 64;
    // Lines of 64 bytes: two to each pair.
    let lines = shared_lines(RING as usize / 2 + 2);
    let word = |line: u64, word: usize| {
        let at = (line % RING) as usize;
        &lines[2 + at / 2].0[word]
    };
    let (head, tail) = (&lines[0].0[0], &lines[1].0[0]);
    with_child(
        || {
            let mut sum = 0;
            for block in 0..LINES / STEP {
                while head.load(Ordering::Acquire) <= block {
                    spin_loop();
                }
                for line in block * STEP..(block + 1) * STEP {
                    for i in 0..8 {
                        sum += word(line, i).load(Ordering::Relaxed);
                    }
                }
                tail.store(block + 1, Ordering::Release);
            }
            black_box(sum);
        },
        || {
            let start = Instant::now();
            for block in 0..LINES / STEP {
                while block >= tail.load(Ordering::Acquire) + RING / STEP {
                    spin_loop();
                }
                for line in block * STEP..(block + 1) * STEP {
                    for i in 0..8 {
                        word(line, i).store(line + i as u64, Ordering::Relaxed);
                    }
                }
                head.store(block + 1, Ordering::Release);
            }
            per_item(start, LINES)
        },
    )
}

fn options(single_writer: bool, policy: Policy, slots: u32) -> Options {
    Options { slot_count: slots, slot_capacity: PAYLOAD as u64, single_writer, policy, ..Options::default() }
}

/// Writes every payload byte in place, as a user with a struct would.
fn send(writer: &Writer, value: u64) {
    let mut loan = writer.reserve(PAYLOAD, None).expect("a free slot");
    let words = loan.as_mut_ptr().cast::<u64>();
    for i in 0..PAYLOAD / 8 {
        // SAFETY: inside the loan, which is aligned to 64.
        unsafe { words.add(i).write_volatile(value + i as u64) };
    }
    loan.commit(PAYLOAD).expect("a commit");
}

/// Polls for the next sample and reads every byte in place.
fn receive(reader: &Reader) -> u64 {
    let sample = loop {
        if let Some(sample) = reader.read().expect("a read") {
            break sample;
        }
        spin_loop();
    };
    let words = sample.as_ptr().cast::<u64>();
    // SAFETY: in hand, aligned to 64, PAYLOAD bytes long.
    (0..PAYLOAD / 8).map(|i| unsafe { words.add(i).read_volatile() }).fold(0, u64::wrapping_add)
}

fn attach(segment: &Segment) -> Segment {
    Segment::attach_fd(segment.fd().expect("anonymous"), &Options::default()).expect("attach")
}

fn one_way(single_writer: bool, policy: Policy) -> f64 {
    const TURNS: u64 = 100_000;
    let options = options(single_writer, policy, 64);
    let there = Segment::create_anonymous(&options).expect("segment");
    let back = Segment::create_anonymous(&options).expect("segment");
    let answers = back.reader(0).expect("reader");
    let go = shared_lines(1);
    with_child(
        || {
            let (there, back) = (attach(&there), attach(&back));
            let reader = there.reader(0).expect("reader");
            let writer = back.writer().expect("writer");
            go[0].0[0].store(1, Ordering::Release);
            for turn in 0..TURNS {
                black_box(receive(&reader));
                send(&writer, turn);
            }
        },
        || {
            let writer = there.writer().expect("writer");
            await_value(&go[0].0[0], 1);
            let mut start = Instant::now();
            for turn in 0..TURNS {
                if turn == TURNS / 10 {
                    start = Instant::now();
                }
                send(&writer, turn);
                black_box(receive(&answers));
            }
            per_item(start, 2 * (TURNS - TURNS / 10))
        },
    )
}

fn streaming(single_writer: bool) -> f64 {
    const SAMPLES: u64 = 2_000_000;
    // Long enough that no wait sleeps: what is measured is the path between two busy processes.
    let options = Options { spin: Duration::from_millis(100), ..options(single_writer, Policy::Block, 64) };
    let segment = Segment::create_anonymous(&options).expect("segment");
    let go = shared_lines(1);
    with_child(
        || {
            let segment = attach(&segment);
            let reader = segment.reader(0).expect("reader");
            go[0].0[0].store(1, Ordering::Release);
            for _ in 0..SAMPLES {
                black_box(receive(&reader));
            }
        },
        || {
            let writer = segment.writer().expect("writer");
            await_value(&go[0].0[0], 1);
            let start = Instant::now();
            for value in 0..SAMPLES {
                send(&writer, value);
            }
            let nanoseconds = per_item(start, SAMPLES);
            black_box(nanoseconds)
        },
    )
}

/// Reserve, commit, read and mark by one thread, payload untouched, with `backlog` samples in hand.
fn one_thread(single_writer: bool, policy: Policy, slots: u32, backlog: u32) -> f64 {
    let segment =
        Segment::create_anonymous(&Options { prefault: true, ..options(single_writer, policy, slots) })
            .expect("segment");
    let reader = segment.reader(0).expect("reader");
    let writer = segment.writer().expect("writer");
    let mut hands = Vec::new();
    for _ in 0..backlog {
        writer.reserve(PAYLOAD, None).expect("a slot").commit(PAYLOAD).expect("a commit");
        hands.push(reader.read().expect("a read"));
    }
    let turns = u64::from(slots).clamp(200_000, 2_000_000);
    let mut start = Instant::now();
    for turn in 0..turns + turns / 4 {
        if turn == turns / 4 {
            start = Instant::now();
        }
        let loan = writer.reserve(PAYLOAD, None).expect("a slot");
        black_box(&loan);
        loan.commit(PAYLOAD).expect("a commit");
        black_box(reader.read().expect("a read"));
    }
    per_item(start, turns)
}

/// The same calls through the C ABI.
fn one_thread_c(single_writer: bool) -> f64 {
    #[repr(C)]
    struct Loan([u64; 5]);
    #[repr(C)]
    struct Sample([u64; 8]);
    unsafe extern "C" {
        fn shmslot_segment_attach_fd(fd: i32, o: *const u8, ret: *mut *mut u8, err: *mut u8) -> i32;
        fn shmslot_segment_close(segment: *mut u8);
        fn shmslot_writer_open(segment: *mut u8, ret: *mut *mut u8, err: *mut u8) -> i32;
        fn shmslot_writer_close(writer: *mut u8);
        fn shmslot_reader_join(segment: *mut u8, history: u32, ret: *mut *mut u8, err: *mut u8) -> i32;
        fn shmslot_reader_leave(reader: *mut u8);
        fn shmslot_slot_reserve(writer: *mut u8, len: usize, timeout: i64, loan: *mut Loan) -> i32;
        fn shmslot_slot_commit(writer: *mut u8, loan: *const Loan, len: usize, sequence: *mut u64) -> i32;
        fn shmslot_slot_read(reader: *mut u8, sample: *mut Sample) -> i32;
        fn shmslot_slot_mark(reader: *mut u8, sample: *const Sample) -> i32;
    }
    use std::os::fd::AsRawFd;
    use std::ptr::null_mut;
    const TURNS: u64 = 1_000_000;
    let owner = Segment::create_anonymous(&options(single_writer, Policy::Fail, 64)).expect("segment");
    let (mut segment, mut writer, mut reader) = (null_mut(), null_mut(), null_mut());
    let (mut loan, mut sample) = (Loan([0; 5]), Sample([0; 8]));
    // SAFETY: the calls as the header declares them, with live arguments.
    unsafe {
        let fd = owner.fd().expect("anonymous").as_raw_fd();
        assert_eq!(shmslot_segment_attach_fd(fd, null_mut(), &mut segment, null_mut()), 0);
        assert_eq!(shmslot_writer_open(segment, &mut writer, null_mut()), 0);
        assert_eq!(shmslot_reader_join(segment, 0, &mut reader, null_mut()), 0);
        let start = Instant::now();
        for _ in 0..TURNS {
            let mut bad = shmslot_slot_reserve(writer, PAYLOAD, 0, &mut loan);
            bad |= shmslot_slot_commit(writer, &loan, PAYLOAD, null_mut());
            bad |= shmslot_slot_read(reader, &mut sample);
            bad |= shmslot_slot_mark(reader, &sample);
            assert_eq!(bad, 0);
        }
        let nanoseconds = per_item(start, TURNS);
        shmslot_reader_leave(reader);
        shmslot_writer_close(writer);
        shmslot_segment_close(segment);
        nanoseconds
    }
}

fn empty_poll() -> f64 {
    const TURNS: u64 = 1_000_000;
    let segment = Segment::create_anonymous(&options(false, Policy::Fail, 64)).expect("segment");
    let reader = segment.reader(0).expect("reader");
    let start = Instant::now();
    for _ in 0..TURNS {
        black_box(reader.read().expect("a read"));
    }
    per_item(start, TURNS)
}

/// Reserve and commit against readers that never read.
fn commit_against(readers: u32) -> f64 {
    const TURNS: u64 = 500_000;
    let options = Options { max_readers: 63, ..options(false, Policy::DropOldest, 64) };
    let segment = Segment::create_anonymous(&options).expect("segment");
    let idle: Vec<_> = (0..readers).map(|_| segment.reader(0).expect("reader")).collect();
    let writer = segment.writer().expect("writer");
    let mut start = Instant::now();
    for turn in 0..TURNS + 1000 {
        if turn == 1000 {
            start = Instant::now();
        }
        writer.reserve(PAYLOAD, None).expect("a slot").commit(PAYLOAD).expect("a commit");
    }
    black_box(&idle);
    per_item(start, TURNS)
}

/// A row: its name, its figure, and which raw figure of the same round it is compared with.
type Row = (String, Box<dyn Fn() -> f64>, Against);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Against {
    Nothing,
    Hop,
    Stream,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn rows() -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mode = |single: bool| if single { "single writer" } else { "many writers" };
    for single in [true, false] {
        rows.push((
            format!("one way, {}, lossless", mode(single)),
            Box::new(move || one_way(single, Policy::Fail)),
            Against::Hop,
        ));
        rows.push((
            format!("one way, {}, drop-oldest", mode(single)),
            Box::new(move || one_way(single, Policy::DropOldest)),
            Against::Hop,
        ));
        rows.push((
            format!("streaming, {}, lossless", mode(single)),
            Box::new(move || streaming(single)),
            Against::Stream,
        ));
    }
    for single in [true, false] {
        for slots in [8, 64, 1024, 16_384, 1 << 20] {
            rows.push((
                format!("one thread, {}, {slots} slots, all free", mode(single)),
                Box::new(move || one_thread(single, Policy::Fail, slots, 0)),
                Against::Nothing,
            ));
        }
        for (slots, backlog, name) in
            [(16_384, 8192, "half in hand"), (16_384, 16_383, "all but one in hand")]
        {
            rows.push((
                format!("one thread, {}, {slots} slots, {name}", mode(single)),
                Box::new(move || one_thread(single, Policy::Fail, slots, backlog)),
                Against::Nothing,
            ));
        }
        rows.push((
            format!("one thread, {}, 64 slots, drop-oldest", mode(single)),
            Box::new(move || one_thread(single, Policy::DropOldest, 64, 0)),
            Against::Nothing,
        ));
        rows.push((
            format!("one thread, {}, 64 slots, C ABI", mode(single)),
            Box::new(move || one_thread_c(single)),
            Against::Nothing,
        ));
    }
    rows.push(("poll that finds nothing".into(), Box::new(empty_poll), Against::Nothing));
    for readers in [0, 1, 15, 63] {
        rows.push((
            format!("reserve + commit, {readers} idle readers"),
            Box::new(move || commit_against(readers)),
            Against::Nothing,
        ));
    }
    rows
}

fn main() {
    // Under `cargo test --benches` only show that it runs.
    let rounds = if std::env::args().any(|arg| arg == "--bench") { ROUNDS } else { 1 };
    let wanted = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    pin(0);
    let rows: Vec<Row> = rows().into_iter().filter(|(name, ..)| name.contains(&wanted)).collect();
    let mut figures = vec![Vec::new(); rows.len()];
    let mut ratios = vec![Vec::new(); rows.len()];
    let (mut hops, mut streams) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        for (index, (_, measure, against)) in rows.iter().enumerate() {
            // The raw figure right before: the machine changes its state by itself.
            let raw = match against {
                Against::Nothing => None,
                Against::Hop => Some((raw_hop(), &mut hops)),
                Against::Stream => Some((raw_stream(), &mut streams)),
            };
            let figure = measure();
            figures[index].push(figure);
            if let Some((raw, all)) = raw {
                all.push(raw);
                ratios[index].push(figure / raw);
            }
        }
    }
    println!("| what | median ns | × raw |\n|---|---:|---:|");
    for (name, raw) in [("raw hop", hops), ("raw line stream", streams)] {
        if !raw.is_empty() {
            println!("| {name} | {:.1} | 1 |", median(raw));
        }
    }
    for (index, (name, ..)) in rows.iter().enumerate() {
        let ratio = match ratios[index].is_empty() {
            true => String::new(),
            false => format!("{:.2}", median(ratios[index].clone())),
        };
        println!("| {name} | {:.1} | {ratio} |", median(figures[index].clone()));
    }
}
