//! Many loans at once.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::core::Core;
use crate::error::HotResult;
use crate::protocol::batch::{self, RUN};
use crate::protocol::calm::Right;
use crate::protocol::loan;
use crate::protocol::shape::{Calm, Dropping, Kind, KindOf};
use crate::protocol::table::Table;
use crate::protocol::words::Token;

impl Core {
    /// Reserves up to `most` loans of `len` bytes each, and waits for the first of them only; returns
    /// how many. An error only if it is none. `reserved` gets each.
    pub(crate) fn reserve_many(
        &self,
        len: u64,
        timeout: Option<Duration>,
        most: usize,
        mut reserved: impl FnMut(Token),
    ) -> HotResult<usize> {
        // Each has a slot. So this ends, whatever others do to the words.
        let most = most.min(self.segment.table()?.shape.slots as usize);
        if most == 0 {
            return Ok(0);
        }
        reserved(self.reserve_token(len, timeout)?);
        let mut count = 1;
        while count < most {
            let in_order = self.reserve_in_order(len, count, most, &mut reserved);
            count += in_order;
            if count == most {
                break;
            }
            // What is not in order, or not in a slot; or else nothing is free.
            match self.reserve_token(len, Some(Duration::ZERO)) {
                Ok(token) => reserved(token),
                Err(_) => break,
            }
            count += 1;
        }
        Ok(count)
    }

    /// Reserves slots in the order as long as they are free, from the place that is `count` behind
    /// the next; returns how many.
    fn reserve_in_order(
        &self,
        len: u64,
        count: usize,
        most: usize,
        reserved: &mut impl FnMut(Token),
    ) -> usize {
        let Ok(table) = self.segment.table() else { return 0 };
        if !self.short.has(len) {
            return 0;
        }
        match self.kind {
            KindOf::CalmAlone => self.claim_places::<Calm<true>>(table, count..most, len, reserved),
            KindOf::CalmAmong => {
                self.claim_places::<Calm<false>>(table, count..most, len, reserved)
            }
            KindOf::Dropping => self.claim_places::<Dropping>(table, count..most, len, reserved),
            KindOf::Any => 0,
        }
    }

    fn claim_places<K: Kind>(
        &self,
        table: &Table<'_>,
        ahead: Range<usize>,
        len: u64,
        reserved: &mut impl FnMut(Token),
    ) -> usize {
        // Relaxed: a guess, which the claims check.
        let tail = table.hot.tail.0.load(Ordering::Relaxed);
        let next = if self.kind == KindOf::CalmAmong { self.calm.next(tail) } else { tail };
        let mut claimed = 0;
        for ahead in ahead {
            let home = table.slots.home(next.wrapping_add(ahead as u64));
            match loan::try_claim::<K>(table, self.hand.first, home, len) {
                Some(token) => reserved(token),
                None => break,
            }
            claimed += 1;
        }
        claimed
    }

    /// Commits `count` loans, each of which `nth` gives with its length, as many as it can from the
    /// first on; returns how many. An error only if it is none. `committed` gets each sequence.
    pub(crate) fn commit_many(
        &self,
        count: usize,
        right: Right,
        nth: impl Fn(usize) -> HotResult<(Token, u64)>,
        mut committed: impl FnMut(u64),
    ) -> HotResult<usize> {
        let table = self.segment.table()?;
        let is_calm_kind = matches!(self.kind, KindOf::CalmAlone | KindOf::CalmAmong);
        // A loan that is counted ends by itself.
        let at_once = is_calm_kind && self.segment.max_loans() == 0;
        let mut done = 0;
        while done < count {
            let run = RUN.min(count - done);
            let ended = match at_once {
                true => self.commit_at_once(table, done..done + run, right, &nth, &mut committed),
                false => 0,
            };
            done += ended;
            if ended == run {
                continue;
            }
            // The first that is no common case, or that cannot be committed.
            match nth(done).and_then(|(token, len)| self.commit_token(token, len, right)) {
                Ok(sequence) => committed(sequence),
                Err(code) if done == 0 => return Err(code),
                Err(_) => break,
            }
            done += 1;
        }
        Ok(done)
    }

    /// Commits up to [`RUN`] loans with one look at what others do, as long as they are common cases;
    /// returns how many.
    fn commit_at_once(
        &self,
        table: &Table<'_>,
        places: Range<usize>,
        right: Right,
        nth: &impl Fn(usize) -> HotResult<(Token, u64)>,
        committed: &mut impl FnMut(u64),
    ) -> usize {
        let Ok(first) = nth(places.start) else { return 0 };
        let mut run = [first; RUN];
        let mut given = 0;
        for (loan, place) in run.iter_mut().zip(places) {
            let Ok(next) = nth(place) else { break };
            *loan = next;
            given += 1;
        }
        let loans = run.get(..given).unwrap_or_default();

        let memory = &self.calm.memory;
        if table.attention().look() != memory.known().outlook {
            memory.learn(table);
        }
        let (hand, known, guess) = (&self.hand, memory.known(), self.calm.guess());
        let done = match self.kind {
            KindOf::CalmAlone => batch::commit::<true>(table, hand, known, loans, right, guess),
            _ => batch::commit::<false>(table, hand, known, loans, right, guess),
        };
        let sequences = done.sequences();
        let Some(&last) = sequences.last() else { return 0 };
        let count = sequences.len();
        if self.kind == KindOf::CalmAmong {
            self.calm.note(table, last, count as u64);
        }
        if table.attention().look() != known.outlook {
            self.calm.settle(table, count as u32);
        }
        self.prefetch_payload(&self.segment, table, last);
        sequences.iter().copied().for_each(committed);
        count
    }
}
