//! The geometry of a segment, and where each part begins.
#![forbid(unsafe_code)]

use core::ops::RangeInclusive;

use super::limits::{
    MARKS_PER_WORD, MAX_CAPACITY, MAX_PARTICIPANTS, MAX_READERS, MAX_REGIONS, MAX_SLOTS,
    MAX_TYPE_NAME, MAX_USER_HEADER, REGION_ALIGN,
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
    /// `reserve` takes the oldest sample that nobody holds away from the readers that have not read
    /// it.
    DropOldest = 3,
}

impl Policy {
    /// The policy with a number that came from outside.
    pub fn from_number(number: u32) -> Option<Policy> {
        [Policy::Block, Policy::Fail, Policy::DropOldest].into_iter().find(|p| *p as u32 == number)
    }
}

/// The geometry of a segment: decided at creation, never changed. Each process keeps a private
/// copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// A random number that tells this segment from every other.
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
    /// Most payloads in regions at one time, more than `history`, at most [`MAX_REGIONS`]; 0
    /// without regions.
    pub region_count: u32,
    /// Most samples that one reader may hold; 0 is no limit.
    pub max_held: u32,
    /// What a writer does when nothing is free.
    pub policy: Policy,
    /// One writer at a time, which publishes with a swap instead of a compare-and-swap.
    pub single_writer: bool,
    /// Whether each commit stores the time.
    pub timestamps: bool,
    /// Whether the name is removed with the last participant.
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
    /// Slot lines, one `SlotLine` per slot.
    pub lines: u64,
    /// Claims, one `Claim` per slot.
    pub claims: u64,
    /// Vacancy map, 64-bit words.
    pub vacancy: u64,
    /// Region rows, one `RegionRow` per region.
    pub region_rows: u64,
    /// Audiences of reference operations, one 64-bit word per slot.
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
    /// End of what is allocated at creation. Regions get memory when they need it.
    pub fixed_size: u64,
    /// Regions.
    pub regions: u64,
    /// Distance between regions.
    pub region_stride: u64,
    /// Size of the whole segment.
    pub total: u64,
}

fn round_up(value: u64, align: u64) -> Option<u64> {
    Some(value.checked_add(align - 1)? & !(align - 1))
}

/// What a number of an existing segment must be, for `open` to accept the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Not less than asked for. Alignments are powers of two, so one that is not less is a
    /// multiple.
    AtLeast,
    /// As asked for.
    Same,
}

impl Rule {
    /// Whether the number that was found is accepted. 0 wanted means that nothing was asked for.
    pub(crate) fn is_kept(self, wanted: u64, found: u64) -> bool {
        match self {
            Rule::AtLeast => found >= wanted,
            Rule::Same => wanted == 0 || found == wanted,
        }
    }
}

/// A number of the geometry.
pub(crate) struct Number {
    pub(crate) name: &'static str,
    pub(crate) of: fn(&Geometry) -> u64,
    /// The range, which depends on the numbers above it in the table.
    range: fn(&Geometry) -> RangeInclusive<u64>,
    pub(crate) rule: Rule,
}

/// Makes [`NUMBERS`] from a table.
macro_rules! numbers {
    ($($name:ident, $default:expr, $range:expr, $rule:ident;)+) => {
        /// All numbers that are options; the table is below.
        pub(crate) const NUMBERS: &[Number] = &[$(Number {
            name: stringify!($name),
            of: |geometry| u64::from(geometry.$name),
            range: $range,
            rule: Rule::$rule,
        }),+];

        impl Geometry {
            /// Sets each number that is 0 to its default.
            fn set_defaults(&mut self) {
                $(if self.$name == 0 {
                    self.$name = $default;
                })+
            }
        }
    };
}

numbers! {
    // number         default  range                                    a segment that is there
    slot_count,       64,      |_| 1..=MAX_SLOTS.into(),                AtLeast;
    slot_capacity,    4096,    |_| 1..=MAX_CAPACITY,                    AtLeast;
    payload_align,    64,      |_| 64..=4096,                           AtLeast;
    user_header_size, 0,       |_| 0..=MAX_USER_HEADER.into(),          Same;
    max_readers,      15,      |_| 1..=MAX_READERS.into(),              AtLeast;
    max_participants, 64,      |_| 1..=MAX_PARTICIPANTS.into(),         AtLeast;
    history,          0,       |g| 0..=u64::from(g.slot_count) - 1,     AtLeast;
    max_payload,      0,       |g| g.if_regions(g.slot_capacity + 1, MAX_CAPACITY), AtLeast;
    // Retained samples keep their regions, and the sample that pushes out the oldest needs one
    // more.
    region_count,     0,       |g| g.if_regions(u64::from(g.history) + 1, MAX_REGIONS.into()), AtLeast;
    max_held,         0,       |_| 0..=u32::MAX.into(),                 Same;
}

/// Why a segment with a geometry is impossible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadGeometry {
    /// This number is out of its range.
    OutOfRange {
        /// Its name.
        field: &'static str,
        /// Its value.
        value: u64,
        /// The lowest value that it may have.
        lowest: u64,
        /// The highest value that it may have.
        highest: u64,
    },
    /// Another reason, as this says.
    Other(&'static str),
}

impl Geometry {
    /// Sets the defaults of all numbers that are 0, and removes regions if each payload fits a
    /// slot.
    pub(crate) fn complete(mut self) -> Geometry {
        self.set_defaults();
        if self.max_payload <= self.slot_capacity {
            self.max_payload = 0;
            self.region_count = 0;
        } else if self.region_count == 0 {
            self.region_count = self.history.saturating_add(2).clamp(8, MAX_REGIONS);
        }
        self
    }

    /// The range of a number that is 0 without regions.
    fn if_regions(&self, lowest: u64, highest: u64) -> RangeInclusive<u64> {
        if self.max_payload == 0 { 0..=0 } else { lowest..=highest }
    }

    /// Checks all fields; the error describes the first invalid one.
    pub fn check(&self) -> Result<(), BadGeometry> {
        for number in NUMBERS {
            let (value, range) = ((number.of)(self), (number.range)(self));
            if !range.contains(&value) {
                let (lowest, highest) = range.into_inner();
                return Err(BadGeometry::OutOfRange { field: number.name, value, lowest, highest });
            }
        }
        let others = [
            (self.payload_align.is_power_of_two(), "payload_align: not a power of two"),
            (
                self.mode & !0o666 == 0 && self.mode & 0o600 == 0o600,
                "mode: not 0600 plus bits of 0066",
            ),
            (self.type_name[MAX_TYPE_NAME] == 0, "type_name: longer than 63 bytes"),
            // The arithmetic is valid only if every number is in its range.
            (self.offsets().is_some(), "slot_capacity times slot_count: larger than any file"),
        ];
        match others.into_iter().find(|(holds, _)| !holds) {
            Some((_, about)) => Err(BadGeometry::Other(about)),
            None => Ok(()),
        }
    }

    /// The largest payload, in a slot or in a region.
    pub(crate) fn largest_payload(&self) -> u64 {
        self.max_payload.max(self.slot_capacity)
    }

    /// The only place where sizes become offsets; `None` if the sum exceeds a file. Fields must be
    /// in their ranges.
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
        let regions =
            if region_count == 0 { fixed_size } else { round_up(fixed_size, REGION_ALIGN)? };
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

    /// How many words of marks `max_readers` readers and history need.
    pub(crate) fn mark_words(&self) -> usize {
        (self.max_readers + 1).div_ceil(MARKS_PER_WORD) as usize
    }
}

/// 64-bit words of the vacancy map: one bit per slot, then one bit per word, up to a single word.
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
