//! One slot's life: free, loaned, published, read, marked, free again; or taken back unread.
//!
//! Who may change what: the claim word belongs to writers; marks are set by the committing writer (and by a
//! joining reader that takes a sample from history), then each reader clears its own bits. A slot is free when
//! it is `Free`, or `Published` and no mark is left. All bits of 16 readers move in one word together with the tag of
//! their sequence, so "unread", "in hand" and "of which sample" can never disagree.

use core::cmp;

use super::bell::Bell;
use super::order::{self, FIRST, Loan, Position};
use super::words::{Audience, Bit, Ctl, Entry, Marks, Owner, Phase};
use super::{RETRY_LIMIT, Table, vacancy};
use crate::atomics::{AtomicU64, Ordering, fence, fence_after_rmw};
use crate::error::Code;
use crate::layout::SlotLine;

/// How many places of the order a reserve tries before it asks the vacancy map: as many as writers are likely
/// to have loans out side by side.
const HOME_TRIES: u32 = 4;

/// Rings for a commit. The caller has passed a sequentially consistent fence since it published.
#[inline(always)]
pub(crate) fn ring_commit(table: &Table<'_>, slot: u32, line: &SlotLine) {
    let bells = &table.hot.bells.0;
    Bell(&bells.data).ring();
    Bell(&bells.change).ring();
    if Bell(&bells.space).is_armed() {
        ring_space_at_commit(table, slot, line);
    }
}

/// A writer sleeps. What it can use now: this slot, if its readers were done before it was Published; or this
/// sample, if it may take unread ones.
#[cold]
fn ring_space_at_commit(table: &Table<'_>, slot: u32, line: &SlotLine) {
    free_if_clear(table, slot, line);
    if table.shape.drop_oldest {
        Bell(&table.hot.bells.0.space).ring();
    }
}

/// Offers a slot that has become free, and rings for it. Same condition as [`ring_commit`].
#[inline(always)]
fn freed(table: &Table<'_>, slot: u32) {
    vacancy::offer(table, slot);
    Bell(&table.hot.bells.0.space).ring();
}

/// Whether no mark is left. Words in order from the lowest: a joining reader that takes a sample from history
/// sets its bit first and then looks at the history bit, which stands in the lowest word, so at least one of
/// the two sees the other. Acquire: pairs with the release in [`clear`], so the readers are done with the bytes.
#[inline(always)]
fn is_clear(line: &SlotLine, words: usize) -> bool {
    let is_clear = |marks: &AtomicU64| Marks(marks.load(Ordering::Acquire)).is_clear();
    let [first, rest @ ..] = &line.marks;
    // One word is the usual number, and then there is no loop.
    is_clear(first) && (words == 1 || rest.iter().take(words.saturating_sub(1)).all(is_clear))
}

/// All bits left in the marks of a line.
fn marks_left(line: &SlotLine, words: usize) -> Audience {
    let words = line.marks.iter().take(words).enumerate();
    Audience(words.fold(0, |all, (word, marks)| all | Marks(marks.load(Ordering::Acquire)).readers(word).0))
}

/// Frees a slot if nothing is left on it. Same condition as [`ring_commit`].
pub(crate) fn free_if_clear(table: &Table<'_>, slot: u32, line: &SlotLine) {
    if is_clear(line, table.shape.mark_words) {
        freed(table, slot);
    }
}

/// What an attempt to take a slot met.
enum Attempt {
    Mine(Loan),
    /// Somebody loans it, publishes it or takes it back.
    Busy,
    /// Such a moment that passes without anybody setting the hint again.
    Passing,
    /// It holds a sample that is not read by all.
    Unread,
}

