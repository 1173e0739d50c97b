//! The records of a chunk, which may be compressed. The decompressors are written in Rust.

use std::borrow::Cow;
use std::io::{self, Read};

use mcap::McapError;
use mcap::records::ChunkHeader;

/// The largest chunk that is taken, compressed or not: a damaged file may claim any size.
const LARGEST: u64 = 4 << 30;

/// The bytes of a chunk, as they were before they were compressed.
pub(super) fn unpack<'c>(header: &ChunkHeader, data: &'c [u8]) -> Result<Cow<'c, [u8]>, McapError> {
    let bytes = match &*header.compression {
        "" => Cow::Borrowed(data),
        "lz4" => Cow::Owned(read(lz4_flex::frame::FrameDecoder::new(data), header)?),
        "zstd" => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(data);
            let decoder = decoder.map_err(|error| wrong(&error))?;
            Cow::Owned(read(decoder, header)?)
        }
        other => return Err(McapError::UnsupportedCompression(other.to_owned())),
    };
    if bytes.len() as u64 != header.uncompressed_size {
        return Err(McapError::DecompressionError(format!(
            "a chunk has {} bytes, and its header says {}",
            bytes.len(),
            header.uncompressed_size
        )));
    }
    // 0 says that the recorder has not computed it.
    let calculated = crc32fast::hash(&bytes);
    match header.uncompressed_crc {
        saved if saved != 0 && saved != calculated => {
            Err(McapError::BadChunkCrc { saved, calculated })
        }
        _ => Ok(bytes),
    }
}

fn wrong(error: &impl std::fmt::Display) -> McapError {
    McapError::DecompressionError(error.to_string())
}

/// Reads no more than the header says, and one byte that must not be there.
fn read(decoder: impl Read, header: &ChunkHeader) -> Result<Vec<u8>, McapError> {
    let mut bytes = Vec::new();
    let most = header.uncompressed_size.min(LARGEST).saturating_add(1);
    let read: io::Result<usize> = decoder.take(most).read_to_end(&mut bytes);
    read.map_err(|error| wrong(&error))?;
    Ok(bytes)
}

/// The records of a chunk: kind, length, and body of each.
pub(super) struct Records<'c>(pub(super) &'c [u8]);

impl<'c> Iterator for Records<'c> {
    /// Kind and body; `Err` if the chunk ends within a record.
    type Item = Result<(u8, &'c [u8]), McapError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (kind, rest) = self.0.split_first()?;
        let body = rest.split_first_chunk().and_then(|(len, rest)| {
            let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
            rest.split_at_checked(len)
        });
        let Some((body, rest)) = body else {
            self.0 = &[];
            return Some(Err(McapError::UnexpectedEoc));
        };
        self.0 = rest;
        Some(Ok((*kind, body)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_end_with_the_chunk_and_never_after_it() {
        let whole = [5, 2, 0, 0, 0, 0, 0, 0, 0, 7, 8, 4, 0, 0, 0, 0, 0, 0, 0, 0];
        let read = |bytes| Records(bytes).collect::<Result<Vec<_>, _>>();
        assert_eq!(read(&whole).expect("it is whole"), [(5, &[7, 8][..]), (4, &[])]);
        for end in (1..whole.len()).filter(|end| *end != 11) {
            assert!(read(&whole[..end]).is_err(), "{end}");
        }
        assert!(read(&[5, 255, 255, 255, 255, 255, 255, 255, 255]).is_err());
    }
}
