//! Shared by the benchmarks of large payloads: the round through shmslot, its raw limit, and the
//! table.

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use ::shmslot::{CreateOptions, Reader, Segment, Writer};

use crate::harness::place::Place;
use crate::harness::process::hop;
use crate::harness::rows::{
    AGAIN, Surroundings, disturbed, median, ratio_of, show, show_ratio, show_state,
};
use crate::harness::state::State;

const SIZES: [(usize, &str); 3] = [(64 << 10, "64 KiB"), (1 << 20, "1 MiB"), (64 << 20, "64 MiB")];

/// The sizes that are measured. The largest takes most of the time.
fn sizes(quick: bool) -> &'static [(usize, &'static str)] {
    if quick { &SIZES[..2] } else { &SIZES }
}

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

/// How long rounds are counted at most: where others take the processors, a round takes a thousand
/// times as long.
const LONGEST: Duration = Duration::from_millis(200);

/// Nanoseconds per round of at most this many blocks: as many rounds as move 256 MiB, but at most
/// `most`, and not longer than [`LONGEST`]; the first fifth is not counted.
pub(crate) fn blocks(
    len: usize,
    work: Work,
    most: usize,
    mut turn: impl FnMut(Option<&Source>) -> u64,
) -> Vec<f64> {
    const BLOCKS: usize = 32;
    let source = (work == Work::WrittenAndRead).then(|| Source::new(len));
    let expected = source.as_ref().map_or(len as u64, |source| source.sum);
    let turns = match work {
        Work::Untouched => 100_000,
        Work::WrittenAndRead => (256 << 20) / len,
    }
    .min(most);
    let warm = Instant::now();
    for at in 0..=turns / 4 {
        if at > 0 && warm.elapsed() > LONGEST / 4 {
            break;
        }
        assert_eq!(turn(source.as_ref()), expected);
    }
    let block = turns.div_ceil(BLOCKS);
    let (start, mut blocks) = (Instant::now(), Vec::new());
    while blocks.len() < turns / block && (blocks.is_empty() || start.elapsed() < LONGEST) {
        let start = Instant::now();
        (0..block).for_each(|_| assert_eq!(turn(source.as_ref()), expected));
        blocks.push(start.elapsed().as_nanos() as f64 / block as f64);
    }
    blocks
}

/// Nanoseconds per round: the median of blocks.
pub(crate) fn per_turn(
    len: usize,
    work: Work,
    most: usize,
    turn: impl FnMut(Option<&Source>) -> u64,
) -> f64 {
    median(blocks(len, work, most, turn))
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

/// A row: its name, and how it is measured.
pub(crate) fn row(name: &str, measure: impl Fn(usize) -> f64 + 'static) -> (String, Measure) {
    (name.into(), Box::new(measure))
}

/// A figure, and the limit right before it.
#[derive(Clone, Copy)]
struct Sample {
    /// None where it does not matter.
    state: Option<State>,
    limit: f64,
    figure: f64,
}

/// What is measured, and how often.
pub(crate) struct Table<'a> {
    pub(crate) title: &'a str,
    /// What the rows are compared with.
    pub(crate) raw: (String, Measure),
    pub(crate) rows: Vec<(String, Measure)>,
    pub(crate) rounds: usize,
    pub(crate) quick: bool,
    /// Whether the distance of the processors affects it.
    pub(crate) crosses: bool,
}

/// The samples of one row for payloads of one size.
#[derive(Default)]
struct Cell {
    samples: Vec<Sample>,
    mixed: usize,
    interrupted: usize,
    disturbed: usize,
}

impl Cell {
    /// Takes a sample. If the state changes meanwhile, or others take the processors, takes it
    /// again.
    fn take(&mut self, table: &Table<'_>, measure: &Measure, len: usize, place: &Place) {
        let state = || table.crosses.then(|| hop(place));
        for _ in 0..=AGAIN {
            let before = state();
            // Right before: the machine changes its state by itself.
            let limit = table.raw.1(len);
            let mut interrupted = table.crosses && place.is_interrupted();
            let figure = measure(len);
            interrupted |= table.crosses && place.is_interrupted();
            let state = match (before, state()) {
                (Some(before), Some(after)) => match State::agreed(before, after) {
                    Some(state) => Some(state),
                    None => {
                        self.mixed += 1;
                        continue;
                    }
                },
                _ => None,
            };
            if interrupted {
                self.interrupted += 1;
                continue;
            }
            self.samples.push(Sample { state, limit, figure });
            return;
        }
    }

