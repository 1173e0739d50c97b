//! Why a call of a writer has failed, in numbers. The hot calls return a code alone.
#![forbid(unsafe_code)]

use std::fmt;

use crate::atomics::Ordering;
use crate::error::{Code, Error};
use crate::layout::Policy;
use crate::protocol::census::{self, Obstacles};
use crate::protocol::region;
use crate::protocol::table::Table;
use crate::protocol::words::Token;
use crate::protocol::words::{Ctl, Phase};
use crate::writer::core::{Core, too_large};

impl Core {
    pub(crate) fn explain(&self, code: Code, len: usize) -> Error {
        let geometry = self.segment().geometry();
        match (code, self.segment().table()) {
            (Code::NoFreeSlot, Ok(table)) => self.explain_no_free_slot(table, len as u64),
            (Code::TooLarge, _) => {
                too_large(len as u64, geometry.max_payload.max(geometry.slot_capacity))
            }
            (Code::LoanLimit, _) => {
                let (loans, most) = (self.loan_count(), self.segment().max_loans());
                Error::new(code)
                    .about(format_args!("this writer has {loans} loans, and max_loans is {most}"))
                    .with_numbers([loans.into(), most.into(), 0])
            }
            _ => code.into(),
        }
    }

    fn explain_no_free_slot(&self, table: &Table<'_>, len: u64) -> Error {
        let Obstacles { slots, own_loans, unread_by, held_by } =
            census::obstacles(table, self.owner());
        let (total, readers) = (table.shape.slots, unread_by | held_by);
        let used = total.saturating_sub(slots.free);
        let others = slots.loaned.saturating_sub(own_loans);
        let error = Error::new(Code::NoFreeSlot).about(format_args!(
            "{used} of {total} slots are in use: {own_loans} loaned by this writer, {others} by others, \
             {} unread, {} held, {} kept as history{}{}{}",
            slots.unread,
            slots.held,
            slots.retained,
            Regions(table, len),
            Keepers(readers),
            if self.segment().geometry().policy == Policy::Fail {
                "; the policy is FAIL, which never waits"
            } else {
                ""
            },
        )).with_numbers([
            used.into(),
            own_loans.into(),
            readers,
        ]);
        if own_loans == total {
            error.advice("commit or discard a loan first")
        } else if readers == 0 {
            error.advice("let the loans end, or add slots")
        } else {
            error.advice("mark samples sooner, add slots, or choose another policy")
        }
    }

    /// Why this loan is stale; `None` is one that no writer of this segment can have given out.
    pub(crate) fn explain_stale(&self, token: Option<Token>) -> Error {
        let claim = token.and_then(|token| {
            let claim = self.segment().table().ok()?.claim(token.slot()).ok()?;
            Some((token, Ctl(claim.ctl.load(Ordering::Acquire))))
        });
        let about = match claim {
            None => "the loan is of another segment, or was never given out",
            Some((token, seen)) => {
                // Generations wrap: the nearer way round counts.
                let ahead = seen.loans_before(token.generation());
                match (ahead, seen.phase() == Some(Phase::Loaned), seen.owner() == self.owner()) {
                    (0, true, true) => return Code::Stale.into(),
                    (0, true, false) => "another writer has this loan",
                    (1..=0x7_ffff_ffff, ..) => "this loan was never given out",
                    _ => "this loan has ended: it was committed or discarded",
                }
            }
        };
        Error::new(Code::Stale)
            .about(about)
            .advice("use each loan once, with the writer that gave it out")
    }
}

/// What is known of the regions, if the payload needs one.
struct Regions<'t>(&'t Table<'t>, u64);

impl fmt::Display for Regions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Regions(table, len) = self;
        if *len <= table.shape.capacity {
            return Ok(());
        }
        write!(f, "; {} of {} regions are in use", region::in_use(table), table.regions.len())
    }
}

/// The readers that keep slots.
struct Keepers(u64);

impl fmt::Display for Keepers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: u32 = 8;
        let count = self.0.count_ones();
        if count == 0 {
            return Ok(());
        }
        f.write_str(if count == 1 { "; reader" } else { "; readers" })?;
        let readers = (0..u64::BITS).filter(|reader| self.0 >> reader & 1 != 0);
        for (nth, reader) in (1..).zip(readers.take(SHOWN as usize)) {
            match nth {
                1 => write!(f, " {reader}")?,
                _ if nth == count => write!(f, " and {reader}")?,
                _ => write!(f, ", {reader}")?,
            }
        }
        if count > SHOWN {
            write!(f, " and {} more", count - SHOWN)?;
        }
        f.write_str(if count == 1 {
            " has not read or marked its samples"
        } else {
            " have not read or marked theirs"
        })
    }
}
