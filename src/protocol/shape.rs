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
    /// The same, or 0.
    pub(crate) log2: u32,
    /// Whether readers mark samples with receipts. Follows from the other fields.
    pub(crate) receipts: bool,
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
            log2: 0,
            receipts: false,
        };
        shape.completed()
    }

    /// This shape, with what follows from its other fields.
    pub(crate) fn completed(self) -> Shape {
        let receipts = self.is_plain() && !self.drop_oldest;
        Shape { log2: self.shift.unwrap_or(0), receipts, ..self }
    }

    /// Whether it is one of the shapes that nearly all segments have: a power of two of slots, up to
    /// 15 readers, no history, no timestamps.
    fn is_plain(&self) -> bool {
        self.mark_words == 1 && self.history == 0 && !self.timestamps && self.shift.is_some()
    }

    /// Which kind it is.
    pub(crate) fn kind(&self) -> KindOf {
        match (self.is_plain(), self.drop_oldest, self.single_writer) {
            (true, false, true) => KindOf::CalmAlone,
            (true, false, false) => KindOf::CalmAmong,
            (true, true, _) => KindOf::Dropping,
            (false, _, _) => KindOf::Any,
        }
    }

    /// The home slot of a sequence, if the number of slots is a power of two.
    #[inline(always)]
    pub(crate) fn home_of_plain(&self, sequence: u64) -> u32 {
        sequence as u32 & self.slots.wrapping_sub(1)
    }

    /// This shape, if it is plain, with the constants that follow from that.
    #[inline(always)]
    fn plain(&self, drop_oldest: bool) -> Shape {
        Shape {
            mark_words: 1,
            history: 0,
            timestamps: false,
            shift: Some(self.log2),
            drop_oldest,
            receipts: !drop_oldest,
            ..*self
        }
    }
}

/// The kinds of segments that are compiled apart, because constants make them faster. A handle looks
/// once which kind its segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KindOf {
    /// [`Calm`], with a single writer.
    CalmAlone,
    /// [`Calm`], with many writers.
    CalmAmong,
    /// [`Dropping`]
    Dropping,
    /// [`Any`]
    Any,
}

/// What the compiler knows about a shape.
pub(crate) trait Kind {
    /// The shape, with what is known about all shapes of this kind as constants.
    fn known(shape: &Shape) -> Shape;
}

/// A plain shape that loses nothing; with a single writer if `ALONE`. Such segments use receipts,
/// and can be calm.
pub(crate) struct Calm<const ALONE: bool>;

impl<const ALONE: bool> Kind for Calm<ALONE> {
    #[inline(always)]
    fn known(shape: &Shape) -> Shape {
        Shape { single_writer: ALONE, ..shape.plain(false) }
    }
}

/// A plain shape whose oldest samples are dropped.
pub(crate) struct Dropping;

impl Kind for Dropping {
    #[inline(always)]
    fn known(shape: &Shape) -> Shape {
        shape.plain(true)
    }
}

/// Every shape.
pub(crate) struct Any;

impl Kind for Any {
    #[inline(always)]
    fn known(shape: &Shape) -> Shape {
        *shape
    }
}
