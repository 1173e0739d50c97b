//! How `send` and `recv` carry a file: a sample that begins, samples of data, and a sample that
//! ends. The user header beside each says which it is.

use serde_json::{Value, json};
use shmslot::{CreateOptions, Policy};

use crate::sizes::Sizes;

const TYPE: &str = "shmslot file transfer 1";

/// Bytes of the user header.
pub(crate) const HEADER: usize = 32;

/// Which part of a transfer a sample is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Begin = 1,
    Data = 2,
    End = 3,
}

/// The user header: little-endian numbers, and zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) part: Part,
    /// Tells the samples of one transfer from those of another.
    pub(crate) transfer: u64,
    /// Bytes of the file before this sample.
    pub(crate) offset: u64,
}

impl Header {
    pub(crate) fn to_bytes(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(&(self.part as u64).to_le_bytes());
        bytes[8..16].copy_from_slice(&self.transfer.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.offset.to_le_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8; HEADER]) -> Option<Header> {
        let word = |at: usize| {
            bytes[at..].first_chunk().map_or(0, |bytes: &[u8; 8]| u64::from_le_bytes(*bytes))
        };
        let part = [Part::Begin, Part::Data, Part::End].into_iter();
        let part = part.into_iter().find(|part| *part as u64 == word(0))?;
        Some(Header { part, transfer: word(8), offset: word(16) })
    }
}

/// The segment of a transfer. Sender and receivers may come in any order: the first makes it, and
/// the others take it as it is, if its type says that it carries files. Its name goes with the last
/// of them.
pub(crate) fn options(sizes: &Sizes) -> CreateOptions {
    let mut options = CreateOptions {
        slot_count: 16,
        slot_capacity: 256 << 10,
        user_header_size: HEADER as u32,
        policy: Some(Policy::Block),
        single_writer: true,
        ephemeral: true,
        any_geometry: true,
        type_name: TYPE.to_owned(),
        type_hash: shmslot::type_hash(TYPE, HEADER as u64),
        ..CreateOptions::default()
    };
    sizes.change(&mut options);
    options
}

/// The payload of the sample that begins.
pub(crate) fn about(name: Option<&str>, size: Option<u64>) -> Value {
    json!({ "name": name, "size": size })
}

/// The payload of the sample that ends.
pub(crate) fn sum(size: u64, crc32: u32) -> Value {
    json!({ "size": size, "crc32": crc32 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_they_were_written() {
        for part in [Part::Begin, Part::Data, Part::End] {
            let header = Header { part, transfer: u64::MAX, offset: 1 << 40 };
            assert_eq!(Header::from_bytes(&header.to_bytes()), Some(header));
        }
        assert_eq!(Header::from_bytes(&[0; HEADER]), None);
    }
}
