//! Options and what a segment tells of itself.
#![allow(dead_code)] // The header has the constants; what only assertions use is unused to older compilers.

use std::ffi::c_char;
use std::time::Duration;

use crate::error::{Code, Error, Result};
use crate::ffi::arguments::{Call, InSized, Text};
use crate::ffi::plain::Plain;
use crate::layout::{self, Policy};
use crate::segment::Info;
use crate::segment::Participant;
use crate::segment::{Asked, IfOrphaned, Options};

/// Option flag: one writer at a time. Cheaper; a second writer gets SHMSLOT_E_WRITER_EXISTS.
pub const SHMSLOT_FLAG_SINGLE_WRITER: u32 = 1;
/// Option flag: each commit notes the monotonic time in its sample; about 25 ns a sample.
pub const SHMSLOT_FLAG_TIMESTAMPS: u32 = 2;
/// Option flag: map all pages at once, not at their first use.
pub const SHMSLOT_FLAG_PREFAULT: u32 = 4;
/// Option flag: ask for huge pages; shmslot_info.huge_bytes says what was obtained.
pub const SHMSLOT_FLAG_HUGE_PAGES: u32 = 8;
/// Attach flag: accept a segment of another user, or one whose mode was loosened.
pub const SHMSLOT_FLAG_ANY_OWNER: u32 = 16;
/// Attach flag: map read-only and join nothing. Then only info, participants, path, fd and slot sizes work.
pub const SHMSLOT_FLAG_OBSERVER: u32 = 32;

/// Option and attach flag: copies of 64 KiB and more into payloads go around the caches. That takes less than half the
/// time where writer and reader do not share a cache, and more than twice where they do.
pub const SHMSLOT_FLAG_STREAM_COPIES: u32 = 128;
/// Option flag: open and create take a segment that is there whatever it has, as attach does.
pub const SHMSLOT_FLAG_ANY_GEOMETRY: u32 = 256;

/// Option flag: the name goes with the last participant: when it closes, or, if it was killed, with the next call that
/// attaches to the name, opens it, or removes what is dead (shmslot_segment_unlink_dead). if_orphaned is of no use then.
pub const SHMSLOT_FLAG_EPHEMERAL: u32 = 512;

/// Policy: a reserve that finds nothing free waits until a reader has marked enough. The default.
pub const SHMSLOT_POLICY_BLOCK: u32 = 1;
/// Policy: a reserve that finds nothing free fails at once, whatever its timeout: it never waits.
pub const SHMSLOT_POLICY_FAIL: u32 = 2;
/// Policy: a reserve that finds nothing free takes the oldest sample that no reader holds away from
/// those that have not read it.
pub const SHMSLOT_POLICY_DROP_OLDEST: u32 = 3;

/// if_orphaned: give the name of a segment that nobody is attached to any more to the new one.
pub const SHMSLOT_ORPHANED_REPLACE: u32 = 0;
/// if_orphaned: attach to it as it is, if it gives what is asked; see shmslot_segment_open.
pub const SHMSLOT_ORPHANED_ADOPT: u32 = 1;
/// if_orphaned: fail with SHMSLOT_E_EXISTS.
pub const SHMSLOT_ORPHANED_REFUSE: u32 = 2;

// The header spells out the numbers of the enums that the core works with.
const _: () = {
    assert!(SHMSLOT_POLICY_FAIL == Policy::Fail as u32 && SHMSLOT_POLICY_BLOCK == Policy::Block as u32);
    assert!(SHMSLOT_POLICY_DROP_OLDEST == Policy::DropOldest as u32);
    assert!(
        SHMSLOT_ORPHANED_REPLACE == IfOrphaned::Replace as u32
            && SHMSLOT_ORPHANED_ADOPT == IfOrphaned::Adopt as u32
    );
    assert!(SHMSLOT_ORPHANED_REFUSE == IfOrphaned::Refuse as u32);
};

