//! A process as a reader, in the order in which `Reader` calls the protocol.

use std::sync::atomic::Ordering;

use crate::error::Code;
use crate::layout::SlotLine;
use crate::machine::{Awaited, Machine};
use crate::oracle::Look;
use crate::process::sound;
use crate::protocol::bell::Bell;
use crate::protocol::hold::{self, Cursor, Step};
use crate::protocol::members;
use crate::protocol::rows::{self, Member};
use crate::protocol::words::{Extent, RowPhase, RowState};
use crate::recoverer;

/// Most samples that one reader holds.
const HANDS: usize = 4;

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
        self.in_hand.iter().any(Option::is_none)
    }

    pub(crate) fn holds_anything(&self) -> bool {
        self.in_hand.iter().any(Option::is_some)
    }

    /// Takes the next sample; false if there is none.
    pub(crate) fn read(&mut self) -> bool {
        let machine = self.machine;
        let table = machine.world.table();
        let (before, published) = (self.cursor, machine.oracle.borrow().published());
        let step = hold::step(&table, &machine.world.known_shape(), self.member.bit, before.place);
        let found = match sound(machine, not_held(step)) {
            None => return false,
            Some(Step::Empty) => None,
            Some(Step::Sample(slot, _)) => {
                self.cursor.place = before.place.next(&table.shape);
                Some(slot)
            }
            Some(Step::Irregular) => {
                let found = hold::next(&table, self.member.bit, &mut self.cursor);
                match sound(machine, not_held(found)) {
                    Some(found) => found,
                    None => {
                        // It holds the sample by a peek, and may have lost others before that.
                        if self.shows_as_joined(before) {
                            self.tell(before, self.cursor.place.sequence, None, 0);
                        }
                        return false;
                    }
                }
            }
        };
        let to = self.cursor.place.sequence;
        let sequence = found.map(|_| to - 1);
        let bit = self.member.bit;
        let hold = if table.shape.drop_oldest { bit.held } else { bit.owed };
        if !self.shows_as_joined(before) {
            if let Some(slot) = found.filter(|_| table.shape.drop_oldest) {
                self.refuse(slot, hold, to - 1);
            }
            return false;
        }
        if let Some(slot) = found {
            self.take(slot, hold, to - 1);
        }
        self.tell(before, to, sequence, published);
        found.is_some()
    }

    /// Stores how far it has come, and looks whether it is still a member. If not, it goes back to
    /// where it was, and releases what it does not hold.
    fn shows_as_joined(&mut self, before: Cursor) -> bool {
        let table = self.machine.world.table();
        self.is_expelled = !rows::move_cursor(&table, self.member, self.cursor.place.sequence);
        if self.is_expelled {
            self.cursor = before;
            rows::move_cursor(&table, self.member, before.place.sequence);
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
        let bell = Bell(&table.hot.bells.0.data);
        for _ in 0..3 {
            if self.read() || self.is_expelled {
                return;
            }
            let armed = bell.arm();
            self.is_expelled = !rows::is_still_joined(&table, self.member);
            if self.is_expelled {
                return;
            }
            let (before, published) = (self.cursor, self.machine.oracle.borrow().published());
            let found = sound(self.machine, hold::seek(&table, self.member.bit, &mut self.cursor));
            if !self.shows_as_joined(before) {
                return;
            }
            let to = self.cursor.place.sequence;
            // What it would read next is still to come.
            self.tell(before, to, None, if found.is_some() { 0 } else { published });
            if found.is_none() {
                self.machine.awaits(Awaited::Sample(self.member.bit, self.cursor));
                bell.sleep(armed, None);
                recoverer::recover(self.machine, 0);
            }
        }
    }

    pub(crate) fn peek(&mut self) {
        let machine = self.machine;
        let table = machine.world.table();
        let published = machine.oracle.borrow().published();
        let peeked = hold::peek_latest(&table, self.member.bit);
        if let Some(Some((slot, sequence))) = sound(machine, not_held(peeked)) {
            if !self.shows_as_joined(self.cursor) {
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
        let machine = self.machine;
        let line = &machine.world.table().lines[slot as usize];
        let extent = Extent(line.extent.load(Ordering::Relaxed));
        let place = extent.place(slot);
        machine.hold_true(machine.oracle.borrow_mut().hold(self.process, slot, place, sequence));
        let in_hand = HeldSample { slot, bit, sequence };
        self.compare(in_hand);
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
        let is_marked = |line: &SlotLine| line.marks[bit.word].peek() & (bit.owed | bit.held) != 0;
        if state.is(RowPhase::Cut) && row.expeller.peek() == 0 {
            if let Some(slot) = table.lines.iter().position(is_marked) {
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
        let HeldSample { slot, bit, sequence } = in_hand;
        let machine = self.machine;
        // Before the call, because at its end another writer may have the slot.
        machine.oracle.borrow_mut().release(self.process, slot, sequence);
        let marked = hold::mark(&machine.world.table(), slot, self.member.bit.word, bit, sequence);
        if let Err(code) = marked {
            machine
                .fail(format!("P2: {sequence} was in hand, and its mark is refused with {code:?}"));
        }
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
