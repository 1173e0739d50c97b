//! A writer's half of a slot's life: it takes a free slot, or an unread sample away from its readers, and gives it back.

use super::bell::Bell;
use super::order::{self, Position};
use super::shape::{Class, Shape};
use super::slot::{free_if_clear, freed, has_region, is_clear, marks_left};
use super::table::Table;
use super::words::{Audience, Ctl, Loan, Marks, Owner, Phase, Wanted};
use super::{rows, vacancy};
use crate::atomics::{AtomicU64, Ordering, fence};
use crate::error::Code;
use crate::layout::Claim;

/// How many places of the order a reserve tries before it asks the vacancy map: as many as writers are likely
/// to have loans out side by side.
const HOME_TRIES: u32 = 4;

/// What an attempt to take a slot met.
enum Attempt {
    Claimed(Loan),
    /// Somebody loans it, publishes it or takes it back.
    Busy,
    /// A transient phase after which nobody sets the hint again.
    Transient,
    /// It holds a sample that is not read by all.
    Unread,
}

/// Takes a slot if it is free.
#[inline(always)]
fn claim(table: &Table<'_>, shape: &Shape, slot: u32, owner: Owner) -> Result<Attempt, Code> {
    let line = table.line(slot)?;
    let ctl_word = &table.claim(slot)?.ctl;
    // Acquire: pairs with the release in `commit::commit`.
    let ctl = Ctl(ctl_word.load(Ordering::Acquire));
    match ctl.phase() {
        Some(Phase::Free | Phase::Published) => {}
        Some(Phase::Loaned) => return Ok(Attempt::Busy),
        Some(_) => return Ok(Attempt::Transient),
        None => return Err(Code::Corrupt),
    }
    if !is_clear(line, shape.mark_words) {
        return Ok(Attempt::Unread);
    }
    let loan = Loan { slot, generation: ctl.generation().wrapping_add(1) & Ctl::GENERATION_MASK, owner };
    let mine = loan.ctl(Phase::Loaned).0;
    if shape.single_writer {
        // No other writer is open. Release: who finds the former life over by this, and gives its region back, comes after
        // its readers.
        ctl_word.store(mine, Ordering::Release);
    } else if ctl_word.compare_exchange(ctl.0, mine, Ordering::AcqRel, Ordering::Relaxed).is_err() {
        // AcqRel: pairs with the same exchange of other writers.
        return Ok(Attempt::Busy);
    }
    begin_life();
    Ok(Attempt::Claimed(loan))
}

/// After a slot was loaned: what its writer stores from here on is of the new life, and whoever sees any of it finds the
/// former life over. Pairs with the acquire fences of `Reference`, which looks at slots that nobody keeps for it, and with
/// `has_region`.
#[inline(always)]
pub(super) fn begin_life() {
    fence(Ordering::Release);
}

/// Takes the slot that is next in the order, if all is as it nearly always is: the short way of [`claim_home`].
#[inline(always)]
pub(crate) fn try_claim_home(table: &Table<'_>, owner: Owner) -> Option<Loan> {
    take(table, owner, |shape| home(table, shape).line)
}

/// The same for the slot of a number: the short way of [`claim_slot`].
#[inline(always)]
pub(crate) fn try_claim_slot(table: &Table<'_>, owner: Owner, slot: u32) -> Option<Loan> {
    take(table, owner, |_| slot)
}

#[inline(always)]
fn take(table: &Table<'_>, owner: Owner, which: impl FnOnce(&Shape) -> u32) -> Option<Loan> {
    match table.shape.class {
        Class::CommonLossless { shift } | Class::CommonDropping { shift } => {
            let shape = &table.shape.common(shift, false); // reserving a free slot is the same under both policies
            match claim(table, shape, which(shape), owner) {
                Ok(Attempt::Claimed(loan)) => Some(loan),
                _ => None,
            }
        }
        Class::General => None,
    }
}

/// Takes the slot that is next in the order, if it is free. The slots after it are tried only while other
/// loans are in the way.
pub(crate) fn claim_home(table: &Table<'_>, owner: Owner) -> Result<Option<Loan>, Code> {
    let home = home(table, &table.shape);
    match claim(table, &table.shape, home.line, owner)? {
        Attempt::Claimed(loan) => Ok(Some(loan)),
        Attempt::Busy | Attempt::Transient => claim_adjacent(table, owner, home),
        Attempt::Unread => Ok(None),
    }
}

