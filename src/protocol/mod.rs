//! The slot protocol: pure state machines on atomics.
//!
//! Nothing here knows a file descriptor, a mapping or a process, so one source runs in every
//! process, under loom, and on a heap. Each value from shared words is checked before it is used,
//! and each loop is bounded by numbers that only this process can write.
//!
//! In reading order, which is also the order of the dependencies:
//!
//! - [`words`]: the fields of each shared word; [`bounds`], [`shape`], [`table`]: the bounds of
//!   loops, the shape of a segment, and its words.
//! - [`attention`]: whether the hot calls must look for others; [`bell`]: sleeping and waking;
//!   [`vacancy`]: where free slots may be.
//! - [`slot`]: the words of one slot; [`order`]: the sequence of samples; [`history`]: samples kept
//!   for later readers.
//! - [`dead`], [`rows`]: which participants are dead, and which reader has which bit.
//! - [`loan`]: a writer claims a slot; [`reclaim`]: it takes an unread sample instead; [`region`]:
//!   it leases room for a large payload.
//! - [`commit`]: the slot becomes a sample; [`calm`]: the same, and a mark, while nobody sleeps,
//!   joins or leaves; [`batch`]: many of both at once.
//! - [`hold`]: a reader takes the sample and holds it; [`members`]: readers join and leave;
//!   [`expel`]: others end the membership of a living reader.
//! - [`recovery`]: repairs what dead participants left.
//! - [`mod@reference`]: callers that track their readers themselves.
//! - [`census`]: counts the use of slots, by loads only.
//!
//! `docs/protocol.md` describes the protocol with its proofs.
#![forbid(unsafe_code)]

pub(crate) mod attention;
pub(crate) mod batch;
pub(crate) mod bell;
pub(crate) mod bounds;
pub(crate) mod calm;
pub(crate) mod census;
pub(crate) mod commit;
pub(crate) mod dead;
pub(crate) mod expel;
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
