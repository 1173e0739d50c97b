//! The reader's part: it takes a sample, holds it, and marks it.

use core::cmp;

use super::bounds::StepBudget;
use super::order::{self, FIRST, Position};
use super::shape::Kind;
use super::slot::{self, clear, freed, is_clear, is_committing, released, retry, swap};
use super::table::Table;
use super::words::{Bit, Entry, Extent, Marks};
use crate::atomics::{Ordering, fence_after_rmw};
use crate::error::Code;
use crate::layout::SlotLine;

/// How far a reader has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor {
    /// The next place to look at.
    pub(crate) place: Position,
    /// The first sequence after the reader joined. It does not count what it misses before that.
    pub(crate) since: u64,
    /// Whether it joined with history, and therefore takes retained samples that are not owed to
    /// it.
    pub(crate) adopts: bool,
    /// How many samples it has lost.
    pub(crate) lost: u64,
}

impl Cursor {
    /// Passes all samples before `place` without reading them.
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
    /// There is no sample yet.
    Empty,
    /// A sample, which the reader now holds: its slot and its extent.
    Sample(u32, Extent),
    /// Anything else; [`next`] finds out.
    Irregular,
}

/// Takes the sample at a reader's place in the common case: the fast path of [`next`].
#[inline(always)]
pub(crate) fn step<K: Kind>(table: &Table<'_>, bit: Bit, sequence: u64) -> Result<Step, Code> {
    let shape = &K::known(&table.shape);
    // Acquire: as in `Position::look`.
    let entry = Entry(order::entry_of(table, shape, sequence)?.load(Ordering::Acquire));
    if !entry.is_of(sequence) {
        return Ok(if entry.is_before(sequence) { Step::Empty } else { Step::Irregular });
    }
    let line = table.line(entry.slot())?;
    let [only, ..] = &line.marks;
    let marks = match shape.mark_words {
        1 => only,
        _ => line.marks.get(bit.word).ok_or(Code::Corrupt)?,
    };
    // Relaxed: the entry was loaded with acquire, and in this case only the reader itself clears
    // its bit.
    let seen = Marks(marks.load(Ordering::Relaxed));
    if !seen.is_of(sequence) || seen.0 & bit.owed == 0 {
        return Ok(Step::Irregular);
    }
    // In a lossless segment a reader holds a sample by its owed bit, because nobody can take that
    // away. So it writes nothing to shared memory here.
    if shape.drop_oldest && !take_if_owed(line, bit, sequence)? {
        return Ok(Step::Irregular);
    }
    // Relaxed: a held sample does not change, and the entry was loaded with acquire.
    Ok(Step::Sample(entry.slot(), Extent(line.extent.load(Ordering::Relaxed))))
}

/// Moves a reader to its next sample and takes it; `None` if there is none yet.
pub(crate) fn next(table: &Table<'_>, bit: Bit, cursor: &mut Cursor) -> Result<Option<u32>, Code> {
    let mut steps = StepBudget::of_laps(&table.shape);
    loop {
        let Some(slot) = seek_within(table, bit, cursor, &mut steps)? else { return Ok(None) };
        if table.shape.drop_oldest && !take_if_owed(table.line(slot)?, bit, cursor.place.sequence)?
        {
            continue;
        }
        cursor.place = cursor.place.next(&table.shape);
        return Ok(Some(slot));
    }
}

/// Moves a reader to its next sample without taking it. It counts samples that were taken away, and
/// passes samples that were never owed to it because their commits began before it joined.
pub(crate) fn seek(table: &Table<'_>, bit: Bit, cursor: &mut Cursor) -> Result<Option<u32>, Code> {
    seek_within(table, bit, cursor, &mut StepBudget::of_laps(&table.shape))
}

fn seek_within(
    table: &Table<'_>,
    bit: Bit,
    cursor: &mut Cursor,
    steps: &mut StepBudget,
) -> Result<Option<u32>, Code> {
    loop {
        // Each step passes one of the two laps of places, or a writer laps this reader during the
        // step.
        steps.take()?;
        let place = cursor.place;
        let entry = place.look(table)?;
        match entry.compare(place.sequence) {
            cmp::Ordering::Less => return Ok(None),
            cmp::Ordering::Equal => {
                let line = table.line(entry.slot())?;
                let marks = line.marks.get(bit.word).ok_or(Code::Corrupt)?;
                // Acquire: pairs with `clear_owed`, so that the second load of the entry below sees
                // the one that replaced it.
                let seen = Marks(marks.load(Ordering::Acquire));
                if !seen.is_of(place.sequence) {
                    cursor.lose(table, place.next(&table.shape));
                } else if seen.0 & bit.owed != 0 {
                    return Ok(Some(entry.slot()));
                } else if cursor.adopts
                    && claim_retained(table, entry.slot(), bit, place.sequence, cursor.since)?
                {
                    // Its commit was under way when this reader joined, and the reader asked for
                    // retained samples.
                    return Ok(Some(entry.slot()));
                } else if place.look(table)? == entry {
                    // Never owed to this reader. If it was forgotten because its entry was
                    // overwritten, the entry has changed, and the sample counts as lost.
                    cursor.place = place.next(&table.shape);
                }
            }
            cmp::Ordering::Greater => overrun(table, cursor, steps)?,
        }
    }
}