/// Takes a slot if it is free. `waited_for` are the readers whose marks count; normally all.
#[inline(always)]
fn claim(table: &Table<'_>, slot: u32, owner: Owner, waited_for: Audience) -> Result<Attempt, Code> {
    let line = table.line(slot)?;
    let ctl_word = &table.claim(slot)?.ctl;
    // Acquire: pairs with the release in `order::commit`.
    let ctl = Ctl(ctl_word.load(Ordering::Acquire));
    match ctl.phase() {
        Some(Phase::Free | Phase::Published) => {}
        Some(Phase::Loaned) => return Ok(Attempt::Busy),
        Some(Phase::Committing | Phase::Reclaiming) => return Ok(Attempt::Passing),
        None => return Err(Code::Corrupt),
    }
    let free = if waited_for == EVERYBODY {
        is_clear(line, table.shape.mark_words)
    } else {
        marks_left(line, table.shape.mark_words).0 & waited_for.0 == 0
    };
    if !free {
        return Ok(Attempt::Unread);
    }
    let loan = Loan { slot, generation: ctl.generation().wrapping_add(1) & Ctl::GENERATION_MASK, owner };
    let mine = loan.ctl(Phase::Loaned).0;
    if table.shape.single_writer {
        // Relaxed: no other writer looks at it while this one is open.
        ctl_word.store(mine, Ordering::Relaxed);
    } else if ctl_word.compare_exchange(ctl.0, mine, Ordering::AcqRel, Ordering::Relaxed).is_err() {
        // AcqRel: pairs with the same exchange of other writers.
        return Ok(Attempt::Busy);
    }
    Ok(Attempt::Mine(loan))
}

/// Every reader and history.
pub(crate) const EVERYBODY: Audience = Audience(u64::MAX);

/// Takes the slot that is next in the order, if it is free. The slots after it are tried only while other
/// loans are in the way.
#[inline(always)]
pub(crate) fn reserve_home(table: &Table<'_>, owner: Owner) -> Result<Option<Loan>, Code> {
    // Relaxed: a guess, checked in the slot.
    let mut home = Position::of(&table.shape, table.hot.tail.0.load(Ordering::Relaxed));
    match claim(table, home.line, owner, EVERYBODY)? {
        Attempt::Mine(loan) => return Ok(Some(loan)),
        Attempt::Busy | Attempt::Passing => home = home.next(&table.shape),
        Attempt::Unread => return Ok(None),
    }
    reserve_near(table, owner, home)
}

/// Goes on from a home slot that is another loan.
#[inline(never)]
fn reserve_near(table: &Table<'_>, owner: Owner, mut place: Position) -> Result<Option<Loan>, Code> {
    for _ in 1..HOME_TRIES {
        match claim(table, place.line, owner, EVERYBODY)? {
            Attempt::Mine(loan) => return Ok(Some(loan)),
            Attempt::Busy | Attempt::Passing => place = place.next(&table.shape),
            Attempt::Unread => break,
        }
    }
    Ok(None)
}

/// Takes any free slot that the vacancy map knows. Each hint that turns out stale is withdrawn, and whoever
/// freed a slot paid for setting it, so the walk costs nothing in the long run, however many slots there are.
pub(crate) fn reserve_vacant(table: &Table<'_>, owner: Owner) -> Result<Option<Loan>, Code> {
    let mut from = 0;
    while let Some(slot) = vacancy::next_from(table, from) {
        vacancy::withdraw(table, slot);
        match claim(table, slot, owner, EVERYBODY)? {
            Attempt::Mine(loan) => return Ok(Some(loan)),
            Attempt::Passing => vacancy::offer(table, slot),
            Attempt::Busy | Attempt::Unread => {}
        }
        from = slot + 1;
    }
    Ok(None)
}

/// Takes the first slot that no reader of `waited_for` needs: for callers who keep the books themselves and may
/// leave out readers that still have bits. Walks all slots.
pub(crate) fn reserve_unneeded(
    table: &Table<'_>,
    owner: Owner,
    waited_for: Audience,
) -> Result<Option<Loan>, Code> {
    for slot in 0..table.shape.slots {
        let before = Ctl(table.claim(slot)?.ctl.load(Ordering::Acquire));
        let Attempt::Mine(loan) = claim(table, slot, owner, waited_for)? else { continue };
        // A reader that joined since `waited_for` was made may have taken this sample from history. Either this look
        // sees it as a member, or it sees the slot loaned; pairs with the fence in `members::join`.
        fence(Ordering::SeqCst);
        let joined = Audience::of_readers(table.hot.active.0.load(Ordering::Relaxed), false);
        if joined.0 & !waited_for.0 != 0 {
            table.claim(slot)?.ctl.store(before.0, Ordering::Release);
            return Ok(None);
        }
        // Bits of readers that nobody waits for would outlive the sample that they speak of.
        for marks in table.line(slot)?.marks.iter().take(table.shape.mark_words) {
            let left = Marks(marks.load(Ordering::Relaxed));
            marks.store(left.revoked().0, Ordering::Relaxed);
        }
        return Ok(Some(loan));
    }
    Ok(None)
}

