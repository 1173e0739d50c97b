//! The calm path: commit and mark while nobody sleeps, joins or leaves.
//!
//! Here they store what they have to say, and look at one word ([`attention`](super::attention)).
//! If that is as it was, they are done; if not, they go on as [`commit`](super::commit) and
//! [`hold`](super::hold) do. Only segments of the kind [`Calm`] are ever calm.

use core::num::NonZeroU64;

use super::attention::Outlook;
use super::commit::{Sample, after_end_with_attention, end_with_attention};
use super::order;
use super::shape::{Calm, Kind, Shape};
use super::slot;
use super::table::Table;
use super::vacancy;
use super::words::{Audience, Bit, Ctl, Entry, Extent, Owner, Phase, Token};
use crate::atomics::{AtomicU64, Ordering, fence, light_fence};
use crate::error::Code;
use crate::layout::Slot;

/// What a writer knows: as long as the attention is this, new samples are owed to this audience.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) outlook: Outlook,
    pub(crate) audience: Audience,
}

impl Known {
    /// What is known now; `None` if the segment is not calm, or if there is nobody to whom a sample
    /// would be owed: then each commit must offer its slot.
    #[inline]
    pub(crate) fn now(table: &Table<'_>) -> Option<Known> {
        let outlook = table.attention().look();
        // Relaxed: a reader that has changed the attention before had set its bit before that. One
        // that is about to will be noticed at the end of a commit.
        let joined = table.hot.active.0.load(Ordering::Relaxed);
        let audience = Audience::of_readers(joined, false);
        (outlook.is_calm() && joined != 0).then_some(Known { outlook, audience })
    }
}

/// What the threads that share a writer remember of it. They may see older values, and then do a
/// little more.
pub(crate) struct Memory {
    /// The attention when the audience was loaded, as a word.
    outlook: AtomicU64,
    audience: AtomicU64,
}

impl Memory {
    /// Of a writer that knows nothing yet.
    pub(crate) fn new() -> Memory {
        Memory { outlook: AtomicU64::new(Outlook::NEVER.word()), audience: AtomicU64::new(0) }
    }

    #[inline(always)]
    pub(crate) fn known(&self) -> Known {
        // Acquire: a thread that sees the audience of another, newer outlook sees a newer attention.
        let outlook = Outlook::of(self.outlook.load(Ordering::Acquire));
        Known { outlook, audience: Audience(self.audience.load(Ordering::Acquire)) }
    }

    /// Learns what is so now; false if the segment is not calm, or if there is nothing new.
    #[cold]
    #[inline(never)]
    pub(crate) fn learn(&self, table: &Table<'_>) -> bool {
        let before = self.known().outlook;
        let Some(now) = Known::now(table).filter(|now| now.outlook != before) else {
            return false;
        };
        // One thread at a time, or else the audience of one could stay with the newer outlook of
        // another. No outlook comes back, so if this succeeds, nobody has learned since `before`.
        if before == Outlook::LEARNING
            || !slot::swap(&self.outlook, before.word(), Outlook::LEARNING.word())
        {
            return false;
        }
        // Release: as in `known`.
        self.audience.store(now.audience.0, Ordering::Release);
        self.outlook.store(now.outlook.word(), Ordering::Release);
        true
    }
}

/// How a caller shows that it may end a loan, or mark a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    /// It has the only value that says so, and gives it away by this.
    Sole,
    /// It has a token, and another thread may have the same.
    Token,
}

/// What a writer writes into each of its slots.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hand {
    /// The claim word of a loan, without its generation.
    pub(crate) first: Ctl,
    /// The extent of a sample, without its length.
    extent: Extent,
}

impl Hand {
    pub(crate) fn of(owner: Owner) -> Hand {
        Hand { first: Ctl::first_of(owner), extent: Extent::in_slot(owner) }
    }
}

/// How a single writer publishes; many exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PublishBy {
    /// It waits until the lines of all stores before it have come, one after the other; but the
    /// writer goes on meanwhile. That is best while readers are behind.
    Store,
    /// It is seen sooner, and the writer waits. That is best while readers poll for the sample.
    Exchange,
}

/// How a loan is committed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner<P> {
    pub(crate) right: Right,
    /// Asked for late, because an answer that is kept meanwhile takes a register.
    pub(crate) publish_by: P,
}

/// Where a writer begins to look for the next sequence, and how far it lets the tail fall behind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guess {
    /// Everything before it is published.
    pub(crate) next: u64,
    /// At most a quarter of a lap.
    pub(crate) lag: u64,
}

