//! Many samples at once.

use std::sync::atomic::Ordering;

use super::core::{CalmKind, Core, HeldSample, Hold, SampleToken, extent_of};
use crate::cache;
use crate::error::{Code, HotResult};
use crate::protocol::batch::{self, RUN};
use crate::protocol::calm::Right;
use crate::protocol::hold::{self, Step};
use crate::protocol::rows::Member;
use crate::protocol::table::Table;
use crate::protocol::words::{Extent, Place};

impl Core {
    /// Takes up to `most` samples; returns how many. An error only if it is none. `read` gets each.
    pub(crate) fn read_many(
        &self,
        most: usize,
        mut read: impl FnMut(HeldSample),
    ) -> HotResult<usize> {
        let table = self.segment.table()?;
        // Each has a slot. So this ends, whatever others do to the words.
        let most = most.min(table.shape.slots as usize);
        let mut done = 0;
        while done < most {
            let run = RUN.min(most - done);
            let count = if self.quick { self.read_at_once(table, run, &mut read) } else { 0 };
            done += count;
            if count == run {
                continue;
            }
            // The next one is no common case, or there is none.
            let held = match done {
                0 => self.read_one(),
                _ => self.read_one_more(table),
            };
            match held {
                Ok(held) => read(held),
                Err(code) if done == 0 && code != Code::Again => return Err(code),
                Err(_) => break,
            }
            done += 1;
        }
        Ok(done)
    }

    fn read_one(&self) -> HotResult<HeldSample> {
        match self.try_next() {
            Ok(found) => found.ok_or(Code::Again),
            Err(rest) => self.next_slowly(rest).taken(self),
        }
    }

    /// The same for a call that has something to return already: what else is to be told is left to
    /// the next call, which finds it again.
    fn read_one_more(&self, table: &Table<'_>) -> HotResult<HeldSample> {
        let ahead = self.seek()?.ok_or(Code::Again)?;
        table.place(ahead, extent_of(table, ahead)?)?;
        self.take_next(table)
    }

    /// Takes up to `most` samples, of [`RUN`] at most, as long as they are common cases; returns how
    /// many. The cursor moves once, past all of them.
    fn read_at_once(
        &self,
        table: &Table<'_>,
        most: usize,
        read: &mut impl FnMut(HeldSample),
    ) -> usize {
        let first = self.sequence.load(Ordering::Relaxed);
        let mut taken = [(0, Extent(0)); RUN];
        let mut next = first;
        for place in taken.iter_mut().take(most) {
            match hold::step::<CalmKind>(table, self.member.bit, next) {
                Ok(Step::Sample(slot, extent)) if extent.is_plain(table.shape.capacity) => {
                    // So that the payloads arrive together.
                    cache::prefetch_read(self.segment.payload(Place::Slot(slot)));
                    *place = (slot, extent);
                }
                // Empty, or what the caller finds again.
                _ => break,
            }
            next = next.wrapping_add(1);
        }
        if next == first {
            return 0;
        }
        if !self.set_sequence(table, next) {
            // The caller finds the error again.
            self.give_up(table, first, None);
            return 0;
        }
        self.set_waiting(false);
        let count = next.wrapping_sub(first) as usize;
        let mut sequence = first;
        for (slot, extent) in taken.into_iter().take(count) {
            read(HeldSample { taken: SampleToken::new(slot, sequence, Hold::Owed), extent });
            sequence = sequence.wrapping_add(1);
        }
        count
    }

    /// Marks `count` samples, each of which `nth` gives, as many as it can from the first on;
    /// returns how many. An error only if it is none.
    pub(crate) fn mark_many(
        &self,
        count: usize,
        right: Right,
        nth: impl Fn(usize) -> HotResult<SampleToken>,
    ) -> HotResult<usize> {
        let table = self.segment.table()?;
        let mut done = 0;
        while done < count {
            let run = RUN.min(count - done);
            let at_once =
                if self.quick { self.mark_at_once(table, done, run, right, &nth) } else { 0 };
            done += at_once;
            if at_once == run {
                continue;
            }
            // The first that was peeked at, or that is not held.
            match nth(done).and_then(|taken| self.mark(taken, right)) {
                Ok(()) => done += 1,
                Err(code) if done == 0 => return Err(code),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Marks up to `most` samples, of [`RUN`] at most, with one look at what others do, as long as
    /// they were read; returns how many.
    fn mark_at_once(
        &self,
        table: &Table<'_>,
        from: usize,
        most: usize,
        right: Right,
        nth: &impl Fn(usize) -> HotResult<SampleToken>,
    ) -> usize {
        let mut run = [(0, 0); RUN];
        let mut given = 0;
        for (place, sample) in run.iter_mut().take(most).enumerate() {
            match nth(from + place) {
                Ok(taken) => match self.read_sequence(taken) {
                    Some(sequence) => *sample = (taken.slot(), sequence),
                    None => break,
                },
                Err(_) => break,
            }
            given += 1;
        }
        let Member { index, bit, .. } = self.member;
        batch::mark(table, run.get(..given).unwrap_or_default(), index, bit, right)
    }
}
