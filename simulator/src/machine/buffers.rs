//! The store buffers of the processes, as on x86-64 (TSO).
//!
//! A plain store waits in the buffer of its process until it drains; the stores of one process
//! drain in their order. The process itself sees what waits, others do not. A read-modify-write, a
//! sequentially consistent fence and a system call drain the whole buffer. Otherwise an entry
//! drains some steps later; the number of steps is random for each entry. Drains are choices of the
//! scheduler: a run that is repeated drains where the first one did.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use super::{Access, Machine};
use crate::protocol::words::Place;
use crate::scheduler::SCHEDULED;
use crate::trace::Event;

/// Entries of a buffer; today's processors have about as many.
const ENTRIES: usize = 56;

/// A word to which a store goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stored {
    U8(*const Cell<u8>),
    U32(*const Cell<u32>),
    U64(*const Cell<u64>),
}

impl Stored {
    #[inline(always)]
    pub(crate) fn address(self) -> usize {
        match self {
            Stored::U8(word) => word as usize,
            Stored::U32(word) => word as usize,
            Stored::U64(word) => word as usize,
        }
    }

    /// Sets a word of the world to a value of its type; returns the value before.
    #[expect(
        unsafe_code,
        reason = "the entries of the buffers outlive the references to the words"
    )]
    fn set(self, value: u64) -> u64 {
        // SAFETY: only words and payloads of the world wait in a buffer. They live as long as the
        // program, and are used by one thread, in cells.
        unsafe {
            match self {
                Stored::U8(word) => (*word).replace(value as u8).into(),
                Stored::U32(word) => (*word).replace(value as u32).into(),
                Stored::U64(word) => (*word).replace(value),
            }
        }
    }
}

/// What a writer tells the oracle between its stores: it counts when those before it have drained.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Noted {
    Reserved {
        slot: u32,
        waited_for: u64,
    },
    Discarded {
        slot: u32,
    },
    /// The caller of a commit was told this sequence.
    Committed {
        sequence: u64,
        value: u64,
    },
    /// A named reader marks.
    Marked {
        reader: u32,
        slot: u32,
    },
}

enum Entry {
    Store {
        word: Stored,
        value: u64,
        /// The place whose payload it is.
        payload: Option<Place>,
        /// The step at which it drains; entries before it drain earlier.
        due: u64,
    },
    Note(Noted),
}

#[derive(Default)]
pub(super) struct Buffers {
    queues: RefCell<[VecDeque<Entry>; SCHEDULED]>,
    /// The processes whose queue is not empty, as bits. The first entry of a queue is a store.
    filled: Cell<u32>,
    /// No entry is due before this step.
    next_due: Cell<u64>,
    longest_delay: Cell<u32>,
}

impl Buffers {
    /// What a run that failed has left is dropped.
    pub(super) fn reset(&self, longest_delay: u32) {
        self.queues.borrow_mut().iter_mut().for_each(VecDeque::clear);
        self.filled.set(0);
        self.next_due.set(u64::MAX);
        self.longest_delay.set(longest_delay);
    }

    #[inline(always)]
    pub(super) fn filled(&self) -> u32 {
        self.filled.get()
    }

    #[inline(always)]
    fn has(&self, process: usize) -> bool {
        self.filled.get() >> process & 1 != 0
    }

    pub(super) fn are_empty(&self) -> bool {
        self.filled.get() == 0
    }

    #[inline(always)]
    pub(super) fn next_due(&self) -> u64 {
        self.next_due.get()
    }

    /// The newest value of a word that waits.
    #[inline(never)]
    fn newest(&self, process: usize, address: usize) -> Option<u64> {
        self.queues.borrow()[process].iter().rev().find_map(|entry| match entry {
            Entry::Store { word, value, .. } if word.address() == address => Some(*value),
            _ => None,
        })
    }

    fn push(&self, process: usize, entry: Entry) {
        self.queues.borrow_mut()[process].push_back(entry);
        self.filled.set(self.filled.get() | 1 << process);
    }

    fn pop(&self, process: usize) -> Option<Entry> {
        let queue = &mut self.queues.borrow_mut()[process];
        let entry = queue.pop_front();
        if queue.is_empty() {
            self.filled.set(self.filled.get() & !(1 << process));
        }
        entry
    }

    /// The step at which the first entry of a queue drains.
    fn due(&self, process: usize) -> Option<u64> {
        match self.queues.borrow()[process].front()? {
            Entry::Store { due, .. } => Some(*due),
            Entry::Note(_) => None,
        }
    }
}

impl Machine {
    /// The value of a word that waits in the buffer of the running process.
    #[inline(always)]
    pub(crate) fn own(&self, word: Stored) -> Option<u64> {
        let running = self.running.get();
        if self.buffers.has(running) { self.buffers.newest(running, word.address()) } else { None }
    }

