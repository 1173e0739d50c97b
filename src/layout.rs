//! Every byte of a segment: the constant header, the words that change, and where each table begins.
//!
//! `docs/segment-layout.md` is this file as a page; `tests/layout_snapshot.rs` compares the two. All fields
//! are little-endian, of fixed width and free of pointers, so that 32- and 64-bit processes agree.
#![forbid(unsafe_code)]

use crate::atomics::{AtomicU32, AtomicU64, FutexWord};
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

/// Where the words that everybody changes begin.
pub const HOT_OFFSET: u64 = 0x200;
/// Where the reader rows begin.
pub const READERS_OFFSET: u64 = 0x800;
/// Where the row of the anteroom is: the participant who has found all rows taken, and cleans up after the dead to get one.
pub const ANTEROOM_OFFSET: u64 = PARTICIPANTS_OFFSET - PARTICIPANT_ROW_SIZE;
/// Where the participant rows begin.
pub const PARTICIPANTS_OFFSET: u64 = 0x1800;
/// The smallest page of any supported system. The control part ends on it, so that the rest can be mapped
/// read-only.
pub const PAGE: u64 = 4096;

/// Most slots of a segment: an entry of the order gives a slot 24 bits.
pub const MAX_SLOTS: u32 = 1 << 24;
/// Largest payload of a slot.
pub const MAX_CAPACITY: u64 = 1 << 32;
/// Most joined readers: one bit of 64 keeps history.
pub const MAX_READERS: u32 = 63;
/// Most attached participants: an owner gives a participant 12 bits.
pub const MAX_PARTICIPANTS: u32 = 4095;
/// Most regions of a segment: an extent gives one 6 bits, and none is one of the values.
pub const MAX_REGIONS: u32 = 63;
/// Regions begin on this border, the size of a huge page on both supported processors.
pub const REGION_ALIGN: u64 = 2 << 20;
/// Largest user header of a slot.
pub const MAX_USER_HEADER: u32 = 256;
/// Longest type name, in bytes.
pub const MAX_TYPE_NAME: usize = 63;
/// Readers (or history) that share one word of marks.
pub const MARKS_PER_WORD: u32 = 16;
/// Words of marks in a slot line.
pub const MARK_WORDS: usize = 4;

/// What a writer does when nothing is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u32)]
pub enum Policy {
    /// `reserve` fails at once.
    #[default]
    Fail = 0,
    /// `reserve` waits for a reader.
    Block = 1,
    /// `reserve` takes the oldest sample that nobody has in hand away from those who have not read it.
    DropOldest = 2,
}

impl Policy {
    /// The policy of a number that crossed a boundary.
    pub fn from_number(number: u32) -> Option<Policy> {
        [Policy::Fail, Policy::Block, Policy::DropOldest].into_iter().find(|p| *p as u32 == number)
    }
}

/// State of the participant rows of a new segment.
pub const NEW_ROW: u32 = 2;
/// Header flag: one writer at a time.
pub const FLAG_SINGLE_WRITER: u32 = 1;
/// Header flag: each commit notes the time.
pub const FLAG_TIMESTAMPS: u32 = 2;

