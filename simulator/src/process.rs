//! One process: it follows its plan as far as that is possible, and gives everything back at the
//! end.

use crate::case::{CAPACITY, NAMED_READERS, Operation, Planned};
use crate::error::Code;
use crate::expeller;
use crate::machine::{Machine, Part, UNDERTAKER};
use crate::named::{self, Keeper};
use crate::protocol::batch::RUN;
use crate::protocol::calm::Right;
use crate::protocol::commit::Owed;
use crate::reader::Consumer;
use crate::recoverer;
use crate::writer::{Filled, Producer};

/// Most loans of one process: more than fit in one run of a batch.
const LOANS: usize = RUN + 2;
/// With so many, it reserves no further single one.
const SINGLE_LOANS: usize = 3;

struct Life {
    machine: &'static Machine,
    process: usize,
    producer: Producer,
    keeper: Keeper,
    loans: [Option<Filled>; LOANS],
    /// The joined one, and one that has left with samples held.
    reader: Option<Consumer>,
    leaver: Option<Consumer>,
}

/// The life of a process from its start, or its return, to its end.
pub(crate) fn live(machine: &'static Machine, process: usize) {
    if process == UNDERTAKER {
        machine.wait_for(Part::Burial);
        while recoverer::recover(machine, 0) {}
        // Their keepers may be dead, and nobody else knows of them.
        if machine.case.borrow().named {
            (0..NAMED_READERS).for_each(|reader| named::disconnect(machine, process, reader));
        }
        return;
    }
    let mut life = Life {
        machine,
        process,
        producer: Producer::new(machine, process),
        keeper: Keeper::new(machine, process),
        loans: [None; LOANS],
        reader: None,
        leaver: None,
    };
    while let Some(planned) = machine.next_operation(process) {
        life.perform(planned);
    }
    machine.wait_for(Part::EndOfLoans);
    life.end_loans();
    machine.wait_for(Part::Drain);
    life.drain();
    machine.wait_for(Part::Leave);
    life.leave();
}

impl Life {
    fn perform(&mut self, Planned { operation, number, .. }: Planned) {
        match operation {
            Operation::Write => self.write(number),
            Operation::WriteWaiting => self.write_waiting(number),
            Operation::Reserve => self.reserve(number),
            Operation::Commit => self.commit(number),
            Operation::ReserveMany => self.reserve_many(number),
            Operation::CommitMany => self.commit_many(number),
            Operation::WriteMany => {
                self.reserve_many(number);
                self.commit_many(number);
            }
            Operation::Discard => self.discard(number),
            Operation::CloseWriter => self.close_writer(),
            Operation::Trim => self.trim(number),
            Operation::Join => self.join(number),
            Operation::Leave => self.leave(),
            Operation::Read => self.read(number),
            Operation::ReadWaiting => self.read_waiting(number),
            Operation::Take => {
                self.read(number);
                self.mark(number);
            }
            Operation::Mark => self.mark(number),
            Operation::ReadMany => self.read_many(number),
            Operation::TakeMany => {
                self.read_many(number);
                self.mark_many(number);
            }
            Operation::MarkMany => self.mark_many(number),
            Operation::Peek => self.look(number, Consumer::peek),
            Operation::Recover => {
                recoverer::recover(self.machine, number);
            }
            Operation::Expel => expeller::expel(self.machine, self.process, number),
            Operation::NamedWrite => {
                if self.producer.open() {
                    self.keeper.write(&self.producer, number, self.len(number));
                }
            }
            Operation::NamedLook => {
                self.keeper.look();
            }
            Operation::NamedTake => {
                self.keeper.take();
            }
            Operation::Scan => self.keeper.scan(),
            Operation::Disconnect => self.keeper.disconnect(),
        }
    }

    /// Half of the payloads are too large for a slot, if there are regions.
    fn len(&self, number: u32) -> u64 {
        let regions = !self.machine.world.table().regions.is_empty();
        let limit = if regions { 2 * CAPACITY } else { CAPACITY };
        1 + u64::from(number >> 8) % limit
    }

    fn write(&mut self, number: u32) {
        if !self.producer.open() {
            return;
        }
        if let Some(filled) = self.producer.try_fill(self.len(number)) {
            self.producer.commit(filled, Owed::Members, Right::Sole);
        }
    }

    fn write_waiting(&mut self, number: u32) {
        if !self.machine.case.borrow().waits {
            return self.write(number);
        }
        if self.producer.open() {
            let len = 1 + u64::from(number >> 8) % CAPACITY;
            if let Some(filled) = self.producer.fill_waiting(len) {
                self.producer.commit(filled, Owed::Members, Right::Sole);
            }
        }
    }

    fn reserve(&mut self, number: u32) {
        if self.loans.iter().flatten().count() >= SINGLE_LOANS || !self.producer.open() {
            return;
        }
        let filled = self.producer.try_fill(self.len(number));
        if let Some(free) = self.loans.iter_mut().find(|loan| loan.is_none()) {
            *free = filled;
        }
    }

    /// Several loans of one length, as long as something is free.
    fn reserve_many(&mut self, number: u32) {
        if !self.producer.open() {
            return;
        }
        let len = self.len(number);
        let free = self.loans.iter_mut().filter(|loan| loan.is_none());
        for (count, place) in free.take(many_of(number)).enumerate() {
            *place = self.producer.try_fill_next(count, len);
            if place.is_none() {
                return;
            }
        }
    }

