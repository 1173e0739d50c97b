//! Batches: commits and marks of many samples, with one look at what others do.
//!
//! Each sample gets its sequence, is published and is marked as by itself, and recovery finds each by
//! itself, too. But all are published before the first of these commits ends, so they share the
//! fences and the looks at attention, membership and bells that come in between, and those that come
//! last. This is for segments with receipts; in others a batch is a loop.

use core::num::NonZeroU64;

use super::calm::{Begun, Guess, Hand, Known, PublishBy, Right, store_mark};
use super::commit;
use super::order;
use super::shape::{Calm, Kind};
use super::slot;
use super::table::Table;
use super::vacancy;
use super::words::{Audience, Bit, Phase, Token};
use crate::atomics::{Ordering, fence, light_fence};

/// So many samples share one look. It bounds how long a sleeper waits for a writer that is in the
/// middle of a batch.
pub(crate) const RUN: usize = 16;

/// What became of a run of loans.
pub(crate) struct Committed {
    sequences: [u64; RUN],
    count: usize,
}

impl Committed {
    /// The sequences of those that were committed, which are the first of the loans. If that is not
    /// all, the next is no case for this path, and nothing was done with it.
    pub(crate) fn sequences(&self) -> &[u64] {
        self.sequences.get(..self.count).unwrap_or_default()
    }
}

/// Commits loans, each with its length, as many as it can from the first on. `loans`: at most [`RUN`]
/// of them. `known`: what the writer knows, whether or not it is still so.
#[inline(never)]
pub(crate) fn commit<const ALONE: bool>(
    table: &Table<'_>,
    hand: &Hand,
    known: Known,
    loans: &[(Token, u64)],
    right: Right,
    guess: Guess,
) -> Committed {
    let shape = &Calm::<ALONE>::known(&table.shape);
    let is_known = || table.attention().look() == known.outlook;
    let calm = is_known();
    // Relaxed: as in `commit::commit`.
    let joined = || Audience::of_readers(table.hot.active.0.load(Ordering::Relaxed), false);
    let audience = if calm { known.audience } else { joined() };
    let tail = &table.hot.tail.0;
    let mut done = Committed { sequences: [0; RUN], count: 0 };
    let mut next = guess.next;
    if ALONE {
        // Relaxed: nobody else moves it past what this writer has published.
        let Some(first) = order::honest(tail.load(Ordering::Relaxed)) else { return done };
        next = first.get();
    }
    let mut settled = next;
    for (&(token, len), sequence) in loans.iter().zip(&mut done.sequences) {
        let Some(slot) = table.slots.get(token.slot()) else { break };
        let begun = Begun::new::<ALONE>(shape, slot, hand, token, len, right, audience, || true);
        let Some(begun) = begun else { break };
        let published = match ALONE {
            true => begun.publish_alone(table, next, || PublishBy::Store).map(|()| next),
            false => begun.publish_among(table, Guess { next, ..guess }).map(NonZeroU64::get),
        };
        let Some(published) = published else { break };
        next = published.wrapping_add(1);
        if ALONE && next.wrapping_sub(settled) >= guess.lag {
            settled = next;
            // As in `Sample::publish_alone`.
            tail.store(next, Ordering::Release);
        }
        *sequence = published;
        done.count += 1;
    }
    if ALONE && settled != next {
        // As above.
        tail.store(next, Ordering::Release);
    }

    let published = loans.iter().zip(done.sequences).take(done.count);
    let published = published.map(|(&(token, _), sequence)| Published { token, sequence });
    // As in `calm::commit`, for all of them.
    light_fence();
    if !calm || !is_known() {
        end_with_attention(table, hand, published, audience);
        return done;
    }
    for Published { token, .. } in published.clone() {
        if let Ok(claim) = table.claim(token.slot()) {
            // Release: pairs with the acquire in `loan::claim`.
            let ended = token.ctl(hand.first).with(Phase::Published);
            claim.ctl.store(ended.0, Ordering::Release);
        }
    }
    // As in `calm::commit`.
    light_fence();
    if !is_known() {
        ring_for(table, published);
    }
    done
}

/// A sample of a batch.
struct Published {
    token: Token,
    sequence: u64,
}

/// Ends the commits of published samples as `commit::commit` does, with its fences.
#[cold]
#[inline(never)]
fn end_with_attention(
    table: &Table<'_>,
    hand: &Hand,
    published: impl Iterator<Item = Published> + Clone,
    audience: Audience,
) {
    // Orders the publications before the loads of `active` below; pairs with the fences in
    // `Attention::tell` and `Bell::announce`, and in `expel`.
    fence(Ordering::SeqCst);
    let mut unowed = audience.0 == 0;
    for Published { token, sequence } in published.clone() {
        if let (Ok(line), Ok(claim)) = (table.line(token.slot()), table.claim(token.slot())) {
            let ctl = token.ctl(hand.first);
            unowed |= commit::end(table, line, claim, ctl, sequence, audience.readers(), 0);
        }
    }
    if unowed {
        fence(Ordering::SeqCst);
        for Published { token, .. } in published.clone() {
            if let Ok(line) = table.line(token.slot()) {
                slot::free_if_clear(table, token.slot(), line);
            }
        }
    }
    ring_for(table, published);
}

/// Rings for samples whose commits have ended.
#[cold]
#[inline(never)]
fn ring_for(table: &Table<'_>, published: impl Iterator<Item = Published>) {
    // Orders the stores of Published before the loads of the bells, as in `commit::commit`.
    fence(Ordering::SeqCst);
    if !slot::anybody_listens(table) {
        return;
    }
    for Published { token, .. } in published {
        if let Ok(line) = table.line(token.slot()) {
            slot::ring_commit(table, token.slot(), line);
        }
    }
}

/// Marks samples that were read, each given by its slot and sequence, as many as it can from the
/// first on; returns how many. If that is not all, the next is not held. The other arguments: as for
/// [`calm::mark`](super::calm::mark).
#[inline(never)]
pub(crate) fn mark(
    table: &Table<'_>,
    samples: &[(u32, u64)],
    reader: u32,
    bit: Bit,
    right: Right,
) -> usize {
    let mut slots = [0; RUN];
    let mut count = 0;
    for (&(slot, sequence), marked) in samples.iter().zip(&mut slots) {
        if store_mark(table, slot, reader, &bit, sequence, right).is_err() {
            break;
        }
        *marked = slot;
        count += 1;
    }
    if count == 0 {
        return 0;
    }
    let marked = || slots.iter().copied().take(count);
    // As in `calm::mark`, for all of them.
    light_fence();
    let calm = table.attention().look().is_calm();
    if !calm || !marked().all(|slot| vacancy::is_offered(table, slot)) {
        // As in `calm::mark_with_attention`.
        fence(Ordering::SeqCst);
        for slot in marked() {
            if let Ok(line) = table.line(slot) {
                slot::free_if_clear(table, slot, line);
            }
        }
        table.change_bell().ring();
    }
    count
}
