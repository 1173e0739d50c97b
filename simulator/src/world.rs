//! A segment on the heap, as large as any run needs, and the names of its words.

use std::array::from_fn;
use std::cell::Cell;

use crate::atomics::{AtomicU8, AtomicU32, AtomicU64, Chime, FutexWord};
use crate::case::Case;
use crate::layout::{
    self, Bells, CachePadded, Claim, HotWords, Lifecycle, ReaderRow, RegionRow, SlotLine, Slots,
};
use crate::protocol::attention::Outlook;
use crate::protocol::order::FIRST;
use crate::protocol::shape::Shape;
use crate::protocol::table::Table;
use crate::protocol::vacancy;
use crate::protocol::words::{Audience, Marks, Place};

pub(crate) const MAX_SLOTS: u32 = 65;
pub(crate) const MAX_ROWS: u32 = 17;
pub(crate) const MAX_REGIONS: u32 = 4;
const MAX_VACANCY: usize = 3;

/// The words and payloads that the processes of a run share. They are in one object, so one
/// comparison tells whether a word is shared.
pub(crate) struct World {
    case: Cell<(Shape, u32, u32)>,
    pub(crate) hot: HotWords,
    lines: [SlotLine; MAX_SLOTS as usize],
    claims: [Claim; MAX_SLOTS as usize],
    vacancy: [AtomicU64; MAX_VACANCY],
    rows: [ReaderRow; MAX_ROWS as usize],
    regions: [RegionRow; MAX_REGIONS as usize],
    audiences: [AtomicU64; MAX_SLOTS as usize],
    pub(crate) chime: Chime,
    /// Two cells per place, slots first, then regions.
    payloads: [[Cell<u64>; 2]; (MAX_SLOTS + MAX_REGIONS) as usize],
}

impl World {
    pub(crate) fn new() -> World {
        let word = || AtomicU64::new(0);
        let bell = || FutexWord::new(0);
        let line = || SlotLine {
            entry: from_fn(|_| word()),
            marks: from_fn(|_| word()),
            sequence: word(),
            extent: word(),
        };
        World {
            case: Cell::new((NOTHING, 0, 0)),
            hot: HotWords {
                tail: CachePadded(word()),
                active: CachePadded(word()),
                bells: CachePadded(Bells { data: bell(), space: bell(), change: bell() }),
                horizon: CachePadded(word()),
                lifecycle: CachePadded(Lifecycle {
                    retired: AtomicU32::new(0),
                    writer: AtomicU32::new(0),
                    deaths: AtomicU32::new(0),
                    opened: AtomicU32::new(0),
                    looked: word(),
                    asked: word(),
                }),
                attention: CachePadded(word()),
            },
            lines: from_fn(|_| line()),
            claims: from_fn(|_| Claim { ctl: word(), aux: word() }),
            vacancy: from_fn(|_| word()),
            rows: from_fn(|_| ReaderRow {
                state: word(),
                cursor: word(),
                lost: word(),
                cut: word(),
                expeller: word(),
            }),
            regions: from_fn(|_| RegionRow { lease: word(), allocated: word() }),
            audiences: from_fn(|_| word()),
            chime: Chime::new(),
            payloads: from_fn(|_| Default::default()),
        }
    }

    /// Makes it a new segment. No process runs.
    pub(crate) fn reset(&self, case: &Case) {
        self.case.set((case.shape, case.rows, case.regions));
        let HotWords { tail, active, bells, horizon, lifecycle, attention } = &self.hot;
        tail.0.reset(FIRST);
        // As in a new segment of the library.
        let calm = case.shape.receipts && !case.pinned;
        attention.0.reset(if calm { 0 } else { Outlook::PINNED.word() });
        [&active.0, &horizon.0, &lifecycle.0.looked].into_iter().for_each(|word| word.reset(0));
        [&bells.0.data, &bells.0.space, &bells.0.change]
            .into_iter()
            .for_each(|bell| bell.0.reset(0));
        let life = &lifecycle.0;
        [&life.retired, &life.writer, &life.deaths, &life.opened]
            .into_iter()
            .for_each(|word| word.reset(0));
        self.chime.reset();
        let table = self.table();
        for line in table.slots.lines() {
            // The receipts are in the second and the third word of marks.
            line.entry.iter().chain(&line.marks).for_each(|word| word.reset(0));
            line.sequence.reset(0);
            line.extent.reset(0);
        }
        for claim in table.slots.claims() {
            claim.ctl.reset(0);
            claim.aux.reset(0);
        }
        for row in table.readers {
            [&row.state, &row.cursor, &row.lost, &row.cut, &row.expeller]
                .into_iter()
                .for_each(|word| word.reset(0));
        }
        table.audiences.iter().for_each(|word| word.reset(0));
        for row in table.regions {
            [&row.lease, &row.allocated].into_iter().for_each(|word| word.reset(0));
        }
        vacancy::offer_all(&table);
    }

    pub(crate) fn shape(&self) -> Shape {
        self.case.get().0
    }

