//! The slot protocol: pure state machines on atomics.
//!
//! Nothing here knows a file descriptor, a mapping or a process, so the same source runs in every
//! process, under loom, and on a heap. Everything read from the shared words is checked before it
//! is used, and every loop is bounded by numbers that only this process can write.
//!
//! In reading order, which is also that of the dependencies:
//!
//! - [`words`]: what one shared word means; [`bounds`], [`shape`], [`table`]: where loops end, what
//!   a segment is made of, and its words.
//! - [`bell`]: sleeping and waking; [`vacancy`]: where free slots may be.
//! - [`slot`]: one slot's words; [`order`]: which sample comes when; [`history`]: samples kept for
//!   later readers.
//! - [`dead`], [`rows`]: who is dead, and which reader has which bit.
//! - [`loan`]: a writer takes a slot; [`reclaim`]: or an unread sample; [`region`]: and room for a
//!   large payload.
//! - [`commit`]: the slot becomes a sample.
//! - [`hold`]: a reader takes the sample and holds it; [`members`]: readers join and leave.
//! - [`recovery`]: what the dead left behind.
//! - [`mod@reference`]: readers whose books the caller keeps.
//! - [`census`]: what slots are used for, to who only looks.
//!
//! `docs/protocol.md` tells the same with the proofs.
#![forbid(unsafe_code)]

pub(crate) mod bell;
pub(crate) mod bounds;
pub(crate) mod census;
pub(crate) mod commit;
pub(crate) mod dead;
pub(crate) mod history;
pub(crate) mod hold;
pub(crate) mod loan;
pub(crate) mod members;
pub(crate) mod order;
pub(crate) mod reclaim;
pub(crate) mod recovery;
pub(crate) mod reference;
pub(crate) mod region;
pub(crate) mod rows;
pub(crate) mod shape;
pub(crate) mod slot;
pub(crate) mod table;
pub(crate) mod vacancy;
pub(crate) mod words;