    /// Puts a store of the running process into its buffer; false if it does not wait there.
    #[inline(always)]
    pub(crate) fn buffer(&self, word: Stored, value: u64) -> bool {
        // Nobody else sees a private word, and it may end before its store would drain.
        if self.buffers.longest_delay.get() == 0 || !self.world.has(word.address()) {
            return false;
        }
        if self.trace.borrow().is_some() {
            let access = Access { word: word.address(), before: value, after: None };
            self.note(Event::Buffered(self.running.get(), access));
        }
        self.push_store(word, value, None);
        true
    }

    /// As [`Machine::buffer`], for one cell of a payload.
    pub(super) fn buffer_payload(&self, place: Place, cell: &Cell<u64>, value: u64) -> bool {
        if self.buffers.longest_delay.get() == 0 {
            return false;
        }
        self.push_store(Stored::U64(cell), value, Some(place));
        true
    }

    #[inline(never)]
    fn push_store(&self, word: Stored, value: u64, payload: Option<Place>) {
        let running = self.running.get();
        if self.buffers.queues.borrow()[running].len() >= ENTRIES {
            self.drain_now(running);
        }
        let delay = self.scheduler.borrow_mut().delay(self.buffers.longest_delay.get());
        let due = delay.map_or(u64::MAX, |delay| self.steps.get() + 1 + delay);
        self.buffers.next_due.set(self.buffers.next_due.get().min(due));
        self.buffers.push(running, Entry::Store { word, value, payload, due });
    }

    /// Tells the oracle what the running process notes, when the stores before it have drained.
    pub(crate) fn note_in_order(&'static self, noted: Noted) {
        let running = self.running.get();
        if self.buffers.has(running) {
            self.buffers.push(running, Entry::Note(noted));
        } else {
            self.hold_true(self.apply(running, noted));
        }
    }

    fn apply(&self, process: usize, noted: Noted) -> Result<(), String> {
        let mut oracle = self.oracle.borrow_mut();
        match noted {
            Noted::Reserved { slot, waited_for } => oracle.reserve(process, slot, waited_for)?,
            Noted::Discarded { slot } => oracle.discard(slot),
            Noted::Committed { sequence, value } => {
                oracle.end_commit(sequence, value, self.steps.get())?;
            }
            Noted::Marked { reader, slot } => oracle.mark_named(reader, slot),
        }
        Ok(())
    }

    /// Drains what the running process has stored.
    #[inline(always)]
    pub(crate) fn drain_own(&self) {
        let running = self.running.get();
        while self.buffers.has(running) {
            self.drain_now(running);
        }
    }

    /// Drains what each process has stored before this call, one after the other: the processors
    /// do not pass their fences at one moment.
    pub(crate) fn drain_everybody(&'static self) {
        self.drain_own();
        let mut others = self.buffers.filled();
        while others != 0 {
            self.step();
            let process = others.trailing_zeros() as usize;
            others &= others - 1;
            while self.buffers.has(process) {
                self.drain_now(process);
            }
        }
    }

    /// Drains the entries that have waited long enough.
    #[cold]
    pub(super) fn drain_due(&self) {
        let now = self.steps.get();
        let mut next_due = u64::MAX;
        let mut filled = self.buffers.filled();
        while filled != 0 {
            let process = filled.trailing_zeros() as usize;
            filled &= filled - 1;
            while let Some(due) = self.buffers.due(process) {
                if due > now {
                    next_due = next_due.min(due);
                    break;
                }
                self.scheduler.borrow_mut().drains(process);
                self.drain_now(process);
            }
        }
        self.buffers.next_due.set(next_due);
    }

    fn drain_now(&self, process: usize) {
        if let Err(broken) = self.drain_one(process) {
            self.fail_with(broken);
        }
    }

    /// The first entry of a process reaches the memory.
    pub(super) fn drain_one(&self, process: usize) -> Result<(), String> {
        let told = |broken| format!("process {process}: {broken}");
        if let Some(Entry::Store { word, value, payload, .. }) = self.buffers.pop(process) {
            let before = word.set(value);
            let access = Access { word: word.address(), before, after: Some(value) };
            match payload {
                Some(place) => {
                    self.note(Event::DrainedPayload(process, place));
                    self.oracle.borrow().write(place).map_err(told)?;
                }
                None => {
                    self.note(Event::Drained(process, access));
                    self.appeared(process, access).map_err(told)?;
                }
            }
        }
        while self.buffers.has(process) && self.buffers.due(process).is_none() {
            if let Some(Entry::Note(noted)) = self.buffers.pop(process) {
                self.apply(process, noted).map_err(told)?;
            }
        }
        Ok(())
    }
}
