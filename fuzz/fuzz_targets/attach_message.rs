//! Any messages, with any descriptors, from the other end of a channel.
#![no_main]

#[path = "../../tests/hostile_channel/mod.rs"]
mod hostile_channel;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    hostile_channel::play(bytes);
});
