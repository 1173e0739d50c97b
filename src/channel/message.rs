//! The messages of a channel: 16 bytes that name a region or a segment, and its descriptor.
#![forbid(unsafe_code)]

use std::fmt;
use std::os::fd::BorrowedFd;

use crate::error::{Code, Error, Result};
use crate::sys::socket::Foreign;
use crate::sys::{self, FileFacts};

/// Bytes of a message.
pub(super) const MESSAGE: usize = 16;
/// The region number of messages that carry a segment. No registry uses it.
pub(super) const SEGMENT: u32 = u32::MAX;

/// A message: map_id, generation and length, little-endian.
pub(crate) fn encode(map_id: u32, generation: u32, length: u64) -> [u8; MESSAGE] {
    let mut message = [0; MESSAGE];
    let fields = map_id
        .to_le_bytes()
        .into_iter()
        .chain(generation.to_le_bytes())
        .chain(length.to_le_bytes());
    for (target, byte) in message.iter_mut().zip(fields) {
        *target = byte;
    }
    message
}

pub(super) fn decode(message: &[u8; MESSAGE]) -> (u32, u32, u64) {
    let number = u128::from_le_bytes(*message);
    (number as u32, (number >> 32) as u32, (number >> 64) as u64)
}

/// A region that the other side may refer to from now on.
#[derive(Debug)]
pub(crate) struct Announced {
    pub(crate) map_id: u32,
    pub(crate) generation: u32,
    pub(crate) length: u64,
    pub(crate) file: Foreign,
    /// The facts of its file at the check.
    pub(crate) facts: FileFacts,
}

impl Announced {
    /// Checks what can be checked of a region before it is mapped.
    pub(crate) fn check(
        map_id: u32,
        length: u64,
        file: BorrowedFd<'_>,
        unsealed: bool,
    ) -> Result<FileFacts> {
        let refuse = |code, what: &dyn fmt::Display, actual| {
            Err(Error::new(code).about(format_args!("region {map_id}{what}")).with_numbers([
                u64::from(map_id),
                length,
                actual,
            ]))
        };
        if map_id == SEGMENT {
            return refuse(Code::Invalid, &" has the number that is reserved for segments", 0);
        }
        if length == 0 || length > i64::MAX as u64 {
            return refuse(Code::Invalid, &format_args!(" has the impossible length {length}"), 0);
        }
        let facts = sys::file_facts(file)?;
        if !facts.is_regular {
            return refuse(Code::NotAFile, &": its descriptor is not a regular file", 0);
        }
        if !unsealed && !sys::is_size_sealed(file) {
            return refuse(Code::NotSealed, &": its file is not sealed", 0);
        }
        if facts.size < length {
            return refuse(
                Code::Truncated,
                &format_args!(
                    " has {length} bytes by its message, but its file has {}",
                    facts.size
                ),
                facts.size,
            );
        }
        Ok(facts)
    }
}
