//! A segment on the heap, and its users.
//!
//! [`Producer`] and [`Consumer`] call the protocol in the order in which `Writer` and `Reader` do.
//! Payloads are cells that loom watches: a byte written while another thread may read it is
//! reported as a race.

use std::cell::{Cell as PlainCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool as PlainBool, AtomicU64 as PlainU64, Ordering as PlainOrdering,
};
use std::time::Instant;

use loom::cell::Cell;
use loom::thread::{self, JoinHandle};

use crate::atomics::{AtomicU8, AtomicU32, AtomicU64, Chime, FutexWord, Ordering};
use crate::error::Code;
use crate::layout::{
    self, Bells, CachePadded, Claim, HotWords, Lifecycle, ReaderRow, Receipts, RegionRow, SlotLine,
    Slots,
};
use crate::modelled::{live, step};
use crate::protocol::attention::Outlook;
use crate::protocol::batch;
use crate::protocol::calm::{self, Guess, Hand, Manner, Memory, PublishBy, Right};
use crate::protocol::commit::{self, Owed};
use crate::protocol::dead::Dead;
use crate::protocol::expel::{self, Outcome, Target};
use crate::protocol::hold::{self, Cursor, Step};
use crate::protocol::loan;
use crate::protocol::members;
use crate::protocol::order::{self, FIRST, Position};
use crate::protocol::reclaim;
use crate::protocol::recovery;
use crate::protocol::rows::{self, Member};
use crate::protocol::shape::{Any, Calm, Dropping, KindOf, Shape};
use crate::protocol::slot;
use crate::protocol::table::Table;
use crate::protocol::vacancy;
use crate::protocol::words::{Extent, Loan, Owner, RowPhase, RowState, Token, Wanted};

/// Two slots, many writers, nothing is dropped, no history, one word of marks.
pub(crate) const PLAIN: Shape = Shape {
    slots: 2,
    capacity: 99,
    max_payload: 0,
    mark_words: 1,
    history: 0,
    single_writer: false,
    drop_oldest: false,
    timestamps: false,
    shift: Some(1),
    log2: 0,         // set by `World::with_lines`
    receipts: false, // set by `World::calm`
};
pub(crate) const ONE_SLOT: Shape = Shape { slots: 1, shift: Some(0), ..PLAIN };

/// Rows, and so readers, of a world. The first reader that joins gets the last row.
pub(crate) const ROWS: usize = 2;
/// So many rows that the reader in the last one has its bits in the second word of marks.
pub(crate) const ROWS_OF_TWO_WORDS: usize = 16;

/// Tries a model in every order of its steps in which threads are preempted up to `preemptions`
/// times (`LOOM_MAX_PREEMPTIONS` overrides it), and prints how many there were.
pub(crate) fn explore(name: &str, preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    let preemptions = builder.preemption_bound.unwrap_or(preemptions);
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 50_000;
    let executions = Arc::new(PlainU64::new(0));
    let count = Arc::clone(&executions);
    let since = Instant::now();
    builder.check(move || {
        count.fetch_add(1, PlainOrdering::Relaxed);
        model();
    });
    let executions = executions.load(PlainOrdering::Relaxed);
    let seconds = since.elapsed().as_secs_f32();
    // models/run adds these up.
    println!("{name}: {executions} orders, at most {preemptions} preemptions, {seconds:.1} s");
}

/// Tries a model with a death after no step, after one, and so on, until the death comes too late
/// in every order. The model is given the number of steps, and returns whether its victim survived
/// them.
pub(crate) fn explore_deaths(
    name: &str,
    preemptions: usize,
    model: impl Fn(u32) -> bool + Clone + Send + Sync + 'static,
) {
    for steps in 0.. {
        let died = Arc::new(PlainBool::new(false));
        let (model, noted) = (model.clone(), Arc::clone(&died));
        explore(&format!("{name}, death {steps}"), preemptions, move || {
            if !model(steps) {
                noted.store(true, PlainOrdering::Relaxed);
            }
        });
        if !died.load(PlainOrdering::Relaxed) {
            return;
        }
    }
}

/// A thread that is killed; returns whether it ended before that.
pub(crate) fn dying<T: 'static>(
    steps: u32,
    life: impl FnOnce() -> T + 'static,
) -> JoinHandle<bool> {
    thread::spawn(move || live(steps, life).is_some())
}

