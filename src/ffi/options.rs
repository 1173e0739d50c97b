//! Options: how to make a segment, how to attach to one, and what ends waits.

use std::ffi::{c_char, c_int};
use std::time::Duration;

use crate::error::{Code, Error, HotResult, Result};
use crate::ffi::arguments::{Call, InSized, Out, Text, from_c};
use crate::ffi::boundary;
use crate::ffi::library::SHMSLOT_OK;
use crate::ffi::plain::Plain;
use crate::layout::{self, Policy};
use crate::segment::Info;
use crate::segment::Participant;
use crate::segment::{AttachOptions, CreateOptions, IfOrphaned, out_of_range};
use crate::segment::{SegmentEntry, SegmentState};
use crate::wait::EndWaits;

/// Flag of create and open: one writer at a time. Cheaper; a second writer gets
/// SHMSLOT_E_WRITER_EXISTS.
pub const SHMSLOT_FLAG_SINGLE_WRITER: u32 = 1;
/// Flag of create and open: each commit notes the monotonic time in its sample; about 25 ns a
/// sample.
pub const SHMSLOT_FLAG_TIMESTAMPS: u32 = 2;
/// Flag: map all pages at once, not at their first use.
pub const SHMSLOT_FLAG_PREFAULT: u32 = 4;
/// Flag: ask for huge pages; shmslot_info.huge_bytes says what was obtained.
pub const SHMSLOT_FLAG_HUGE_PAGES: u32 = 8;
/// Flag: accept a segment of another user, or one whose mode was loosened, if one is there already.
pub const SHMSLOT_FLAG_ANY_OWNER: u32 = 16;
/// Flag of attach: map read-only and join nothing. Only calls that change nothing work then: info,
/// counters, readers, writers, participants, deaths, path, fd, sizes, and reading by shmslot_ref_
/// calls.
pub const SHMSLOT_FLAG_OBSERVER: u32 = 32;

/// Flag: copies of 64 KiB and more into payloads go around the caches. That takes less than half
/// the time where writer and reader do not share a cache, and more than twice where they do.
pub const SHMSLOT_FLAG_STREAM_COPIES: u32 = 128;
/// Flag of create and open: take a segment that is there already whatever geometry it has, as
/// attach does.
pub const SHMSLOT_FLAG_ANY_GEOMETRY: u32 = 256;

/// Flag of create and open: the name goes with the last participant: when it closes, or, if it was
/// killed, with the next call that attaches to the name (an observer does not), opens it, or
/// removes what is dead (shmslot_segment_unlink_dead). if_orphaned is of no use then.
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

/// spin_ns: a wait does not poll, it sleeps at once.
pub const SHMSLOT_SPIN_NONE: u32 = 1;

/// End of waits: no process has a writer open, and everything was read; the wait returns
/// SHMSLOT_E_NO_WRITERS.
pub const SHMSLOT_END_NO_WRITERS: u32 = 1;
/// End of waits: a process that was attached died and has been recovered; the wait returns
/// SHMSLOT_E_PEER_DEAD once for each time that this is noticed; shmslot_segment_deaths tells who.
pub const SHMSLOT_END_PEER_DEAD: u32 = 2;
/// End of waits: the segment has lost its name, so that a process which attaches by that name gets
/// another segment; the wait returns SHMSLOT_E_RETIRED. At once after shmslot_segment_unlink; after
/// up to 200 ms where the name went in another way (rm, RemoveIPC of systemd). Then open or attach
/// by name again.
pub const SHMSLOT_END_RETIRED: u32 = 8;
/// A signal handler has run in the thread that sleeps: the wait ends with INTERRUPTED. Without it,
/// signals do not end waits. A signal that comes before the sleep, as while the wait polls, is not
/// noticed; a handler that must not be missed calls shmslot_reader_interrupt or
/// shmslot_writer_interrupt. With or without SA_RESTART, except that a shmslot_wait_any of several
/// readers continues after a handler with SA_RESTART. Since 0.2.
pub const SHMSLOT_END_SIGNAL: u32 = 4;

