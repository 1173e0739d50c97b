//! Payloads beside the slots: mapped regions whose descriptors cross a unix socket.
//!
//! A sender's [`Registry`] hands out [`Lease`]s of memory in regions. The descriptor of a region goes over each
//! [`Channel`] of the registry before the first lease in it is given out. A receiver's [`Attachments`] map what comes,
//! and resolve a reference (region, generation, offset, length), which travels by whatever way, to a [`Mapped`] place.
//! `docs/regions.md` has the rules.
//!
//! - `link`: one connection: messages with a descriptor, and when it is of no use any more.
//! - `channel`: how connections are made, and segments over them.
//! - `body`: the memory of a region, and which generation it is in.
//! - `registry`: the sender.
//! - `attachments`: the receiver.
#![forbid(unsafe_code)]

mod attachments;
mod body;
mod channel;
mod link;
mod registry;

pub use attachments::{Attachments, Mapped};
pub use channel::{Channel, ChannelOptions, Listener};
pub use registry::{Lease, Registry, RegistryInfo, RegistryOptions};

use std::time::Duration;

use crate::error::{Code, Error};

/// Whether this process lacks memory or descriptors, so that the same thing may work another time.
fn is_shortage(error: &Error) -> bool {
    error.code() == Code::NoMemory || matches!(error.os_errno(), libc::EMFILE | libc::ENFILE)
}

/// What a call says that did not get what it wanted in the time it had.
fn too_late(timeout: Option<Duration>) -> Code {
    if timeout == Some(Duration::ZERO) { Code::Again } else { Code::Timeout }
}