/// Waits for the end of a thread.
pub(crate) fn end<T>(thread: JoinHandle<T>) -> T {
    thread.join().expect("the thread did not fail")
}

/// A segment, its payloads, and what was committed to it.
pub(crate) struct World {
    pub(crate) shape: Shape,
    pub(crate) hot: HotWords,
    lines: Vec<SlotLine>,
    claims: Vec<Claim>,
    vacancy: Vec<AtomicU64>,
    readers: Vec<ReaderRow>,
    regions: Vec<RegionRow>,
    audiences: Vec<AtomicU64>,
    pub(crate) chime: Chime,
    payloads: Vec<Cell<u64>>,
    /// Sequence and payload of each sample. Not a part of the model: loom runs one thread at a
    /// time.
    committed: RefCell<Vec<(u64, u64)>>,
    /// Whether somebody expels readers. Elsewhere readers do not look whether they are expelled: each
    /// look would multiply the orders.
    expels: PlainBool,
    /// Slot and payload of each commit that is under way, or whose writer died in it.
    begun: RefCell<Vec<(u32, u64)>>,
}

impl World {
    /// A world without receipts that is never calm, whatever its shape: all of its commits and marks
    /// take the general path.
    pub(crate) fn new(shape: Shape, rows: usize) -> Rc<World> {
        World::with_lines(shape, rows, shape.slots)
    }

    /// As [`World::new`], but only the first slots can be used: for models of the map alone.
    pub(crate) fn with_lines(shape: Shape, rows: usize, slots: u32) -> Rc<World> {
        let shape = Shape { receipts: false, ..shape.completed() };
        Rc::new(World::build(shape, rows, slots, Outlook::PINNED.word()))
    }

    /// A world with receipts that is calm.
    pub(crate) fn calm(shape: Shape, rows: usize) -> Rc<World> {
        Rc::new(World::with_receipts(shape, rows, 0))
    }

    /// A world with receipts that is never calm, as where a participant has no heavy fence.
    pub(crate) fn pinned(shape: Shape, rows: usize) -> Rc<World> {
        Rc::new(World::with_receipts(shape, rows, Outlook::PINNED.word()))
    }

    fn with_receipts(shape: Shape, rows: usize, attention: u64) -> World {
        let shape = shape.completed();
        assert!(shape.receipts, "its kind has receipts");
        World::build(shape, rows, shape.slots, attention)
    }

    fn build(shape: Shape, rows: usize, slots: u32, attention: u64) -> World {
        let word = || AtomicU64::new(0);
        let byte = || AtomicU8::new(0);
        let line = || SlotLine {
            entry: std::array::from_fn(|_| word()),
            marks: std::array::from_fn(|_| word()),
            sequence: word(),
            extent: word(),
            receipts: Receipts { by: std::array::from_fn(|_| byte()), turn: byte() },
        };
        let row = || ReaderRow {
            state: word(),
            cursor: word(),
            lost: word(),
            cut: word(),
            expeller: word(),
        };
        let bell = || FutexWord::new(0);
        let world = World {
            shape,
            hot: HotWords {
                tail: CachePadded(AtomicU64::new(FIRST)),
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
                attention: CachePadded(AtomicU64::new(attention)),
            },
            lines: (0..slots).map(|_| line()).collect(),
            claims: (0..slots).map(|_| Claim { ctl: word(), aux: word() }).collect(),
            vacancy: (0..layout::vacancy_words(shape.slots)).map(|_| word()).collect(),
            readers: (0..rows).map(|_| row()).collect(),
            regions: vec![RegionRow { lease: word(), allocated: word() }],
            audiences: (0..slots).map(|_| word()).collect(),
            chime: Chime::new(),
            payloads: (0..slots).map(|_| Cell::new(0)).collect(),
            committed: RefCell::default(),
            begun: RefCell::default(),
            expels: PlainBool::new(false),
        };
        vacancy::offer_all(&world.table());
        world
    }

    /// The kind as which the world is used.
    fn kind(&self) -> KindOf {
        match self.shape.kind() {
            KindOf::CalmAlone | KindOf::CalmAmong if !self.shape.receipts => KindOf::Any,
            kind => kind,
        }
    }

