//! Bounds of the loops that only a hostile peer can make long.

use super::shape::Shape;
use crate::error::Code;

/// How often a compare-and-swap is retried that an honest peer can make fail only by its own
/// progress. A hostile peer could make it fail for ever, so the loop ends here.
pub(crate) const RETRY_LIMIT: u32 = 1 << 16;

/// How often a search that found nothing is repeated because others took what it looked for, or
/// moved it behind the search. Each time they have made progress. A hostile peer could repeat that
/// for ever, so the search ends here.
pub(crate) const RACE_LIMIT: u32 = 64;

/// The steps that one call may still take. Nested loops share one budget; otherwise a hostile peer
/// could multiply their bounds.
pub(crate) struct StepBudget(u64);

impl StepBudget {
    /// For steps that an honest peer makes fail only by its own progress.
    pub(crate) fn of_retries() -> StepBudget {
        StepBudget(u64::from(RETRY_LIMIT))
    }

    /// For such steps and a walk through the order, which spans two laps.
    pub(crate) fn of_laps(shape: &Shape) -> StepBudget {
        StepBudget(2 * u64::from(shape.slots) + u64::from(RETRY_LIMIT))
    }

    pub(crate) fn take(&mut self) -> Result<(), Code> {
        self.0 = self.0.checked_sub(1).ok_or(Code::Corrupt)?;
        Ok(())
    }
}