/// Whether half of the slots that history leaves seem to be free, from the next in the order on: slots come back in order
/// as a rule, so it is enough to look at the last of them. Of fewer than four slots one is a run.
pub(crate) fn has_free_run(table: &Table<'_>) -> bool {
    let run = table.shape.slots.saturating_sub(table.shape.history) / 2;
    if run < 2 {
        return true;
    }
    let last = home(table, &table.shape).sequence.wrapping_add(u64::from(run));
    let line = table.line(Position::of(&table.shape, last).line);
    line.is_ok_and(|line| is_clear(line, table.shape.mark_words))
}

/// The place of the next sample.
#[inline(always)]
fn home(table: &Table<'_>, shape: &Shape) -> Position {
    // Relaxed: a guess, checked in the slot.
    Position::of(shape, table.hot.tail.0.load(Ordering::Relaxed))
}

/// Takes this very slot, if it is free. As for a home slot its hint stays as it is.
pub(crate) fn claim_slot(table: &Table<'_>, owner: Owner, slot: u32) -> Result<Option<Loan>, Code> {
    match claim(table, &table.shape, slot, owner)? {
        Attempt::Claimed(loan) => Ok(Some(loan)),
        _ => Ok(None),
    }
}

/// Goes on from a home slot that is another loan.
fn claim_adjacent(table: &Table<'_>, owner: Owner, home: Position) -> Result<Option<Loan>, Code> {
    let mut place = home;
    for _ in 1..HOME_TRIES {
        place = place.next(&table.shape);
        match claim(table, &table.shape, place.line, owner)? {
            Attempt::Claimed(loan) => return Ok(Some(loan)),
            Attempt::Busy | Attempt::Transient => {}
            Attempt::Unread => break,
        }
    }
    Ok(None)
}

/// Whether a slot is in a phase that passes without anybody setting the hint again.
fn is_transient(table: &Table<'_>, slot: u32) -> Result<bool, Code> {
    let ctl = Ctl(table.claim(slot)?.ctl.load(Ordering::Relaxed));
    Ok(ctl.phase().is_some_and(|phase| phase.is_committing() || phase == Phase::Reclaiming))
}

/// Takes any free slot that the vacancy map knows. Each hint that turns out stale is withdrawn, and whoever
/// freed a slot paid for setting it, so the walk costs nothing in the long run, however many slots there are.
pub(crate) fn claim_from_map(table: &Table<'_>, owner: Owner) -> Result<Option<Loan>, Code> {
    let mut from = 0;
    while let Some(slot) = vacancy::next_from(table, from) {
        from = slot + 1;
        // Its hint stays: nobody sets it again when the moment is over.
        if is_transient(table, slot)? {
            continue;
        }
        vacancy::withdraw(table, slot);
        match claim(table, &table.shape, slot, owner)? {
            Attempt::Claimed(loan) => return Ok(Some(loan)),
            Attempt::Transient => {
                // Since the look above. Another writer may have missed the hint meanwhile, and gone to sleep.
                vacancy::offer(table, slot);
                fence(Ordering::SeqCst);
                Bell(&table.hot.bells.0.space).ring();
            }
            Attempt::Busy | Attempt::Unread => {}
        }
    }
    Ok(None)
}

