//! The part of a segment's geometry that the protocol uses.

use crate::layout::{Geometry, MARK_WORDS, Policy};

/// This process's private copy of the geometry that the protocol uses.
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
    /// log2 of `slots`, if that is a power of two: it saves a division.
    pub(crate) shift: Option<u32>,
    /// Follows from the other fields; see [`Shape::classified`].
    pub(crate) class: Class,
}

/// The most common shapes are compiled separately: a power of two of slots, up to 15 readers, no
/// history, no timestamps. `shift` is log2 of the slots.
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

    /// This shape, with the class that follows from its other fields.
    pub(crate) fn classified(self) -> Shape {
        let class = match self {
            Shape {
                mark_words: 1,
                history: 0,
                timestamps: false,
                shift: Some(shift),
                drop_oldest,
                ..
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

    /// The home slot of a sequence, if the number of slots is a power of two.
    #[inline(always)]
    pub(crate) fn common_home(&self, sequence: u64) -> u32 {
        sequence as u32 & self.slots.wrapping_sub(1)
    }

    /// This shape, with constants that the compiler derives from its class.
    #[inline(always)]
    pub(crate) fn common(&self, shift: u32, drop_oldest: bool) -> Shape {
        Shape {
            mark_words: 1,
            history: 0,
            timestamps: false,
            shift: Some(shift),
            drop_oldest,
            ..*self
        }
    }
}
