//! Bounds of the loops that only a hostile peer can make long.

use super::shape::Shape;
use crate::error::Code;

/// Retries of a compare-and-swap that an honest peer can make fail only by progress of its own. A hostile
/// peer can make it fail for ever, so it ends here.
pub(crate) const RETRY_LIMIT: u32 = 1 << 16;

/// How often a search that found nothing is repeated because others took meanwhile what it came for, or brought it where
/// it had looked already. Each time they have made progress; a hostile peer can repeat that for ever, so it ends here.
pub(crate) const RACE_LIMIT: u32 = 64;

/// The steps that one call may still take. Nested loops share one budget, or a hostile peer could send them round
/// as often as their product.
pub(crate) struct StepBudget(u64);

impl StepBudget {
    /// For what an honest peer makes fail only by progress of its own.
    pub(crate) fn of_retries() -> StepBudget {
        StepBudget(u64::from(RETRY_LIMIT))
    }

    /// For a walk through the order besides: two laps.
    pub(crate) fn of_laps(shape: &Shape) -> StepBudget {
        StepBudget(2 * u64::from(shape.slots) + u64::from(RETRY_LIMIT))
    }

    pub(crate) fn take(&mut self) -> Result<(), Code> {
        self.0 = self.0.checked_sub(1).ok_or(Code::Corrupt)?;
        Ok(())
    }
}