    pub(crate) fn table(&self) -> Table<'_> {
        let (shape, rows, regions) = self.case.get();
        let slots = shape.slots as usize;
        let vacancy = layout::vacancy_words(shape.slots) as usize;
        Table {
            shape,
            hot: &self.hot,
            slots: Slots::new(&self.lines[..slots], &self.claims[..slots])
                .expect("there are slots"),
            vacancy: &self.vacancy[..vacancy],
            readers: &self.rows[..rows as usize],
            regions: &self.regions[..regions as usize],
            audiences: &self.audiences[..slots],
            chime: &self.chime,
        }
    }

    /// Which bits of one word of marks count: an owed bit for which there is a receipt does not. As
    /// the running process sees them, or between two steps; read without a step.
    pub(crate) fn marks(&self, line: &SlotLine, word: usize) -> Marks {
        let seen = Marks(line.marks[word].peek());
        if !self.shape().receipts {
            return seen;
        }
        let receipts = line.receipts();
        let turn = receipts.turn.peek();
        let is_marked = |(_, receipt): &(usize, &AtomicU8)| receipt.peek() == turn;
        let marked = receipts.by.iter().enumerate().filter(is_marked);
        let marked = marked.fold(0, |all, (reader, _)| all | 1 << reader);
        seen.without_owed(Audience::of_readers(marked, false))
    }

    pub(crate) fn payload(&self, place: Place) -> &[Cell<u64>; 2] {
        &self.payloads[place_index(place)]
    }

    /// Whether the word is shared; the others belong to a handle of one process.
    #[inline(always)]
    pub(crate) fn has(&self, word: usize) -> bool {
        word.wrapping_sub(&raw const *self as usize) < size_of::<World>()
    }

    /// Whether the word is an entry of the order.
    #[inline(always)]
    pub(crate) fn is_entry(&self, word: usize) -> bool {
        let offset = word.wrapping_sub(self.lines.as_ptr() as usize);
        offset < size_of_val(&self.lines) && offset % size_of::<SlotLine>() < 16
    }

    /// The row whose state the word is.
    #[inline(always)]
    pub(crate) fn row_of_state(&self, word: usize) -> Option<u32> {
        let offset = word.wrapping_sub(self.rows.as_ptr() as usize);
        let is_state = offset < size_of_val(&self.rows) && offset % size_of::<ReaderRow>() == 0;
        is_state.then_some((offset / size_of::<ReaderRow>()) as u32)
    }

    /// The name of a word in `docs/segment-layout.md`, and its row.
    pub(crate) fn name(&self, word: usize) -> (&'static str, Option<usize>) {
        let tables = [
            ("line.", self.lines.as_ptr() as usize, size_of::<SlotLine>(), self.lines.len()),
            ("claim.", self.claims.as_ptr() as usize, size_of::<Claim>(), self.claims.len()),
            ("reader.", self.rows.as_ptr() as usize, size_of::<ReaderRow>(), self.rows.len()),
            ("region.", self.regions.as_ptr() as usize, size_of::<RegionRow>(), self.regions.len()),
        ];
        let names = layout::word_offsets();
        let within = |base: usize, size: usize, count: usize| {
            word.checked_sub(base).filter(|offset| *offset < size * count)
        };
        // Some words are arrays: the name is that of the last field that starts before.
        let find = |prefix: &str, offset: usize| {
            let fields =
                names.iter().filter(|(name, at)| name.starts_with(prefix) && *at <= offset);
            // Without receipts, their words are marks.
            let fields =
                fields.filter(|(name, _)| self.shape().receipts || !RECEIPTS.contains(name));
            fields.max_by_key(|(_, at)| *at).map_or("a word", |(name, _)| *name)
        };
        for (prefix, base, size, count) in tables {
            if let Some(offset) = within(base, size, count) {
                return (find(prefix, offset % size), Some(offset / size));
            }
        }
        if let Some(offset) = within(self.vacancy.as_ptr() as usize, 8, MAX_VACANCY) {
            return ("vacancy", Some(offset / 8));
        }
        if let Some(offset) = within(self.audiences.as_ptr() as usize, 8, self.audiences.len()) {
            return ("audience", Some(offset / 8));
        }
        let offset = word.wrapping_sub(&raw const self.hot as usize) + layout::HOT_OFFSET as usize;
        let hot = names.iter().find(|(_, at)| *at == offset);
        (hot.map_or("a word", |(name, _)| *name), None)
    }
}

/// The index of a place among the payloads.
pub(crate) fn place_index(place: Place) -> usize {
    match place {
        Place::Slot(slot) => slot as usize,
        Place::Region(region) => (MAX_SLOTS + region) as usize,
    }
}

/// The names of the words that are marks in segments without receipts.
const RECEIPTS: [&str; 2] = ["line.receipts", "line.turn"];

/// Before the first run.
const NOTHING: Shape = Shape {
    slots: 0,
    capacity: 0,
    max_payload: 0,
    mark_words: 1,
    history: 0,
    single_writer: false,
    drop_oldest: false,
    timestamps: false,
    shift: None,
    log2: 0,
    receipts: false,
};