/// How many samples a search for the oldest looks at again each time.
const LOOK_BACK: u64 = 64;

/// Takes the oldest sample that nobody has in hand away from the readers that have not read it. `resume` is
/// where this writer's last search ended.
pub(crate) fn reclaim_oldest(
    table: &Table<'_>,
    owner: Owner,
    resume: &AtomicU64,
) -> Result<Option<Loan>, Code> {
    let tail = order::settled_tail(table)?;
    let oldest = tail.saturating_sub(2 * u64::from(table.shape.slots)).max(FIRST);
    let horizon = table.hot.horizon.0.load(Ordering::Acquire).max(oldest);
    // Samples in somebody's hands are passed over, and hold the horizon back. So the search looks at the first
    // few from the horizon, then goes on where it ended last time, and last at what lies between.
    let few = horizon.saturating_add(LOOK_BACK).min(tail);
    let resumed = resume.load(Ordering::Relaxed);
    let start = if (few..tail).contains(&resumed) { resumed } else { few };
    for range in [horizon..few, start..tail, few..start] {
        let mut place = Position::of(&table.shape, range.start);
        while place.sequence < range.end {
            if let Some(loan) = reclaim(table, owner, place)? {
                resume.store(place.sequence.wrapping_add(1), Ordering::Relaxed);
                advance_horizon(table, horizon, tail)?;
                return Ok(Some(loan));
            }
            place = place.next(&table.shape);
        }
    }
    Ok(None)
}

/// Takes one sample back if it is unread by somebody and in nobody's hands.
fn reclaim(table: &Table<'_>, owner: Owner, place: Position) -> Result<Option<Loan>, Code> {
    let entry = place.look(table)?;
    if entry.compare(place.sequence) != cmp::Ordering::Equal {
        return Ok(None);
    }
    let slot = entry.slot();
    let line = table.line(slot)?;
    let ctl_word = &table.claim(slot)?.ctl;
    let marks = line.marks.iter().take(table.shape.mark_words);
    // A word may be revoked already, by a search that met a hand in the next word.
    let untouched = marks.clone().all(|marks| {
        let seen = Marks(marks.load(Ordering::Acquire));
        (seen.is_of(place.sequence) || seen.is_revoked_of(place.sequence)) && seen.0 & Marks::HELD == 0
    });
    // Acquire: pairs with the release in `order::commit`.
    let ctl = Ctl(ctl_word.load(Ordering::Acquire));
    if !untouched || ctl.phase() != Some(Phase::Published) {
        return Ok(None);
    }
    // Excludes other writers. A kill after this leaves the marks as far as they are; the sweep puts the
    // phase back.
    let taking = Ctl::new(Phase::Reclaiming, owner, ctl.generation());
    if ctl_word.compare_exchange(ctl.0, taking.0, Ordering::AcqRel, Ordering::Relaxed).is_err() {
        return Ok(None);
    }
    for marks in marks {
        let revoked = retry(|| {
            let seen = Marks(marks.load(Ordering::Acquire));
            if !seen.is_of(place.sequence) {
                return Some(seen.is_revoked_of(place.sequence));
            }
            if seen.0 & Marks::HELD != 0 {
                return Some(false);
            }
            // The tag goes with the bits: that is how a reader tells "taken away" from "never mine".
            swap(marks, seen.0, seen.revoked().0).then_some(true)
        })?;
        if !revoked {
            // A reader got it in hand at the last moment. The slot stays as it is.
            ctl_word.store(ctl.0, Ordering::Release);
            // Its readers may have marked while the phase kept other writers away.
            fence(Ordering::SeqCst);
            free_if_clear(table, slot, line);
            return Ok(None);
        }
    }
    let loan = Loan { slot, generation: ctl.generation().wrapping_add(1) & Ctl::GENERATION_MASK, owner };
    ctl_word.store(loan.ctl(Phase::Loaned).0, Ordering::Relaxed);
    Ok(Some(loan))
}

