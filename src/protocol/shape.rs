//! What the protocol must know of a segment's geometry.

use crate::layout::{Geometry, MARK_WORDS, Policy};

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
    CommonLossless { shift: u32 },
    CommonDropping { shift: u32 },
    General,
}

impl Shape {
    pub(crate) fn new(geometry: &Geometry) -> Shape {
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
            class: Class::General,
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
                    Class::CommonDropping { shift }
                } else {
                    Class::CommonLossless { shift }
                }
            }
            _ => Class::General,
        };
        Shape { class, ..self }
    }

    /// The home slot of a sequence where slots are a power of two.
    #[inline(always)]
    pub(crate) fn common_home(&self, sequence: u64) -> u32 {
        sequence as u32 & self.slots.wrapping_sub(1)
    }

    /// The same shape, and the compiler knows what follows from its class.
    #[inline(always)]
    pub(crate) fn common(&self, shift: u32, drop_oldest: bool) -> Shape {
        Shape { mark_words: 1, history: 0, timestamps: false, shift: Some(shift), drop_oldest, ..*self }
    }
}
