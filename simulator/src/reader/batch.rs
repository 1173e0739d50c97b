//! Many samples at once, in the order in which `Reader` calls the protocol.

use crate::protocol::batch::{self, RUN};
use crate::protocol::calm::Right;
use crate::protocol::hold::{self, Cursor, Step};
use crate::protocol::shape::Calm;
use crate::protocol::table::Table;
use crate::protocol::words::Extent;

use super::{Consumer, HeldSample};

impl Consumer {
    /// Takes up to `most` samples, as many at once as it can, and the others singly.
    pub(crate) fn read_many(&mut self, most: usize) {
        let table = &self.machine.world.table();
        let mut left = most.min(self.free_hands());
        while left > 0 {
            let run = left.min(RUN);
            let count = if table.shape.receipts { self.read_at_once(table, run) } else { 0 };
            left -= count;
            if count == run {
                continue;
            }
            if !self.read() {
                return;
            }
            left -= 1;
        }
    }

    /// Takes up to `most` samples that are common cases; returns how many. The cursor moves once,
    /// past all of them.
    fn read_at_once(&mut self, table: &Table<'_>, most: usize) -> usize {
        let (before, published) = (self.cursor, self.machine.oracle.borrow().published());
        let bit = self.member.bit;
        let mut found: Vec<(HeldSample, Extent)> = Vec::new();
        while found.len() < most {
            let sequence = self.cursor.place.sequence;
            match hold::step::<Calm<false>>(table, bit, sequence) {
                Ok(Step::Sample(slot, extent)) if extent.is_plain(table.shape.capacity) => {
                    found.push((HeldSample { slot, bit: bit.owed, sequence }, extent));
                }
                _ => break,
            }
            self.cursor.place = self.cursor.place.next(&table.shape);
        }
        if found.is_empty() || !self.shows_as_joined(before, None) {
            return 0;
        }
        // It holds all of them before another process makes a step.
        let mut place = before.place;
        for (in_hand, extent) in &found {
            self.hold(*in_hand, *extent);
            let from = Cursor { place, ..before };
            place = place.next(&table.shape);
            self.tell(from, place.sequence, Some(in_hand.sequence), published);
        }
        found.iter().for_each(|(in_hand, _)| self.compare(*in_hand));
        found.len()
    }

    /// Marks all that it holds, as many at once as it can, and the others singly.
    pub(crate) fn mark_many(&mut self, right: Right) {
        let held: Vec<HeldSample> = self.in_hand.iter_mut().filter_map(Option::take).collect();
        held.iter().for_each(|in_hand| self.compare(*in_hand));
        let are_read =
            |one: &HeldSample, next: &HeldSample| self.is_read(*one) && self.is_read(*next);
        for run in held.chunk_by(are_read).flat_map(|alike| alike.chunks(RUN)) {
            match run {
                [one] if !self.is_read(*one) => self.mark_held(*one, right),
                _ => self.mark_at_once(run, right),
            }
        }
    }

    /// Marks samples that were read, with one look at what others do.
    fn mark_at_once(&self, run: &[HeldSample], right: Right) {
        run.iter().for_each(|in_hand| self.release(*in_hand));
        let samples: Vec<(u32, u64)> =
            run.iter().map(|in_hand| (in_hand.slot, in_hand.sequence)).collect();
        let (table, member) = (self.machine.world.table(), self.member);
        let marked = batch::mark(&table, &samples, member.index, member.bit, right);
        if let Some(refused) = run.get(marked) {
            self.fail_mark(refused.sequence, "in a batch".into());
        }
    }
}
