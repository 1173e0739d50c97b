//! The C ABI: what the headers in `include/` are generated from.
//!
//! Each file that declares something is a section of a header, and its first line is the section's
//! title; `tests/headers` has their order.
//!
//! Rules of this boundary:
//! - Every function is a thin shim: open the pointers, call the core, map the result. `arguments`
//!   has the types of the pointers, `handle` what opaque handles have in common; `boundary` runs
//!   the call, and alone catches panics.
//! - Signatures hold raw pointers and integers only. NULL, a wrong number and a wrong size are
//!   errors, not undefined behaviour, in release builds too.
//! - An output is written on success only.
//! - The comments of this module are the documentation of the header.
#![allow(unsafe_code)] // Pointers that C hands over.
#![allow(non_camel_case_types)] // The names are those of the C types.
#![allow(missing_debug_implementations)] // Handles are opaque on the other side.
#![allow(unreachable_pub)] // Exported by symbol, not by path.

mod arguments;
mod boundary;
mod given;
mod handle;
mod plain;

// In the order of the header's sections; the blank lines keep it.
mod library;

mod options;

mod segment;

mod counters;

mod writer;

mod reader;

mod reference;

mod events;

mod set;

mod channel;

mod region;

mod attachments;
