//! Every byte of a segment: the constant header, the words that change, and where each table begins.
//!
//! `docs/segment-layout.md` has the same as a page; `tests/layout_snapshot.rs` compares the two. All fields
//! are little-endian, of fixed width and free of pointers, so that 32- and 64-bit processes agree.
//!
//! - `limits`: how large things may be.
//! - `words`: the words that change.
//! - `geometry`: what a segment is made of, and where its parts begin.
//! - `header`: the same as bytes.

mod geometry;
mod header;
mod limits;
mod words;

pub use geometry::*;
pub use header::*;
pub use limits::*;
pub use words::*;