/// Moves the horizon past samples that nobody is owed any more: a few steps each time, so that it keeps up.
fn advance_horizon(table: &Table<'_>, from: u64, tail: u64) -> Result<(), Code> {
    const STEPS: u64 = 8;
    let mut place = Position::of(&table.shape, from);
    while place.sequence < tail && place.sequence < from.saturating_add(STEPS) && is_finished(table, place)? {
        place = place.next(&table.shape);
    }
    // It only grows. Release: pairs with the acquire loads of the horizon.
    table.hot.horizon.0.fetch_max(place.sequence, Ordering::AcqRel);
    Ok(())
}

/// Whether the sample of a published place is owed to nobody any more.
fn is_finished(table: &Table<'_>, place: Position) -> Result<bool, Code> {
    let entry = place.look(table)?;
    match entry.compare(place.sequence) {
        cmp::Ordering::Less => Ok(false),
        cmp::Ordering::Greater => Ok(true),
        cmp::Ordering::Equal => {
            let line = table.line(entry.slot())?;
            Ok(line.marks.iter().take(table.shape.mark_words).all(|marks| {
                let seen = Marks(marks.load(Ordering::Acquire));
                !seen.is_of(place.sequence) || seen.0 & Marks::OWED == 0
            }))
        }
    }
}

/// The entry that a commit replaced was the only way to its sample. If somebody held that sample for two laps,
/// others may still be owed it; they have lost it now. `horizon` is from before the exchange: since then others may
/// have moved it past the sample, because its entry was gone.
#[inline(never)]
pub(crate) fn forget_overwritten(
    table: &Table<'_>,
    replaced: Entry,
    sequence: u64,
    horizon: u64,
) -> Result<(), Code> {
    let old = sequence.wrapping_sub(2 * u64::from(table.shape.slots));
    if sequence <= 2 * u64::from(table.shape.slots)
        || old < horizon
        || replaced.compare(old) != cmp::Ordering::Equal
    {
        return Ok(());
    }
    let line = table.line(replaced.slot())?;
    let marks = line.marks.iter().take(table.shape.mark_words);
    if marks.clone().all(|marks| {
        let seen = Marks(marks.load(Ordering::Acquire));
        !seen.is_of(old) || seen.0 & Marks::OWED == 0
    }) {
        return Ok(());
    }
    forgive(line, old, EVERYBODY, table.shape.mark_words);
    fence(Ordering::SeqCst);
    free_if_clear(table, replaced.slot(), line);
    Ok(())
}

/// Moves a slot from `Loaned` to `Committing`, once.
#[inline(always)]
pub(crate) fn begin_commit(table: &Table<'_>, loan: Loan) -> Result<(), Code> {
    end_loan(table, loan, Phase::Committing)
}

/// Gives a loan back unpublished.
pub(crate) fn discard(table: &Table<'_>, loan: Loan) -> Result<(), Code> {
    end_loan(table, loan, Phase::Free)?;
    // Pairs with the fences in `vacancy::withdraw` and `Bell::arm`.
    fence(Ordering::SeqCst);
    freed(table, loan.slot);
    Bell(&table.hot.bells.0.change).ring();
    Ok(())
}

/// Ends a loan if it still is one; a token used before, or never given out, changes nothing.
#[inline(always)]
fn end_loan(table: &Table<'_>, loan: Loan, phase: Phase) -> Result<(), Code> {
    let ctl_word = &table.claim(loan.slot).map_err(|_| Code::Stale)?.ctl;
    let (loaned, ended) = (loan.ctl(Phase::Loaned).0, loan.ctl(phase).0);
    if table.shape.single_writer {
        // Relaxed: only this writer's thread touches it.
        if ctl_word.load(Ordering::Relaxed) != loaned {
            return Err(Code::Stale);
        }
        ctl_word.store(ended, Ordering::Release);
        return Ok(());
    }
    // AcqRel: pairs with the acquire in `claim`. One step, so that of two threads with the same token one wins.
    match ctl_word.compare_exchange(loaned, ended, Ordering::AcqRel, Ordering::Relaxed) {
        Ok(_) => Ok(()),
        Err(_) => Err(Code::Stale),
    }
}

/// Whether a loan is out.
pub(crate) fn is_loaned(table: &Table<'_>, loan: Loan) -> bool {
    table.claim(loan.slot).is_ok_and(|claim| claim.ctl.load(Ordering::Acquire) == loan.ctl(Phase::Loaned).0)
}