    pub(crate) fn table(&self) -> Table<'_> {
        Table {
            shape: self.shape,
            hot: &self.hot,
            slots: Slots::new(&self.lines, &self.claims).expect("there are slots"),
            vacancy: &self.vacancy,
            readers: &self.readers,
            regions: &self.regions,
            audiences: &self.audiences,
            chime: &self.chime,
        }
    }

    pub(crate) fn producer(self: &Rc<World>, number: u32) -> Producer {
        self.producer_of(0, number)
    }

    pub(crate) fn producer_of(self: &Rc<World>, participant: u32, number: u32) -> Producer {
        let owner = Owner::new(participant, number);
        Producer {
            world: Rc::clone(self),
            owner,
            resume: AtomicU64::new(0),
            hand: Hand::of(owner),
            memory: Memory::new(),
            next: PlainCell::new(0),
            is_contended: PlainCell::new(true),
        }
    }

    /// A writer that has learned who is joined, and has met no other writer for a while, so that it
    /// lets the tail lag.
    pub(crate) fn calm_producer_of(self: &Rc<World>, participant: u32, number: u32) -> Producer {
        let writer = self.producer_of(participant, number);
        assert!(writer.learn(), "it is calm, and a reader has joined");
        writer.is_contended.set(false);
        writer.next.set(order::tail(&self.table()));
        writer
    }

    pub(crate) fn calm_producer(self: &Rc<World>, number: u32) -> Producer {
        self.calm_producer_of(0, number)
    }

    pub(crate) fn join(self: &Rc<World>, history: u32) -> Consumer {
        self.join_of(0, history)
    }

    pub(crate) fn join_of(self: &Rc<World>, participant: u32, history: u32) -> Consumer {
        self.try_join(participant, history).expect("a row is free")
    }

    pub(crate) fn try_join(self: &Rc<World>, participant: u32, history: u32) -> Option<Consumer> {
        let (member, cursor) = match members::join(&self.table(), participant, history) {
            Err(Code::NoReaderSlot) => return None,
            Err(Code::Expelled) if self.expels() => return None,
            joined => sound(joined),
        };
        let world = Rc::clone(self);
        Some(Consumer { world, member, cursor, seen: Vec::new(), is_expelled: false })
    }

    /// A world in which readers may be expelled.
    pub(crate) fn expelling(shape: Shape, rows: usize) -> Rc<World> {
        World::new(shape, rows).with_expellers()
    }

    /// This world, in which readers may be expelled.
    pub(crate) fn with_expellers(self: Rc<World>) -> Rc<World> {
        self.expels.store(true, PlainOrdering::Relaxed);
        self
    }

    fn expels(&self) -> bool {
        self.expels.load(PlainOrdering::Relaxed)
    }

    /// Expels the reader of a row and generation.
    pub(crate) fn expel(&self, participant: u32, index: u32, generation: u32) -> Outcome {
        sound(expel::expel(&self.table(), Target { index, generation }, participant))
    }

    /// What a process does that finds these participants dead.
    pub(crate) fn free_rows(&self, participants: &[u32]) {
        let mut dead = Dead::default();
        participants.iter().for_each(|participant| dead.insert(*participant));
        sound(recovery::sweep(&self.table(), &dead));
        recovery::announce(&self.table());
    }

    /// Samples committed so far, in order, which must have no gap. No commit is under way. A commit
    /// whose writer died counts if it was published.
    pub(crate) fn committed(&self) -> Vec<(u64, u64)> {
        let mut all = self.committed.borrow().clone();
        let mut begun = self.begun.borrow().clone();
        let table = self.table();
        let last = all.iter().map(|(sequence, _)| *sequence).max().unwrap_or(0);
        for sequence in FIRST.. {
            if begun.is_empty() {
                break;
            }
            if all.iter().any(|(known, _)| *known == sequence) {
                continue;
            }
            let entry = sound(Position::of(&self.shape, sequence).look(&table));
            let of_this =
                |(slot, _): &(u32, u64)| entry.compare(sequence).is_eq() && entry.slot() == *slot;
            match begun.iter().position(of_this) {
                Some(index) => all.push((sequence, begun.swap_remove(index).1)),
                // Others came later, and its entry is overwritten.
                None if sequence < last => {
                    all.extend(begun.pop().map(|(_, value)| (sequence, value)))
                }
                None => break,
            }
        }
        all.sort_unstable();
        let sequences: Vec<u64> = all.iter().map(|(sequence, _)| *sequence).collect();
        assert_eq!(sequences, (FIRST..FIRST + all.len() as u64).collect::<Vec<_>>(), "committed");
        all
    }

    /// Nobody but these readers is a member, or has a row.
    pub(crate) fn check_members(&self, readers: &[&Consumer]) {
        let bits = readers.iter().fold(0, |bits, reader| bits | 1 << reader.member.index);
        assert_eq!(self.hot.active.0.load(Ordering::Acquire), bits, "members");
        assert_eq!(rows::taken_rows(&self.table()), bits, "rows that are taken");
    }

    /// What must hold when all threads are done and every reader has left or marked everything: the
    /// tail is right, no mark is left except those of retained samples, a writer finds every other
    /// slot, and no free row has a receipt.
    pub(crate) fn check_at_rest(self: &Rc<World>) {
        let table = self.table();
        let committed = self.committed().len() as u64;
        // Where there are receipts, writers let the tail lag.
        let tail = match self.shape.receipts {
            true => sound(order::settled_tail(&table)),
            false => order::tail(&table),
        };
        assert_eq!(tail, FIRST + committed, "the tail");
        self.check_receipts();
        let retained = (committed as usize).min(self.shape.history as usize);
        let marked = table.slots.lines().iter().filter(|line| !self.is_clear(line)).count();
        let taken = self.shape.drop_oldest && marked < retained;
        assert!(
            marked == retained || taken,
            "{marked} slots with marks, {retained} retained samples"
        );
        let writer = self.producer(9);
        let mut found = Vec::new();
        while let Some(loan) = sound(loan::claim_from_map(&table, writer.owner)) {
            writer.fill(loan, 0);
            found.push(loan);
        }
        assert_eq!(found.len() + marked, self.shape.slots as usize, "slots that a writer finds");
        found.into_iter().for_each(|loan| writer.discard(loan));
    }

    /// A reader that joins after all of it sees what is written then.
    pub(crate) fn check_newcomer(self: &Rc<World>) {
        let mut reader = self.join(0);
        let last = self.producer(8).try_write(9).expect("a slot is free");
        reader.take_all();
        assert_eq!(reader.seen, [(last, 9)]);
        reader.leave();
        reader.give_row_back();
    }

    /// A writer that begins after all of it commits calmly, and the reader gets that sample.
    pub(crate) fn check_calm(self: &Rc<World>, reader: &mut Consumer) {
        let writer = self.calm_producer(7);
        let loan = writer.try_reserve().expect("a slot is free");
        writer.fill(loan, 9);
        let sequence = writer.publish_calmly(loan, 9, Right::Sole).expect("it is calm");
        self.committed.borrow_mut().push((sequence, 9));
        reader.take_all();
        assert_eq!(reader.seen.last(), Some(&(sequence, 9)));
    }

    fn is_clear(&self, line: &SlotLine) -> bool {
        let mut marks = line.marks.iter().take(self.shape.mark_words);
        marks.all(|marks| slot::load_marks(line, &self.shape, marks).is_clear())
    }

    /// No receipt is left of a reader that has given its row back.
    fn check_receipts(&self) {
        if !self.shape.receipts {
            return;
        }
        let is_free =
            |row: &ReaderRow| RowState(row.state.load(Ordering::Acquire)).is(RowPhase::Free);
        for (index, _) in self.readers.iter().enumerate().filter(|(_, row)| is_free(row)) {
            for line in &self.lines {
                assert_eq!(line.receipts.by[index].load(Ordering::Acquire), 0, "a receipt is left");
            }
        }
    }
}