/// Flags that create, open and attach all take.
const SHARED_FLAGS: u32 = SHMSLOT_FLAG_PREFAULT
    | SHMSLOT_FLAG_HUGE_PAGES
    | SHMSLOT_FLAG_STREAM_COPIES
    | SHMSLOT_FLAG_ANY_OWNER;

/// How to make or open a segment. Begin with SHMSLOT_OPTIONS_INIT and set what you need: zero is
/// the default of each field.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct shmslot_options {
    /// sizeof(shmslot_options); SHMSLOT_OPTIONS_INIT fills it.
    pub struct_size: u32,
    /// Any of SHMSLOT_FLAG_... but OBSERVER. Without a name also none of ANY_OWNER, ANY_GEOMETRY
    /// and EPHEMERAL.
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
    /// What to do when the name belongs to a segment that nobody is attached to; default
    /// SHMSLOT_ORPHANED_REPLACE.
    pub if_orphaned: u32,
    /// How long a wait polls before it sleeps, in nanoseconds, or SHMSLOT_SPIN_NONE; default 10000.
    pub spin_ns: u32,
    /// Loans that one writer may have out at once; default no limit.
    pub max_loans: u32,
    /// How many payloads larger than slot_capacity may be there at once: loaned, unread, held or
    /// retained. More than history, at most 63; default 8, or history + 2.
    pub region_count: u32,
    /// Samples that one reader may hold at once: read or peeked, and not marked. A reader that
    /// holds as many gets SHMSLOT_E_HELD_LIMIT for the next. Default no limit.
    pub max_held: u32,
    /// Must be 0.
    pub reserved: u32,
    /// Largest payload of all, up to 4294967296. Payloads larger than slot_capacity go to regions,
    /// which take memory when they are used and keep it for the next. Default slot_capacity: no
    /// regions.
    pub max_payload: u64,
    /// Identity of the sample type; all zero is none.
    pub type_hash: [u8; 16],
    /// Name of the sample type, at most 63 bytes, or NULL. Read during the call only.
    pub type_name: *const c_char,
}

// SAFETY: integers and a pointer.
unsafe impl Plain for shmslot_options {}

/// How to attach to a segment. Begin with SHMSLOT_ATTACH_OPTIONS_INIT and set what you need: zero
/// is the default of each field. Since 0.2.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct shmslot_attach_options {
    /// sizeof(shmslot_attach_options); SHMSLOT_ATTACH_OPTIONS_INIT fills it.
    pub struct_size: u32,
    /// Any of SHMSLOT_FLAG_PREFAULT, _HUGE_PAGES, _STREAM_COPIES, _ANY_OWNER and _OBSERVER.
    pub flags: u32,
    /// How long a wait polls before it sleeps, in nanoseconds, or SHMSLOT_SPIN_NONE; default 10000.
    pub spin_ns: u32,
    /// Loans that one writer may have out at once; default no limit.
    pub max_loans: u32,
    /// Identity that the sample type must have; all zero is any.
    pub type_hash: [u8; 16],
    /// Name that the sample type must have, at most 63 bytes; NULL is any. Read during the call
    /// only.
    pub type_name: *const c_char,
}

// SAFETY: integers and a pointer.
unsafe impl Plain for shmslot_attach_options {}

