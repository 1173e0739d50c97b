//! Any writes of a peer into the shared words, between any of our calls.
#![no_main]
#![allow(dead_code, reason = "each target uses its own part of the drivers")]

#[path = "../../tests/hostile/mod.rs"]
mod hostile;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::calls::peer_moves(bytes));
