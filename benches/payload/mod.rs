//! Shared by the benchmarks of large payloads: the round through shmslot, its raw limit, and the
//! table.

use std::hint::black_box;
use std::time::{Duration, Instant};

use shmslot::{CreateOptions, Reader, Segment, Writer};

use crate::harness::rows::{median, show};

pub(crate) const SIZES: [(usize, &str); 3] =
    [(64 << 10, "64 KiB"), (1 << 20, "1 MiB"), (64 << 20, "64 MiB")];

/// Where a payload lies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    Region,
    Slot,
}

/// What is done to a payload on its way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Nothing: what is measured is the way itself.
    Untouched,
    /// Copied in from private memory by the writer, and summed up in place by the reader.
    WrittenAndRead,
}

/// A segment for payloads of `len` bytes.
pub(crate) fn segment(home: Home, len: usize, prefault: bool) -> Segment {
    let options = match home {
        Home::Region => CreateOptions {
            slot_capacity: 64,
            max_payload: len as u64,
            region_count: 4,
            ..CreateOptions::default()
        },
        Home::Slot => CreateOptions { slot_capacity: len as u64, ..CreateOptions::default() },
    };
    Segment::create_anonymous(&CreateOptions { slot_count: 4, prefault, ..options })
        .expect("a segment")
}

/// A payload that is copied, and its sum.
pub(crate) struct Source {
    pub(crate) bytes: Vec<u8>,
    pub(crate) sum: u64,
}

impl Source {
    pub(crate) fn new(len: usize) -> Source {
        let bytes: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
        Source { sum: sum(&bytes), bytes }
    }
}

/// Reads every byte, as fast as it can be done.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    let words =
        bytes.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().expect("eight")));
    words.fold(0, u64::wrapping_add)
}

pub(crate) fn send(writer: &Writer, len: usize, source: Option<&Source>) {
    let mut loan = writer.reserve(len, Some(Duration::ZERO)).expect("a slot");
    if let Some(source) = source {
        loan.copy_from(&source.bytes).expect("room");
    }
    black_box(&loan);
    loan.commit(len).expect("a commit");
}

/// Polls for the next sample; its sum if it is to be read, and marks it.
pub(crate) fn receive(reader: &Reader, read: bool) -> u64 {
    let sample = loop {
        if let Some(sample) = reader.read().expect("a read") {
            break sample;
        }
        std::hint::spin_loop();
    };
    if !read {
        return black_box(&sample).len() as u64;
    }
    // SAFETY: in hand, so nobody writes to it; that many bytes long.
    sum(unsafe { std::slice::from_raw_parts(sample.as_ptr(), sample.len()) })
}

/// Nanoseconds per round: the mean over as many rounds as move 256 MiB, but at most `most`; the
/// first fifth is not counted.
pub(crate) fn per_turn(
    len: usize,
    work: Work,
    most: usize,
    mut turn: impl FnMut(Option<&Source>) -> u64,
) -> f64 {
    let source = (work == Work::WrittenAndRead).then(|| Source::new(len));
    let expected = source.as_ref().map_or(len as u64, |source| source.sum);
    let turns = match work {
        Work::Untouched => 100_000,
        Work::WrittenAndRead => (256 << 20) / len,
    }
    .min(most);
    let mut start = Instant::now();
    for at in 0..turns + turns / 4 + 1 {
        if at == turns / 4 + 1 {
            start = Instant::now();
        }
        assert_eq!(turn(source.as_ref()), expected);
    }
    start.elapsed().as_nanos() as f64 / turns as f64
}

/// Reserve, commit, read and mark by one thread.
pub(crate) fn one_thread(home: Home, work: Work, len: usize) -> f64 {
    let segment = segment(home, len, true);
    let reader = segment.reader(0).expect("a reader");
    let writer = segment.writer().expect("a writer");
    per_turn(len, work, usize::MAX, |source| {
        send(&writer, len, source);
        receive(&reader, source.is_some())
    })
}

/// A private buffer for raw copies; it begins with a page, as a region does.
struct Target(Vec<u8>);

impl Target {
    fn new(len: usize) -> Target {
        Target(vec![0; len + 4096])
    }

    fn copy(&mut self, source: &Source) -> &[u8] {
        let start = self.0.as_ptr().align_offset(4096);
        let target = &mut self.0[start..start + source.bytes.len()];
        target.copy_from_slice(&source.bytes);
        black_box(target)
    }
}

/// The same bytes copied between two private buffers.
pub(crate) fn raw_copy(len: usize) -> f64 {
    let mut target = Target::new(len);
    per_turn(len, Work::WrittenAndRead, usize::MAX, |source| {
        let source = source.expect("written");
        target.copy(source);
        source.sum
    })
}

/// The same bytes copied between two private buffers, and summed up there.
pub(crate) fn raw_copy_and_sum(len: usize) -> f64 {
    let mut target = Target::new(len);
    per_turn(len, Work::WrittenAndRead, usize::MAX, |source| {
        sum(target.copy(source.expect("written")))
    })
}

/// Nanoseconds for a payload of so many bytes.
pub(crate) type Measure = Box<dyn Fn(usize) -> f64>;

/// The name of what the rows are compared with, and how it is measured.
pub(crate) type Raw<'a> = (&'a str, fn(usize) -> f64);

/// A row: its name, and how it is measured.
pub(crate) fn row(name: &str, measure: impl Fn(usize) -> f64 + 'static) -> (String, Measure) {
    (name.into(), Box::new(measure))
}

/// Measures `rows` in turn, each right after `raw`, and prints the medians, with the median of the
/// ratios to `raw`.
pub(crate) fn table(title: &str, raw: Raw<'_>, rows: &[(String, Measure)], rounds: usize) {
    let mut figures = vec![[const { Vec::new() }; SIZES.len()]; rows.len()];
    let mut ratios = figures.clone();
    let mut raws = [const { Vec::new() }; SIZES.len()];
    for _ in 0..rounds {
        for (size, (len, _)) in SIZES.into_iter().enumerate() {
            for (index, (_, measure)) in rows.iter().enumerate() {
                // Right before: the machine changes its state by itself.
                let limit = raw.1(len);
                let figure = measure(len);
                raws[size].push(limit);
                figures[index][size].push(figure);
                ratios[index][size].push(figure / limit);
            }
        }
    }
    println!(
        "| {title} (× first row) | {} |\n|---|---:|---:|---:|",
        SIZES.map(|(_, name)| name).join(" | ")
    );
    println!("| {} | {} |", raw.0, raws.map(|raws| show(median(raws))).join(" | "));
    for (index, (name, _)) in rows.iter().enumerate() {
        let cells: Vec<_> = std::iter::zip(&figures[index], &ratios[index])
            .map(|(figures, ratios)| {
                format!("{} ({:.2})", show(median(figures.clone())), median(ratios.clone()))
            })
            .collect();
        println!("| {name} | {} |", cells.join(" | "));
    }
    println!();
}

/// How busy the machine is, for the reader of the tables.
pub(crate) fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().into()
}
