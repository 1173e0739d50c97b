//! A process as a writer, in the order in which `Writer` calls the protocol.

mod batch;
mod memory;

use std::cell::Cell;
use std::sync::atomic::Ordering;

use crate::atomics::AtomicU64;
use crate::case::CAPACITY;
use crate::machine::{Awaited, Machine, Noted};
use crate::oracle::Commit;
use crate::process::sound;
use crate::protocol::bounds::RACE_LIMIT;
use crate::protocol::calm::{self, Hand, Manner, PublishBy, Right};
use crate::protocol::commit::{self, Owed};
use crate::protocol::history;
use crate::protocol::loan;
use crate::protocol::order;
use crate::protocol::reclaim;
use crate::protocol::region;
use crate::protocol::shape::{Any, Calm, Dropping, KindOf};
use crate::protocol::table::Table;
use crate::protocol::words::{Loan, Owner, Place, Reserved, Token, Wanted};
use crate::recoverer;

use memory::CalmWriter;

/// A loan, filled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filled {
    pub(crate) loan: Loan,
    place: Place,
    len: u64,
    value: u64,
}

pub(crate) struct Producer {
    machine: &'static Machine,
    process: usize,
    pub(crate) owner: Owner,
    hand: Hand,
    kind: KindOf,
    calm: CalmWriter,
    resume: AtomicU64,
    /// The slot that it last got out of order.
    recent: Cell<Option<u32>>,
    open: bool,
}

impl Producer {
    pub(crate) fn new(machine: &'static Machine, process: usize) -> Producer {
        let owner = Owner::new(process as u32, 0);
        let kind = machine.world.shape().kind();
        Producer {
            machine,
            process,
            owner,
            hand: Hand::of(owner),
            kind,
            calm: CalmWriter::new(machine),
            resume: AtomicU64::new(0),
            recent: Cell::new(None),
            open: false,
        }
    }

    /// Becomes the only writer, if there may be only one; false if there is one already.
    pub(crate) fn open(&mut self) -> bool {
        let table = self.machine.world.table();
        if !self.open && table.shape.single_writer {
            let word = &table.hot.lifecycle.0.writer;
            let mine = self.owner.0 + 1;
            if word.compare_exchange(0, mine, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                return false;
            }
            sound(self.machine, order::settled_tail(&table));
        }
        self.open = true;
        true
    }

    /// Its loans were given back.
    pub(crate) fn close(&mut self) {
        let table = self.machine.world.table();
        if self.open && table.shape.single_writer {
            table.hot.lifecycle.0.writer.store(0, Ordering::Release);
        }
        self.open = false;
        // The next writer of this process knows nothing.
        self.calm = CalmWriter::new(self.machine);
    }

    /// A slot or a region for so many bytes, filled; `None` if nothing is free.
    pub(crate) fn try_fill(&self, len: u64) -> Option<Filled> {
        let table = &self.machine.world.table();
        if len > CAPACITY {
            let (loan, region) =
                self.try_region(table, len, u64::MAX, |wanted| self.try_slot(table, wanted))?;
            return Some(self.fill(loan, Place::Region(region), len));
        }
        Some(self.fill_slot(self.try_reserve(table, len)?, len))
    }

    fn fill_slot(&self, loan: Loan, len: u64) -> Filled {
        self.store_reservation(loan, u64::MAX);
        self.fill(loan, Place::Slot(loan.slot), len)
    }

    /// A slot, filled; sleeps until there is one, or until nothing more can come.
    pub(crate) fn fill_waiting(&self, len: u64) -> Option<Filled> {
        if let Some(filled) = self.try_fill(len) {
            return Some(filled);
        }
        let table = self.machine.world.table();
        let bell = table.space_bell();
        self.machine.awaits(Awaited::Space);
        for _ in 0..3 {
            // As in `Consumer::read_waiting`.
            let armed = if self.process % 2 == 1 {
                table.chime.drain(self.process);
                bell.arm_descriptor(table.attention());
                None
            } else {
                Some(bell.arm(table.attention()))
            };
            if let Some(filled) = self.try_fill(len) {
                return Some(filled);
            }
            match armed {
                Some(armed) => {
                    bell.sleep(armed, None);
                }
                None => table.chime.poll(self.process),
            }
            recoverer::recover(self.machine, 0);
        }
        None
    }

    /// Every other process writes as if its payloads were large, and its slots many.
    fn try_reserve(&self, table: &Table<'_>, len: u64) -> Option<Loan> {
        if self.process % 2 == 1 {
            let free = self.try_recent(table).or_else(|| self.try_vacant(table));
            return free.or_else(|| self.try_home(table)).or_else(|| self.try_contended(table));
        }
        if let Some(loan) = self.try_claim_quickly(table, len) {
            return Some(loan);
        }
        self.try_home(table).or_else(|| self.try_contended(table))
    }

