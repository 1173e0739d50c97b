//! Deaths: each participant row keeps the last death of one of its participants, until the next.
//!
//! A process that recovers a participant records its death in its row, before it releases anything
//! of it. Only one process at a time recovers the participant of a row, so only one writes the
//! record.
#![forbid(unsafe_code)]

use crate::atomics::{Ordering, fence};
use crate::layout::ParticipantRow;

/// A participant that died and was recovered, or is being recovered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Death {
    /// The index that it had. Another participant may have it by now.
    pub participant: u32,
    /// Its process number in its own pid namespace.
    pub pid: u32,
    /// Writers that it had open.
    pub writers: u32,
    /// The readers that it had, reader i as bit i.
    pub readers: u64,
    /// When its death was noticed, in nanoseconds of the monotonic clock.
    pub noticed_ns: u64,
}

/// In `dead_of`: the lowest bits of the state that the dead participant left in its row, above its
/// writers.
const STATE_SHIFT: u32 = 16;
const WRITERS: u32 = (1 << STATE_SHIFT) - 1;

/// Records the death of the participant that still has a row. A process that continues a recovery
/// which another began and did not survive keeps that record, because some readers may already be
/// released.
pub(super) fn record(row: &ParticipantRow, readers: u64, now: u64) {
    // Relaxed: nobody else changes the row, as in `Claimed::free_rows`.
    let pid = row.pid.load(Ordering::Relaxed);
    let state = row.state.load(Ordering::Relaxed) << STATE_SHIFT;
    let is_recorded = row.died.load(Ordering::Relaxed) != 0
        // 0: the process that recorded it died while it freed the row.
        && (pid == 0 || row.dead_pid.load(Ordering::Relaxed) == pid)
        && row.dead_of.load(Ordering::Relaxed) & !WRITERS == state;
    if is_recorded {
        return;
    }
    row.died.store(0, Ordering::Relaxed);
    // Pairs with the fence in `read`: a process that sees a word from below sees the 0, or the time
    // at the end.
    fence(Ordering::Release);
    row.dead_pid.store(pid, Ordering::Relaxed);
    row.dead_of.store(state | row.writers.load(Ordering::Relaxed).min(WRITERS), Ordering::Relaxed);
    row.dead_readers.store(readers, Ordering::Relaxed);
    // Release: pairs with the first load in `read`.
    row.died.store(now, Ordering::Release);
}

/// The record of a row; `None` if there is none, or if it is being written.
pub(super) fn read(index: u32, row: &ParticipantRow) -> Option<Death> {
    // Acquire: pairs with the last store in `record`.
    let noticed_ns = row.died.load(Ordering::Acquire);
    let death = Death {
        participant: index,
        pid: row.dead_pid.load(Ordering::Relaxed),
        writers: row.dead_of.load(Ordering::Relaxed) & WRITERS,
        readers: row.dead_readers.load(Ordering::Relaxed),
        noticed_ns,
    };
    // Pairs with the fence in `record`.
    fence(Ordering::Acquire);
    (noticed_ns != 0 && row.died.load(Ordering::Relaxed) == noticed_ns).then_some(death)
}