/// The loan of `owner` that a slot is, if it is one.
pub(crate) fn loan_of(table: &Table<'_>, slot: u32, owner: Owner) -> Result<Loan, Code> {
    let ctl = Ctl(table.claim(slot).map_err(|_| Code::Stale)?.ctl.load(Ordering::Acquire));
    if ctl.phase() != Some(Phase::Loaned) || ctl.owner() != owner {
        return Err(Code::Stale);
    }
    Ok(Loan { slot, generation: ctl.generation(), owner })
}

/// Whether a slot holds, or is just being given, the sample of the given generation.
pub(crate) fn is_published(table: &Table<'_>, slot: u32, generation: u64) -> bool {
    table.claim(slot).is_ok_and(|claim| {
        let ctl = Ctl(claim.ctl.load(Ordering::Acquire));
        // Committing: a reader may have found its entry already, only its writer is not done yet.
        matches!(ctl.phase(), Some(Phase::Published | Phase::Committing)) && ctl.generation() == generation
    })
}

/// How far a reader has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor {
    /// The place that it looks at next.
    pub(crate) place: Position,
    /// The first sequence that came after it joined: what it misses before that was never its own.
    pub(crate) since: u64,
    /// Samples that were taken away from it.
    pub(crate) lost: u64,
}

impl Cursor {
    /// Goes past everything below `place`, unread.
    fn lose(&mut self, table: &Table<'_>, place: Position) {
        if table.shape.drop_oldest {
            let from = self.place.sequence.max(self.since);
            self.lost = self.lost.wrapping_add(place.sequence.saturating_sub(from));
        }
        self.place = place;
    }
}

/// What a reader found at its place in the order.
pub(crate) enum Step {
    /// Nothing yet.
    Empty,
    /// A sample, now in hand.
    Sample(u32),
    /// Anything else; [`next`] finds out.
    Irregular,
}

/// Takes the sample at a reader's place in hand, if all is as it nearly always is: the short way of [`next`].
#[inline(always)]
pub(crate) fn step(table: &Table<'_>, bit: Bit, place: Position) -> Result<Step, Code> {
    let entry = place.look(table)?;
    match entry.compare(place.sequence) {
        cmp::Ordering::Less => return Ok(Step::Empty),
        cmp::Ordering::Equal => {}
        cmp::Ordering::Greater => return Ok(Step::Irregular),
    }
    let line = table.line(entry.slot())?;
    let marks = line.marks.get(bit.word).ok_or(Code::Corrupt)?;
    // Relaxed: the entry was loaded with acquire, and only this reader clears its bit while that is regular.
    let seen = Marks(marks.load(Ordering::Relaxed));
    if !seen.is_of(place.sequence) || seen.0 & bit.owed == 0 {
        return Ok(Step::Irregular);
    }
    // Lossless, an owed sample cannot be taken back, so owing it is holding it: nothing is written that others look at.
    if table.shape.drop_oldest && !grasp(line, bit, place.sequence)? {
        return Ok(Step::Irregular);
    }
    Ok(Step::Sample(entry.slot()))
}

/// Moves a reader to its next sample and takes it in hand; `None` if there is none yet.
pub(crate) fn next(table: &Table<'_>, bit: Bit, cursor: &mut Cursor) -> Result<Option<u32>, Code> {
    for _ in 0..RETRY_LIMIT {
        let Some(slot) = seek(table, bit, cursor)? else { return Ok(None) };
        if table.shape.drop_oldest && !grasp(table.line(slot)?, bit, cursor.place.sequence)? {
            continue;
        }
        cursor.place = cursor.place.next(&table.shape);
        return Ok(Some(slot));
    }
    Err(Code::Corrupt)
}

