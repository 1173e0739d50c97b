//! Which peers a channel admits.
#![forbid(unsafe_code)]

/// How a channel is opened.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ChannelOptions {
    /// Also admit processes of other users.
    pub any_owner: bool,
    /// Also map regions whose files are not sealed. If the sender truncates such a file, an access
    /// raises SIGBUS.
    pub unsealed: bool,
}