/// Takes the first slot of those `wanted` that no reader of `waited_for` needs: for callers who keep
/// the books themselves and may leave out readers that still have bits. Walks all slots.
pub(crate) fn claim_ignoring(
    table: &Table<'_>,
    owner: Owner,
    wanted: Wanted,
    waited_for: Audience,
) -> Result<Option<Loan>, Code> {
    for slot in 0..table.shape.slots {
        let line = table.line(slot)?;
        let ctl_word = &table.claim(slot)?.ctl;
        // Acquire, as in `claim`.
        let ctl = Ctl(ctl_word.load(Ordering::Acquire));
        match ctl.phase() {
            Some(Phase::Published) => {}
            // Nobody's, without a mark: it has no sample that would have to be put back.
            Some(Phase::Free) if wanted == Wanted::AnySlot => {
                match claim(table, &table.shape, slot, owner)? {
                    Attempt::Claimed(loan) => return Ok(Some(loan)),
                    _ => continue,
                }
            }
            _ => continue,
        }
        if marks_left(line, table.shape.mark_words).0 & waited_for.0 != 0
            || wanted == Wanted::Region && !has_region(line, slot)
        {
            continue;
        }
        // The same life until it is certain that nobody needs it: what belongs to that life, a region, stays its own.
        let taking = Ctl::new(Phase::Reclaiming, owner, ctl.generation());
        if ctl_word.compare_exchange(ctl.0, taking.0, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            continue;
        }
        // A reader that joined since `waited_for` was made may have taken this sample from history. Either this look
        // sees it as a member, or it sees the slot taken; pairs with the fence in `members::join`.
        fence(Ordering::SeqCst);
        let rows = Audience::of_readers(rows::taken_rows(table), false);
        if rows.0 & !waited_for.0 != 0 {
            ctl_word.store(ctl.0, Ordering::Release);
            // Its readers may have marked meanwhile, and another writer have found it taken and gone to sleep.
            fence(Ordering::SeqCst);
            free_if_clear(table, slot, line);
            return Ok(None);
        }
        // Bits of readers that nobody waits for would outlive the sample that they speak of.
        for marks in line.marks.iter().take(table.shape.mark_words) {
            let left = Marks(marks.load(Ordering::Relaxed));
            marks.store(left.revoked().0, Ordering::Relaxed);
        }
        let loan = Loan { slot, generation: ctl.generation().wrapping_add(1) & Ctl::GENERATION_MASK, owner };
        // Release: as in `claim`.
        ctl_word.store(loan.ctl(Phase::Loaned).0, Ordering::Release);
        begin_life();
        return Ok(Some(loan));
    }
    Ok(None)
}

/// Moves a slot from `Loaned` to `Committing`, once.
#[inline(always)]
pub(crate) fn begin_commit(claim: &Claim, shape: &Shape, loan: Loan) -> Result<(), Code> {
    end_loan(claim, shape, loan, Phase::Committing)
}

/// Gives a loan back unpublished.
pub(crate) fn discard(table: &Table<'_>, loan: Loan) -> Result<(), Code> {
    end_loan(table.claim(loan.slot).map_err(|_| Code::Stale)?, &table.shape, loan, Phase::Free)?;
    // Pairs with the fences in `vacancy::withdraw` and `Bell::arm`.
    fence(Ordering::SeqCst);
    freed(table, loan.slot);
    Bell(&table.hot.bells.0.change).ring();
    Ok(())
}

/// Ends a loan if it still is one; a token used before, or never given out, changes nothing.
#[inline(always)]
fn end_loan(claim: &Claim, shape: &Shape, loan: Loan, phase: Phase) -> Result<(), Code> {
    let (loaned, ended) = (loan.ctl(Phase::Loaned).0, loan.ctl(phase).0);
    if shape.single_writer {
        // Relaxed: only this writer's thread touches it.
        if claim.ctl.load(Ordering::Relaxed) != loaned {
            return Err(Code::Stale);
        }
        claim.ctl.store(ended, Ordering::Release);
        return Ok(());
    }
    // AcqRel: pairs with the acquire in `claim`. One step, so that of two threads with the same token one wins.
    match claim.ctl.compare_exchange(loaned, ended, Ordering::AcqRel, Ordering::Relaxed) {
        Ok(_) => Ok(()),
        Err(_) => Err(Code::Stale),
    }
}

/// Whether a loan is out.
#[inline(always)]
pub(crate) fn is_loaned(table: &Table<'_>, loan: Loan) -> bool {
    let loaned = loan.ctl(Phase::Loaned).0;
    table.claim(loan.slot).is_ok_and(|claim| claim.ctl.load(Ordering::Acquire) == loaned)
}

/// The loan of `owner` that a slot is, if it is one.
pub(crate) fn loan_of(table: &Table<'_>, slot: u32, owner: Owner) -> Result<Loan, Code> {
    let ctl = Ctl(table.claim(slot).map_err(|_| Code::Stale)?.ctl.load(Ordering::Acquire));
    if ctl.phase() != Some(Phase::Loaned) || ctl.owner() != owner {
        return Err(Code::Stale);
    }
    Ok(Loan { slot, generation: ctl.generation(), owner })
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
    const ENOUGH: u32 = 64;
    let mut home = Position::of(&table.shape, order::tail(table));
    let (mut all, mut kept) = (0, 0);
    // Free slots and loans may come first.
    for _ in 0..table.shape.slots {
        let line = table.line(home.line);
        let readers = line.map_or(0, |line| marks_left(line, table.shape.mark_words).readers());
        all |= readers;
        kept += u32::from(readers != 0);
        if kept == ENOUGH {
            break;
        }
        home = home.next(&table.shape);
    }
    all
}