/// A writer.
pub(crate) struct Producer {
    world: Rc<World>,
    pub(crate) owner: Owner,
    resume: AtomicU64,
    hand: Hand,
    memory: Memory,
    /// What `writer::core::CalmWriter` remembers besides. Not a part of the model.
    next: PlainCell<u64>,
    is_contended: PlainCell<bool>,
}

impl Producer {
    pub(crate) fn table(&self) -> Table<'_> {
        self.world.table()
    }

    /// A slot that is free.
    fn find(&self) -> Option<Loan> {
        let table = self.world.table();
        if self.world.shape.receipts {
            if let Some(loan) = self.find_quickly(&table) {
                return Some(loan);
            }
        }
        // Elsewhere without `try_claim`, because its only step is the first one of `claim_home`.
        sound(loan::claim_home(&table, self.owner))
            .or_else(|| sound(loan::claim_from_map(&table, self.owner)))
    }

    /// The slot of the next sequence, as far as this writer knows.
    fn find_quickly(&self, table: &Table<'_>) -> Option<Loan> {
        let first = self.hand.first;
        let tail = table.hot.tail.0.load(Ordering::Relaxed);
        let len = table.shape.capacity;
        let token = if table.shape.single_writer {
            loan::try_claim::<Calm<true>>(table, first, table.slots.home(tail), len)
        } else {
            let next = self.next.get().max(tail);
            loan::try_claim::<Calm<false>>(table, first, table.slots.home(next), len)
        }?;
        Some(Loan { slot: token.slot(), generation: token.generation(), owner: self.owner })
    }

    /// Learns who is joined; false if the segment is not calm, or if there is nothing new.
    pub(crate) fn learn(&self) -> bool {
        self.memory.learn(&self.world.table())
    }

    /// What a writer does from time to time: it makes the segment calm if nobody sleeps.
    pub(crate) fn settle(&self) {
        let table = self.world.table();
        table.attention().settle(|| !slot::anybody_listens(&table));
    }

    /// A slot, free or taken from readers where the policy allows it.
    pub(crate) fn try_reserve(&self) -> Option<Loan> {
        let found = self.find();
        if found.is_none() && self.world.shape.drop_oldest {
            self.try_reclaim()
        } else {
            self.noted(found)
        }
    }

    /// A slot that the map knows.
    pub(crate) fn find_vacant(&self) -> Option<Loan> {
        self.noted(sound(loan::claim_from_map(&self.world.table(), self.owner)))
    }

    /// A slot taken from readers.
    pub(crate) fn try_reclaim(&self) -> Option<Loan> {
        self.noted(sound(reclaim::reclaim_oldest(
            &self.world.table(),
            self.owner,
            Wanted::AnySlot,
            &self.resume,
        )))
    }

    /// A loan with its length stored beside it.
    fn noted(&self, found: Option<Loan>) -> Option<Loan> {
        let loan = found?;
        let claim = &self.world.claims[loan.slot as usize];
        claim.aux.store(self.world.shape.capacity, Ordering::Relaxed);
        Some(loan)
    }

    /// A slot; sleeps until there is one.
    pub(crate) fn reserve(&self) -> Loan {
        self.try_reserve().unwrap_or_else(|| self.wait(Producer::try_reserve))
    }

    /// Sleeps until `find` has found a slot.
    pub(crate) fn wait(&self, find: fn(&Producer) -> Option<Loan>) -> Loan {
        let bell = self.world.table().space_bell();
        loop {
            let armed = bell.arm(self.world.table().attention());
            if let Some(loan) = find(self) {
                return loan;
            }
            bell.sleep(armed, None);
        }
    }

    pub(crate) fn fill(&self, loan: Loan, value: u64) {
        self.world.payloads[loan.slot as usize].set(value);
        step();
    }

    /// Becomes the only writer.
    pub(crate) fn open(&self) {
        let word = &self.world.hot.lifecycle.0.writer;
        let taken = word.compare_exchange(0, self.owner.0 + 1, Ordering::AcqRel, Ordering::Relaxed);
        assert_eq!(taken, Ok(0), "there is no other writer");
        sound(order::settled_tail(&self.world.table()));
    }

    /// Gives a slot back, filled or not.
    pub(crate) fn discard(&self, loan: Loan) {
        self.fill(loan, 0);
        sound(loan::discard(&self.world.table(), loan));
    }

    /// Fills a slot and commits it.
    pub(crate) fn commit(&self, loan: Loan, value: u64) -> u64 {
        self.commit_to(loan, value, Owed::Members)
    }

    /// Fills a slot and commits it for certain readers.
    pub(crate) fn commit_to(&self, loan: Loan, value: u64, owed: Owed) -> u64 {
        self.fill(loan, value);
        if let Owed::External(readers) = owed {
            self.world.audiences[loan.slot as usize].store(readers, Ordering::Relaxed);
        }
        self.publish(loan, value, owed, Right::Sole).expect("a loan")
    }

    /// Commits a slot that is filled.
    pub(crate) fn publish(
        &self,
        loan: Loan,
        value: u64,
        owed: Owed,
        right: Right,
    ) -> Result<u64, Code> {
        let begun = (loan.slot, value);
        self.world.begun.borrow_mut().push(begun);
        let published = match owed {
            Owed::Members if self.world.shape.receipts => self.publish_here(loan, value, right),
            _ => self.publish_generally(loan, value, owed),
        };
        let mut under_way = self.world.begun.borrow_mut();
        under_way.iter().position(|commit| *commit == begun).map(|index| under_way.remove(index));
        if let Ok(sequence) = published {
            self.world.committed.borrow_mut().push((sequence, value));
        }
        published
    }

    /// Calmly, if that is possible.
    fn publish_here(&self, loan: Loan, len: u64, right: Right) -> Result<u64, Code> {
        if let Some(sequence) = self.publish_calmly(loan, len, right) {
            return Ok(sequence);
        }
        if self.learn() {
            if let Some(sequence) = self.publish_calmly(loan, len, right) {
                return Ok(sequence);
            }
        }
        self.publish_generally(loan, len, Owed::Members)
    }

    fn publish_calmly(&self, loan: Loan, len: u64, right: Right) -> Option<u64> {
        let table = self.world.table();
        let (hand, known) = (&self.hand, self.memory.known());
        let token = Token::new(loan.slot, loan.generation);
        let guess = || self.guess(&table);
        // The weaker one.
        let manner = Manner { right, publish_by: || PublishBy::Store };
        if table.shape.single_writer {
            let sequence = calm::commit::<true>(&table, hand, known, token, len, manner, guess)?;
            return Some(sequence.get());
        }
        let sequence = calm::commit::<false>(&table, hand, known, token, len, manner, guess)?.get();
        let met = sequence != self.next.replace(sequence + 1);
        self.note(&table, sequence, met);
        Some(sequence)
    }

    /// Fills slots and commits them together, in a world with receipts; returns how many, the first
    /// ones.
    pub(crate) fn commit_batch(&self, loans: &[(Loan, u64)]) -> usize {
        loans.iter().for_each(|(loan, value)| self.fill(*loan, *value));
        self.publish_batch(loans, Right::Sole)
    }

    /// The same for slots that are filled.
    pub(crate) fn publish_batch(&self, loans: &[(Loan, u64)], right: Right) -> usize {
        let table = self.world.table();
        let begun = || loans.iter().map(|(loan, value)| (loan.slot, *value));
        self.world.begun.borrow_mut().extend(begun());
        if table.attention().look() != self.memory.known().outlook {
            self.learn();
        }
        let token = |loan: &Loan| Token::new(loan.slot, loan.generation);
        let tokens: Vec<_> = loans.iter().map(|(loan, value)| (token(loan), *value)).collect();
        let (hand, known, guess) = (&self.hand, self.memory.known(), self.guess(&table));
        let done = match table.shape.single_writer {
            true => batch::commit::<true>(&table, hand, known, &tokens, right, guess),
            false => batch::commit::<false>(&table, hand, known, &tokens, right, guess),
        };
        for commit in begun() {
            let mut under_way = self.world.begun.borrow_mut();
            let place = under_way.iter().position(|other| *other == commit);
            place.map(|index| under_way.remove(index));
        }
        let values = loans.iter().map(|(_, value)| *value);
        self.world.committed.borrow_mut().extend(done.sequences().iter().copied().zip(values));
        let count = done.sequences().len();
        if let Some(last) = done.sequences().last() {
            let met = last + 1 != self.next.replace(last + 1) + count as u64;
            self.note(&table, *last, met);
        }
        count
    }

    fn guess(&self, table: &Table<'_>) -> Guess {
        let lag = if self.is_contended.get() { 1 } else { u64::from(table.shape.slots / 4) };
        Guess { next: self.next.get(), lag: lag.max(1) }
    }

    /// After a commit among others.
    fn note(&self, table: &Table<'_>, sequence: u64, met: bool) {
        self.is_contended.set(met || self.is_contended.get());
        if self.is_contended.get() {
            order::advance(table, sequence);
        }
    }

    fn publish_generally(&self, loan: Loan, len: u64, owed: Owed) -> Result<u64, Code> {
        let table = self.world.table();
        match self.world.kind() {
            KindOf::CalmAlone => commit::commit::<Calm<true>>(&table, loan, len, owed, || 0),
            KindOf::CalmAmong => commit::commit::<Calm<false>>(&table, loan, len, owed, || 0),
            KindOf::Dropping => commit::commit::<Dropping>(&table, loan, len, owed, || 0),
            KindOf::Any => commit::commit::<Any>(&table, loan, len, owed, || 0),
        }
    }

    /// Reserves and fills, if there is a slot, and gives it back.
    pub(crate) fn try_fill(&self) {
        if let Some(loan) = self.try_reserve() {
            self.discard(loan);
        }
    }

    /// Reserves and commits, if there is a slot.
    pub(crate) fn try_write(&self, value: u64) -> Option<u64> {
        self.try_reserve().map(|loan| self.commit(loan, value))
    }

    /// Reserves and commits; sleeps until there is a slot.
    pub(crate) fn write(&self, value: u64) -> u64 {
        self.commit(self.reserve(), value)
    }
}