    /// The next slot in the order, or else the one that it last got out of order.
    fn try_claim_quickly(&self, table: &Table<'_>, len: u64) -> Option<Loan> {
        if !self.claims_quickly(len) {
            return None;
        }
        let claimed = self.try_claim_in_order(table, 0, len);
        claimed.or_else(|| self.try_claim(table, self.recent.get()?, len))
    }

    fn claims_quickly(&self, len: u64) -> bool {
        self.kind != KindOf::Any && len <= CAPACITY
    }

    /// The slot that is `count` behind the next in the order.
    fn try_claim_in_order(&self, table: &Table<'_>, count: u64, len: u64) -> Option<Loan> {
        let tail = table.hot.tail.0.load(Ordering::Relaxed);
        let next = if self.kind == KindOf::CalmAmong { self.calm.next(tail) } else { tail };
        let (home, _) = table.slots.home(next + count);
        self.try_claim(table, home, len)
    }

    fn try_claim(&self, table: &Table<'_>, slot: u32, len: u64) -> Option<Loan> {
        let first = self.hand.first;
        let slot = (slot, table.slots.get(slot)?);
        let token = match self.kind {
            KindOf::CalmAlone => loan::try_claim::<Calm<true>>(table, first, slot, len),
            KindOf::CalmAmong => loan::try_claim::<Calm<false>>(table, first, slot, len),
            KindOf::Dropping => loan::try_claim::<Dropping>(table, first, slot, len),
            KindOf::Any => None,
        }?;
        Some(Loan { slot: token.slot(), generation: token.generation(), owner: self.owner })
    }

    fn try_home(&self, table: &Table<'_>) -> Option<Loan> {
        sound(self.machine, loan::claim_home(table, self.owner))
    }

    fn try_recent(&self, table: &Table<'_>) -> Option<Loan> {
        sound(self.machine, loan::claim_slot(table, self.owner, self.recent.get()?))
    }

    fn try_vacant(&self, table: &Table<'_>) -> Option<Loan> {
        let found = sound(self.machine, loan::claim_from_map(table, self.owner))?;
        self.recent.set(Some(found.slot));
        Some(found)
    }

    /// A free slot for a caller that does not need the order.
    pub(crate) fn try_free(&self, table: &Table<'_>, len: u64) -> Option<Loan> {
        if let Some(loan) = self.try_claim_quickly(table, len) {
            return Some(loan);
        }
        self.try_recent(table).or_else(|| self.try_home(table)).or_else(|| self.try_vacant(table))
    }

    fn try_contended(&self, table: &Table<'_>) -> Option<Loan> {
        if let Some(loan) = self.try_recent(table).or_else(|| self.try_vacant(table)) {
            return Some(loan);
        }
        sound(self.machine, history::help_history(table));
        let found = self.try_vacant(table);
        if found.is_some() || !table.shape.drop_oldest {
            return found;
        }
        self.reclaim(table, Wanted::AnySlot).or_else(|| self.try_vacant(table))
    }

    fn reclaim(&self, table: &Table<'_>, wanted: Wanted) -> Option<Loan> {
        sound(self.machine, reclaim::reclaim_oldest(table, self.owner, wanted, &self.resume))
    }

    /// A slot for a payload in a region: any, or one whose sample has a region.
    fn try_slot(&self, table: &Table<'_>, wanted: Wanted) -> Option<Loan> {
        match wanted {
            Wanted::AnySlot => self.try_home(table).or_else(|| self.try_contended(table)),
            Wanted::Region if table.shape.drop_oldest => self.reclaim(table, wanted),
            Wanted::Region => None,
        }
    }

    /// A slot, by `slot`, and a region. Of the named readers, those of `waited_for` must have
    /// marked what the slot held.
    pub(crate) fn try_region(
        &self,
        table: &Table<'_>,
        len: u64,
        waited_for: u64,
        slot: impl Fn(Wanted) -> Option<Loan>,
    ) -> Option<(Loan, u32)> {
        let any_free = || sound(self.machine, region::any_free(table));
        for _ in 0..RACE_LIMIT {
            let mut some_free = any_free();
            if !some_free {
                sound(self.machine, history::help_history(table));
                some_free = any_free();
            }
            let Some(loan) = slot(if some_free { Wanted::AnySlot } else { Wanted::Region }) else {
                if !some_free && any_free() {
                    continue;
                }
                return None;
            };
            self.store_reservation(loan, waited_for);
            if let Some(region) = sound(self.machine, region::lease(table, loan, len)) {
                table.regions[region as usize].allocated.store(len, Ordering::Relaxed);
                return Some((loan, region));
            }
            self.give_back(loan);
        }
        None
    }