/// Moves a cursor whose entry is overwritten to the oldest sample that may still exist.
#[cold]
fn overrun(table: &Table<'_>, cursor: &mut Cursor, steps: &mut StepBudget) -> Result<(), Code> {
    if !table.shape.drop_oldest {
        // Lossless: the commit was under way when the reader joined; an owed sample would still be
        // there.
        cursor.place = cursor.place.next(&table.shape);
        return Ok(());
    }
    let tail = order::settle_tail(table, steps)?;
    // Every entry two laps back is overwritten, and every sample below the horizon is finished.
    let overwritten = tail.saturating_sub(2 * u64::from(table.shape.slots));
    let finished = table.hot.horizon.0.load(Ordering::Acquire).min(tail);
    let oldest = cursor.place.sequence.wrapping_add(1).max(overwritten).max(finished);
    cursor.lose(table, Position::of(&table.shape, oldest));
    Ok(())
}

/// Takes an owed sample that writers may reclaim; false if a writer was faster.
#[inline(always)]
fn take_if_owed(line: &SlotLine, bit: Bit, sequence: u64) -> Result<bool, Code> {
    let marks = line.marks.get(bit.word).ok_or(Code::Corrupt)?;
    let taken = retry(|| {
        let seen = Marks(marks.load(Ordering::Relaxed));
        if !seen.is_of(sequence) || seen.0 & bit.owed == 0 {
            return Some(Ok(false));
        }
        if seen.0 & bit.held != 0 {
            return Some(Err(Code::Held)); // by a peek of this reader
        }
        // From owed to held in one step: a writer that wants the slot sees one of the two bits.
        swap(marks, seen.0, seen.0 & !bit.owed | bit.held).then_some(Ok(true))
    })??;
    // The tag is only half of the sequence. A held slot does not change, so the whole sequence can
    // be compared. It differs only if this reader was stopped for 2^32 samples.
    if taken && line.sequence.load(Ordering::Relaxed) != sequence {
        retry(|| {
            let seen = marks.load(Ordering::Relaxed);
            swap(marks, seen, seen & !bit.held | bit.owed).then_some(())
        })?;
        return Ok(false);
    }
    Ok(taken)
}

/// Holds the newest sample without moving the reader, if it is owed to the reader or retained.
///
/// `cursor`: what the reader reads next. Samples before it may be marked at this moment, by another
/// thread.
pub(crate) fn peek_latest(
    table: &Table<'_>,
    reader: Bit,
    cursor: u64,
) -> Result<Option<(u32, u64)>, Code> {
    // A new sample may push the newest one out of history during this call; then the newer one is
    // tried.
    let mut steps = StepBudget::of_retries();
    loop {
        let newest = order::settle_tail(table, &mut steps)?.wrapping_sub(1);
        if newest < FIRST {
            return Ok(None);
        }
        let entry = Position::of(&table.shape, newest).look(table)?;
        if entry.compare(newest) == cmp::Ordering::Equal
            && hold_now(table, entry.slot(), reader, newest)?
            && (!table.shape.receipts
                || newest >= cursor
                || is_still_held(table, entry.slot(), reader, newest)?)
        {
            return Ok(Some((entry.slot(), newest)));
        }
        if order::settle_tail(table, &mut steps)?.wrapping_sub(1) == newest {
            return Ok(None);
        }
    }
}

/// Takes a sample from history for a reader that joined at `since`, which will read it in its turn;
/// false if it is not retained.
///
/// If the sample is older than the reader, its commit may still clear the mark of the row's
/// previous reader, which is the very bit that would be set here. Such a sample is not taken until
/// its commit is over.
pub(crate) fn claim_retained(
    table: &Table<'_>,
    slot: u32,
    reader: Bit,
    sequence: u64,
    since: u64,
) -> Result<bool, Code> {
    if sequence < since && is_committing(table, slot)? {
        return Ok(false);
    }
    let set = set_bit(table, slot, reader, reader.owed, sequence)?;
    Ok(set != SetBit::NotKept)
}