/// What a segment is made of; decided at creation, never changed. Each process keeps a private copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Random number that tells this segment from every other.
    pub segment_id: u64,
    /// Number of slots, 1 to [`MAX_SLOTS`].
    pub slot_count: u32,
    /// Payload bytes of a slot, 1 to [`MAX_CAPACITY`].
    pub slot_capacity: u64,
    /// Alignment of each payload, a power of two from 64 to 4096.
    pub payload_align: u32,
    /// Bytes of user header beside each slot, at most [`MAX_USER_HEADER`].
    pub user_header_size: u32,
    /// Readers that may be joined at once, 1 to [`MAX_READERS`].
    pub max_readers: u32,
    /// Processes that may be attached at once, 1 to [`MAX_PARTICIPANTS`].
    pub max_participants: u32,
    /// Samples kept for readers that join later, less than `slot_count`.
    pub history: u32,
    /// Largest payload of all, more than `slot_capacity`; 0 if every payload is in its slot.
    pub max_payload: u64,
    /// Payloads in regions that may be there at once, more than `history`, at most [`MAX_REGIONS`]; 0 without regions.
    pub region_count: u32,
    /// What a writer does when nothing is free.
    pub policy: Policy,
    /// One writer at a time: it publishes with a swap where many need a compare-and-swap.
    pub single_writer: bool,
    /// Whether each commit notes the time.
    pub timestamps: bool,
    /// Permission bits that the creator gave the file.
    pub mode: u32,
    /// Identity of the sample type; zero is none.
    pub type_hash: [u8; 16],
    /// Name of the sample type, padded with zeros.
    pub type_name: [u8; MAX_TYPE_NAME + 1],
}

/// Where the parts of a segment begin, in bytes from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// Slot lines, one `SlotLine` a slot.
    pub lines: u64,
    /// Claims, one `Claim` a slot.
    pub claims: u64,
    /// Vacancy map, 64-bit words.
    pub vacancy: u64,
    /// Region rows, one `RegionRow` a region.
    pub region_rows: u64,
    /// Audiences of reference operations, one 64-bit word a slot.
    pub audiences: u64,
    /// End of the part that every participant writes; a multiple of [`PAGE`].
    pub control_size: u64,
    /// User headers.
    pub user_headers: u64,
    /// Distance between user headers.
    pub user_header_stride: u64,
    /// Payloads.
    pub payload: u64,
    /// Distance between payloads.
    pub payload_stride: u64,
    /// End of what is allocated at creation. Regions get their memory when they need it.
    pub fixed_size: u64,
    /// Regions.
    pub regions: u64,
    /// Distance between regions.
    pub region_stride: u64,
    /// Size of the whole.
    pub total: u64,
}

fn round_up(value: u64, align: u64) -> Option<u64> {
    Some(value.checked_add(align - 1)? & !(align - 1))
}