/// How to make a segment. Begin with SHMSLOT_OPTIONS_INIT and set what you need: zero is the default of each field.
/// Attaching looks at type_hash, spin_ns, max_loans and flags (less SINGLE_WRITER, TIMESTAMPS and EPHEMERAL) only.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct shmslot_options {
    /// sizeof(shmslot_options); SHMSLOT_OPTIONS_INIT fills it.
    pub struct_size: u32,
    /// SHMSLOT_FLAG_SINGLE_WRITER, SHMSLOT_FLAG_TIMESTAMPS, SHMSLOT_FLAG_EPHEMERAL, SHMSLOT_FLAG_PREFAULT,
    /// SHMSLOT_FLAG_HUGE_PAGES, SHMSLOT_FLAG_STREAM_COPIES, SHMSLOT_FLAG_ANY_GEOMETRY; for attach and open also SHMSLOT_FLAG_ANY_OWNER; for
    /// attach also SHMSLOT_FLAG_OBSERVER.
    pub flags: u32,
    /// Number of slots, 1 to 16777216; default 64.
    pub slot_count: u32,
    /// Alignment of each payload in bytes, a power of two from 64 to 4096; default 64.
    pub payload_align: u32,
    /// Payload bytes of a slot, 1 to 4294967296; default 4096.
    pub slot_capacity: u64,
    /// Bytes of user header beside each slot, 0 to 256; default 0.
    pub user_header_size: u32,
    /// Readers that may be joined at once, 1 to 63; default 15. More than 15 cost a little more.
    pub max_readers: u32,
    /// Processes that may be attached at once, 1 to 4095; default 64.
    pub max_participants: u32,
    /// Samples kept for readers that join later, less than slot_count; default 0.
    pub history: u32,
    /// SHMSLOT_POLICY_BLOCK, _FAIL or _DROP_OLDEST; default SHMSLOT_POLICY_BLOCK.
    pub policy: u32,
    /// Permission bits of a named segment, 0600 plus any of 0066; default 0600.
    pub mode: u32,
    /// What to do when the name belongs to a segment that nobody is attached to; default SHMSLOT_ORPHANED_REPLACE.
    pub if_orphaned: u32,
    /// How long a wait polls before it sleeps, in nanoseconds; 1 is not at all, default 10000.
    pub spin_ns: u32,
    /// Loans that one writer may have out at once; default no limit.
    pub max_loans: u32,
    /// How many payloads larger than slot_capacity may be there at once: loaned, unread, held or retained. More than
    /// history, at most 63; default 8, or history + 2.
    pub region_count: u32,
    /// Largest payload of all, up to 4294967296. Payloads larger than slot_capacity go to regions, which take memory when
    /// they are used and keep it for the next. Default slot_capacity: no regions.
    pub max_payload: u64,
    /// Identity of the sample type. All zero: none at creation, any at attach.
    pub type_hash: [u8; 16],
    /// Name of the sample type, at most 63 bytes, or NULL. Read during the call only.
    pub type_name: *const c_char,
}

// SAFETY: integers and a pointer.
unsafe impl Plain for shmslot_options {}

