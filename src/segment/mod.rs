//! Segments: shared memory with or without a name, and its participants.
//!
//! - `options`: how a segment is made, or attached to, and what an existing one must give.
//! - `writers`: the numbers of one process's writers; `deaths`: the recorded deaths.
//! - `participants`: the attached processes, and which of them are dead.
//! - `check`: the checks of a file before it is mapped.
//! - `mapping`: from a mapped file to a typed view.
//! - `attachment`: one process's attachment: the view, its row, and its other parts.
//! - `payload`, `regions`, `writable`, `recover`: what an attachment does with payloads, with the
//!   memory of regions, with its writers, and with the dead; `expel`: and with the stuck.
//! - `name`: which file a name means, and how it passes from one to the next.
//! - `named`: what an attachment knows of its name.
//! - `watched`: its file as what others watch.
//! - `list`: the segments of a directory, and the removal of those that no process uses.
//! - `handle`: what a user holds; `counters`: the use of a segment, from outside.

pub(crate) mod attachment;
mod check;
mod counters;
mod deaths;
mod expel;
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
mod watched;
pub(crate) mod writable;
mod writers;

pub use counters::{Counters, ReaderCounters, ReaderKind, WriterCounters};
pub use deaths::Death;
pub use handle::{Info, Segment};
pub use list::{SegmentEntry, SegmentState};
pub(crate) use options::out_of_range;
pub use options::{AttachOptions, CreateOptions, IfOrphaned};
pub use participants::Participant;
pub(crate) use recover::SLICE;
