//! The constant header, byte by byte.

use super::geometry::{Geometry, Offsets, Policy};
use super::words::HOT_OFFSET;
use crate::error::Code;

/// First bytes of every segment.
pub const MAGIC: [u8; 8] = *b"SHMSLOT\0";
/// Version of the bytes described here; unrelated to the package version and to the soname.
pub const LAYOUT_VERSION: u32 = 2;
/// Reads back as this number where the byte order is the writer's.
pub const BYTE_ORDER: u32 = 0x0102_0304;
/// Size of the constant header, checksum included.
pub const HEADER_SIZE: usize = 512;

/// Bytes at the start of which no version changes the meaning: magic, version, byte order.
pub(crate) const FROZEN_SIZE: usize = 16;

const _: () = assert!(HEADER_SIZE as u64 == HOT_OFFSET);

/// Header flag: one writer at a time.
pub const FLAG_SINGLE_WRITER: u32 = 1;
/// Header flag: each commit notes the time.
pub const FLAG_TIMESTAMPS: u32 = 2;

/// One field of the constant header: its name in `docs/segment-layout.md`, offset and size.
pub type HeaderField = (&'static str, usize, usize);

macro_rules! header_fields {
    ($($constant:ident $name:literal $offset:literal $size:literal;)+) => {
        $(const $constant: (usize, usize) = ($offset, $size);)+
        /// The constant header, field by field.
        pub const HEADER_FIELDS: &[HeaderField] = &[$(($name, $offset, $size)),+];
    };
}

header_fields! {
    AT_MAGIC "magic" 0 8;
    AT_LAYOUT_VERSION "layout_version" 8 4;
    AT_BYTE_ORDER "byte_order" 12 4;
    AT_HEADER_SIZE "header_size" 16 4;
    AT_FEATURES_REQUIRED "features_required" 24 8;
    AT_FEATURES_OPTIONAL "features_optional" 32 8;
    AT_TOTAL_SIZE "total_size" 40 8;
    AT_SEGMENT_ID "segment_id" 48 8;
    AT_SLOT_CAPACITY "slot_capacity" 56 8;
    AT_SLOT_COUNT "slot_count" 64 4;
    AT_PAYLOAD_ALIGN "payload_align" 68 4;
    AT_USER_HEADER_SIZE "user_header_size" 72 4;
    AT_MAX_READERS "max_readers" 76 4;
    AT_MAX_PARTICIPANTS "max_participants" 80 4;
    AT_HISTORY "history" 84 4;
    AT_POLICY "policy" 88 4;
    AT_FLAGS "flags" 92 4;
    AT_MODE "mode" 96 4;
    AT_CONTROL_SIZE "control_size" 104 8;
    AT_PAYLOAD_OFFSET "payload_offset" 112 8;
    AT_PAYLOAD_STRIDE "payload_stride" 120 8;
    AT_TYPE_HASH "type_hash" 128 16;
    AT_TYPE_NAME "type_name" 144 64;
    AT_MAX_PAYLOAD "max_payload" 208 8;
    AT_REGION_COUNT "region_count" 216 4;
    AT_REGIONS_OFFSET "regions_offset" 224 8;
    AT_REGION_STRIDE "region_stride" 232 8;
    AT_CHECKSUM "checksum" 504 8;
}

/// The constant header as bytes.
pub type HeaderBytes = [u8; HEADER_SIZE];

fn put(bytes: &mut HeaderBytes, (offset, size): (usize, usize), value: &[u8]) {
    if let Some(field) = bytes.get_mut(offset..offset + size) {
        field.copy_from_slice(value);
    }
}

fn get<const N: usize>(bytes: &HeaderBytes, (offset, _): (usize, usize)) -> [u8; N] {
    let mut value = [0; N];
    if let Some(field) = bytes.get(offset..offset + N) {
        value.copy_from_slice(field);
    }
    value
}

fn get_u32(bytes: &HeaderBytes, at: (usize, usize)) -> u32 {
    u32::from_le_bytes(get(bytes, at))
}

fn get_u64(bytes: &HeaderBytes, at: (usize, usize)) -> u64 {
    u64::from_le_bytes(get(bytes, at))
}

/// The layout version that the first bytes of a file name, if they are those of a segment, of whatever version.
pub fn version_of(start: &[u8]) -> Option<u32> {
    let (magic, version) = (start.get(..8)?, start.get(8..12)?);
    (magic == MAGIC).then(|| version.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte)))
}

