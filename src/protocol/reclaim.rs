//! Takes unread samples away from readers, under DROP_OLDEST.

use core::cmp;
use core::ops::Range;

use super::bounds::RACE_LIMIT;
use super::loan::begin_life;
use super::order::{self, FIRST, Position};
use super::slot::{self, free_if_clear, has_region, released, retry, swap};
use super::table::Table;
use super::words::{Audience, Ctl, Entry, Loan, Marks, Owner, Phase, Wanted};
use crate::atomics::{AtomicU64, Ordering, fence};
use crate::error::Code;

/// How many samples from the horizon each search checks again.
const LOOK_BACK: u64 = 64;

/// Takes the oldest sample that no reader holds away from the readers that have not read it.
/// `resume` is where this writer's last search ended.
pub(crate) fn reclaim_oldest(
    table: &Table<'_>,
    owner: Owner,
    wanted: Wanted,
    resume: &AtomicU64,
) -> Result<Option<Loan>, Code> {
    let mut tail = order::settled_tail(table)?;
    // Everything two laps back is overwritten, however far a hostile peer moves the tail.
    let oldest = |tail: u64| tail.saturating_sub(2 * u64::from(table.shape.slots)).max(FIRST);
    let horizon = table.hot.horizon.0.load(Ordering::Acquire).max(oldest(tail));
    // Held samples are passed over, and they stop the horizon. So the search checks the first few
    // samples from the horizon, continues where it ended last time, and finally checks those in
    // between.
    let few = horizon.saturating_add(LOOK_BACK).min(tail);
    let resumed = resume.load(Ordering::Relaxed);
    let start = if (few..tail).contains(&resumed) { resumed } else { few };
    let mut found = reclaim_from(table, owner, wanted, horizon..few)?;
    for range in [start..tail, few..start] {
        if found.is_none() {
            found = reclaim_from(table, owner, wanted, range)?;
        }
    }
    for _ in 0..RACE_LIMIT {
        if found.is_some() {
            break;
        }
        // If there were commits since, others may have taken each sample just before this search
        // reached it, and have committed new samples behind the range that it searched.
        let searched = tail;
        tail = order::settled_tail(table)?;
        if tail == searched {
            break;
        }
        found = reclaim_from(table, owner, wanted, searched.max(oldest(tail))..tail)?;
    }
    let Some((loan, sequence)) = found else { return Ok(None) };
    resume.store(sequence.wrapping_add(1), Ordering::Relaxed);
    advance_horizon(table, horizon, tail)?;
    Ok(Some(loan))
}

/// Takes the first sample of a range that can be taken, and returns its sequence, too.
fn reclaim_from(
    table: &Table<'_>,
    owner: Owner,
    wanted: Wanted,
    range: Range<u64>,
) -> Result<Option<(Loan, u64)>, Code> {
    let mut place = Position::of(&table.shape, range.start);
    while place.sequence < range.end {
        if let Some(loan) = reclaim(table, owner, wanted, place)? {
            return Ok(Some((loan, place.sequence)));
        }
        place = place.next(&table.shape);
    }
    Ok(None)
}

/// Takes one sample away, if some reader has not read it and none holds it.
fn reclaim(
    table: &Table<'_>,
    owner: Owner,
    wanted: Wanted,
    place: Position,
) -> Result<Option<Loan>, Code> {
    let entry = place.look(table)?;
    if entry.compare(place.sequence) != cmp::Ordering::Equal {
        return Ok(None);
    }
    let slot = entry.slot();
    let line = table.line(slot)?;
    let ctl_word = &table.claim(slot)?.ctl;
    let marks = line.marks.iter().take(table.shape.mark_words);
    // A word may already be revoked, by a search that then met a held bit in the next word.
    let untouched = marks.clone().all(|marks| {
        let seen = Marks(marks.load(Ordering::Acquire));
        (seen.is_of(place.sequence) || seen.is_revoked_of(place.sequence))
            && seen.0 & Marks::HELD == 0
    });
    // Acquire: pairs with the release in `commit::commit`.
    let ctl = Ctl(ctl_word.load(Ordering::Acquire));
    if !untouched || ctl.phase() != Some(Phase::Published) {
        return Ok(None);
    }
    if wanted == Wanted::Region && !has_region(line, slot) {
        return Ok(None);
    }
    // Excludes other writers. If this process is killed after this, the marks stay as they are, and
    // the sweep restores the phase.
    let taking = Ctl::new(Phase::Reclaiming, owner, ctl.generation());
    // Acquire on failure, as for every reason to pass over a sample: what another writer committed
    // before it took this one is then visible to the second load of the tail in `reclaim_oldest`.
    if ctl_word.compare_exchange(ctl.0, taking.0, Ordering::AcqRel, Ordering::Acquire).is_err() {
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
            // The tag is revoked with the bits, so a reader can tell a sample that was taken away
            // from one that was never owed to it.
            swap(marks, seen.0, seen.revoked().0).then_some(true)
        })?;
        if !revoked {
            // A reader took it in the meantime. The slot stays as it is.
            ctl_word.store(ctl.0, Ordering::Release);
            // While this phase kept writers away, its readers may have marked, and other writers
            // may have gone to sleep.
            fence(Ordering::SeqCst);
            released(table, slot, line);
            return Ok(None);
        }
    }
    let loan = Loan { slot, generation: ctl.next_generation(), owner };
    // Release: as in `claim`.
    ctl_word.store(loan.ctl(Phase::Loaned).0, Ordering::Release);
    begin_life();
    Ok(Some(loan))
}

/// Moves the horizon past samples that are owed to nobody: a few steps each time, which is enough
/// to keep up.
fn advance_horizon(table: &Table<'_>, from: u64, tail: u64) -> Result<(), Code> {
    const STEPS: u64 = 8;
    let mut place = Position::of(&table.shape, from);
    while place.sequence < tail
        && place.sequence < from.saturating_add(STEPS)
        && is_finished(table, place)?
    {
        place = place.next(&table.shape);
    }
    // The horizon only grows. Release: pairs with the acquire loads of the horizon.
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

/// Clears what is owed of the sample that a commit overwrote, because the replaced entry was the
/// only way to it. If one reader held that sample for two laps, others may still be owed it; they
/// have now lost it. `horizon` is from before the exchange: after it, others may have moved the
/// horizon past the sample, because its entry was overwritten.
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
    slot::clear_owed(line, old, Audience::EVERYBODY, table.shape.mark_words);
    fence(Ordering::SeqCst);
    free_if_clear(table, replaced.slot(), line);
    Ok(())
}