/// A reader, and what it has read.
pub(crate) struct Consumer {
    pub(crate) world: Rc<World>,
    pub(crate) member: Member,
    pub(crate) cursor: Cursor,
    /// Whether it has found that it was expelled.
    pub(crate) is_expelled: bool,
    /// Sequence and payload of each sample that it has marked.
    pub(crate) seen: Vec<(u64, u64)>,
}

/// A sample that a reader holds.
#[derive(Clone, Copy)]
pub(crate) struct HeldSample {
    slot: u32,
    bit: u64,
    pub(crate) sequence: u64,
    pub(crate) value: u64,
}

impl Consumer {
    pub(crate) fn read(&mut self) -> Option<HeldSample> {
        let table = self.world.table();
        let (bit, before) = (self.member.bit, self.cursor.place);
        let next = self.cursor.place.sequence;
        let step = match self.world.kind() {
            KindOf::CalmAlone | KindOf::CalmAmong => hold::step::<Calm<false>>(&table, bit, next),
            KindOf::Dropping => hold::step::<Dropping>(&table, bit, next),
            KindOf::Any => hold::step::<Any>(&table, bit, next),
        };
        let slot = match sound(step) {
            Step::Empty => None,
            Step::Sample(slot, _) => {
                self.cursor.place = self.cursor.place.next(&table.shape);
                Some(slot)
            }
            Step::Irregular => sound(hold::next(&table, bit, &mut self.cursor)),
        };
        let hold = if table.shape.drop_oldest { bit.held } else { bit.owed };
        let sequence = self.cursor.place.sequence;
        if self.world.expels() && !self.shows_as_joined() {
            self.is_expelled = true;
            self.cursor.place = before;
            self.shows_as_joined();
            if let Some(slot) = slot.filter(|_| table.shape.drop_oldest) {
                let _ = hold::mark(&table, slot, bit.word, hold, sequence - 1);
            }
            members::release_all_unread(&table, self.member, before.sequence);
            return None;
        }
        Some(self.show(slot?, hold, sequence - 1))
    }