/// What a segment is made of and how it is used at this moment.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct shmslot_info {
    /// Random number that tells this segment from every other.
    pub segment_id: u64,
    /// Bytes of the whole segment.
    pub total_size: u64,
    /// Bytes of this mapping in huge pages, as far as they were asked for.
    pub huge_bytes: u64,
    /// The sequence that the next sample gets; the first is 1.
    pub next_sequence: u64,
    /// Joined readers: reader i is bit i.
    pub readers: u64,
    /// Payload bytes of a slot.
    pub slot_capacity: u64,
    /// Number of slots.
    pub slot_count: u32,
    /// Attached processes.
    pub participants: u32,
    /// Alignment of each payload in bytes.
    pub payload_align: u32,
    /// Bytes of user header beside each slot.
    pub user_header_size: u32,
    /// Readers that may be joined at once.
    pub max_readers: u32,
    /// Processes that may be attached at once.
    pub max_participants: u32,
    /// Samples kept for readers that join later.
    pub history: u32,
    /// SHMSLOT_POLICY_BLOCK, _FAIL or _DROP_OLDEST.
    pub policy: u32,
    /// SHMSLOT_FLAG_SINGLE_WRITER, SHMSLOT_FLAG_TIMESTAMPS and SHMSLOT_FLAG_EPHEMERAL, as the segment was created.
    pub flags: u32,
    /// Permission bits that the creator gave it.
    pub mode: u32,
    /// Version of the bytes in shared memory.
    pub layout_version: u32,
    /// Payloads in regions that may be there at once; 0 without regions.
    pub region_count: u32,
    /// Largest payload of all.
    pub max_payload: u64,
    /// Memory of all regions.
    pub region_bytes: u64,
    /// Identity of the sample type, all zero if there is none.
    pub type_hash: [u8; 16],
    /// Name of the sample type; ends in a NUL.
    pub type_name: [c_char; 64],
    /// 1 once shmslot_segment_unlink, or a call that replaced the segment, has taken its name away. A name that went in
    /// another way is noticed by shmslot_segment_is_named, and in waits that SHMSLOT_END_RETIRED ends. Since 0.2.
    pub retired: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: integers only.
unsafe impl Plain for shmslot_info {}

impl From<&Info> for shmslot_info {
    fn from(info: &Info) -> shmslot_info {
        let geometry = &info.geometry;
        shmslot_info {
            segment_id: geometry.segment_id,
            total_size: info.total_size,
            huge_bytes: info.huge_bytes,
            next_sequence: info.next_sequence,
            readers: info.readers,
            slot_capacity: geometry.slot_capacity,
            slot_count: geometry.slot_count,
            participants: info.participants,
            payload_align: geometry.payload_align,
            user_header_size: geometry.user_header_size,
            max_readers: geometry.max_readers,
            max_participants: geometry.max_participants,
            history: geometry.history,
            policy: geometry.policy as u32,
            flags: if geometry.single_writer { SHMSLOT_FLAG_SINGLE_WRITER } else { 0 }
                | if geometry.timestamps { SHMSLOT_FLAG_TIMESTAMPS } else { 0 }
                | if geometry.ephemeral { SHMSLOT_FLAG_EPHEMERAL } else { 0 },
            mode: geometry.mode,
            layout_version: layout::LAYOUT_VERSION,
            region_count: geometry.region_count,
            max_payload: geometry.max_payload.max(geometry.slot_capacity),
            region_bytes: info.region_bytes,
            type_hash: geometry.type_hash,
            type_name: geometry.type_name.map(|byte| byte as c_char),
            retired: u32::from(info.retired),
            reserved: 0,
        }
    }
}

/// A process that is attached to a segment, or died so and was not cleaned up after yet.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct shmslot_participant {
    /// Its place, from 0.
    pub index: u32,
    /// Its process number, as its own pid namespace has it.
    pub pid: u32,
    /// 1 if it lives (a stopped process does), 0 if it is dead.
    pub alive: u32,
    /// Writers that it has open.
    pub writers: u32,
    /// Its readers, reader i as bit i: joined, or left and still holding samples.
    pub readers: u64,
}

// SAFETY: integers only.
unsafe impl Plain for shmslot_participant {}

impl From<&Participant> for shmslot_participant {
    fn from(participant: &Participant) -> shmslot_participant {
        shmslot_participant {
            index: participant.index,
            pid: participant.pid,
            alive: u32::from(participant.alive),
            writers: participant.writers,
            readers: participant.readers,
        }
    }
}

/// Whether options are for making a segment or for attaching to one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    Create,
    Attach,
    /// Either, as it turns out.
    Open,
}

fn bad(field: &'static str) -> Error {
    Error::new(Code::BadOptions).about(field)
}

