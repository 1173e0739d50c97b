//! A hostile peer, driven by bytes: `tests/hostile_segment.rs` runs it with seeds, and `fuzz/` with
//! libFuzzer.
//!
//! Nothing here expects a call to succeed. A driver returns if every call returned a value or an
//! error code, every pointer lay inside its mapping, and nothing outside was touched: before and
//! after each mapping of a segment there is a page that faults.

pub(crate) mod attach;
pub(crate) mod calls;
pub(crate) mod choices;
mod fence;
mod peer;