/// The geometry of a segment, and its use at this moment.
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
    /// SHMSLOT_FLAG_SINGLE_WRITER, SHMSLOT_FLAG_TIMESTAMPS and SHMSLOT_FLAG_EPHEMERAL, as the
    /// segment was created.
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
    /// 1 once shmslot_segment_unlink, or a call that replaced the segment, has taken its name away.
    /// A name that went in another way is noticed by shmslot_segment_is_named, and in waits that
    /// SHMSLOT_END_RETIRED ends. Since 0.2.
    pub retired: u32,
    /// Samples that one reader may hold at once; 0 for no limit.
    pub max_held: u32,
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
            policy: match geometry.policy {
                Policy::Block => SHMSLOT_POLICY_BLOCK,
                Policy::Fail => SHMSLOT_POLICY_FAIL,
                Policy::DropOldest => SHMSLOT_POLICY_DROP_OLDEST,
            },
            flags: if geometry.single_writer { SHMSLOT_FLAG_SINGLE_WRITER } else { 0 }
                | if geometry.timestamps { SHMSLOT_FLAG_TIMESTAMPS } else { 0 }
                | if geometry.ephemeral { SHMSLOT_FLAG_EPHEMERAL } else { 0 },
            mode: geometry.mode,
            layout_version: layout::LAYOUT_VERSION,
            region_count: geometry.region_count,
            max_payload: geometry.largest_payload(),
            region_bytes: info.region_bytes,
            type_hash: geometry.type_hash,
            type_name: geometry.type_name.map(|byte| byte as c_char),
            retired: u32::from(info.retired),
            max_held: geometry.max_held,
        }
    }
}

/// A process that is attached to a segment, or died and has not been recovered yet.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct shmslot_participant {
    /// Its index, from 0.
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

/// State: unknown, because this process may not open the file.
pub const SHMSLOT_STATE_UNKNOWN: u32 = 0;
/// State: a process, which may be stopped, is attached to the segment.
pub const SHMSLOT_STATE_ALIVE: u32 = 1;
/// State: no process is attached to the segment.
pub const SHMSLOT_STATE_DEAD: u32 = 2;

/// A segment as shmslot_segment_list finds it in a directory.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct shmslot_segment_entry {
    /// Bytes of the file.
    pub size: u64,
    /// Random number that tells it from every other; 0 if it cannot be read.
    pub segment_id: u64,
    /// SHMSLOT_STATE_ALIVE, _DEAD or _UNKNOWN.
    pub state: u32,
    /// 0, or why shmslot_segment_attach would refuse it, with default options and as far as can be
    /// told without attaching: SHMSLOT_E_LAYOUT_VERSION, SHMSLOT_E_CORRUPT, SHMSLOT_E_TRUNCATED,
    /// SHMSLOT_E_EMPTY, SHMSLOT_E_PERMISSION.
    pub refusal: i32,
    /// Attached processes, and those that died and have not been recovered; 0 if it cannot be read.
    pub participants: u32,
    /// Version of its bytes; 0 if it cannot be read.
    pub layout_version: u32,
    /// Its user.
    pub owner: u32,
    /// Permission bits of the file.
    pub mode: u32,
    /// SHMSLOT_FLAG_EPHEMERAL, or 0.
    pub flags: u32,
    /// 0.
    pub reserved: u32,
    /// Its name, which ends in a NUL: in the system's directory what other calls take, elsewhere
    /// the file's own name.
    pub name: [c_char; 256],
}

// SAFETY: integers only.
unsafe impl Plain for shmslot_segment_entry {}

impl From<&SegmentEntry> for shmslot_segment_entry {
    fn from(entry: &SegmentEntry) -> shmslot_segment_entry {
        let mut name = [0; 256];
        // A file name has at most 255 bytes, so the last stays 0.
        let room = name.iter_mut().take(255);
        room.zip(entry.name.bytes()).for_each(|(to, byte)| *to = byte as c_char);
        shmslot_segment_entry {
            size: entry.size,
            segment_id: entry.segment_id,
            state: match entry.state {
                SegmentState::Unknown => SHMSLOT_STATE_UNKNOWN,
                SegmentState::Alive => SHMSLOT_STATE_ALIVE,
                SegmentState::Dead => SHMSLOT_STATE_DEAD,
            },
            refusal: entry.refusal.map_or(0, Code::number),
            participants: entry.participants,
            layout_version: entry.layout_version,
            owner: entry.owner,
            mode: entry.mode,
            flags: if entry.ephemeral { SHMSLOT_FLAG_EPHEMERAL } else { 0 },
            reserved: 0,
            name,
        }
    }
}

