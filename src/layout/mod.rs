//! Every byte of a segment: the constant header, the words that change, and where each table
//! begins.
//!
//! `docs/segment-layout.md` describes it; `tests/layout_snapshot.rs` compares the two. All fields
//! are little-endian, of fixed width and free of pointers, so that 32- and 64-bit processes agree.
//!
//! - `limits`: the limits.
//! - `words`: the words that change.
//! - `receipts`: the view of a line's words that segments for few readers use.
//! - `slots`: the line and the claim of each slot.
//! - `bits`: the bit fields of those that have several.
//! - `geometry`: the geometry of a segment, and where its parts begin.
//! - `header`: the constant header as bytes.
//! - `type_hash`: the identity of a sample type.

pub(crate) mod bits;
mod geometry;
mod header;
mod limits;
mod receipts;
mod slots;
mod type_hash;
mod words;

pub use bits::BIT_FIELDS;
pub use geometry::*;
pub use header::*;
pub use limits::*;
pub(crate) use receipts::RECEIPTS;
#[cfg(loom)]
pub(crate) use receipts::Receipts;
pub(crate) use slots::{Slot, Slots};
pub use type_hash::type_hash;
pub use words::*;
