//! The constant header, byte by byte.
#![allow(unsafe_code)] // Bytes become a struct of integers, and back.

use core::mem::{offset_of, size_of, transmute};

use super::geometry::{Geometry, Offsets, Policy};
use super::words::HOT_OFFSET;
use crate::error::Code;

/// First bytes of every segment.
pub const MAGIC: [u8; 8] = *b"SHMSLOT\0";
/// Version of the bytes described here; unrelated to the package version and to the soname.
pub const LAYOUT_VERSION: u32 = 2;
/// Has this value if the reader has the byte order of the writer.
pub const BYTE_ORDER: u32 = 0x0102_0304;
/// Size of the constant header, checksum included.
pub const HEADER_SIZE: usize = 512;

/// The bytes at the start whose meaning no version changes: magic, version, byte order.
pub(crate) const FROZEN_SIZE: usize = 16;

const _: () = assert!(HEADER_SIZE as u64 == HOT_OFFSET);
// Fields are used as they are in the file.
const _: () = assert!(cfg!(target_endian = "little"));

/// Header flag: one writer at a time.
pub const FLAG_SINGLE_WRITER: u32 = 1;
/// Header flag: each commit stores the time.
pub const FLAG_TIMESTAMPS: u32 = 2;
/// Header flag: the name is removed with the last participant.
pub const FLAG_EPHEMERAL: u32 = 4;
/// All header flags.
const FLAGS: u32 = FLAG_SINGLE_WRITER | FLAG_TIMESTAMPS | FLAG_EPHEMERAL;

/// One field of the constant header: its name in `docs/segment-layout.md`, offset and size.
pub type HeaderField = (&'static str, usize, usize);

/// Declares the header, and lists its fields with the offsets that they have in the struct.
macro_rules! header {
    ($($name:ident: $type:ty,)+) => {
        #[repr(C)]
        #[derive(Clone, Copy)]
        struct Header { $($name: $type),+ }

        /// The constant header, field by field.
        pub const HEADER_FIELDS: &[HeaderField] =
            &[$((stringify!($name), offset_of!(Header, $name), size_of::<$type>())),+];

        // The fields fill the struct, so it has no padding.
        const _: () = assert!($(size_of::<$type>() +)+ 0 == size_of::<Header>());
    };
}

header! {
    magic: [u8; 8],
    layout_version: u32,
    byte_order: u32,
    header_size: u32,
    reserved_20: u32,
    features_required: u64,
    features_optional: u64,
    total_size: u64,
    segment_id: u64,
    slot_capacity: u64,
    slot_count: u32,
    payload_align: u32,
    user_header_size: u32,
    max_readers: u32,
    max_participants: u32,
    history: u32,
    policy: u32,
    flags: u32,
    mode: u32,
    reserved_100: u32,
    control_size: u64,
    payload_offset: u64,
    payload_stride: u64,
    type_hash: [u8; 16],
    type_name: [u8; 64],
    max_payload: u64,
    region_count: u32,
    max_held: u32,
    regions_offset: u64,
    region_stride: u64,
    reserved_240: [u8; 264],
    checksum: u64,
}

// `version_of` reads the frozen bytes of every version, and `checksum` covers what lies before it.
const _: () = {
    assert!(size_of::<Header>() == HEADER_SIZE);
    assert!(offset_of!(Header, magic) == 0 && offset_of!(Header, layout_version) == 8);
    assert!(offset_of!(Header, byte_order) == 12 && offset_of!(Header, header_size) == FROZEN_SIZE);
    assert!(offset_of!(Header, checksum) == HEADER_SIZE - size_of::<u64>());
};

/// The constant header as bytes.
pub type HeaderBytes = [u8; HEADER_SIZE];

impl Header {
    fn from_bytes(bytes: &HeaderBytes) -> Header {
        // SAFETY: a header has the size of the bytes and no padding, and consists of integers, for
        // which all bytes are valid.
        unsafe { transmute(*bytes) }
    }

    fn to_bytes(self) -> HeaderBytes {
        // SAFETY: a header has the size of the bytes and no padding, so each byte is initialised.
        unsafe { transmute(self) }
    }
}

/// The layout version in the first bytes of a file, if they are those of a segment of any version.
pub fn version_of(start: &[u8]) -> Option<u32> {
    let (magic, version) = (start.get(..8)?, start.get(8..12)?);
    (magic == MAGIC)
        .then(|| version.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte)))
}

