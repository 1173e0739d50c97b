//! Shared by all benchmarks: pairs of pinned processes, the probe that goes with each sample, the
//! measurements of a transport, and the tables. The method is in `benches/README.md`.

#![allow(dead_code, reason = "each benchmark uses a part of it")]

pub(crate) mod batches;
pub(crate) mod clock;
pub(crate) mod limits;
pub(crate) mod measures;
pub(crate) mod place;
pub(crate) mod process;
pub(crate) mod rows;
pub(crate) mod shmslot;
pub(crate) mod sleepers;
pub(crate) mod state;
pub(crate) mod syscalls;
pub(crate) mod transport;
