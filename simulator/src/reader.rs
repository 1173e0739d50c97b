//! A process as a reader, in the order in which `Reader` calls the protocol.

mod batch;

use std::sync::atomic::Ordering;

use crate::error::Code;
use crate::layout::SlotLine;
use crate::machine::{Awaited, Machine};
use crate::oracle::Look;
use crate::process::{right_of, sound};
use crate::protocol::batch::RUN;
use crate::protocol::calm::{self, Right};
use crate::protocol::hold::{self, Cursor, Step};
use crate::protocol::members;
use crate::protocol::rows::{self, Member};
use crate::protocol::shape::{Any, Calm, Dropping, KindOf};
use crate::protocol::table::Table;
use crate::protocol::words::{Extent, RowPhase, RowState};
use crate::recoverer;

/// Most samples that one reader holds: more than fit in one run of a batch.
const HANDS: usize = RUN + 2;

/// A sample that a reader holds.
#[derive(Clone, Copy, Debug)]
struct HeldSample {
    slot: u32,
    bit: u64,
    sequence: u64,
}

/// A membership, until its last sample is marked.
pub(crate) struct Consumer {
    machine: &'static Machine,
    process: usize,
    member: Member,
    cursor: Cursor,
    in_hand: [Option<HeldSample>; HANDS],
    /// Whether it has found that it was expelled.
    pub(crate) is_expelled: bool,
}

impl Consumer {
    pub(crate) fn join(
        machine: &'static Machine,
        process: usize,
        history: u32,
    ) -> Option<Consumer> {
        let table = machine.world.table();
        let joining = machine.steps();
        let (member, cursor) = match members::join(&table, process as u32, history) {
            Err(Code::NoReaderSlot | Code::Expelled) => return None,
            joined => sound(machine, joined),
        };
        let row = &table.readers[member.index as usize];
        let generation = RowState(row.state.peek()).generation();
        let joined = machine.steps();
        let at = cursor.place.sequence;
        let index = member.index;
        let noted =
            machine.oracle.borrow_mut().join(process, index, generation, [joining, joined], at);
        machine.hold_true(noted);
        Some(Consumer {
            machine,
            process,
            member,
            cursor,
            in_hand: [None; HANDS],
            is_expelled: false,
        })
    }

    pub(crate) fn has_hand_free(&self) -> bool {
        self.free_hands() > 0
    }

    fn free_hands(&self) -> usize {
        self.in_hand.iter().filter(|hand| hand.is_none()).count()
    }

    pub(crate) fn holds_anything(&self) -> bool {
        self.in_hand.iter().any(Option::is_some)
    }

    /// Takes the next sample; false if there is none.
    pub(crate) fn read(&mut self) -> bool {
        let machine = self.machine;
        let table = &machine.world.table();
        let (before, published) = (self.cursor, machine.oracle.borrow().published());
        let bit = self.member.bit;
        let at = before.place.sequence;
        let step = match table.shape.kind() {
            KindOf::CalmAlone | KindOf::CalmAmong => hold::step::<Calm<false>>(table, bit, at),
            KindOf::Dropping => hold::step::<Dropping>(table, bit, at),
            KindOf::Any => hold::step::<Any>(table, bit, at),
        };
        let plain = |extent: Extent| extent.is_plain(table.shape.capacity);
        let found = match sound(machine, not_held(step)) {
            Some(Step::Empty) => {
                if self.is_still_joined(table) {
                    self.tell(before, at, None, published);
                }
                return false;
            }
            Some(Step::Sample(slot, extent)) if !table.shape.receipts || plain(extent) => {
                self.cursor.place = before.place.next(&table.shape);
                Some(slot)
            }
            _ => {
                if !self.is_still_joined(table) {
                    return false;
                }
                let found = hold::next(table, bit, &mut self.cursor);
                match sound(machine, not_held(found)) {
                    Some(found) => found,
                    None => {
                        // It holds the sample by a peek, and may have lost others before that.
                        if self.shows_as_joined(before, None) {
                            self.tell(before, self.cursor.place.sequence, None, 0);
                        }
                        return false;
                    }
                }
            }
        };
        let to = self.cursor.place.sequence;
        if !self.shows_as_joined(before, found) {
            return false;
        }
        if let Some(slot) = found {
            let hold = if table.shape.drop_oldest { bit.held } else { bit.owed };
            self.take(slot, hold, to - 1);
        }
        self.tell(before, to, found.map(|_| to - 1), published);
        found.is_some()
    }