impl Geometry {
    /// Names the first field that is out of its range.
    pub fn check(&self) -> Result<(), &'static str> {
        let ranges = [
            ((1..=MAX_SLOTS).contains(&self.slot_count), "slot_count"),
            ((1..=MAX_CAPACITY).contains(&self.slot_capacity), "slot_capacity"),
            (
                self.payload_align.is_power_of_two() && (64..=4096).contains(&self.payload_align),
                "payload_align",
            ),
            (self.user_header_size <= MAX_USER_HEADER, "user_header_size"),
            ((1..=MAX_READERS).contains(&self.max_readers), "max_readers"),
            ((1..=MAX_PARTICIPANTS).contains(&self.max_participants), "max_participants"),
            (self.history < self.slot_count, "history"),
            (
                self.max_payload == 0
                    || self.max_payload > self.slot_capacity && self.max_payload <= MAX_CAPACITY,
                "max_payload",
            ),
            // Retained samples keep their regions; the one that pushes out the oldest needs one more.
            (
                match self.max_payload {
                    0 => self.region_count == 0,
                    _ => self.region_count > self.history && self.region_count <= MAX_REGIONS,
                },
                "region_count",
            ),
            (self.mode & !0o666 == 0 && self.mode & 0o600 == 0o600, "mode"),
            (self.type_name[MAX_TYPE_NAME] == 0, "type_name"),
        ];
        match ranges.iter().find(|(holds, _)| !holds) {
            Some((_, field)) => Err(field),
            // Only with every field in its range does the arithmetic make sense.
            None if self.offsets().is_none() => Err("slot_capacity times slot_count"),
            None => Ok(()),
        }
    }

    /// The one place where sizes become offsets; `None` when the sum does not fit a file. Fields must be in their
    /// ranges.
    pub fn offsets(&self) -> Option<Offsets> {
        let slots = u64::from(self.slot_count);
        let participants = u64::from(self.max_participants).checked_mul(PARTICIPANT_ROW_SIZE)?;
        let lines = round_up(PARTICIPANTS_OFFSET.checked_add(participants)?, 128)?;
        let claims = lines.checked_add(slots.checked_mul(SLOT_LINE_SIZE)?)?;
        let vacancy = round_up(claims.checked_add(slots.checked_mul(CLAIM_SIZE)?)?, 128)?;
        let vacancy_size = vacancy_words(self.slot_count).checked_mul(8)?;
        let region_rows = round_up(vacancy.checked_add(vacancy_size)?, 64)?;
        let region_count = u64::from(self.region_count);
        let rows_size = region_count.checked_mul(REGION_ROW_SIZE)?;
        let audiences = region_rows.checked_add(rows_size)?;
        let control_size = round_up(audiences.checked_add(slots.checked_mul(8)?)?, PAGE)?;
        let user_header_stride = round_up(u64::from(self.user_header_size), 64)?;
        let headers = slots.checked_mul(user_header_stride)?;
        let align = u64::from(self.payload_align);
        let payload = round_up(control_size.checked_add(headers)?, align.max(64))?;
        let payload_stride = round_up(self.slot_capacity, align)?;
        let fixed_size = round_up(payload.checked_add(slots.checked_mul(payload_stride)?)?, PAGE)?;
        let regions = if region_count == 0 { fixed_size } else { round_up(fixed_size, REGION_ALIGN)? };
        let region_stride = round_up(self.max_payload, REGION_ALIGN)?;
        let total = regions.checked_add(region_count.checked_mul(region_stride)?)?;
        (total <= i64::MAX as u64 && usize::try_from(total).is_ok()).then_some(Offsets {
            lines,
            claims,
            vacancy,
            region_rows,
            audiences,
            control_size,
            user_headers: control_size,
            user_header_stride,
            payload,
            payload_stride,
            fixed_size,
            regions,
            region_stride,
            total,
        })
    }

    /// Words of marks that hold `max_readers` readers and the history bit.
    pub(crate) fn mark_words(&self) -> usize {
        (self.max_readers + 1).div_ceil(MARKS_PER_WORD) as usize
    }
}

/// 64-bit words of the vacancy map: one bit a slot, then one bit a word, up to a single word.
pub(crate) fn vacancy_words(slot_count: u32) -> u64 {
    let mut words = 0;
    let mut level = u64::from(slot_count);
    loop {
        level = level.div_ceil(64);
        words += level;
        if level <= 1 {
            return words;
        }
    }
}

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

/// A value with two cache lines of its own: adjacent-line prefetchers pull lines in pairs.
#[repr(C, align(128))]
pub(crate) struct Apart<T>(pub(crate) T);

/// The words that everybody changes, each apart from the others.
#[repr(C)]
pub(crate) struct Hot {
    /// The sequence of the next sample; lags behind the order by at most one help.
    pub(crate) tail: Apart<AtomicU64>,
    /// Bit i: reader i is joined, new samples are owed to it.
    pub(crate) active: Apart<AtomicU64>,
    /// Who sleeps, and for what.
    pub(crate) bells: Apart<Bells>,
    /// No sample below this sequence is owed to anybody (drop-oldest only).
    pub(crate) horizon: Apart<AtomicU64>,
    /// Rare changes of state.
    pub(crate) life: Apart<Life>,
}

/// The three bells of a segment, in one line: they are read far more often than written.
#[repr(C)]
pub(crate) struct Bells {
    /// Rung by a commit; readers sleep here.
    pub(crate) data: FutexWord,
    /// Rung when a slot becomes free; writers sleep here.
    pub(crate) space: FutexWord,
    /// Rung by every commit, discard and mark; `wait_for_change` sleeps here.
    pub(crate) change: FutexWord,
}

