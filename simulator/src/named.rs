//! A process that tracks its readers itself, in the order in which `Reference` calls the protocol.

use std::sync::atomic::Ordering;

use crate::case::{CAPACITY, NAMED_READERS};
use crate::error::Code;
use crate::machine::{Machine, Noted};
use crate::process::sound;
use crate::protocol::calm::Right;
use crate::protocol::commit::Owed;
use crate::protocol::order::FIRST;
use crate::protocol::reference::{self, Life};
use crate::protocol::words::{Bit, Ctl, Phase, Place, Wanted};
use crate::writer::Producer;

/// A process with one named reader of its own, which writes for any of them.
pub(crate) struct Keeper {
    machine: &'static Machine,
    process: usize,
    reader: u32,
    cursor: u64,
}

impl Keeper {
    pub(crate) fn new(machine: &'static Machine, process: usize) -> Keeper {
        Keeper::of_reader(machine, process, process as u32 % NAMED_READERS)
    }

    fn of_reader(machine: &'static Machine, process: usize, reader: u32) -> Keeper {
        Keeper { machine, process, reader, cursor: FIRST }
    }

    /// Marks everything for all named readers: the process of one may never have lived.
    pub(crate) fn take_all(&self) {
        for reader in 0..NAMED_READERS {
            let mut keeper = Keeper::of_reader(self.machine, self.process, reader);
            while keeper.take() {}
        }
    }

    /// Writes so many bytes for some of the named readers, and waits for no others.
    pub(crate) fn write(&self, producer: &Producer, number: u32, len: u64) {
        let machine = self.machine;
        let table = machine.world.table();
        let named = u64::from(number) & ((1 << NAMED_READERS) - 1);
        // Before the call, so that a process that gives one of them up meanwhile is recorded. It
        // may have begun long before, or be dead.
        machine.oracle.borrow_mut().name(self.process, named);
        if !sound(machine, reference::name_all(&table, named)) {
            machine.oracle.borrow_mut().name(self.process, 0);
        }
        machine.oracle.borrow_mut().wait_for(self.process, Some(named));
        let slot = |wanted| {
            let free =
                if wanted == Wanted::AnySlot { producer.try_free(&table, len) } else { None };
            free.or_else(|| {
                sound(machine, reference::claim_ignoring(&table, producer.owner, wanted, named))
            })
        };
        let found = if len > CAPACITY {
            let found = producer.try_region(&table, len, named, slot);
            found.map(|(loan, region)| (loan, Place::Region(region)))
        } else {
            slot(Wanted::AnySlot).map(|loan| {
                producer.store_reservation(loan, named);
                (loan, Place::Slot(loan.slot))
            })
        };
        machine.oracle.borrow_mut().wait_for(self.process, None);
        let Some((loan, place)) = found else { return };
        table.audiences[loan.slot as usize].store(named, Ordering::Relaxed);
        let filled = producer.fill(loan, place, len);
        producer.commit(filled, Owed::External(named), Right::Token);
    }

    fn bit(&self) -> Bit {
        sound(self.machine, reference::name_all(&self.machine.world.table(), 1 << self.reader));
        Bit::of_reader(self.reader)
    }

    /// Looks for the oldest sample that its reader has not marked.
    pub(crate) fn look(&mut self) -> Option<Life> {
        let machine = self.machine;
        let table = machine.world.table();
        let bit = self.bit();
        let unread = self.oldest();
        let found = sound(machine, reference::next_unread(&table, bit, &mut self.cursor));
        // A sample that was unread before and is still unread was unread all the time.
        let Some(unread) = unread.filter(|sequence| self.is_unread(*sequence)) else {
            return found;
        };
        let reader = self.reader;
        match found.map(|life| reference::look(&table, life)) {
            Some(Ok(known)) if known.sequence <= unread => {}
            // An older one, which another process took meanwhile.
            Some(Err(Code::Stale)) => {}
            other => {
                let told = other.map(|known| known.map(|known| known.sequence));
                machine.fail(format!(
                    "P3: {unread} is unread by named reader {reader}, told {told:?}"
                ));
            }
        }
        found
    }

