//! Payloads beside the slots: memory in regions, mapped by every process that uses them.
//!
//! A sender's [`Registry`] hands out [`Lease`]s of memory in regions. The descriptor of a region goes over each
//! [`Channel`](crate::Channel) of the registry before the first lease in it is given out. A receiver's [`Attachments`] map
//! what comes, and resolve a reference (region, generation, offset, length), which travels by whatever way, to a [`Mapped`]
//! place. `docs/regions.md` has the rules.
//!
//! - `body`: the memory of a region, and which generation it is in.
//! - `registry`: the sender.
//! - `attachments`: the receiver.
#![forbid(unsafe_code)]

mod attachments;
mod body;
mod registry;

pub use attachments::{Attachments, Mapped};
pub use registry::{Lease, PoolInfo, Registry, RegistryOptions};