/// Rare changes of state.
#[repr(C)]
pub(crate) struct Life {
    /// 1 once the segment is being replaced under its name: attach must not join it any more.
    pub(crate) retired: AtomicU32,
    /// The writer of a single-writer segment: owner + 1, or 0.
    pub(crate) writer: AtomicU32,
    /// Dead participants that were cleaned up after, so far.
    pub(crate) deaths: AtomicU32,
    /// Writers that were opened, or tried to be, so far.
    pub(crate) opened: AtomicU32,
    /// When a waiting participant last looked for the dead, in nanoseconds of the monotonic clock.
    pub(crate) looked: AtomicU64,
    /// How many participant rows looks for the dead have come by, so far; the next goes on there, modulo all rows.
    pub(crate) asked: AtomicU64,
}

/// The line of a slot that readers poll. It has two jobs.
///
/// As a place in the order: `entry` names the slots of the two sequences that have their home here. As a slot:
/// the other words describe the sample that lives in it. A writer prefers the home slot, and then one line
/// tells a reader everything.
#[repr(C, align(64))]
pub(crate) struct SlotLine {
    /// Sequence and slot of a published sample; two laps, so that a wrap never meets an unread entry.
    pub(crate) entry: [AtomicU64; 2],
    /// Tag of the sequence, owed bits and held bits of 16 readers each.
    pub(crate) marks: [AtomicU64; MARK_WORDS],
    /// Sequence of the sample in this slot.
    pub(crate) sequence: AtomicU64,
    /// Length of the sample, its region, and its writer.
    pub(crate) extent: AtomicU64,
}

/// The words of a slot that only writers touch, away from the line that readers poll.
#[repr(C, align(16))]
pub(crate) struct Claim {
    /// Phase, owner and generation.
    pub(crate) ctl: AtomicU64,
    /// While loaned the reserved length and the region, once published the time of the commit.
    pub(crate) aux: AtomicU64,
}

/// A region: room for a payload that is too large for its slot.
#[repr(C, align(64))]
pub(crate) struct RegionRow {
    /// Which life of which slot has it.
    pub(crate) lease: AtomicU64,
    /// Bytes from its start that have memory.
    pub(crate) allocated: AtomicU64,
}

/// A joined reader.
#[repr(C, align(64))]
pub(crate) struct ReaderRow {
    /// Phase and participant.
    pub(crate) state: AtomicU64,
    /// The sequence that it reads next. Once it has left, what lies before is in its hands.
    pub(crate) cursor: AtomicU64,
    /// Samples it lost; a hint for tools.
    pub(crate) lost: AtomicU64,
}

/// An attached process.
#[repr(C, align(64))]
pub(crate) struct ParticipantRow {
    /// Grows as the row is taken, and as it is given back: odd is taken. It begins at [`NEW_ROW`]: 0 is a row that was wiped.
    pub(crate) state: AtomicU32,
    /// Its process number, as its own namespace has it.
    pub(crate) pid: AtomicU32,
    /// Its pid namespace, by inode; 0 if it could not tell.
    pub(crate) pid_namespace: AtomicU64,
    /// Writers that it has open.
    pub(crate) writers: AtomicU32,
    /// What tells it from later processes of its number; 0 if it could not tell.
    pub(crate) born: AtomicU64,
    /// Who cleans up after it, now that it is dead, as `Recoverer` in `participants` has it; or 0.
    pub(crate) recoverer: AtomicU64,
}

/// Size of a `SlotLine`.
pub const SLOT_LINE_SIZE: u64 = 64;
/// Size of a `Claim`.
pub const CLAIM_SIZE: u64 = 16;
/// Size of a `ReaderRow`.
pub const READER_ROW_SIZE: u64 = 64;
/// Size of a `ParticipantRow`.
pub const PARTICIPANT_ROW_SIZE: u64 = 64;
/// Size of a `RegionRow`.
pub const REGION_ROW_SIZE: u64 = 64;