/// Moves a reader to its next sample without taking it. Samples that were taken away are counted; samples that
/// were never owed to it, because they were under way as it joined, are passed over.
pub(crate) fn seek(table: &Table<'_>, bit: Bit, cursor: &mut Cursor) -> Result<Option<u32>, Code> {
    // Each step passes a place of the order, of which there are two laps, or meets a writer that laps this reader
    // while it looks.
    for _ in 0..=2 * u64::from(table.shape.slots) + u64::from(RETRY_LIMIT) {
        let place = cursor.place;
        let entry = place.look(table)?;
        match entry.compare(place.sequence) {
            cmp::Ordering::Less => return Ok(None),
            cmp::Ordering::Equal => {
                let line = table.line(entry.slot())?;
                let marks = line.marks.get(bit.word).ok_or(Code::Corrupt)?;
                // Acquire: pairs with `forgive`, so that the second look at the entry below sees the one that
                // replaced it.
                let seen = Marks(marks.load(Ordering::Acquire));
                if !seen.is_of(place.sequence) {
                    cursor.lose(table, place.next(&table.shape));
                } else if seen.0 & bit.owed != 0 {
                    return Ok(Some(entry.slot()));
                } else if place.look(table)? == entry {
                    // Never owed. Or forgotten because its entry was overwritten; then it counts as lost.
                    cursor.place = place.next(&table.shape);
                }
            }
            cmp::Ordering::Greater => overrun(table, cursor)?,
        }
    }
    Err(Code::Corrupt)
}

/// Moves a cursor whose entry has been overwritten to the oldest sample that may still be there.
#[cold]
fn overrun(table: &Table<'_>, cursor: &mut Cursor) -> Result<(), Code> {
    if !table.shape.drop_oldest {
        // Lossless: this one was under way as the reader joined, or it would still be there.
        cursor.place = cursor.place.next(&table.shape);
        return Ok(());
    }
    let tail = order::settled_tail(table)?;
    // Everything two laps back is overwritten, everything below the horizon is finished.
    let overwritten = tail.saturating_sub(2 * u64::from(table.shape.slots));
    let finished = table.hot.horizon.0.load(Ordering::Acquire).min(tail);
    let oldest = cursor.place.sequence.wrapping_add(1).max(overwritten).max(finished);
    cursor.lose(table, Position::of(&table.shape, oldest));
    Ok(())
}

/// Takes an owed sample that writers may take back in hand; false if one just did.
#[inline(always)]
fn grasp(line: &SlotLine, bit: Bit, sequence: u64) -> Result<bool, Code> {
    let marks = line.marks.get(bit.word).ok_or(Code::Corrupt)?;
    let taken = retry(|| {
        let seen = Marks(marks.load(Ordering::Relaxed));
        if !seen.is_of(sequence) || seen.0 & bit.owed == 0 {
            return Some(Ok(false));
        }
        if seen.0 & bit.held != 0 {
            return Some(Err(Code::Held)); // by a peek of this reader
        }
        // From "owed" to "in hand" in one step: a writer that wants the slot back sees one or the other.
        swap(marks, seen.0, seen.0 & !bit.owed | bit.held).then_some(Ok(true))
    })??;
    // The tag is half a sequence. In hand, the slot stands still, and the whole sequence can be compared: they
    // differ only if this reader was stopped for 2^32 samples.
    if taken && line.sequence.load(Ordering::Relaxed) != sequence {
        retry(|| {
            let seen = marks.load(Ordering::Relaxed);
            swap(marks, seen, seen & !bit.held | bit.owed).then_some(())
        })?;
        return Ok(false);
    }
    Ok(taken)
}

/// Takes the newest sample in hand without moving the reader: one that it is owed, or that history retains.
pub(crate) fn peek_latest(table: &Table<'_>, reader: Bit) -> Result<Option<(u32, u64)>, Code> {
    // A new sample may push the newest out of history while it is being taken; then there is a newer one.
    for _ in 0..RETRY_LIMIT {
        let newest = order::settled_tail(table)?.wrapping_sub(1);
        if newest < FIRST {
            return Ok(None);
        }
        let entry = Position::of(&table.shape, newest).look(table)?;
        if entry.compare(newest) == cmp::Ordering::Equal
            && hold(table, entry.slot(), reader, newest, Want::Held)?
        {
            return Ok(Some((entry.slot(), newest)));
        }
        if order::settled_tail(table)?.wrapping_sub(1) == newest {
            return Ok(None);
        }
    }
    Err(Code::Corrupt)
}

/// Which of its bits a reader sets on a sample that history retains.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// In hand.
    Held,
    /// Owed, to be read in its turn.
    Owed,
}