    /// All of its loans, from one end or the other.
    fn commit_many(&mut self, number: u32) {
        let mut loans: Vec<Filled> = self.loans.iter_mut().filter_map(Option::take).collect();
        if number & 1 == 0 {
            loans.reverse();
        }
        self.producer.commit_many(&loans, right_of(number));
    }

    /// Any one of its loans.
    fn take_loan(&mut self, number: u32) -> Option<Filled> {
        let count = self.loans.iter().flatten().count();
        let nth = (number as usize).checked_rem(count)?;
        self.loans.iter_mut().filter(|loan| loan.is_some()).nth(nth)?.take()
    }

    fn commit(&mut self, number: u32) {
        if let Some(filled) = self.take_loan(number) {
            self.producer.commit(filled, Owed::Members, right_of(number));
        }
    }

    fn discard(&mut self, number: u32) {
        if let Some(filled) = self.take_loan(number) {
            self.producer.discard(filled);
        }
    }

    fn close_writer(&mut self) {
        while let Some(filled) = self.take_loan(0) {
            self.producer.discard(filled);
        }
        self.producer.close();
    }

    fn trim(&self, number: u32) {
        let regions = self.machine.world.table().regions.len() as u32;
        if let Some(region) = number.checked_rem(regions) {
            self.producer.trim(region);
        }
    }

    fn join(&mut self, number: u32) {
        if self.reader.is_none() {
            let history = number % (self.machine.world.shape().history + 1);
            self.reader = Consumer::join(self.machine, self.process, history);
        }
    }

    fn leave(&mut self) {
        if self.leaver.is_some() {
            return;
        }
        if let Some(mut reader) = self.reader.take() {
            reader.leave();
            self.leaver = Some(reader);
            self.end_membership();
        }
    }

    fn end_membership(&mut self) {
        if let Some(leaver) = self.leaver.take_if(|leaver| !leaver.holds_anything()) {
            leaver.give_row_back();
        }
    }

    /// Joins if it has not, and looks for a sample as `act` does.
    fn look(&mut self, number: u32, act: impl Fn(&mut Consumer)) {
        self.join(number);
        if let Some(reader) = self.reader.as_mut().filter(|reader| reader.has_hand_free()) {
            act(reader);
        }
        self.leave_if_expelled(number);
    }

    fn read(&mut self, number: u32) {
        self.look(number, |reader| {
            reader.read();
        });
    }

    fn read_waiting(&mut self, number: u32) {
        if !self.machine.case.borrow().waits {
            return self.read(number);
        }
        self.look(number, Consumer::read_waiting);
    }

    fn read_many(&mut self, number: u32) {
        self.look(number, |reader| reader.read_many(many_of(number)));
    }

    /// Some readers stay.
    fn leave_if_expelled(&mut self, number: u32) {
        if number >> 16 & 1 == 0 && self.reader.as_ref().is_some_and(|reader| reader.is_expelled) {
            self.leave();
        }
    }

    fn mark(&mut self, number: u32) {
        self.release(|reader| reader.mark(number));
    }

    fn mark_many(&mut self, number: u32) {
        self.release(|reader| reader.mark_many(right_of(number)));
    }

    /// Marks as `act` does, as the reader that has left, if there is one.
    fn release(&mut self, act: impl Fn(&mut Consumer)) {
        if let Some(leaver) = &mut self.leaver {
            act(leaver);
            self.end_membership();
        } else if let Some(reader) = &mut self.reader {
            act(reader);
        }
    }

    fn end_loans(&mut self) {
        while let Some(filled) = self.take_loan(0) {
            match filled.loan.slot & 1 {
                0 => self.producer.commit(filled, Owed::Members, Right::Token),
                _ => self.producer.discard(filled),
            }
        }
        self.producer.close();
    }

    fn drain(&mut self) {
        while let Some(leaver) = &mut self.leaver {
            leaver.mark(0);
            self.end_membership();
        }
        if self.machine.case.borrow().named {
            self.keeper.take_all();
        }
        if let Some(reader) = &mut self.reader {
            loop {
                while reader.holds_anything() {
                    reader.mark(0);
                }
                if !reader.read() {
                    break;
                }
            }
        }
        if let Some(reader) = self.reader.as_ref().filter(|reader| reader.is_expelled) {
            reader.check_expelled();
            // It may still be owed what a dead expeller did not take from it.
            self.leave();
        }
    }
}

/// How a call shows that it may end a loan, or mark a sample.
pub(crate) fn right_of(number: u32) -> Right {
    if number >> 20 & 1 == 0 { Right::Sole } else { Right::Token }
}

/// How many a call of several asks for: a few, or more than one run.
fn many_of(number: u32) -> usize {
    match number >> 24 & 7 {
        0 => RUN + 2,
        few => few as usize,
    }
}

/// What a call must not refuse: the words are sound, the loan is not over, the sample is held.
pub(crate) fn sound<T>(machine: &'static Machine, result: Result<T, Code>) -> T {
    machine.hold_true(result.map_err(|code| format!("refused with {code:?}")))
}
