//! Any file is given to attach: the result is an error code, or a segment that can be used beside a
//! hostile peer.
#![no_main]
#![allow(dead_code, reason = "each target uses its own part of the drivers")]

#[path = "../../tests/hostile/mod.rs"]
mod hostile;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::attach::attach(bytes));
