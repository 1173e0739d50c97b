//! What all benchmarks of more than one row share: pairs of pinned processes, the probe that goes
//! with each sample, what is measured of a transport, and the tables. The method is in
//! `benches/README.md`.

#![allow(dead_code)] // Each benchmark takes what it needs.

pub(crate) mod clock;
pub(crate) mod limits;
pub(crate) mod measures;
pub(crate) mod place;
pub(crate) mod process;
pub(crate) mod rows;
pub(crate) mod shmslot;
pub(crate) mod state;
pub(crate) mod syscalls;
pub(crate) mod transport;
