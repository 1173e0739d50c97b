//! The writer's part: it claims a slot that is free or that nobody needs, and discards a loan.

use super::attention::Outlook;
use super::bounds::RACE_LIMIT;
use super::order::{self, Position};
use super::shape::{Kind, Shape};
use super::slot::{self, free_if_clear, freed, has_region, is_clear, marks_left, swap};
use super::table::Table;
use super::words::{Audience, Ctl, Loan, Marks, Owner, Phase, Place, Reserved, Token, Wanted};
use super::{rows, vacancy};
use crate::atomics::{AtomicU64, Ordering, fence};
use crate::error::Code;
use crate::layout::{Claim, Slot};

/// How many places of the order a reserve tries before it asks the vacancy map: as many as writers
/// are likely to have on loan next to each other.
const HOME_TRIES: u32 = 4;

/// What an attempt to claim a slot found.
enum Attempt {
    Claimed(Loan),
    /// Another writer has it on loan, or took it at this moment.
    Busy,
    /// A transient phase after which nobody sets the hint again.
    Transient,
    /// It holds a sample that some reader has not marked.
    Unread,
}

/// Claims a slot if it is free.
#[inline(always)]
fn claim(table: &Table<'_>, shape: &Shape, slot: u32, owner: Owner) -> Result<Attempt, Code> {
    let line = table.line(slot)?;
    let claim = table.claim(slot)?;
    // Acquire: pairs with the release in `commit::end`.
    let ctl = Ctl(claim.ctl.load(Ordering::Acquire));
    match ctl.phase() {
        Some(Phase::Free | Phase::Published) => {}
        Some(Phase::Loaned) => return Ok(Attempt::Busy),
        Some(_) => return Ok(Attempt::Transient),
        None => return Err(Code::Corrupt),
    }
    if !is_clear(line, shape) {
        return Ok(Attempt::Unread);
    }
    let loan = Loan { slot, generation: ctl.next_generation(), owner };
    match take(claim, shape, ctl, loan.ctl(Phase::Loaned)) {
        true => Ok(Attempt::Claimed(loan)),
        false => Ok(Attempt::Busy),
    }
}

/// Comes after a slot was claimed. Everything that its writer stores from here on belongs to the
/// new generation, and a process that sees any of it also sees that the former generation is over.
/// Pairs with the acquire fences of `Reference`, which looks at slots without holding them, and
/// with `has_region`.
#[inline(always)]
pub(super) fn begin_life() {
    fence(Ordering::Release);
}

