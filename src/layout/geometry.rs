//! What a segment is made of, and where each part of it begins.
#![forbid(unsafe_code)]

use super::limits::{
    MARKS_PER_WORD, MAX_CAPACITY, MAX_PARTICIPANTS, MAX_READERS, MAX_REGIONS, MAX_SLOTS, MAX_TYPE_NAME,
    MAX_USER_HEADER, REGION_ALIGN,
};
use super::words::{
    CLAIM_SIZE, PAGE, PARTICIPANT_ROW_SIZE, PARTICIPANTS_OFFSET, REGION_ROW_SIZE, SLOT_LINE_SIZE,
};

/// What a writer does when nothing is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u32)]
pub enum Policy {
    /// `reserve` waits for a reader.
    #[default]
    Block = 1,
    /// `reserve` fails at once, whatever its timeout: it never waits.
    Fail = 2,
    /// `reserve` takes the oldest sample that nobody holds away from the readers that have not read it.
    DropOldest = 3,
}

impl Policy {
    /// The policy of a number that crossed a boundary.
    pub fn from_number(number: u32) -> Option<Policy> {
        [Policy::Block, Policy::Fail, Policy::DropOldest].into_iter().find(|p| *p as u32 == number)
    }
}

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
    /// Whether the name goes with the last participant.
    pub ephemeral: bool,
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