/// Sets a reader's bit on a sample that is owed to that reader already or that history retains; false if
/// neither.
pub(crate) fn hold(
    table: &Table<'_>,
    slot: u32,
    reader: Bit,
    sequence: u64,
    want: Want,
) -> Result<bool, Code> {
    let line = table.line(slot)?;
    let wanted = if want == Want::Held { reader.held } else { reader.owed };
    let marks = line.marks.get(reader.word).ok_or(Code::Corrupt)?;
    // While its writer is not done, it may still forgive a reader that left and had this one's bit before.
    // Acquire: pairs with the release in `order::commit`.
    if Ctl(table.claim(slot)?.ctl.load(Ordering::Acquire)).phase() != Some(Phase::Published) {
        return Ok(false);
    }
    /// What keeps the sample alive while the bit is set.
    enum Anchor {
        None,
        /// In the same word: certain.
        Here,
        /// To be looked at now that the bit is set.
        History,
    }
    let anchor = retry(|| {
        let seen = Marks(marks.load(Ordering::Acquire));
        if !seen.is_of(sequence) {
            return Some(Ok(Anchor::None));
        }
        if seen.0 & wanted != 0 {
            return Some(if want == Want::Held { Err(Code::Held) } else { Ok(Anchor::Here) });
        }
        let here = reader.owed | if reader.word == Bit::HISTORY.word { Bit::HISTORY.owed } else { 0 };
        let anchor = match (seen.0 & here != 0, reader.word == Bit::HISTORY.word) {
            (true, _) => Anchor::Here,
            (false, true) => return Some(Ok(Anchor::None)),
            (false, false) => Anchor::History,
        };
        swap(marks, seen.0, seen.0 | wanted).then_some(Ok(anchor))
    })??;
    match anchor {
        Anchor::None => Ok(false),
        Anchor::Here => Ok(true),
        Anchor::History => {
            if is_retained(line, sequence)? {
                return Ok(true);
            }
            // Too late. The bit goes again, unless the slot went on already.
            if clear(marks, sequence, wanted).is_ok() {
                fence_after_rmw();
                released(table, slot, line);
            }
            Ok(false)
        }
    }
}

/// Whether history retains the sample, asked with a write: whoever clears the bit later has synchronised with
/// this, and so has the writer that finds it cleared, which then sees the bit set before in another word.
fn is_retained(line: &SlotLine, sequence: u64) -> Result<bool, Code> {
    let [marks, ..] = &line.marks;
    retry(|| {
        let seen = Marks(marks.load(Ordering::Relaxed));
        if !seen.is_of(sequence) || seen.0 & Bit::HISTORY.owed == 0 {
            return Some(false);
        }
        swap(marks, seen.0, seen.0).then_some(true)
    })
}

/// Lets go of a sample: clears `bit` (this reader's owed or held bit) and frees the slot if it was the last.
#[inline(always)]
pub(crate) fn mark(table: &Table<'_>, slot: u32, word: usize, bit: u64, sequence: u64) -> Result<(), Code> {
    let line = table.line(slot).map_err(|_| Code::Stale)?;
    let left = clear(line.marks.get(word).ok_or(Code::Stale)?, sequence, bit)?;
    // Pairs with the fence in `vacancy::withdraw`, with that in `Bell::arm`, and with this same one of a
    // reader in another word: the later of the two sees both words clear.
    fence_after_rmw();
    if left.is_clear() && (table.shape.mark_words == 1 || is_clear(line, table.shape.mark_words)) {
        freed(table, slot);
    } else if table.shape.drop_oldest {
        // No longer in this reader's hands, it may be what a waiting writer can take away from the others.
        Bell(&table.hot.bells.0.space).ring();
    }
    Bell(&table.hot.bells.0.change).ring();
    Ok(())
}

/// Clears one bit of marks that speak of `sequence`; stale if it is not set, or they speak of another.
#[inline(always)]
fn clear(marks: &AtomicU64, sequence: u64, bit: u64) -> Result<Marks, Code> {
    retry(|| {
        let seen = Marks(marks.load(Ordering::Relaxed));
        if !seen.is_of(sequence) || seen.0 & bit == 0 {
            return Some(Err(Code::Stale));
        }
        // AcqRel, by `swap`: this reader is done with the bytes; pairs with the acquire in `is_clear`.
        swap(marks, seen.0, seen.0 & !bit).then_some(Ok(Marks(seen.0 & !bit)))
    })?
}