    /// Stores how far it has come, and looks whether it is still a member.
    fn shows_as_joined(&self) -> bool {
        let table = self.world.table();
        rows::move_cursor(&table, self.member, self.cursor.place.sequence)
    }

    /// The next sample; sleeps until there is one.
    pub(crate) fn read_waiting(&mut self) -> HeldSample {
        let world = Rc::clone(&self.world);
        let bell = world.table().data_bell();
        loop {
            if let Some(sample) = self.read() {
                return sample;
            }
            let armed = bell.arm(world.table().attention());
            if sound(hold::seek(&world.table(), self.member.bit, &mut self.cursor)).is_none() {
                bell.sleep(armed, None);
            }
        }
    }

    pub(crate) fn peek(&self) -> Option<HeldSample> {
        let latest = sound(hold::peek_latest(
            &self.world.table(),
            self.member.bit,
            self.cursor.place.sequence,
        ));
        latest.map(|(slot, sequence)| self.show(slot, self.member.bit.held, sequence))
    }

    fn show(&self, slot: u32, bit: u64, sequence: u64) -> HeldSample {
        let value = self.world.payloads[slot as usize].get();
        let extent = Extent(self.world.lines[slot as usize].extent.load(Ordering::Relaxed));
        assert_eq!(extent.len(), value, "length and payload are of one sample");
        step();
        HeldSample { slot, bit, sequence, value }
    }

