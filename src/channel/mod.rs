//! Channels: unix sockets that carry the descriptors of regions and segments from one process to
//! another.
//!
//! - `options`: which peers a channel admits.
//! - `message`: the messages.
//! - `link`: one connection: messages in and out, and the reasons why it is broken.
//! - `connection`: one end, as a user holds it.
//! - `listener`: waiting for connections at a name.
#![forbid(unsafe_code)]

mod connection;
mod link;
mod listener;
mod message;
mod options;

pub use connection::Channel;
pub(crate) use link::Sent;
pub use listener::Listener;
pub(crate) use message::{Announced, encode};
pub use options::ChannelOptions;

use crate::error::{Code, Error};

/// Whether this process lacks memory or descriptors, so that the call may succeed later.
pub(crate) fn is_shortage(error: &Error) -> bool {
    error.code() == Code::NoMemory || matches!(error.os_errno(), libc::EMFILE | libc::ENFILE)
}
