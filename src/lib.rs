//! Passes messages between the processes of one Linux machine through shared memory, without
//! copying them and without a daemon.
//!
//! A [`Segment`] of shared memory has a fixed number of slots. A [`Writer`] reserves a slot, fills
//! it in place and commits it. Every [`Reader`] reads the sample in place and marks it when it is
//! done. Idle processes sleep on a futex.
//!
//! ```
//! use shmslot::{CreateOptions, Segment};
//! # fn main() -> shmslot::Result<()> {
//! let segment = Segment::create_anonymous(&CreateOptions::default())?;
//! let mut reader = segment.reader(0)?;
//! let writer = segment.writer()?;
//!
//! let mut loan = writer.reserve(5, None)?;
//! loan.copy_from(b"hello")?;
//! let sequence = loan.commit(5)?;
//!
//! let sample = reader.read()?.expect("one was committed");
//! assert_eq!((sample.sequence(), sample.to_vec()), (sequence, b"hello".to_vec()));
//! # Ok(()) }
//! ```
//!
//! The C headers are the contract of this library; this Rust API has the same nouns and verbs.
//!
//! # Modules, in reading order
//!
//! Dependencies point one way, from the bottom of this list to its top.
//!
//! - `error`: the table of codes and texts.
//! - `cache`: hints to the processor's caches.
//! - `out_of_line`: drops that are kept out of short paths.
//! - `sys`: the only door to the operating system.
//! - `atomics`: the only door to atomics, fences and the futex, real or modelled.
//! - [`layout`]: every byte of a segment.
//! - `protocol`: the slot protocol as pure state machines on atomics, without descriptors, mappings
//!   or processes.
//! - [`segment`](Segment): from a name to a checked, typed view of the file; its participants.
//! - `wait`: the parts that all waits share.
//! - `events`: descriptors for event loops.
//! - `writer`, `reader`: what a user holds.
//! - `set`: readers and writers of many segments behind one descriptor.
//! - `tokio`: readers and writers that are awaited, with the feature `tokio`.
//! - `typed`: segments whose samples are values of one Rust type.
//! - `reference`: the reference operations, on a segment.
//! - `channel`: unix sockets that carry the descriptors of regions and segments.
//! - `pool`: payloads outside the slots, in regions of memory that each process maps.
//! - `ffi`: the C ABI.
//!
//! `unsafe` is allowed in `cache`, `out_of_line`, `sys`, `ffi`, `layout/header`, `layout/receipts`,
//! `layout/slots`, `tokio` and some files of `segment`.

// Code that could panic is not allowed.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "shmslot runs on Linux: it needs memfd seals, shared futexes and open-file-description locks"
);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("shmslot is made for x86-64 and aarch64; other processors have not been proved");

mod atomics;
mod cache;
mod channel;
mod error;
mod events;
mod ffi;
pub mod layout;
mod out_of_line;
mod pool;
mod protocol;
mod reader;
mod reference;
mod segment;
mod set;
mod sys;
#[cfg(feature = "tokio")]
mod tokio;
mod typed;
mod wait;
mod writer;

/// The Rust code of these pages, so that it is compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[doc = include_str!("../docs/guide.md")]
mod pages {}

pub use channel::{Channel, ChannelOptions, Listener};
pub use error::{Code, Error, Result};
pub use events::Arm;
pub use layout::{Policy, type_hash};
pub use pool::{Attachments, Lease, Mapped, PoolInfo, Registry, RegistryOptions};
pub use reader::{Reader, Sample};
pub use reference::{Ref, RefHeader, Reference, SharedReference};
pub use segment::{
    AttachOptions, Counters, CreateOptions, Death, IfOrphaned, Info, Participant, ReaderCounters,
    ReaderKind, Segment, SegmentEntry, SegmentState, WriterCounters,
};
pub use set::{Event, Readable, Set, SetInterrupter, Trigger, What};
#[cfg(feature = "tokio")]
pub use tokio::{AsyncReader, AsyncWriter, NotAwaitable};
pub use typed::{
    ShmSafe, TypeName, TypedLoan, TypedReader, TypedSample, TypedSegment, TypedWriter,
};
pub use wait::{EndWaits, Interrupter};
pub use writer::{AnyThread, KeepsWriter, Loan, OneThread, SharedWriter, Writer};
