//! How a segment is made, or attached to.
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::error::{Code, Error, Result};
use crate::layout::{Geometry, MAX_REGIONS, MAX_TYPE_NAME, Policy};
use crate::sys;

/// What `create` does when the name belongs to a segment to which nobody is attached any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u32)]
pub enum IfOrphaned {
    /// Take its name for a new segment.
    #[default]
    Replace = 0,
    /// Attach to it as it is, if it gives what is asked: see [`Options`].
    Adopt = 1,
    /// Fail with [`Code::Exists`].
    Refuse = 2,
}

impl IfOrphaned {
    /// The choice of a number that crossed a boundary.
    pub fn from_number(number: u32) -> Option<IfOrphaned> {
        [IfOrphaned::Replace, IfOrphaned::Adopt, IfOrphaned::Refuse].into_iter().find(|c| *c as u32 == number)
    }
}

/// How to make a segment, or how to attach to one. Attaching looks at `type_hash` and at the fields from
/// `prefault` on.
///
/// [`Segment::open`](crate::Segment::open), and create with [`IfOrphaned::Adopt`], compare them with a
/// segment that is there already: its numbers must not be less than those asked for; `policy`,
/// `user_header_size`, `single_writer`, `timestamps`, `ephemeral` and the type must be the same. Else the error
/// is [`Code::OptionsMismatch`], or [`Code::TypeMismatch`]. A field that equals its default is not
/// compared, because it cannot be told from one that was left alone: who depends on a default looks
/// at [`Info::geometry`](crate::Info::geometry).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Number of slots, 1 to 2^24.
    pub slot_count: u32,
    /// Payload bytes of a slot, 1 to 4 GiB.
    pub slot_capacity: u64,
    /// Alignment of each payload, a power of two from 64 to 4096.
    pub payload_align: u32,
    /// Bytes of user header beside each slot, 0 to 256.
    pub user_header_size: u32,
    /// Readers that may be joined at once, 1 to 63.
    pub max_readers: u32,
    /// Processes that may be attached at once, 1 to 4095.
    pub max_participants: u32,
    /// Samples kept for readers that join later, less than `slot_count`.
    pub history: u32,
    /// Largest payload of all. More than `slot_capacity`: larger ones than that go to regions. 0: none are.
    pub max_payload: u64,
    /// How many payloads in regions may be there at once, loaned, unread, held or retained: more than `history`, at
    /// most 63. 0: 8, or two more than `history`.
    pub region_count: u32,
    /// What a writer does when nothing is free.
    pub policy: Policy,
    /// One writer at a time; cheaper, and a second one is refused.
    pub single_writer: bool,
    /// Each commit notes the monotonic time; about 25 ns a sample.
    pub timestamps: bool,
    /// The name goes with the last participant: when it closes; or, if it was killed, with the next call that attaches to
    /// the name, opens it, or [removes what is dead](crate::Segment::unlink_dead).
    pub ephemeral: bool,
    /// Permission bits of a named segment.
    pub mode: u32,
    /// What to do when a dead segment has the name.
    pub if_orphaned: IfOrphaned,
    /// Identity of the sample type. All zero: none at creation, any at attach.
    pub type_hash: [u8; 16],
    /// Name of the sample type, at most 63 bytes.
    pub type_name: String,
    /// Map all pages now, not at their first use.
    pub prefault: bool,
    /// Ask for huge pages; [`Info::huge_bytes`](crate::Info::huge_bytes) says what was obtained.
    pub huge_pages: bool,
    /// Copies of 64 KiB and more into payloads go around the caches. That takes less than half the time where writer and
    /// reader do not share a cache, and more than twice where they do.
    pub stream_copies: bool,
    /// Attach to a segment of another user, or whose mode was loosened.
    pub any_owner: bool,
    /// Take a segment that is there already with whatever numbers, policy and flags it has. Only
    /// `type_hash` is compared, as [`Segment::attach`](crate::Segment::attach) does.
    pub any_geometry: bool,
    /// Attach read-only, joining nothing.
    pub observer: bool,
    /// How long a wait polls before it sleeps.
    pub spin: Duration,
    /// Loans that one writer may have out at once; 0 is no limit.
    pub max_loans: u32,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            slot_count: 64,
            slot_capacity: 4096,
            payload_align: 64,
            user_header_size: 0,
            max_readers: 15,
            max_participants: 64,
            history: 0,
            max_payload: 0,
            region_count: 0,
            policy: Policy::Block,
            single_writer: false,
            timestamps: false,
            ephemeral: false,
            mode: 0o600,
            if_orphaned: IfOrphaned::Replace,
            type_hash: [0; 16],
            type_name: String::new(),
            prefault: false,
            huge_pages: false,
            stream_copies: false,
            any_owner: false,
            any_geometry: false,
            observer: false,
            // As long as a wake takes: shorter is wasted, longer burns.
            spin: Duration::from_micros(10),
            max_loans: 0,
        }
    }
}

impl Options {
    /// The geometry of a new segment.
    pub(crate) fn geometry(&self) -> Result<Geometry> {
        let mut type_name = [0; MAX_TYPE_NAME + 1];
        let name = self.type_name.as_bytes();
        match type_name.get_mut(..name.len()) {
            Some(start) if name.len() <= MAX_TYPE_NAME && !name.contains(&0) => start.copy_from_slice(name),
            _ => return Err(Error::new(Code::BadOptions).about("type_name")),
        }
        let regions = self.max_payload > self.slot_capacity;
        let region_count = match (regions, self.region_count) {
            (false, _) => 0,
            (true, 0) => self.history.saturating_add(2).clamp(8, MAX_REGIONS),
            (true, count) => count,
        };
        let geometry = Geometry {
            max_payload: if regions { self.max_payload } else { 0 },
            region_count,
            segment_id: sys::random_id()?,
            slot_count: self.slot_count,
            slot_capacity: self.slot_capacity,
            payload_align: self.payload_align,
            user_header_size: self.user_header_size,
            max_readers: self.max_readers,
            max_participants: self.max_participants,
            history: self.history,
            policy: self.policy,
            single_writer: self.single_writer,
            timestamps: self.timestamps,
            ephemeral: self.ephemeral,
            mode: self.mode,
            type_hash: self.type_hash,
            type_name,
        };
        if self.observer {
            return Err(Error::new(Code::BadOptions).about("observer is for attach"));
        }
        geometry.check().map_err(|field| Error::new(Code::BadOptions).about(field))?;
        Ok(geometry)
    }
}