/// Commits a payload in its slot, as [`commit`](super::commit::commit) does, and returns the
/// sequence. `None`: the segment is not as it is `known`, or this is no case for this path, and
/// nothing was done.
#[inline(always)]
pub(crate) fn commit<const ALONE: bool>(
    table: &Table<'_>,
    hand: &Hand,
    known: Known,
    token: Token,
    len: u64,
    Manner { right, publish_by }: Manner<impl FnOnce() -> PublishBy>,
    guess: impl FnOnce() -> Guess,
) -> Option<NonZeroU64> {
    let attention = table.attention();
    let alone = match ALONE {
        // Relaxed: only this writer changes it. Other sequences are of a corrupt order.
        true => Some(order::honest(table.hot.tail.0.load(Ordering::Relaxed))?),
        false => None,
    };
    let slot = table.slots.get(token.slot())?;
    let is_known = || attention.look() == known.outlook;
    let begun =
        Begun::new::<ALONE>(&table.shape, slot, hand, token, len, right, known.audience, is_known)?;
    let sequence = match alone {
        Some(told) => {
            let sequence = told.get();
            begun.publish_alone(table, sequence, publish_by)?;
            // As in `Sample::publish_alone`.
            table.hot.tail.0.store(sequence.wrapping_add(1), Ordering::Release);
            told
        }
        None => begun.publish_among(table, guess())?,
    };
    // Either this look sees that the membership has changed, or the process that changed it sees the
    // marks. Pairs with the heavy fence in `Attention::tell`.
    light_fence();
    if attention.look() != known.outlook {
        let loaned = begun.loaned;
        end_with_attention(table, token.slot(), loaned, sequence.get(), known.audience);
        return Some(sequence);
    }
    begun.end();
    // Either this look sees that somebody is about to sleep, or that one sees the sample, and that
    // the slot is not being committed any more. Pairs with the heavy fence in `Attention::raise`.
    light_fence();
    if attention.look() != known.outlook {
        after_end_with_attention(table, token.slot(), sequence.get());
    }
    Some(sequence)
}

/// A loan whose commit has begun.
pub(super) struct Begun<'t> {
    pub(super) sample: Sample<'t>,
    /// The claim, as it was and will be again if the commit fails.
    pub(super) loaned: Ctl,
}

impl<'t> Begun<'t> {
    /// Begins a commit. `None`: this is no case for this path, or `go` says no, which is asked last;
    /// and nothing was done.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "each is in a register of its own")]
    pub(super) fn new<const ALONE: bool>(
        shape: &Shape,
        Slot { line, claim }: Slot<'t>,
        hand: &Hand,
        token: Token,
        len: u64,
        right: Right,
        audience: Audience,
        go: impl FnOnce() -> bool,
    ) -> Option<Begun<'t>> {
        let loaned = token.ctl(hand.first);
        // Of a token that is not stale, the word beside the claim is the reserved length, with
        // further bits if the payload is in a region. If it is stale, the exchange below fails.
        let is_loaned = right == Right::Sole || claim.ctl.load(Ordering::Relaxed) == loaned.0;
        let reserved = claim.aux.load(Ordering::Relaxed);
        if !is_loaned || len > reserved || reserved > shape.capacity || !go() {
            return None;
        }
        let committing = loaned.with(Phase::Committing).0;
        if ALONE || right == Right::Sole {
            // Release: as the exchange. Nobody else ends this loan.
            claim.ctl.store(committing, Ordering::Release);
        } else if !slot::swap(&claim.ctl, loaned.0, committing) {
            return None;
        }
        // Relaxed: released with the entry.
        line.extent.store(hand.extent.with(len).0, Ordering::Relaxed);
        let sample = Sample {
            line,
            claim,
            publishing: loaned.with(Phase::Publishing),
            slot: token.slot(),
            audience,
            turn: slot::next_turn(line),
        };
        Some(Begun { sample, loaned })
    }

    /// Publishes as the only writer, at the end of the order. `None`: as [`Begun::or_give_back`].
    #[inline(always)]
    pub(super) fn publish_alone(
        &self,
        table: &Table<'_>,
        sequence: u64,
        publish_by: impl FnOnce() -> PublishBy,
    ) -> Option<()> {
        let shape = &Calm::<true>::known(&table.shape);
        self.sample.prepare(shape, sequence);
        let entry = self.or_give_back(order::entry_of(table, shape, sequence))?;
        let published = Entry::new(sequence, self.sample.slot).0;
        // Release, AcqRel: pairs with `Position::look`.
        match publish_by() {
            PublishBy::Store => entry.store(published, Ordering::Release),
            PublishBy::Exchange => {
                entry.swap(published, Ordering::AcqRel);
            }
        }
        Some(())
    }

    /// Publishes among other writers; returns the sequence. `None`: as [`Begun::or_give_back`].
    #[inline(always)]
    pub(super) fn publish_among(&self, table: &Table<'_>, guess: Guess) -> Option<NonZeroU64> {
        let shape = &Calm::<false>::known(&table.shape);
        let (sample, Guess { next, lag }) = (&self.sample, guess);
        sample.try_publish_among(table, shape, next, lag).or_else(|| {
            let published = sample.publish_among_again::<Calm<false>>(table, next, lag);
            Some(told(self.or_give_back(published)?.0))
        })
    }

    /// If the order is corrupt, the slot is a loan again, as in `commit::commit`. The caller gets
    /// the error there.
    #[inline(always)]
    fn or_give_back<T>(&self, published: Result<T, Code>) -> Option<T> {
        let give_back = |_: &Code| self.sample.claim.ctl.store(self.loaned.0, Ordering::Release);
        published.inspect_err(give_back).ok()
    }

    /// Ends the commit, if nobody has left meanwhile.
    #[inline(always)]
    pub(super) fn end(&self) {
        // Release: pairs with the acquire in `loan::claim`.
        self.sample.claim.ctl.store(self.loaned.with(Phase::Published).0, Ordering::Release);
    }
}

