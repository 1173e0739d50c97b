//! With whom a channel may be.
#![forbid(unsafe_code)]

/// Whom a channel is opened with.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ChannelOptions {
    /// Also with a process of another user.
    pub any_owner: bool,
    /// Also map regions whose files are not sealed. If the sender cuts such a file, touching it raises SIGBUS.
    pub unsealed: bool,
}
