//! The limits.
#![forbid(unsafe_code)]

/// Most slots of a segment: an entry of the order gives a slot 24 bits.
pub const MAX_SLOTS: u32 = 1 << 24;
/// Largest payload of a slot.
pub const MAX_CAPACITY: u64 = 1 << 32;
/// Most joined readers: one bit of 64 belongs to history.
pub const MAX_READERS: u32 = 63;
/// Most attached participants: an owner gives a participant 12 bits.
pub const MAX_PARTICIPANTS: u32 = 4095;
/// Most regions of a segment: an extent gives a region 6 bits, and one value means none.
pub const MAX_REGIONS: u32 = 63;
/// Regions begin on a multiple of this, the size of a huge page on both supported processors.
pub const REGION_ALIGN: u64 = 2 << 20;
/// Largest user header of a slot.
pub const MAX_USER_HEADER: u32 = 256;
/// Longest type name, in bytes.
pub const MAX_TYPE_NAME: usize = 63;
/// Readers (or history) that share one word of marks.
pub const MARKS_PER_WORD: u32 = 16;
/// Words of marks in a slot line.
pub const MARK_WORDS: usize = 4;