/// FNV-1a over everything before the checksum: detects truncation, holes and stray writes, but no
/// hostile process.
fn checksum(bytes: &HeaderBytes) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    /// Most of a header is zero, and eight zero bytes are a multiplication by this.
    const PRIME_8: u64 = PRIME.wrapping_pow(8);
    let words = bytes.chunks_exact(8).take(offset_of!(Header, checksum) / 8);
    words.fold(0xcbf2_9ce4_8422_2325, |hash, word| {
        if word == [0; 8] {
            return hash.wrapping_mul(PRIME_8);
        }
        word.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
    })
}

impl Geometry {
    /// The constant header of a segment of this geometry, whose fields were
    /// [checked](Geometry::check).
    pub fn encode(&self, offsets: &Offsets) -> HeaderBytes {
        let flags = if self.single_writer { FLAG_SINGLE_WRITER } else { 0 }
            | if self.timestamps { FLAG_TIMESTAMPS } else { 0 }
            | if self.ephemeral { FLAG_EPHEMERAL } else { 0 };
        let mut header = Header {
            magic: MAGIC,
            layout_version: LAYOUT_VERSION,
            byte_order: BYTE_ORDER,
            header_size: HEADER_SIZE as u32,
            reserved_20: 0,
            features_required: 0,
            features_optional: 0,
            total_size: offsets.total,
            segment_id: self.segment_id,
            slot_capacity: self.slot_capacity,
            slot_count: self.slot_count,
            payload_align: self.payload_align,
            user_header_size: self.user_header_size,
            max_readers: self.max_readers,
            max_participants: self.max_participants,
            history: self.history,
            policy: self.policy as u32,
            flags,
            mode: self.mode,
            reserved_100: 0,
            control_size: offsets.control_size,
            payload_offset: offsets.payload,
            payload_stride: offsets.payload_stride,
            type_hash: self.type_hash,
            type_name: self.type_name,
            max_payload: self.max_payload,
            region_count: self.region_count,
            max_held: self.max_held,
            regions_offset: offsets.regions,
            region_stride: offsets.region_stride,
            reserved_240: [0; 264],
            checksum: 0,
        };
        header.checksum = checksum(&header.to_bytes());
        header.to_bytes()
    }

    /// Reads a constant header that may contain anything. A returned geometry is consistent in
    /// itself and with the sizes that the header states.
    pub fn decode(bytes: &HeaderBytes) -> Result<(Geometry, Offsets), Code> {
        let header = Header::from_bytes(bytes);
        if header.magic != MAGIC {
            return Err(Code::NotASegment);
        }
        // Version and byte order come before the checksum, because another version may compute it
        // differently.
        if header.layout_version != LAYOUT_VERSION || header.byte_order != BYTE_ORDER {
            return Err(Code::LayoutVersion);
        }
        if header.checksum != checksum(bytes) || header.header_size as usize != HEADER_SIZE {
            return Err(Code::Corrupt);
        }
        let flags = header.flags;
        if header.features_required != 0 || flags & !FLAGS != 0 {
            return Err(Code::LayoutVersion);
        }
        let geometry = Geometry {
            segment_id: header.segment_id,
            slot_count: header.slot_count,
            slot_capacity: header.slot_capacity,
            payload_align: header.payload_align,
            user_header_size: header.user_header_size,
            max_readers: header.max_readers,
            max_participants: header.max_participants,
            history: header.history,
            max_payload: header.max_payload,
            region_count: header.region_count,
            max_held: header.max_held,
            policy: Policy::from_number(header.policy).ok_or(Code::LayoutVersion)?,
            single_writer: flags & FLAG_SINGLE_WRITER != 0,
            timestamps: flags & FLAG_TIMESTAMPS != 0,
            ephemeral: flags & FLAG_EPHEMERAL != 0,
            mode: header.mode,
            type_hash: header.type_hash,
            type_name: header.type_name,
        };
        geometry.check().map_err(|_| Code::Corrupt)?;
        let offsets = geometry.offsets().ok_or(Code::Corrupt)?;
        let consistent = header.total_size == offsets.total
            && header.control_size == offsets.control_size
            && header.payload_offset == offsets.payload
            && header.payload_stride == offsets.payload_stride
            && header.regions_offset == offsets.regions
            && header.region_stride == offsets.region_stride;
        if consistent { Ok((geometry, offsets)) } else { Err(Code::Corrupt) }
    }
}