/// FNV-1a over everything before the checksum: catches a cut, a hole and a stray write, not an enemy.
fn checksum(bytes: &HeaderBytes) -> u64 {
    let (end, _) = AT_CHECKSUM;
    bytes.iter().take(end).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl Geometry {
    /// The constant header of a segment of this geometry, whose fields were [checked](Geometry::check).
    pub fn encode(&self, offsets: &Offsets) -> HeaderBytes {
        let flags = if self.single_writer { FLAG_SINGLE_WRITER } else { 0 }
            | if self.timestamps { FLAG_TIMESTAMPS } else { 0 };
        let mut bytes = [0; HEADER_SIZE];
        let b = &mut bytes;
        put(b, AT_MAGIC, &MAGIC);
        put(b, AT_LAYOUT_VERSION, &LAYOUT_VERSION.to_le_bytes());
        put(b, AT_BYTE_ORDER, &BYTE_ORDER.to_le_bytes());
        put(b, AT_HEADER_SIZE, &(HEADER_SIZE as u32).to_le_bytes());
        put(b, AT_FEATURES_REQUIRED, &0u64.to_le_bytes());
        put(b, AT_FEATURES_OPTIONAL, &0u64.to_le_bytes());
        put(b, AT_TOTAL_SIZE, &offsets.total.to_le_bytes());
        put(b, AT_SEGMENT_ID, &self.segment_id.to_le_bytes());
        put(b, AT_SLOT_CAPACITY, &self.slot_capacity.to_le_bytes());
        put(b, AT_SLOT_COUNT, &self.slot_count.to_le_bytes());
        put(b, AT_PAYLOAD_ALIGN, &self.payload_align.to_le_bytes());
        put(b, AT_USER_HEADER_SIZE, &self.user_header_size.to_le_bytes());
        put(b, AT_MAX_READERS, &self.max_readers.to_le_bytes());
        put(b, AT_MAX_PARTICIPANTS, &self.max_participants.to_le_bytes());
        put(b, AT_HISTORY, &self.history.to_le_bytes());
        put(b, AT_POLICY, &(self.policy as u32).to_le_bytes());
        put(b, AT_FLAGS, &flags.to_le_bytes());
        put(b, AT_MODE, &self.mode.to_le_bytes());
        put(b, AT_CONTROL_SIZE, &offsets.control_size.to_le_bytes());
        put(b, AT_PAYLOAD_OFFSET, &offsets.payload.to_le_bytes());
        put(b, AT_PAYLOAD_STRIDE, &offsets.payload_stride.to_le_bytes());
        put(b, AT_TYPE_HASH, &self.type_hash);
        put(b, AT_TYPE_NAME, &self.type_name);
        put(b, AT_MAX_PAYLOAD, &self.max_payload.to_le_bytes());
        put(b, AT_REGION_COUNT, &self.region_count.to_le_bytes());
        put(b, AT_REGIONS_OFFSET, &offsets.regions.to_le_bytes());
        put(b, AT_REGION_STRIDE, &offsets.region_stride.to_le_bytes());
        let sum = checksum(b);
        put(b, AT_CHECKSUM, &sum.to_le_bytes());
        bytes
    }

    /// Reads a constant header that may hold anything. A geometry that comes back is consistent in itself
    /// and with the sizes that the header states.
    pub fn decode(bytes: &HeaderBytes) -> Result<(Geometry, Offsets), Code> {
        if get::<8>(bytes, AT_MAGIC) != MAGIC {
            return Err(Code::NotASegment);
        }
        // Version and byte order come before the checksum: another version may compute it otherwise.
        if get_u32(bytes, AT_LAYOUT_VERSION) != LAYOUT_VERSION || get_u32(bytes, AT_BYTE_ORDER) != BYTE_ORDER
        {
            return Err(Code::LayoutVersion);
        }
        if get_u64(bytes, AT_CHECKSUM) != checksum(bytes)
            || get_u32(bytes, AT_HEADER_SIZE) as usize != HEADER_SIZE
        {
            return Err(Code::Corrupt);
        }
        let flags = get_u32(bytes, AT_FLAGS);
        if get_u64(bytes, AT_FEATURES_REQUIRED) != 0 || flags & !(FLAG_SINGLE_WRITER | FLAG_TIMESTAMPS) != 0 {
            return Err(Code::LayoutVersion);
        }
        let geometry = Geometry {
            segment_id: get_u64(bytes, AT_SEGMENT_ID),
            slot_count: get_u32(bytes, AT_SLOT_COUNT),
            slot_capacity: get_u64(bytes, AT_SLOT_CAPACITY),
            payload_align: get_u32(bytes, AT_PAYLOAD_ALIGN),
            user_header_size: get_u32(bytes, AT_USER_HEADER_SIZE),
            max_readers: get_u32(bytes, AT_MAX_READERS),
            max_participants: get_u32(bytes, AT_MAX_PARTICIPANTS),
            history: get_u32(bytes, AT_HISTORY),
            max_payload: get_u64(bytes, AT_MAX_PAYLOAD),
            region_count: get_u32(bytes, AT_REGION_COUNT),
            policy: Policy::from_number(get_u32(bytes, AT_POLICY)).ok_or(Code::LayoutVersion)?,
            single_writer: flags & FLAG_SINGLE_WRITER != 0,
            timestamps: flags & FLAG_TIMESTAMPS != 0,
            mode: get_u32(bytes, AT_MODE),
            type_hash: get(bytes, AT_TYPE_HASH),
            type_name: get(bytes, AT_TYPE_NAME),
        };
        geometry.check().map_err(|_| Code::Corrupt)?;
        let offsets = geometry.offsets().ok_or(Code::Corrupt)?;
        let stated = [
            (AT_TOTAL_SIZE, offsets.total),
            (AT_CONTROL_SIZE, offsets.control_size),
            (AT_PAYLOAD_OFFSET, offsets.payload),
            (AT_PAYLOAD_STRIDE, offsets.payload_stride),
            (AT_REGIONS_OFFSET, offsets.regions),
            (AT_REGION_STRIDE, offsets.region_stride),
        ];
        if stated.iter().any(|(at, value)| get_u64(bytes, *at) != *value) {
            return Err(Code::Corrupt);
        }
        Ok((geometry, offsets))
    }
}