/// Ends the retention of one sample.
pub(crate) fn expire(table: &Table<'_>, slot: u32, line: &SlotLine, sequence: u64) {
    let [marks, ..] = &line.marks;
    if clear(marks, sequence, Bit::HISTORY.owed).is_ok() {
        fence_after_rmw();
        free_if_clear(table, slot, line);
    }
}

/// Clears the owed bits of `audience` on the sample `sequence`; bits in hand stay.
#[cold]
pub(crate) fn forgive(line: &SlotLine, sequence: u64, audience: Audience, words: usize) {
    for (word, marks) in line.marks.iter().take(words).enumerate() {
        let bits = (audience.0 >> (16 * word) & 0xffff) << 16;
        // An endless quarrel over one word is an enemy's; there is nothing to win in it.
        let _ = retry(|| {
            let seen = Marks(marks.load(Ordering::Relaxed));
            let done = !seen.is_of(sequence) || seen.0 & bits == 0;
            (done || swap(marks, seen.0, seen.0 & !bits)).then_some(())
        });
    }
}

/// After a reader's bit was cleared: frees the slot, or tells a waiting writer that it may now take the sample from
/// the others. Same condition as [`ring_commit`].
fn released(table: &Table<'_>, slot: u32, line: &SlotLine) {
    free_if_clear(table, slot, line);
    if table.shape.drop_oldest {
        Bell(&table.hot.bells.0.space).ring();
    }
}

/// Clears bits of one reader in one slot whatever sample they speak of, as far as `which` says so. It is given the
/// marks, and the whole sequence of their sample where the slot stands still.
pub(crate) fn release_reader(
    table: &Table<'_>,
    slot: u32,
    line: &SlotLine,
    reader: Bit,
    which: impl Fn(Marks, Option<u64>) -> u64,
) {
    let Some(marks) = line.marks.get(reader.word) else { return };
    let changed = retry(|| {
        let seen = Marks(marks.load(Ordering::Acquire));
        let sequence = line.sequence.load(Ordering::Relaxed);
        let bits = which(seen, seen.is_of(sequence).then_some(sequence)) & (reader.owed | reader.held);
        if seen.0 & bits == 0 {
            return Some(false);
        }
        swap(marks, seen.0, seen.0 & !bits).then_some(true)
    });
    if changed == Ok(true) {
        fence_after_rmw();
        released(table, slot, line);
    }
}

/// Whether a writer would get a slot now. Walks all slots.
pub(crate) fn has_space(table: &Table<'_>) -> bool {
    let usable = |marks: &AtomicU64| {
        let seen = Marks(marks.load(Ordering::Acquire));
        seen.is_clear() || table.shape.drop_oldest && seen.0 & Marks::HELD == 0
    };
    table.lines.iter().zip(table.claims).any(|(line, claim)| {
        let phase = Ctl(claim.ctl.load(Ordering::Acquire)).phase();
        matches!(phase, Some(Phase::Free | Phase::Published))
            && line.marks.iter().take(table.shape.mark_words).all(usable)
    })
}

/// The readers that keep the slots which a writer would take next: those of the oldest samples.
pub(crate) fn blockers(table: &Table<'_>) -> u64 {
    const LOOK_AT: u32 = 64;
    let mut home = Position::of(&table.shape, order::tail(table));
    let mut all = 0;
    for _ in 0..table.shape.slots.min(LOOK_AT) {
        if let Ok(line) = table.line(home.line) {
            all |= marks_left(line, table.shape.mark_words).readers();
        }
        home = home.next(&table.shape);
    }
    all
}

/// One strong exchange. AcqRel: every change of marks both publishes what its thread did before (reading the
/// payload, setting another word) and sees what others did.
#[inline(always)]
fn swap(word: &AtomicU64, from: u64, to: u64) -> bool {
    word.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// Repeats `step` until it has an answer.
#[inline(always)]
fn retry<T>(mut step: impl FnMut() -> Option<T>) -> Result<T, Code> {
    for _ in 0..RETRY_LIMIT {
        if let Some(answer) = step() {
            return Ok(answer);
        }
    }
    Err(Code::Corrupt)
}