/// Whether a sample that was read had not been marked when its held bit was set; if it had, clears
/// that bit again, unless the slot already holds another sample.
#[cold]
fn is_still_held(table: &Table<'_>, slot: u32, reader: Bit, sequence: u64) -> Result<bool, Code> {
    let line = table.line(slot)?;
    // Pairs with the light fence in `slot::unmarked`.
    table.attention().pass();
    let [marks, ..] = &line.marks;
    let is_held = slot::is_unmarked_by(line, reader, sequence);
    if !is_held && clear(marks, sequence, reader.held).is_ok() {
        fence_after_rmw();
        released(table, slot, line);
    }
    Ok(is_held)
}

/// Holds a sample outside the reader's turn; false if the sample is neither owed to it nor
/// retained.
fn hold_now(table: &Table<'_>, slot: u32, reader: Bit, sequence: u64) -> Result<bool, Code> {
    match set_bit(table, slot, reader, reader.held, sequence)? {
        SetBit::Set => Ok(true),
        SetBit::WasSet => Err(Code::Held),
        SetBit::NotKept => Ok(false),
    }
}

/// What became of a bit that a reader wanted to set.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SetBit {
    Set,
    /// The bit was set already.
    WasSet,
    /// The bit is not set: the sample is neither owed to the reader nor retained.
    NotKept,
}

/// Sets one of a reader's two bits on a sample that is already owed to it or is retained.
fn set_bit(
    table: &Table<'_>,
    slot: u32,
    reader: Bit,
    wanted: u64,
    sequence: u64,
) -> Result<SetBit, Code> {
    let line = table.line(slot)?;
    let marks = line.marks.get(reader.word).ok_or(Code::Corrupt)?;
    let beside_history = reader.word == Bit::HISTORY.word;
    let keeping = reader.owed | if beside_history { Bit::HISTORY.owed } else { 0 };
    /// What keeps the sample alive while the bit is set.
    enum Anchor {
        /// A bit in the same word: certain.
        Here,
        /// Perhaps history, in another word: to be checked now that the bit is set.
        History,
    }
    let anchor = retry(|| {
        let seen = Marks(marks.load(Ordering::Acquire));
        if !seen.is_of(sequence) {
            return Some(Err(SetBit::NotKept));
        }
        if seen.0 & wanted != 0 {
            return Some(Err(SetBit::WasSet));
        }
        let left = slot::load_marks(line, &table.shape, marks);
        let anchor = match (left.0 & keeping != 0, beside_history) {
            (true, _) => Anchor::Here,
            (false, true) => return Some(Err(SetBit::NotKept)),
            (false, false) => Anchor::History,
        };
        swap(marks, seen.0, seen.0 | wanted).then_some(Ok(anchor))
    })?;
    match anchor {
        Err(outcome) => Ok(outcome),
        Ok(Anchor::Here) => Ok(SetBit::Set),
        Ok(Anchor::History) if is_retained(line, sequence)? => Ok(SetBit::Set),
        Ok(Anchor::History) => {
            // Too late. This clears the bit again, unless the slot already holds another sample.
            if clear(marks, sequence, wanted).is_ok() {
                fence_after_rmw();
                released(table, slot, line);
            }
            Ok(SetBit::NotKept)
        }
    }
}

/// Whether history retains the sample. It asks with a write, so it synchronises with the process
/// that clears history's bit later, and through it with the writer that finds that bit clear. That
/// writer then sees the bit that was set before in another word.
fn is_retained(line: &SlotLine, sequence: u64) -> Result<bool, Code> {
    let [marks, ..] = &line.marks;
    retry(|| {
        // Acquire: a reader that finds the bit clear sees the commit that pushed the sample out.
        let seen = Marks(marks.load(Ordering::Acquire));
        if !seen.is_of(sequence) || seen.0 & Bit::HISTORY.owed == 0 {
            return Some(false);
        }
        swap(marks, seen.0, seen.0).then_some(true)
    })
}

/// Releases a sample: clears `bit` (this reader's owed or held bit), and frees the slot if no other
/// mark is left.
#[inline(always)]
pub(crate) fn mark(
    table: &Table<'_>,
    slot: u32,
    word: usize,
    bit: u64,
    sequence: u64,
) -> Result<(), Code> {
    let line = table.line(slot).map_err(|_| Code::Stale)?;
    let left = clear(line.marks.get(word).ok_or(Code::Stale)?, sequence, bit)?;
    // Pairs with the fences in `vacancy::withdraw` and `Bell::announce`, and with this fence in a reader
    // of another word: the later of the two readers sees both words clear.
    fence_after_rmw();
    let only_word = table.shape.mark_words == 1 && !table.shape.receipts;
    if if only_word { left.is_clear() } else { is_clear(line, &table.shape) } {
        freed(table, slot);
    } else if table.shape.drop_oldest {
        // This reader does not hold the sample any more, so a waiting writer may take it from the
        // others.
        table.space_bell().ring();
    }
    table.change_bell().ring();
    Ok(())
}