/// The options that C handed over; NULL is all defaults.
pub(crate) fn options(input: &InSized<'_, shmslot_options>, used_for: Use) -> Result<Options> {
    Ok(options_and_asked(input, used_for)?.0)
}

/// The same, and which numbers were asked for rather than left at 0.
pub(crate) fn options_and_asked(
    input: &InSized<'_, shmslot_options>,
    used_for: Use,
) -> Result<(Options, Asked)> {
    let default = Options::default();
    let Some(given) = input.take()? else {
        let asked = Asked::of(&default);
        return Ok((default, asked));
    };
    let made_so = SHMSLOT_FLAG_SINGLE_WRITER | SHMSLOT_FLAG_TIMESTAMPS | SHMSLOT_FLAG_EPHEMERAL;
    let used_so = SHMSLOT_FLAG_PREFAULT
        | SHMSLOT_FLAG_HUGE_PAGES
        | SHMSLOT_FLAG_STREAM_COPIES
        | SHMSLOT_FLAG_ANY_GEOMETRY;
    let known = match used_for {
        Use::Create => made_so | used_so,
        Use::Attach | Use::Open => made_so | used_so | SHMSLOT_FLAG_ANY_OWNER | SHMSLOT_FLAG_OBSERVER,
    };
    if given.flags & !known != 0 || used_for == Use::Open && given.flags & SHMSLOT_FLAG_OBSERVER != 0 {
        return Err(bad("flags"));
    }
    let call = Call::new();
    // SAFETY: `InSized` requires what the field's comment says: NULL, or a string during the call.
    let type_name = unsafe { Text::new(given.type_name, &call) }.get().unwrap_or_default();
    let type_name = type_name.to_str().map_err(|_| bad("type_name"))?.to_owned();
    let or = |value: u32, default: u32| if value == 0 { default } else { value };
    let asked = Asked {
        slot_count: given.slot_count,
        slot_capacity: given.slot_capacity,
        payload_align: given.payload_align,
        max_readers: given.max_readers,
        max_participants: given.max_participants,
        policy: Policy::from_number(given.policy),
    };
    let options = Options {
        slot_count: or(given.slot_count, default.slot_count),
        slot_capacity: if given.slot_capacity == 0 { default.slot_capacity } else { given.slot_capacity },
        payload_align: or(given.payload_align, default.payload_align),
        user_header_size: given.user_header_size,
        max_readers: or(given.max_readers, default.max_readers),
        max_participants: or(given.max_participants, default.max_participants),
        history: given.history,
        max_payload: given.max_payload,
        region_count: given.region_count,
        policy: Policy::from_number(or(given.policy, default.policy as u32)).ok_or(bad("policy"))?,
        single_writer: given.flags & SHMSLOT_FLAG_SINGLE_WRITER != 0,
        timestamps: given.flags & SHMSLOT_FLAG_TIMESTAMPS != 0,
        ephemeral: given.flags & SHMSLOT_FLAG_EPHEMERAL != 0,
        mode: or(given.mode, default.mode),
        if_orphaned: IfOrphaned::from_number(given.if_orphaned).ok_or(bad("if_orphaned"))?,
        type_hash: given.type_hash,
        type_name,
        prefault: given.flags & SHMSLOT_FLAG_PREFAULT != 0,
        huge_pages: given.flags & SHMSLOT_FLAG_HUGE_PAGES != 0,
        stream_copies: given.flags & SHMSLOT_FLAG_STREAM_COPIES != 0,
        any_owner: given.flags & SHMSLOT_FLAG_ANY_OWNER != 0,
        any_geometry: given.flags & SHMSLOT_FLAG_ANY_GEOMETRY != 0,
        observer: given.flags & SHMSLOT_FLAG_OBSERVER != 0,
        spin: match given.spin_ns {
            0 => default.spin,
            1 => Duration::ZERO,
            ns => Duration::from_nanos(u64::from(ns)),
        },
        max_loans: given.max_loans,
    };
    Ok((options, asked))
}