/// Claims a slot, in the common case: the fast path of [`claim_slot`]. `first` is that
/// of the writer, as [`Ctl::first_of`]; `len` is what is reserved.
#[inline(always)]
pub(crate) fn try_claim<K: Kind>(
    table: &Table<'_>,
    first: Ctl,
    (slot, Slot { line, claim }): (u32, Slot<'_>),
    len: u64,
) -> Option<Token> {
    let shape = &K::known(&table.shape);
    // Acquire: as in [`claim`].
    let seen = Ctl(claim.ctl.load(Ordering::Acquire));
    if !seen.is_at_rest() || !is_clear(line, shape) {
        return None;
    }
    let loaned = seen.next_loan(first);
    if !take(claim, shape, seen, loaned) {
        return None;
    }
    // Relaxed: only the holder of the token loads it.
    claim.aux.store(Reserved::new(len, Place::Slot(slot)).0, Ordering::Relaxed);
    Some(Token::of(slot, loaned))
}

/// Makes a slot that is free a loan, if its claim is still as seen.
#[inline(always)]
fn take(claim: &Claim, shape: &Shape, seen: Ctl, loaned: Ctl) -> bool {
    if shape.single_writer {
        // No other writer is open. Release: a process that concludes from this that the former
        // generation is over, and reuses its region, comes after its readers.
        claim.ctl.store(loaned.0, Ordering::Release);
    } else if !swap(&claim.ctl, seen.0, loaned.0) {
        // AcqRel: pairs with the same exchange of other writers.
        return false;
    }
    begin_life();
    true
}

/// Claims the slot at the next place in the order, if it is free. It tries the slots after it only
/// as long as it meets other loans.
pub(crate) fn claim_home(table: &Table<'_>, owner: Owner) -> Result<Option<Loan>, Code> {
    let home = home(table);
    match claim(table, &table.shape, home.line, owner)? {
        Attempt::Claimed(loan) => Ok(Some(loan)),
        Attempt::Busy | Attempt::Transient => claim_adjacent(table, owner, home),
        Attempt::Unread => Ok(None),
    }
}

/// Whether half of the slots that history leaves seem to be free, counted from the next place in
/// the order. Slots are usually freed in order, so a look at the last of them is enough. With fewer
/// than two in that half, the answer is yes.
pub(crate) fn has_free_run(table: &Table<'_>) -> bool {
    let run = table.shape.slots.saturating_sub(table.shape.history) / 2;
    if run < 2 {
        return true;
    }
    let last = home(table).sequence.wrapping_add(u64::from(run));
    let line = table.line(Position::of(&table.shape, last).line);
    line.is_ok_and(|line| is_clear(line, &table.shape))
}

/// Whether no mark is left in a slot, as far as one look shows.
pub(crate) fn seems_free(table: &Table<'_>, slot: u32) -> bool {
    table.line(slot).is_ok_and(|line| is_clear(line, &table.shape))
}

/// The place of the next sample, or one that is a little behind it.
fn home(table: &Table<'_>) -> Position {
    Position::of(&table.shape, order::tail(table))
}

/// Claims this slot, if it is free. Its hint stays, as that of a home slot does.
pub(crate) fn claim_slot(table: &Table<'_>, owner: Owner, slot: u32) -> Result<Option<Loan>, Code> {
    match claim(table, &table.shape, slot, owner)? {
        Attempt::Claimed(loan) => Ok(Some(loan)),
        _ => Ok(None),
    }
}

/// Tries the places after a home slot that is on loan.
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

/// Whether a slot is in a transient phase after which nobody sets the hint again.
fn is_transient(table: &Table<'_>, slot: u32) -> Result<bool, Code> {
    let ctl = Ctl(table.claim(slot)?.ctl.load(Ordering::Relaxed));
    Ok(ctl.phase().is_some_and(|phase| phase.is_committing() || phase == Phase::Reclaiming))
}

/// Claims any free slot that the vacancy map knows. It withdraws each stale hint. The process that
/// freed a slot has paid for setting its hint, so on average the walk costs nothing extra, whatever
/// the number of slots.
pub(crate) fn claim_from_map(table: &Table<'_>, owner: Owner) -> Result<Option<Loan>, Code> {
    for _ in 0..RACE_LIMIT {
        // A writer that finds nothing free mostly finds no hint either, and prepares no walk.
        if vacancy::next_from(table, 0).is_none() {
            break;
        }
        match walk_map(table, owner)? {
            Walk::Claimed(loan) => return Ok(Some(loan)),
            Walk::Nothing => break,
            Walk::Again => {}
        }
    }
    Ok(None)
}

/// The result of one walk through the vacancy map.
enum Walk {
    Claimed(Loan),
    Nothing,
    /// A slot became free during the walk, behind it.
    Again,
}

fn walk_map(table: &Table<'_>, owner: Owner) -> Result<Walk, Code> {
    let mut from = 0;
    let mut withdrawn = Withdrawn::new(table);
    while let Some(slot) = vacancy::next_from(table, from) {
        from = slot + 1;
        // The hint stays, because nobody sets it again after the phase.
        if is_transient(table, slot)? {
            continue;
        }
        vacancy::withdraw(table, slot);
        match claim(table, &table.shape, slot, owner)? {
            Attempt::Claimed(loan) => {
                withdrawn.check(table);
                return Ok(Walk::Claimed(loan));
            }
            Attempt::Unread if table.shape.receipts => withdrawn.note(table, slot),
            Attempt::Transient => {
                // The phase began after the check above. Another writer may have missed the hint
                // meanwhile and gone to sleep.
                vacancy::offer(table, slot);
                fence(Ordering::SeqCst);
                table.space_bell().ring();
            }
            Attempt::Busy | Attempt::Unread => {}
        }
    }
    withdrawn.check(table);
    Ok(if withdrawn.any_free { Walk::Again } else { Walk::Nothing })
}

/// Hints that were withdrawn because readers had not marked the samples.
///
/// A reader that marks with a receipt looks for the hint without a fence. So a hint that was just
/// withdrawn may be lost: the reader has seen it, and the claim has not seen the receipt. After a
/// fence that every reader passes, another look is certain.
struct Withdrawn {
    /// The attention before the first of them was withdrawn.
    since: Outlook,
    /// Words of the map's lowest level: which, and which of its bits.
    words: [(u32, u64); WITHDRAWN_WORDS],
    used: usize,
    /// Whether one of those that were checked was free.
    any_free: bool,
}

/// So many words of 64 hints share one fence.
const WITHDRAWN_WORDS: usize = 8;

impl Withdrawn {
    fn new(table: &Table<'_>) -> Withdrawn {
        let since = table.attention().look();
        Withdrawn { since, words: [(0, 0); WITHDRAWN_WORDS], used: 0, any_free: false }
    }

    /// Notes a slot; they come in rising order.
    fn note(&mut self, table: &Table<'_>, slot: u32) {
        let (word, bit) = (slot / 64, 1 << (slot % 64));
        if let Some((last, bits)) = self.words.get_mut(self.used.wrapping_sub(1)) {
            if *last == word {
                *bits |= bit;
                return;
            }
        }
        if self.used == WITHDRAWN_WORDS {
            self.check(table);
        }
        if let Some(place) = self.words.get_mut(self.used) {
            *place = (word, bit);
            self.used += 1;
        }
    }

    /// Offers those slots again that are free, and forgets all.
    fn check(&mut self, table: &Table<'_>) {
        if self.used == 0 {
            return;
        }
        // Pairs with the light fences in `calm::try_mark` and `batch::mark`.
        table.attention().pass_since(self.since);
        let mut any = false;
        for (word, bits) in self.words.iter().take(self.used) {
            let mut left = *bits;
            while left != 0 {
                let slot = word * 64 + left.trailing_zeros();
                left &= left - 1;
                let line = table.line(slot);
                if line.is_ok_and(|line| is_clear(line, &table.shape)) {
                    vacancy::offer(table, slot);
                    any = true;
                }
            }
        }
        if any {
            // Another writer may have missed a hint meanwhile and gone to sleep.
            fence(Ordering::SeqCst);
            table.space_bell().ring();
        }
        self.used = 0;
        self.any_free |= any;
    }
}

/// Claims the first of the `wanted` slots that no reader of `waited_for` needs. It is for callers
/// that track their readers, and that may ignore readers that still have bits. Walks all slots.
pub(crate) fn claim_ignoring(
    table: &Table<'_>,
    owner: Owner,
    wanted: Wanted,
    waited_for: Audience,
) -> Result<Option<Loan>, Code> {
    for slot in 0..table.shape.slots {
        let line = table.line(slot)?;
        let ctl_word = &table.claim(slot)?.ctl;
        // Acquire: as in `claim`.
        let ctl = Ctl(ctl_word.load(Ordering::Acquire));
        match ctl.phase() {
            Some(Phase::Published) => {}
            // Free, and without marks: there is no sample that would have to be restored.
            Some(Phase::Free) if wanted == Wanted::AnySlot => {
                match claim(table, &table.shape, slot, owner)? {
                    Attempt::Claimed(loan) => return Ok(Some(loan)),
                    _ => continue,
                }
            }
            _ => continue,
        }
        if marks_left(line, &table.shape).0 & waited_for.0 != 0
            || wanted == Wanted::Region && !has_region(line, slot)
        {
            continue;
        }
        // The generation stays until it is certain that nobody needs the sample, so its region
        // stays leased.
        let taking = Ctl::new(Phase::Reclaiming, owner, ctl.generation());
        if ctl_word.compare_exchange(ctl.0, taking.0, Ordering::AcqRel, Ordering::Relaxed).is_err()
        {
            continue;
        }
        // A reader that joined after `waited_for` was made may have taken this sample from history.
        // Either this load sees its row, or the reader sees that the slot is taken. Pairs with the
        // fence in `members::join`.
        fence(Ordering::SeqCst);
        let rows = Audience::of_readers(rows::taken_rows(table), false);
        if rows.0 & !waited_for.0 != 0 {
            ctl_word.store(ctl.0, Ordering::Release);
            // Its readers may have marked meanwhile, and another writer may have found it taken and
            // gone to sleep.
            fence(Ordering::SeqCst);
            free_if_clear(table, slot, line);
            return Ok(None);
        }
        // Otherwise the bits of readers that nobody waits for would outlive their sample.
        for marks in line.marks.iter().take(table.shape.mark_words) {
            let left = Marks(marks.load(Ordering::Relaxed));
            marks.store(left.revoked().0, Ordering::Relaxed);
        }
        let loan = Loan { slot, generation: ctl.next_generation(), owner };
        // Release: as in `claim`.
        ctl_word.store(loan.ctl(Phase::Loaned).0, Ordering::Release);
        begin_life();
        return Ok(Some(loan));
    }
    Ok(None)
}

/// Moves a slot from Loaned to Committing, once.
#[inline(always)]
pub(crate) fn begin_commit(claim: &Claim, shape: &Shape, loan: Loan) -> Result<(), Code> {
    end_loan(claim, shape, loan, Phase::Committing)
}

/// Gives a loan back without publishing it.
pub(crate) fn discard(table: &Table<'_>, loan: Loan) -> Result<(), Code> {
    end_loan(table.claim(loan.slot).map_err(|_| Code::Stale)?, &table.shape, loan, Phase::Free)?;
    // Pairs with the fences in `vacancy::withdraw` and `Bell::announce`.
    fence(Ordering::SeqCst);
    freed(table, loan.slot);
    table.change_bell().ring();
    Ok(())
}

/// Ends a loan, if it is still one. A token that was used, or that was never given out, changes
/// nothing.
#[inline(always)]
fn end_loan(claim: &Claim, shape: &Shape, loan: Loan, phase: Phase) -> Result<(), Code> {
    let (loaned, ended) = (loan.ctl(Phase::Loaned).0, loan.ctl(phase).0);
    if shape.single_writer {
        // Relaxed: only this writer's thread changes it.
        if claim.ctl.load(Ordering::Relaxed) != loaned {
            return Err(Code::Stale);
        }
        claim.ctl.store(ended, Ordering::Release);
        return Ok(());
    }
    // AcqRel: pairs with the acquire in `claim`. One exchange, so that of two threads with one
    // token only one succeeds.
    match claim.ctl.compare_exchange(loaned, ended, Ordering::AcqRel, Ordering::Relaxed) {
        Ok(_) => Ok(()),
        Err(_) => Err(Code::Stale),
    }
}

/// Whether a loan has not ended.
#[inline(always)]
pub(crate) fn is_loaned(table: &Table<'_>, loan: Loan) -> bool {
    let loaned = loan.ctl(Phase::Loaned).0;
    table.claim(loan.slot).is_ok_and(|claim| claim.ctl.load(Ordering::Acquire) == loaned)
}

/// The loan of `owner` in a slot, if there is one.
pub(crate) fn loan_of(table: &Table<'_>, slot: u32, owner: Owner) -> Result<Loan, Code> {
    let ctl = Ctl(table.claim(slot).map_err(|_| Code::Stale)?.ctl.load(Ordering::Acquire));
    if ctl.phase() != Some(Phase::Loaned) || ctl.owner() != owner {
        return Err(Code::Stale);
    }
    Ok(Loan { slot, generation: ctl.generation(), owner })
}

/// Whether a writer would get a slot now. Walks all slots.
pub(crate) fn has_space(table: &Table<'_>) -> bool {
    let usable = |line, marks: &AtomicU64| {
        let seen = slot::load_marks(line, &table.shape, marks);
        seen.is_clear() || table.shape.drop_oldest && seen.0 & Marks::HELD == 0
    };
    table.slots.lines().iter().zip(table.slots.claims()).any(|(line, claim)| {
        let phase = Ctl(claim.ctl.load(Ordering::Acquire)).phase();
        matches!(phase, Some(Phase::Free | Phase::Published))
            && line.marks.iter().take(table.shape.mark_words).all(|marks| usable(line, marks))
    })
}

/// The readers that still need the slots this writer would reuse next, which are those of the
/// oldest samples.
pub(crate) fn blockers(table: &Table<'_>) -> u64 {
    const ENOUGH: u32 = 64;
    let mut home = Position::of(&table.shape, order::next_sequence(table));
    let (mut all, mut kept) = (0, 0);
    // Free slots and loans may come first.
    for _ in 0..table.shape.slots {
        let line = table.line(home.line);
        let readers = line.map_or(0, |line| marks_left(line, &table.shape).readers());
        all |= readers;
        kept += u32::from(readers != 0);
        if kept == ENOUGH {
            break;
        }
        home = home.next(&table.shape);
    }
    all
}