    /// A slot was just reserved; of the named readers, those of `waited_for` must have marked what
    /// it held.
    pub(crate) fn store_reservation(&self, loan: Loan, waited_for: u64) {
        self.machine.note_in_order(Noted::Reserved { slot: loan.slot, waited_for });
    }

    pub(crate) fn fill(&self, loan: Loan, place: Place, len: u64) -> Filled {
        let machine = self.machine;
        let table = machine.world.table();
        table.slots.claims()[loan.slot as usize]
            .aux
            .store(Reserved::new(len, place).0, Ordering::Relaxed);
        let count = &machine.control(self.process).filled;
        count.set(count.get() + 1);
        let value = (self.process as u64 + 1) << 32 | u64::from(count.get());
        let [first, second] = machine.world.payload(place);
        for (cell, value) in [(first, value), (second, !value)] {
            machine.write(place, cell, value);
        }
        Filled { loan, place, len, value }
    }

    pub(crate) fn commit(&self, filled: Filled, owed: Owed, right: Right) {
        let Filled { loan, len, value, .. } = filled;
        self.begin_commit(filled, owed);
        let table = &self.machine.world.table();
        let calm = match owed {
            Owed::Members => self.try_commit(table, loan, len, right).or_else(|| {
                let learns = table.shape.receipts && self.calm.memory.learn(table);
                if learns { self.try_commit(table, loan, len, right) } else { None }
            }),
            Owed::External(_) => None,
        };
        let sequence = calm.unwrap_or_else(|| self.commit_to(table, loan, len, owed));
        self.machine.note_in_order(Noted::Committed { sequence, value });
    }

    /// A call that commits it begins.
    fn begin_commit(&self, Filled { loan, place, len, value }: Filled, owed: Owed) {
        let (process, slot, begun) = (self.process, loan.slot, self.machine.steps());
        let mut oracle = self.machine.oracle.borrow_mut();
        let named = match owed {
            Owed::External(_) => oracle.named_by(process),
            Owed::Members => 0,
        };
        oracle.begin_commit(Commit { process, slot, value, place, len, begun, named });
    }

    /// Publishes in a segment that is calm; `None` if it is not.
    fn try_commit(&self, table: &Table<'_>, loan: Loan, len: u64, right: Right) -> Option<u64> {
        let token = token_of(loan);
        let (hand, known, guess) = (&self.hand, self.calm.memory.known(), || self.calm.guess());
        // As changing as in the library, and known from the run.
        let publish_by = match right {
            Right::Sole => PublishBy::Store,
            Right::Token => PublishBy::Exchange,
        };
        let manner = Manner { right, publish_by: || publish_by };
        let sequence = match self.kind {
            KindOf::CalmAlone => {
                calm::commit::<true>(table, hand, known, token, len, manner, guess)?
            }
            KindOf::CalmAmong => {
                calm::commit::<false>(table, hand, known, token, len, manner, guess)?
            }
            KindOf::Dropping | KindOf::Any => return None,
        };
        if self.kind == KindOf::CalmAmong {
            self.calm.note(table, sequence.get(), 1);
        }
        Some(sequence.get())
    }

    fn commit_to(&self, table: &Table<'_>, loan: Loan, len: u64, owed: Owed) -> u64 {
        let clock = || 0;
        let committed = match self.kind {
            KindOf::CalmAlone => commit::commit::<Calm<true>>(table, loan, len, owed, clock),
            KindOf::CalmAmong => commit::commit::<Calm<false>>(table, loan, len, owed, clock),
            KindOf::Dropping => commit::commit::<Dropping>(table, loan, len, owed, clock),
            KindOf::Any => commit::commit::<Any>(table, loan, len, owed, clock),
        };
        let sequence = sound(self.machine, committed);
        if table.shape.receipts {
            self.calm.settle(table, 1);
        }
        sequence
    }

    pub(crate) fn discard(&self, filled: Filled) {
        self.give_back(filled.loan);
    }

    fn give_back(&self, loan: Loan) {
        self.machine.note_in_order(Noted::Discarded { slot: loan.slot });
        sound(self.machine, loan::discard(&self.machine.world.table(), loan));
    }

    /// Gives a region's memory back, and the region, too.
    pub(crate) fn trim(&self, region: u32) {
        let table = self.machine.world.table();
        if sound(self.machine, region::begin_emptying(&table, region, self.owner.participant())) {
            // The hole: the bytes are gone.
            let [first, _] = self.machine.world.payload(Place::Region(region));
            self.machine.erase(Place::Region(region), first);
            region::end_emptying(&table, region, self.owner.participant());
        }
    }
}

fn token_of(loan: Loan) -> Token {
    Token::new(loan.slot, loan.generation)
}
