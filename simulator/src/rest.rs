//! P5: what must hold when every process is done or was recovered, and every reader has left.

use std::sync::atomic::Ordering;

use crate::atomics::AtomicU64;
use crate::case::Fault;
use crate::layout::{SlotLine, bits};
use crate::machine::{Machine, UNDERTAKER};
use crate::protocol::loan;
use crate::protocol::order::{self, FIRST};
use crate::protocol::reclaim;
use crate::protocol::region;
use crate::protocol::rows;
use crate::protocol::vacancy;
use crate::protocol::words::{self, Bit, Ctl, Owner, Phase, Place, RowPhase, RowState};

/// No process is in a call, and none is dead: a reader whose row is free is owed nothing and holds
/// nothing.
pub(crate) fn check_free_rows(machine: &Machine) -> Result<(), String> {
    let table = machine.world.table();
    for (reader, row) in (0u32..).zip(table.readers) {
        let bit = Bit::of_reader(reader);
        let marked = |line: &SlotLine| line.marks[bit.word].peek() & (bit.owed | bit.held) != 0;
        let receipted = |line: &SlotLine| {
            let receipt = line.receipts().by.get(reader as usize);
            table.shape.receipts && receipt.is_some_and(|receipt| receipt.peek() != 0)
        };
        if RowState(row.state.peek()).is(RowPhase::Free) {
            if let Some(slot) = table.slots.lines().iter().position(marked) {
                return Err(format!(
                    "P5: slot {slot} has marks of reader {reader}, whose row is free"
                ));
            }
            if let Some(slot) = table.slots.lines().iter().position(receipted) {
                return Err(format!(
                    "P5: slot {slot} has a receipt of reader {reader}, whose row is free"
                ));
            }
        }
    }
    Ok(())
}

/// No process is in a call, and none is dead: a slot that is free has its hint.
pub(crate) fn check_hints(machine: &Machine) -> Result<(), String> {
    let table = machine.world.table();
    let is_lost = |slot: &u32| {
        let line = &table.slots.lines()[*slot as usize];
        let phase = Ctl(table.slots.claims()[*slot as usize].ctl.peek()).phase();
        matches!(phase, Some(Phase::Free | Phase::Published))
            && (0..table.shape.mark_words).all(|word| machine.world.marks(line, word).is_clear())
            && !vacancy::is_offered(&table, *slot)
    };
    match (0..table.shape.slots).find(is_lost) {
        Some(slot) => Err(format!("P5: slot {slot} is free, and nobody offers it")),
        None => Ok(()),
    }
}

/// Every reader has read and marked everything: no marks are left except those of retained samples.
/// Returns the slots that have one.
pub(crate) fn check_marks(machine: &Machine) -> Result<Vec<u32>, String> {
    let table = machine.world.table();
    let oracle = machine.oracle.borrow();
    let published = oracle.published();
    let history = u64::from(table.shape.history);
    let is_marked = |slot: &u32| {
        let line = &table.slots.lines()[*slot as usize];
        (0..table.shape.mark_words).any(|word| !machine.world.marks(line, word).is_clear())
    };
    let marked: Vec<u32> = (0..table.shape.slots).filter(is_marked).collect();
    for slot in &marked {
        let line = &table.slots.lines()[*slot as usize];
        let words = 0..table.shape.mark_words;
        let left = words.fold(0, |all, word| all | machine.world.marks(line, word).readers(word).0);
        let last = (1..).zip(oracle.samples()).filter(|(_, sample)| sample.slot == *slot).last();
        let retained = last.is_some_and(|(sequence, _)| sequence + history > published);
        if !retained || left != HISTORY {
            return Err(format!("P5: marks {left:#b} are left on slot {slot}"));
        }
    }
    // Drop-oldest takes retained samples, too.
    let right = published.min(history) as usize;
    if !table.shape.drop_oldest && marked.len() != right {
        return Err(format!("P5: {} samples are retained, not {right}", marked.len()));
    }
    Ok(marked)
}

/// History's bit in an audience.
const HISTORY: u64 = 1;

/// A segment that cannot be calm has not become calm, and the others are not stuck on the way to
/// another state. Only a process that was killed leaves one raised.
fn check_attention(machine: &Machine) -> Result<(), String> {
    let state = bits::attention::STATE.get(machine.world.hot.attention.0.peek());
    let case = machine.case.borrow();
    let was_pinned = case.pinned || !case.shape.receipts;
    let kills =
        case.plans.iter().flatten().any(|planned| matches!(planned.fault, Some((_, Fault::Kill))));
    let is_right = match state {
        // Calm, alert, settling: the next to try will go on from there.
        0 | 2 | 3 => !was_pinned,
        // Raised.
        1 => !was_pinned && kills,
        4 => was_pinned,
        _ => false,
    };
    if is_right { Ok(()) } else { Err(format!("P5: the attention ends in state {state}")) }
}

/// Nothing is leaked, and a writer finds every slot and every region that history does not retain.
pub(crate) fn check(machine: &Machine) -> Result<(), String> {
    let table = machine.world.table();
    let oracle = machine.oracle.borrow();
    let published = oracle.published();
    let expect = |what: &str, found: u64, right: u64| {
        if found == right { Ok(()) } else { Err(format!("P5: {what}: {found}, not {right}")) }
    };
    expect("the tail is", order::settled_tail(&table).unwrap_or(0), FIRST + published)?;
    expect("members", table.hot.active.0.load(Ordering::Relaxed), 0)?;
    expect("rows that are taken", rows::taken_rows(&table), 0)?;
    let expelling = table.readers.iter().filter(|row| row.expeller.peek() != 0).count();
    expect("rows with an expeller", expelling as u64, 0)?;
    expect("the only writer", u64::from(table.hot.lifecycle.0.writer.load(Ordering::Relaxed)), 0)?;

    check_free_rows(machine)?;
    check_attention(machine)?;
    check_hints(machine)?;
    let marked = check_marks(machine)?;
    let owner = Owner::new(UNDERTAKER as u32, 0);
    let mut found = 0;
    let mut regions = 0;
    while let Some(loan) =
        loan::claim_from_map(&table, owner).map_err(|code| format!("P5: {code:?}"))?
    {
        found += 1;
        while let Ok(Some(_)) = region::lease(&table, loan, 0) {
            regions += 1;
        }
    }
    let others = u64::from(table.shape.slots) - marked.len() as u64;
    expect("slots that a writer finds", found, others)?;
    let in_region = |slot: &&u32| {
        let mut samples = oracle.samples().iter().rev();
        let last = samples.find(|sample| sample.slot == **slot);
        last.is_some_and(|sample| matches!(sample.commit.place, Place::Region(_)))
    };
    let retained = marked.iter().filter(in_region).count();
    // Without a slot there is no loan to which a region could be leased.
    let free = if found > 0 { table.regions.len() - retained } else { 0 };
    expect("regions that a writer finds", regions, free as u64)?;
    // A drop-oldest writer gets those, too.
    if table.shape.drop_oldest {
        let resume = AtomicU64::new(0);
        for _ in &marked {
            match reclaim::reclaim_oldest(&table, owner, words::Wanted::AnySlot, &resume) {
                Ok(Some(_)) => {}
                _ => return Err("P5: a retained sample cannot be taken".into()),
            }
        }
    }
    Ok(())
}
