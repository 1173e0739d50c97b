//! The few things asked of the operating system, as plain functions.

mod descriptor;
mod kept;
#[cfg(target_os = "linux")]
mod linux;
pub(crate) mod mapping;
#[cfg(target_os = "linux")]
mod memory_limit;
#[cfg(target_os = "linux")]
mod process;
pub(crate) mod socket;
pub(crate) use kept::KeptFd;
#[cfg(target_os = "linux")]
pub(crate) use linux::*;
#[cfg(target_os = "linux")]
pub(crate) use memory_limit::check_memory_limit;
#[cfg(target_os = "linux")]
pub(crate) use process::{Fate, Process, SHORT_BITS};