    fn is_still_joined(&mut self, table: &Table<'_>) -> bool {
        self.is_expelled = !rows::is_still_joined(table, self.member);
        !self.is_expelled
    }

    /// Stores how far it has come, and looks whether it is still a member. If not, it goes back to
    /// where it was, and releases what it does not hold, such as the sample that it found in a slot.
    fn shows_as_joined(&mut self, before: Cursor, found: Option<u32>) -> bool {
        let table = self.machine.world.table();
        let to = self.cursor.place.sequence;
        self.is_expelled = !rows::move_cursor(&table, self.member, to);
        if self.is_expelled {
            self.cursor = before;
            rows::move_cursor(&table, self.member, before.place.sequence);
            if let Some(slot) = found.filter(|_| table.shape.drop_oldest) {
                self.refuse(slot, self.member.bit.held, to - 1);
            }
            members::release_all_unread(&table, self.member, before.place.sequence);
        }
        !self.is_expelled
    }

    /// Releases a sample that it found, and was expelled before it had taken it.
    fn refuse(&self, slot: u32, bit: u64, sequence: u64) {
        let table = self.machine.world.table();
        let _ = hold::mark(&table, slot, self.member.bit.word, bit, sequence);
    }

    /// Compares what a look found with what it should have found, and records how far it came.
    fn tell(&self, before: Cursor, to: u64, found: Option<u64>, published: u64) {
        let look = Look {
            from: before.place.sequence,
            to,
            since: before.since,
            lost: self.cursor.lost - before.lost,
            found,
            published,
        };
        let machine = self.machine;
        machine.hold_true(machine.oracle.borrow_mut().look(self.member.index, look));
    }

    /// Takes the next sample; sleeps until there is one, or until nothing more can come.
    pub(crate) fn read_waiting(&mut self) {
        let table = self.machine.world.table();
        let bell = table.data_bell();
        for _ in 0..3 {
            if self.read() || self.is_expelled {
                return;
            }
            // Some processes sleep on the bell, and others behind a descriptor.
            let by_descriptor = self.process % 2 == 1;
            let armed = if by_descriptor {
                table.chime.drain(self.process);
                bell.arm_descriptor(table.attention());
                None
            } else {
                Some(bell.arm(table.attention()))
            };
            if !self.is_still_joined(&table) {
                return;
            }
            let (before, published) = (self.cursor, self.machine.oracle.borrow().published());
            let found = sound(self.machine, hold::seek(&table, self.member.bit, &mut self.cursor));
            if !self.shows_as_joined(before, None) {
                return;
            }
            let to = self.cursor.place.sequence;
            // What it would read next is still to come.
            self.tell(before, to, None, if found.is_some() { 0 } else { published });
            if found.is_none() {
                self.machine.awaits(Awaited::Sample(self.member.bit, self.cursor));
                match armed {
                    Some(armed) => {
                        bell.sleep(armed, None);
                    }
                    None => table.chime.poll(self.process),
                }
                recoverer::recover(self.machine, 0);
            }
        }
    }

    pub(crate) fn peek(&mut self) {
        let machine = self.machine;
        let table = machine.world.table();
        let published = machine.oracle.borrow().published();
        let cursor = self.cursor.place.sequence;
        let peeked = hold::peek_latest(&table, self.member.bit, cursor);
        if let Some(Some((slot, sequence))) = sound(machine, not_held(peeked)) {
            if !self.is_still_joined(&table) {
                return self.refuse(slot, self.member.bit.held, sequence);
            }
            if sequence < published {
                machine
                    .fail(format!("P4: {sequence} is the newest, and {published} was published"));
            }
            self.take(slot, self.member.bit.held, sequence);
        }
    }

    /// It holds another sample now.
    fn take(&mut self, slot: u32, bit: u64, sequence: u64) {
        let line = &self.machine.world.table().slots.lines()[slot as usize];
        let extent = Extent(line.extent.load(Ordering::Relaxed));
        let in_hand = HeldSample { slot, bit, sequence };
        self.hold(in_hand, extent);
        self.compare(in_hand);
    }

