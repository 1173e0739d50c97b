//! The slot protocol: pure state machines on atomics.
//!
//! Nothing here knows a file descriptor, a mapping or a process, so the same source runs in every process,
//! under loom, and on a heap. Everything read from the shared words is checked before it is used, and every
//! loop is bounded by numbers that only this process can write.
//!
//! Reading order: [`words`] (what one word means), [`slot`] (one slot's words), [`loan`] (a writer takes a slot),
//! [`order`] (its sample gets a sequence), [`hold`] (a reader takes the sample in hand), [`members`] (who is owed
//! samples), [`vacancy`] (where free slots are), [`region`] (room for large payloads), [`bell`] (sleeping and waking),
//! [`recovery`] (what the dead left behind), [`mod@reference`] (readers whose books the caller keeps). `docs/protocol.md` tells
//! the same with the proofs.
#![forbid(unsafe_code)]

pub(crate) mod bell;
pub(crate) mod hold;
pub(crate) mod loan;
pub(crate) mod members;
pub(crate) mod order;
pub(crate) mod recovery;
pub(crate) mod reference;
pub(crate) mod region;
pub(crate) mod slot;
pub(crate) mod vacancy;
pub(crate) mod words;

use self::words::{Extent, Place};
use crate::atomics::AtomicU64;
use crate::error::Code;
use crate::layout::{Claim, Hot, MARK_WORDS, Policy, ReaderRow, RegionRow, SlotLine};

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

/// This process's private copy of what the protocol must know of the geometry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) slots: u32,
    pub(crate) capacity: u64,
    /// Largest payload in a region; 0 without regions.
    pub(crate) max_payload: u64,
    pub(crate) mark_words: usize,
    pub(crate) history: u32,
    pub(crate) single_writer: bool,
    pub(crate) drop_oldest: bool,
    pub(crate) timestamps: bool,
    /// log2 of `slots` where it is a power of two: saves a division.
    pub(crate) shift: Option<u32>,
    /// Follows from the others, see [`Shape::classified`].
    pub(crate) class: Class,
}

/// The shapes that most segments have are compiled apart: a power of two of slots, up to 15 readers, no history, no
/// timestamps. `shift` is log2 of the slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    UsualLossless { shift: u32 },
    UsualDropping { shift: u32 },
    Unusual,
}

impl Shape {
    pub(crate) fn new(geometry: &crate::layout::Geometry) -> Shape {
        let slots = geometry.slot_count;
        let shape = Shape {
            slots,
            capacity: geometry.slot_capacity,
            max_payload: geometry.max_payload,
            mark_words: geometry.mark_words().min(MARK_WORDS),
            history: geometry.history,
            single_writer: geometry.single_writer,
            drop_oldest: geometry.policy == Policy::DropOldest,
            timestamps: geometry.timestamps,
            shift: slots.is_power_of_two().then(|| slots.trailing_zeros()),
            class: Class::Unusual,
        };
        shape.classified()
    }

    /// The same, with its class as the other fields say.
    pub(crate) fn classified(self) -> Shape {
        let class = match self {
            Shape {
                mark_words: 1, history: 0, timestamps: false, shift: Some(shift), drop_oldest, ..
            } => {
                if drop_oldest {
                    Class::UsualDropping { shift }
                } else {
                    Class::UsualLossless { shift }
                }
            }
            _ => Class::Unusual,
        };
        Shape { class, ..self }
    }

    /// The home slot of a sequence where slots are a power of two.
    #[inline(always)]
    pub(crate) fn usual_home(&self, sequence: u64) -> u32 {
        sequence as u32 & self.slots.wrapping_sub(1)
    }

    /// The same shape, and the compiler knows what follows from its class.
    #[inline(always)]
    pub(crate) fn usual(&self, shift: u32, drop_oldest: bool) -> Shape {
        Shape { mark_words: 1, history: 0, timestamps: false, shift: Some(shift), drop_oldest, ..*self }
    }
}

/// A checked view of the shared words of one segment.
pub(crate) struct Table<'a> {
    pub(crate) shape: Shape,
    pub(crate) hot: &'a Hot,
    pub(crate) lines: &'a [SlotLine],
    pub(crate) claims: &'a [Claim],
    pub(crate) vacancy: &'a [AtomicU64],
    pub(crate) readers: &'a [ReaderRow],
    pub(crate) regions: &'a [RegionRow],
    pub(crate) audiences: &'a [AtomicU64],
}

impl Table<'_> {
    /// The line of a slot whose number may come from shared memory.
    #[inline]
    pub(crate) fn line(&self, slot: u32) -> Result<&SlotLine, Code> {
        self.lines.get(slot as usize).ok_or(Code::Corrupt)
    }

    /// How much a place takes whose number may come from shared memory.
    #[inline(always)]
    pub(crate) fn room(&self, place: Place) -> Result<u64, Code> {
        match place {
            Place::Slot(_) => Ok(self.shape.capacity),
            Place::Region(region) if (region as usize) < self.regions.len() => Ok(self.shape.max_payload),
            Place::Region(_) => Err(Code::Corrupt),
        }
    }

    /// Where the payload of a sample is; corrupt if it cannot be there, or cannot be that long.
    #[inline(always)]
    pub(crate) fn place(&self, slot: u32, extent: Extent) -> Result<Place, Code> {
        let place = extent.place(slot);
        if extent.len() > self.room(place)? { Err(Code::Corrupt) } else { Ok(place) }
    }

    /// Whom the sample of a slot is for beside the joined readers, if its extent says that somebody was named.
    #[inline(always)]
    pub(crate) fn audience(&self, slot: u32) -> Result<&AtomicU64, Code> {
        self.audiences.get(slot as usize).ok_or(Code::Corrupt)
    }

    /// The claim of a slot whose number may come from shared memory.
    #[inline]
    pub(crate) fn claim(&self, slot: u32) -> Result<&Claim, Code> {
        self.claims.get(slot as usize).ok_or(Code::Corrupt)
    }
}
