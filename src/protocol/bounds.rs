//! Where loops end that only an enemy can make long.

use super::shape::Shape;
use crate::error::Code;

/// Retries of a compare-and-swap that an honest peer can make fail only by progress of its own. An enemy
/// can make it fail for ever, so it ends here.
pub(crate) const RETRY_LIMIT: u32 = 1 << 16;

/// How often a search that found nothing is repeated because others took meanwhile what it came for, or brought it where
/// it had looked already. Each time they have made progress; an enemy can make it so for ever, so it ends here.
pub(crate) const RACES: u32 = 64;

/// The steps that one call may still take. A loop in a loop has one such number for both, or an enemy could send it round
/// as often as their product.
pub(crate) struct Steps(u64);

impl Steps {
    /// For what an honest peer makes fail only by progress of its own.
    pub(crate) fn of_retries() -> Steps {
        Steps(u64::from(RETRY_LIMIT))
    }

    /// For a walk through the order besides: two laps.
    pub(crate) fn of_laps(shape: &Shape) -> Steps {
        Steps(2 * u64::from(shape.slots) + u64::from(RETRY_LIMIT))
    }

    pub(crate) fn take(&mut self) -> Result<(), Code> {
        self.0 = self.0.checked_sub(1).ok_or(Code::Corrupt)?;
        Ok(())
    }
}
