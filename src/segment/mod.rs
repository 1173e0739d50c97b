//! Segments: shared memory with a name or without, and who is attached to it.
//!
//! - `options`: how a segment is made, or attached to, and what one that is there already must
//!   give.
//! - `participants`: who is attached, and who of them is dead.
//! - `check`: what can be said of a file before it is mapped.
//! - `mapping`: from a mapped file to a typed view.
//! - `attachment`: one process's attachment: the view, its row, and what else belongs to it.
//! - `payload`, `regions`, `writers`, `recover`: what an attachment does with payloads, with the
//!   memory of regions, with the numbers of its writers, and with the dead.
//! - `name`: which file a name means, and how it passes from one to the next.
//! - `list`: which segments a directory has, and removing those that nobody uses.
//! - `named`: what an attachment knows of its name.
//! - `deaths`: who died.
//! - `handle`: what a user holds; `counters`: what a segment is used for, from outside.

pub(crate) mod attachment;
mod check;
mod counters;
mod deaths;
mod handle;
mod list;
mod mapping;
pub(crate) mod name;
mod named;
mod options;
mod participants;
pub(crate) mod payload;
mod recover;
mod regions;
pub(crate) mod writers;

pub use counters::{Counters, ReaderCounters, ReaderKind, WriterCounters};
pub use deaths::Death;
pub use handle::{Info, Segment};
pub use list::{SegmentEntry, SegmentState};
pub(crate) use options::out_of_range;
pub use options::{AttachOptions, CreateOptions, IfOrphaned};
pub use participants::Participant;
pub(crate) use recover::SLICE;
