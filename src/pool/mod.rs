//! Pools: payloads outside the slots, in regions of memory that each process maps.
//!
//! A sender's [`Registry`] gives out [`Lease`]s of memory in regions. It announces a region on each
//! [`Channel`](crate::Channel) that was added to it before it gives out the first lease there. A
//! receiver's [`Attachments`] map the announced regions, and resolve a reference (region,
//! generation, offset, length), which may travel by any means, to [`Mapped`] bytes.
//! `docs/regions.md` has the rules.
//!
//! - `body`: the memory of a region, and its current generation.
//! - `registry`: the sender.
//! - `attachments`: the receiver.
#![forbid(unsafe_code)]

mod attachments;
mod body;
mod registry;

pub use attachments::{Attachments, Mapped};
pub use registry::{Lease, PoolInfo, Registry, RegistryOptions};