    /// From now on it holds this, and has not looked at it.
    fn hold(&mut self, in_hand: HeldSample, extent: Extent) {
        let machine = self.machine;
        let HeldSample { slot, sequence, .. } = in_hand;
        let place = extent.place(slot);
        machine.hold_true(machine.oracle.borrow_mut().hold(self.process, slot, place, sequence));
        let Some(hand) = self.in_hand.iter_mut().find(|hand| hand.is_none()) else {
            machine.fail("its hands are full");
        };
        *hand = Some(in_hand);
    }

    /// Whether the held bytes are those that were committed.
    fn compare(&self, HeldSample { sequence, .. }: HeldSample) {
        let machine = self.machine;
        let commit = machine.oracle.borrow().sample(sequence).map(|sample| sample.commit);
        let Some(commit) = commit else { machine.fail("P3: a sample that was never published") };
        let [first, second] = machine.world.payload(commit.place);
        for (cell, right) in [(first, commit.value), (second, !commit.value)] {
            let found = machine.read(commit.place, cell);
            if found != right {
                machine.fail(format!("P2: {sequence} has the bytes {found:#x}, not {right:#x}"));
            }
        }
    }

    /// It has marked everything that it held. If its expeller came to the cut, nothing is owed to it
    /// either.
    pub(crate) fn check_expelled(&self) {
        let table = self.machine.world.table();
        let row = &table.readers[self.member.index as usize];
        let state = RowState(row.state.peek());
        let bit = self.member.bit;
        let is_marked = |line: &SlotLine| {
            self.machine.world.marks(line, bit.word).0 & (bit.owed | bit.held) != 0
        };
        if state.is(RowPhase::Cut) && row.expeller.peek() == 0 {
            if let Some(slot) = table.slots.lines().iter().position(is_marked) {
                let reader = self.member.index;
                self.machine.fail(format!(
                    "P5: slot {slot} has marks of reader {reader}, who was expelled"
                ));
            }
        }
    }

    /// Marks one held sample, if there is any: mostly the newest, so that older ones stay for laps.
    pub(crate) fn mark(&mut self, number: u32) {
        let newest = |hand: &Option<HeldSample>| hand.map(|in_hand| in_hand.sequence);
        let hand = match number % 4 {
            0 => self.in_hand.iter_mut().find(|hand| hand.is_some()),
            _ => self.in_hand.iter_mut().max_by_key(|hand| newest(hand)),
        };
        let Some(in_hand) = hand.and_then(Option::take) else { return };
        self.compare(in_hand);
        self.mark_held(in_hand, right_of(number));
    }

    /// Marks a sample that it has taken out of its hands.
    fn mark_held(&self, in_hand: HeldSample, right: Right) {
        self.release(in_hand);
        let HeldSample { slot, bit, sequence } = in_hand;
        let table = self.machine.world.table();
        let reader = self.member.bit;
        let marked = if self.is_read(in_hand) {
            calm::mark(&table, slot, self.member.index, reader, sequence, right)
        } else {
            hold::mark(&table, slot, reader.word, bit, sequence)
        };
        if let Err(code) = marked {
            self.fail_mark(sequence, format!("with {code:?}"));
        }
    }

    /// Whether the calm path marks it: in a segment with receipts, and not peeked at.
    fn is_read(&self, HeldSample { bit, .. }: HeldSample) -> bool {
        self.machine.world.shape().receipts && bit == self.member.bit.owed
    }

    /// Before the call of a mark, because at its end another writer may have the slot.
    fn release(&self, HeldSample { slot, sequence, .. }: HeldSample) {
        self.machine.oracle.borrow_mut().release(self.process, slot, sequence);
    }

    fn fail_mark(&self, sequence: u64, how: String) -> ! {
        self.machine.fail(format!("P2: {sequence} was in hand, and its mark is refused {how}"))
    }

    /// Gives back everything that it does not hold.
    pub(crate) fn leave(&mut self) {
        let machine = self.machine;
        machine.oracle.borrow_mut().leave(self.member.index);
        let cursor = self.cursor.place.sequence;
        members::leave(&machine.world.table(), self.member, cursor).expect("it has a row");
    }

    /// Frees the row: it has left, and holds nothing.
    pub(crate) fn give_row_back(self) {
        rows::give_row_back(&self.machine.world.table(), self.member).expect("it has a row");
    }
}

/// The second of two holds on one sample is refused, which is not a fault.
fn not_held<T>(result: Result<T, Code>) -> Result<Option<T>, Code> {
    match result {
        Err(Code::Held) => Ok(None),
        result => result.map(Some),
    }
}