/// A sequence as it is told; only a corrupt order has a sample 0.
#[inline(always)]
fn told(sequence: u64) -> NonZeroU64 {
    NonZeroU64::new(sequence).unwrap_or(NonZeroU64::MAX)
}

/// Marks a sample that was read, in a segment whose readers use receipts.
#[inline(always)]
pub(crate) fn mark(
    table: &Table<'_>,
    slot: u32,
    reader: u32,
    bit: Bit,
    sequence: u64,
    right: Right,
) -> Result<(), Code> {
    match try_mark(table, slot, reader, &bit, sequence, right) {
        Marked::Done => Ok(()),
        Marked::Watched => mark_with_attention(table, slot),
        Marked::Not => Err(Code::Stale),
    }
}

/// What became of a mark.
pub(crate) enum Marked {
    Done,
    /// It is made, and somebody may be waiting for it: [`mark_with_attention`] does the rest.
    Watched,
    /// The reader does not hold the sample.
    Not,
}

/// The same, without what is rare. The bit stays where it is, because registers are few here.
#[inline(always)]
pub(crate) fn try_mark(
    table: &Table<'_>,
    slot: u32,
    reader: u32,
    bit: &Bit,
    sequence: u64,
    right: Right,
) -> Marked {
    if store_mark(table, slot, reader, bit, sequence, right).is_err() {
        return Marked::Not;
    }
    // Either these looks see that somebody is about to sleep, or has withdrawn the hint; or that one
    // sees the mark. Pairs with the heavy fences in `Attention::raise` and `pass_since`.
    light_fence();
    if table.attention().look().is_calm() && vacancy::is_offered(table, slot) {
        Marked::Done
    } else {
        Marked::Watched
    }
}

/// Says that a reader is done with a sample: with a receipt, or if another thread may have the same
/// token, by clearing the owed bit.
#[inline(always)]
pub(super) fn store_mark(
    table: &Table<'_>,
    slot: u32,
    reader: u32,
    bit: &Bit,
    sequence: u64,
    right: Right,
) -> Result<(), Code> {
    let line = table.line(slot).map_err(|_| Code::Stale)?;
    match right {
        Right::Sole => slot::receipt(line, reader, bit, sequence),
        // An exchange, which compares the sequence: a thread that was stopped before it must not
        // mark a later sample.
        Right::Token => {
            let [marks, ..] = &line.marks;
            slot::clear(marks, sequence, bit.owed).map(drop)
        }
    }
}

/// The rest of a mark, when somebody may be waiting for it. It returns what the mark does, so that
/// it can be the last call of its caller, which needs no frame then.
#[cold]
#[inline(never)]
#[expect(clippy::unnecessary_wraps, reason = "the result of a mark")]
pub(crate) fn mark_with_attention(table: &Table<'_>, slot: u32) -> Result<(), Code> {
    // Pairs with the fences in `vacancy::withdraw` and `Bell::announce`, and with this one in another
    // reader: the later of the two sees both marks.
    fence(Ordering::SeqCst);
    if let Ok(line) = table.line(slot) {
        slot::free_if_clear(table, slot, line);
    }
    table.change_bell().ring();
    Ok(())
}