    /// Removes samples beside a disturbed limit; how many there were.
    fn remove_disturbed(&mut self) -> usize {
        let samples = std::mem::take(&mut self.samples);
        for state in STATES {
            let alike: Vec<_> = samples.iter().filter(|one| one.state == state).collect();
            let limits: Vec<_> = alike.iter().map(|one| one.limit).collect();
            let kept = alike.into_iter().zip(disturbed(&limits)).filter(|(_, bad)| !bad);
            self.samples.extend(kept.map(|(one, _)| *one));
        }
        let removed = samples.len() - self.samples.len();
        self.disturbed += removed;
        removed
    }

    fn of(&self, state: Option<State>) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |one| one.state == state)
    }

    /// The median, that of the ratios, and how many there are.
    fn show(&self, state: Option<State>) -> String {
        let figures = self.of(state).map(|one| one.figure).collect();
        let ratio = ratio_of(self.of(state).map(|one| one.figure / one.limit).collect());
        let ratio = ratio.map_or(String::new(), |ratio| format!("{}, ", show_ratio(ratio)));
        show_median(figures, &ratio)
    }
}

fn show_median(figures: Vec<f64>, ratio: &str) -> String {
    match figures.len() {
        0 => String::new(),
        n => format!("{} ({ratio}n {n})", show(median(figures))),
    }
}

const STATES: [Option<State>; 4] =
    [None, Some(State::Near), Some(State::Far), Some(State::Sibling)];

/// Measures the rows in turn, each right after what they are compared with; a table of the medians,
/// with the median of the ratios.
pub(crate) fn table(table: &Table<'_>, place: &'static Place) -> String {
    let began = Surroundings::now(place);
    let sizes = sizes(table.quick);
    let mut cells: Vec<Vec<Cell>> =
        table.rows.iter().map(|_| sizes.iter().map(|_| Cell::default()).collect()).collect();
    for _ in 0..table.rounds {
        for (size, (len, _)) in sizes.iter().enumerate() {
            for ((_, measure), cells) in table.rows.iter().zip(&mut cells) {
                cells[size].take(table, measure, *len, place);
            }
        }
    }
    for last in (0..=AGAIN).map(|time| time == AGAIN) {
        for ((_, measure), cells) in table.rows.iter().zip(&mut cells) {
            for (cell, (len, _)) in cells.iter_mut().zip(sizes) {
                let removed = cell.remove_disturbed();
                let again = if last { 0 } else { removed };
                (0..again).for_each(|_| cell.take(table, measure, *len, place));
            }
        }
    }
    let names: Vec<_> = sizes.iter().map(|(_, name)| *name).collect();
    let mut text = format!(
        "| {} (× first row) | state | {} |\n|---|---|{}\n",
        table.title,
        names.join(" | "),
        "---:|".repeat(names.len())
    );
    for state in STATES {
        if cells.iter().flatten().all(|cell| cell.of(state).next().is_none()) {
            continue;
        }
        let name = show_state(state);
        let limits = |size: usize| {
            let limits = cells.iter().flat_map(|cells| cells[size].of(state));
            show_median(limits.map(|one| one.limit).collect(), "")
        };
        let limits: Vec<_> = (0..sizes.len()).map(limits).collect();
        writeln!(text, "| {} | {name} | {} |", table.raw.0, limits.join(" | ")).expect("room");
        for ((row, _), cells) in table.rows.iter().zip(&cells) {
            let shown: Vec<_> = cells.iter().map(|cell| cell.show(state)).collect();
            writeln!(text, "| {row} | {name} | {} |", shown.join(" | ")).expect("room");
        }
    }
    let total = |of: fn(&Cell) -> usize| cells.iter().flatten().map(of).sum::<usize>();
    text + &format!(
        "\nTaken again, at most {AGAIN} times, or left out: {} whose state changed, {} interrupted \
         by other processes, {} beside a disturbed limit.\n\n{}",
        total(|cell| cell.mixed),
        total(|cell| cell.interrupted),
        total(|cell| cell.disturbed),
        began.until_now()
    )
}