    pub(crate) fn mark(&mut self, sample: HeldSample) {
        if let Some((last, _)) = self.seen.last() {
            assert!(*last < sample.sequence, "sequences rise");
        }
        self.let_go(sample);
    }

    /// As `mark`, where samples are marked in another order than they were read.
    pub(crate) fn let_go(&mut self, sample: HeldSample) {
        assert_eq!(
            self.world.payloads[sample.slot as usize].get(),
            sample.value,
            "changed in hand"
        );
        step();
        assert_eq!(self.try_mark(sample, Right::Sole), Ok(()), "in hand until now");
        self.seen.push((sample.sequence, sample.value));
    }

    /// Marks a sample, which others may be trying at this moment unless the right is `Sole`.
    pub(crate) fn try_mark(&self, sample: HeldSample, right: Right) -> Result<(), Code> {
        mark_for(&self.world, self.member, sample, right)
    }

    /// Marks samples together, in a world with receipts; returns how many, the first ones.
    pub(crate) fn mark_batch(&mut self, samples: &[HeldSample]) -> usize {
        for sample in samples {
            let held = self.world.payloads[sample.slot as usize].get();
            assert_eq!(held, sample.value, "changed in hand");
        }
        step();
        let marked = self.try_mark_batch(samples, Right::Sole);
        let seen = samples.iter().take(marked).map(|sample| (sample.sequence, sample.value));
        self.seen.extend(seen);
        marked
    }