fn bad(about: &'static str) -> Error {
    Error::new(Code::BadOptions).about(about)
}

/// Flags that no call of this kind knows.
pub(crate) fn unknown_flags(bits: u64) -> Error {
    Error::new(Code::BadOptions)
        .about(format_args!("flags has the unknown bits {bits:#x}"))
        .advice("use the SHMSLOT_FLAG_ constants that the comment of the call names")
        .with_numbers([bits, 0, 0])
}

/// Names a flag that is not among those of a call.
fn check_flags(given: u32, flags_of_call: u32) -> Result<()> {
    let others = [
        (SHMSLOT_FLAG_SINGLE_WRITER, "flags: SHMSLOT_FLAG_SINGLE_WRITER is for create and open"),
        (SHMSLOT_FLAG_TIMESTAMPS, "flags: SHMSLOT_FLAG_TIMESTAMPS is for create and open"),
        (SHMSLOT_FLAG_EPHEMERAL, "flags: SHMSLOT_FLAG_EPHEMERAL is for create and open"),
        (SHMSLOT_FLAG_ANY_GEOMETRY, "flags: SHMSLOT_FLAG_ANY_GEOMETRY is for create and open"),
        (SHMSLOT_FLAG_OBSERVER, "flags: SHMSLOT_FLAG_OBSERVER is for attach"),
    ];
    match given & !flags_of_call {
        0 => Ok(()),
        rest => {
            let known = others.into_iter().find(|(flag, _)| rest & flag != 0);
            Err(known.map_or_else(|| unknown_flags(rest.into()), |(_, about)| bad(about)))
        }
    }
}

/// The name of a type; NULL is none.
///
/// # Safety
/// `name` is NULL, or a string that ends in a NUL.
unsafe fn type_name(name: *const c_char) -> Result<String> {
    let call = Call::new();
    // SAFETY: as the caller says.
    let name = unsafe { Text::new(name, &call) }.get().unwrap_or_default();
    Ok(name.to_str().map_err(|_| bad("type_name is not UTF-8"))?.to_owned())
}

/// The identity of a sample type, to be put into type_hash: of its name, 1 to 63 bytes of UTF-8,
/// and its size in bytes. It is made in the same way in C, C++ and Rust: bindings/README.md says
/// how. Change the name whenever the meaning of the bytes changes.
/// ret_hash: &options.type_hash. Threads: any. Errors: INVALID (also a name of another length).
/// Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_type_hash(
    name: *const c_char,
    size: u64,
    ret_hash: *mut [u8; 16],
) -> c_int {
    from_c!(name: Text, ret_hash: Out);
    boundary::without_handle(Out::none(), || {
        let name = name.name().map_err(|_| Code::Invalid)?;
        if name.is_empty() || name.len() > layout::MAX_TYPE_NAME {
            return Err(Code::Invalid.into());
        }
        ret_hash.give(layout::type_hash(name, size))?;
        Ok(SHMSLOT_OK)
    })
}

fn spin(ns: u32) -> Option<Duration> {
    match ns {
        0 => None,
        SHMSLOT_SPIN_NONE => Some(Duration::ZERO),
        ns => Some(Duration::from_nanos(ns.into())),
    }
}

/// What a sum of these constants says.
pub(crate) fn end_waits(when: u32) -> HotResult<EndWaits> {
    if when
        & !(SHMSLOT_END_NO_WRITERS
            | SHMSLOT_END_PEER_DEAD
            | SHMSLOT_END_SIGNAL
            | SHMSLOT_END_RETIRED)
        != 0
    {
        return Err(Code::Invalid);
    }
    Ok(EndWaits {
        no_writers: when & SHMSLOT_END_NO_WRITERS != 0,
        peer_dead: when & SHMSLOT_END_PEER_DEAD != 0,
        signal: when & SHMSLOT_END_SIGNAL != 0,
        retired: when & SHMSLOT_END_RETIRED != 0,
    })
}

