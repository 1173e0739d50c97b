//! The few things asked of the operating system, as plain functions.

mod descriptor;
#[cfg(target_os = "linux")]
mod linux;
pub(crate) mod mapping;
pub(crate) mod socket;
#[cfg(target_os = "linux")]
pub(crate) use linux::*;