    /// The oldest sample that its reader has not marked, by the words at this moment.
    fn oldest(&self) -> Option<u64> {
        let published = self.machine.oracle.borrow().published();
        (1..=published).find(|sequence| self.is_unread(*sequence))
    }

    fn is_unread(&self, sequence: u64) -> bool {
        let bit = Bit::of_reader(self.reader);
        let oracle = self.machine.oracle.borrow();
        oracle.sample(sequence).is_some_and(|sample| {
            let line = &self.machine.world.table().slots.lines()[sample.slot as usize];
            let marks = self.machine.world.marks(line, bit.word);
            marks.is_of(sequence) && marks.0 & bit.owed != 0
        })
    }

    /// Looks for it, and marks it; false if there is none.
    pub(crate) fn take(&mut self) -> bool {
        let Some(life) = self.look() else { return false };
        let machine = self.machine;
        let table = machine.world.table();
        let bit = self.bit();
        // Before the call, because at its end another writer may have the slot. A writer that does
        // not wait for this reader may have it already; then the mark is refused.
        machine.note_in_order(Noted::Marked { reader: self.reader, slot: life.slot });
        match reference::mark_read(&table, life, bit) {
            Ok(sequence) => {
                if self.cursor == sequence {
                    self.cursor = sequence + 1;
                }
                true
            }
            Err(Code::Stale) => true,
            Err(code) => machine.fail(format!("P3: a mark is refused with {code:?}")),
        }
    }

    /// Looks for what is published in each slot. It finds what was there all the time, and nothing
    /// else.
    pub(crate) fn scan(&self) {
        let machine = self.machine;
        let table = machine.world.table();
        for slot in 0..table.shape.slots {
            let before = self.standing(slot);
            let found = sound(machine, reference::published_in(&table, slot));
            let told = found
                .and_then(|life| reference::look(&table, life).ok())
                .map(|known| known.sequence);
            let stands =
                before.filter(|_| self.standing(slot) == before).map(|(_, sequence)| sequence);
            // Its own commit may be in its buffer.
            let is_of_slot = |sequence| {
                let oracle = machine.oracle.borrow();
                oracle.sample(sequence).is_some_and(|it| it.slot == slot)
                    || oracle.is_committing(self.process, slot)
            };
            if stands.is_some() && told != stands || !told.is_none_or(is_of_slot) {
                machine.fail(format!("P3: {stands:?} is published in slot {slot}, told {told:?}"));
            }
        }
    }

    /// The generation of a slot and the sequence of its sample, by the words at this moment, if it
    /// is published.
    fn standing(&self, slot: u32) -> Option<(u64, u64)> {
        let table = self.machine.world.table();
        let ctl = Ctl(table.slots.claims()[slot as usize].ctl.peek());
        let sequence = table.slots.lines()[slot as usize].sequence.peek();
        let is_out = match ctl.phase()? {
            Phase::Published | Phase::Confirmed | Phase::Reclaiming => true,
            Phase::Publishing => {
                let oracle = self.machine.oracle.borrow();
                oracle.sample(sequence).is_some_and(|sample| sample.slot == slot)
            }
            Phase::Free | Phase::Loaned | Phase::Committing => false,
        };
        is_out.then_some((ctl.generation(), sequence))
    }

    pub(crate) fn disconnect(&self) {
        disconnect(self.machine, self.process, self.reader);
    }
}

/// Marks everything as read by one named reader, whose number another may get from then on.
pub(crate) fn disconnect(machine: &'static Machine, process: usize, reader: u32) {
    machine.oracle.borrow_mut().disconnect(process, Some(reader));
    sound(machine, reference::disconnect(&machine.world.table(), reader, process as u32));
    machine.oracle.borrow_mut().disconnect(process, None);
}