#[cfg(not(loom))]
const _: () = {
    use core::mem::{align_of, offset_of, size_of};
    assert!(size_of::<SlotLine>() == SLOT_LINE_SIZE as usize && align_of::<SlotLine>() == 64);
    assert!(size_of::<Claim>() == CLAIM_SIZE as usize);
    assert!(size_of::<ReaderRow>() == READER_ROW_SIZE as usize);
    assert!(size_of::<ParticipantRow>() == PARTICIPANT_ROW_SIZE as usize);
    assert!(size_of::<RegionRow>() == REGION_ROW_SIZE as usize);
    assert!(HOT_OFFSET as usize + size_of::<Hot>() <= READERS_OFFSET as usize);
    assert!(READERS_OFFSET + MAX_READERS as u64 * READER_ROW_SIZE <= ANTEROOM_OFFSET);
    assert!(HEADER_SIZE as u64 == HOT_OFFSET && HOT_OFFSET % 128 == 0);
    assert!(offset_of!(Hot, active) == 0x80 && offset_of!(Hot, bells) == 0x100);
    assert!(offset_of!(Hot, horizon) == 0x180 && offset_of!(Hot, life) == 0x200);
    assert!(offset_of!(SlotLine, marks) == 16 && offset_of!(SlotLine, sequence) == 48);
    assert!(offset_of!(SlotLine, extent) == 56 && offset_of!(Claim, aux) == 8);
    assert!(size_of::<FutexWord>() == 4 && size_of::<Bells>() == 12);
};

/// Where each word that changes stands, by the names of `docs/segment-layout.md`: from the start of the
/// segment for the hot words, from the start of its row for the rest.
#[cfg(not(loom))]
pub fn word_offsets() -> Vec<(&'static str, usize)> {
    use core::mem::offset_of;
    let hot = HOT_OFFSET as usize;
    vec![
        ("tail", hot + offset_of!(Hot, tail)),
        ("active", hot + offset_of!(Hot, active)),
        ("bells.data", hot + offset_of!(Hot, bells) + offset_of!(Bells, data)),
        ("bells.space", hot + offset_of!(Hot, bells) + offset_of!(Bells, space)),
        ("bells.change", hot + offset_of!(Hot, bells) + offset_of!(Bells, change)),
        ("horizon", hot + offset_of!(Hot, horizon)),
        ("life.retired", hot + offset_of!(Hot, life) + offset_of!(Life, retired)),
        ("life.writer", hot + offset_of!(Hot, life) + offset_of!(Life, writer)),
        ("life.deaths", hot + offset_of!(Hot, life) + offset_of!(Life, deaths)),
        ("life.opened", hot + offset_of!(Hot, life) + offset_of!(Life, opened)),
        ("life.looked", hot + offset_of!(Hot, life) + offset_of!(Life, looked)),
        ("life.asked", hot + offset_of!(Hot, life) + offset_of!(Life, asked)),
        ("line.entry", offset_of!(SlotLine, entry)),
        ("line.marks", offset_of!(SlotLine, marks)),
        ("line.sequence", offset_of!(SlotLine, sequence)),
        ("line.extent", offset_of!(SlotLine, extent)),
        ("claim.ctl", offset_of!(Claim, ctl)),
        ("claim.aux", offset_of!(Claim, aux)),
        ("region.lease", offset_of!(RegionRow, lease)),
        ("region.allocated", offset_of!(RegionRow, allocated)),
        ("reader.state", offset_of!(ReaderRow, state)),
        ("reader.cursor", offset_of!(ReaderRow, cursor)),
        ("reader.lost", offset_of!(ReaderRow, lost)),
        ("participant.state", offset_of!(ParticipantRow, state)),
        ("participant.pid", offset_of!(ParticipantRow, pid)),
        ("participant.pid_namespace", offset_of!(ParticipantRow, pid_namespace)),
        ("participant.writers", offset_of!(ParticipantRow, writers)),
        ("participant.born", offset_of!(ParticipantRow, born)),
        ("participant.recoverer", offset_of!(ParticipantRow, recoverer)),
    ]
}
