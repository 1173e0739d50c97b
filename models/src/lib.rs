//! Model checks of the slot protocol: the files that ship, compiled against loom's atomics.
#![cfg(test)]
#![allow(dead_code, unused_imports, reason = "the shipped files hold more than the models call")]

#[cfg(not(loom))]
compile_error!("these are built with --cfg loom, as models/.cargo/config.toml says");

#[path = "../../src/atomics.rs"]
mod atomics;
#[path = "../../src/error.rs"]
mod error;
#[path = "../../src/layout/mod.rs"]
mod layout;
#[path = "../../src/protocol/mod.rs"]
mod protocol;

mod batch;
mod calm;
mod death;
mod events;
mod expel;
mod hints;
mod history;
mod late;
mod members;
mod modelled;
mod regions;
mod samples;
mod sleep;
mod world;
