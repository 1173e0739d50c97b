//! The options of a segment that a command creates.

use clap::{Args, ValueEnum};
use shmslot::{CreateOptions, Policy};

use crate::units::read_size;

/// What a segment of this command's own is like. One that exists must give it.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Sizes {
    /// Number of slots
    #[arg(long, value_name = "NUMBER")]
    pub(crate) slots: Option<u32>,
    /// Payload bytes of each slot, such as 4096 or 64K
    #[arg(long, value_name = "SIZE", value_parser = read_size)]
    pub(crate) capacity: Option<u64>,
    /// What happens when no slot is free
    #[arg(long, value_enum)]
    pub(crate) policy: Option<PolicyName>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PolicyName {
    /// Wait for a reader
    Block,
    /// Refuse
    Fail,
    /// Drop the oldest unread sample
    DropOldest,
}

impl From<PolicyName> for Policy {
    fn from(name: PolicyName) -> Policy {
        match name {
            PolicyName::Block => Policy::Block,
            PolicyName::Fail => Policy::Fail,
            PolicyName::DropOldest => Policy::DropOldest,
        }
    }
}

impl Sizes {
    /// Puts what was given in the place of what `options` have.
    pub(crate) fn change(&self, options: &mut CreateOptions) {
        options.slot_count = self.slots.unwrap_or(options.slot_count);
        options.slot_capacity = self.capacity.unwrap_or(options.slot_capacity);
        options.policy = self.policy.map(Policy::from).or(options.policy);
    }
}