/// The options of create and open that C handed over; NULL is all defaults.
pub(crate) fn create_options(input: &InSized<'_, shmslot_options>) -> Result<CreateOptions> {
    let Some(given) = input.take()? else { return Ok(CreateOptions::default()) };
    let flags = SHMSLOT_FLAG_SINGLE_WRITER
        | SHMSLOT_FLAG_TIMESTAMPS
        | SHMSLOT_FLAG_EPHEMERAL
        | SHMSLOT_FLAG_ANY_GEOMETRY;
    check_flags(given.flags, flags | SHARED_FLAGS)?;
    if given.reserved != 0 {
        return Err(bad("reserved: must be 0"));
    }
    let has = |flag: u32| given.flags & flag != 0;
    let policy = match given.policy {
        0 => None,
        SHMSLOT_POLICY_BLOCK => Some(Policy::Block),
        SHMSLOT_POLICY_FAIL => Some(Policy::Fail),
        SHMSLOT_POLICY_DROP_OLDEST => Some(Policy::DropOldest),
        other => {
            return Err(out_of_range("policy", other.into(), 1, SHMSLOT_POLICY_DROP_OLDEST.into()));
        }
    };
    let if_orphaned = match given.if_orphaned {
        SHMSLOT_ORPHANED_REPLACE => IfOrphaned::Replace,
        SHMSLOT_ORPHANED_ADOPT => IfOrphaned::Adopt,
        SHMSLOT_ORPHANED_REFUSE => IfOrphaned::Refuse,
        other => {
            let highest = SHMSLOT_ORPHANED_REFUSE.into();
            return Err(out_of_range("if_orphaned", other.into(), 0, highest));
        }
    };
    Ok(CreateOptions {
        slot_count: given.slot_count,
        slot_capacity: given.slot_capacity,
        payload_align: given.payload_align,
        user_header_size: given.user_header_size,
        max_readers: given.max_readers,
        max_participants: given.max_participants,
        history: given.history,
        max_payload: given.max_payload,
        region_count: given.region_count,
        max_held: given.max_held,
        policy,
        single_writer: has(SHMSLOT_FLAG_SINGLE_WRITER),
        timestamps: has(SHMSLOT_FLAG_TIMESTAMPS),
        ephemeral: has(SHMSLOT_FLAG_EPHEMERAL),
        mode: given.mode,
        if_orphaned,
        any_geometry: has(SHMSLOT_FLAG_ANY_GEOMETRY),
        type_hash: given.type_hash,
        // SAFETY: `InSized` requires what the field's comment says.
        type_name: unsafe { type_name(given.type_name) }?,
        prefault: has(SHMSLOT_FLAG_PREFAULT),
        huge_pages: has(SHMSLOT_FLAG_HUGE_PAGES),
        stream_copies: has(SHMSLOT_FLAG_STREAM_COPIES),
        any_owner: has(SHMSLOT_FLAG_ANY_OWNER),
        spin: spin(given.spin_ns),
        max_loans: given.max_loans,
    })
}

/// The options of attach that C handed over; NULL is all defaults.
pub(crate) fn attach_options(input: &InSized<'_, shmslot_attach_options>) -> Result<AttachOptions> {
    let Some(given) = input.take()? else { return Ok(AttachOptions::default()) };
    check_flags(given.flags, SHARED_FLAGS | SHMSLOT_FLAG_OBSERVER)?;
    let has = |flag: u32| given.flags & flag != 0;
    Ok(AttachOptions {
        type_hash: given.type_hash,
        // SAFETY: `InSized` requires what the field's comment says.
        type_name: unsafe { type_name(given.type_name) }?,
        prefault: has(SHMSLOT_FLAG_PREFAULT),
        huge_pages: has(SHMSLOT_FLAG_HUGE_PAGES),
        stream_copies: has(SHMSLOT_FLAG_STREAM_COPIES),
        any_owner: has(SHMSLOT_FLAG_ANY_OWNER),
        observer: has(SHMSLOT_FLAG_OBSERVER),
        spin: spin(given.spin_ns),
        max_loans: given.max_loans,
    })
}