    /// The same, which others may be trying at this moment unless the right is `Sole`.
    pub(crate) fn try_mark_batch(&self, samples: &[HeldSample], right: Right) -> usize {
        let Member { index, bit, .. } = self.member;
        let samples: Vec<_> = samples.iter().map(|sample| (sample.slot, sample.sequence)).collect();
        batch::mark(&self.world.table(), &samples, index, bit, right)
    }

    /// Reads and marks, if there is a sample.
    pub(crate) fn take(&mut self) -> bool {
        let sample = self.read();
        if let Some(sample) = sample {
            self.mark(sample);
        }
        sample.is_some()
    }

    pub(crate) fn take_waiting(&mut self) {
        let sample = self.read_waiting();
        self.mark(sample);
    }

    pub(crate) fn take_all(&mut self) {
        while self.take() {}
    }

    /// Then one more, which is committed while nothing else happens, and which must arrive.
    pub(crate) fn take_all_and_one_more(&mut self, writer: &Producer) {
        self.take_all();
        let last = writer.try_write(9).expect("a slot is free");
        self.take_all();
        assert_eq!(self.seen.last(), Some(&(last, 9)));
    }

    /// Gives back everything that it does not hold; the row stays taken.
    pub(crate) fn leave(&self) {
        sound(members::leave(&self.world.table(), self.member, self.cursor.place.sequence));
    }

    pub(crate) fn give_row_back(&self) {
        sound(rows::give_row_back(&self.world.table(), self.member));
    }

    /// What it has seen is the end of all samples.
    pub(crate) fn check_end(&self) {
        let committed = self.world.committed();
        assert!(committed.ends_with(&self.seen), "{:?} is no end of {committed:?}", self.seen);
    }

    /// Each sample once, or counted as lost.
    pub(crate) fn check_books(&self) {
        let committed = self.world.committed();
        if self.world.shape.drop_oldest {
            assert!(self.seen.iter().all(|sample| committed.contains(sample)), "seen");
            assert_eq!(
                self.seen.len() as u64 + self.cursor.lost,
                committed.len() as u64,
                "seen and lost"
            );
        } else {
            assert_eq!(self.seen, committed, "seen");
        }
    }
}

/// Marks a sample for a reader, which another thread of its process may have at this moment.
pub(crate) fn mark_for(
    world: &World,
    member: Member,
    sample: HeldSample,
    right: Right,
) -> Result<(), Code> {
    let (table, bit) = (world.table(), member.bit);
    let HeldSample { slot, sequence, .. } = sample;
    if sample.bit != bit.owed || !table.shape.receipts {
        return hold::mark(&table, slot, bit.word, sample.bit, sequence);
    }
    let mark = || calm::mark(&table, slot, member.index, bit, sequence, right);
    // If the short way fails, the other one tries the same again.
    mark().or_else(|_| mark())
}

/// Names the error of a call that must not fail.
pub(crate) fn sound<T>(result: Result<T, Code>) -> T {
    result.expect("the words are sound")
}
