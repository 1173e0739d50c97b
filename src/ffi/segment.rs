//! Segments: make, attach, inspect, recover, close.

use std::ffi::{c_char, c_int};
use std::os::fd::AsRawFd;

use crate::error::{HotResult, Result};
use crate::ffi::arguments::{Out, from_c};
use crate::ffi::boundary;
use crate::ffi::handle::{Handle, Health};
use crate::ffi::library::{SHMSLOT_OK, shmslot_error};
use crate::ffi::options::end_waits;
use crate::ffi::options::{
    attach_options, create_options, shmslot_attach_options, shmslot_info, shmslot_options,
    shmslot_participant, shmslot_segment_entry,
};
use crate::protocol::expel::Target;
use crate::reference::SharedReference;
use crate::segment::Segment;
use crate::sys;

/// An attachment of this process to a segment. Threads: any.
pub struct shmslot_segment {
    pub(crate) segment: Segment,
    /// The reference operations, where there are any.
    reference: Result<SharedReference>,
    health: Health,
}

impl shmslot_segment {
    #[inline(always)]
    pub(crate) fn reference(&self) -> HotResult<&SharedReference> {
        self.reference.as_ref().map_err(|error| error.code())
    }
}

impl Handle for shmslot_segment {
    fn health(&self) -> &Health {
        &self.health
    }
}

/// Makes a handle and gives it to the caller.
pub(crate) fn hand_out(
    ret_segment: &Out<'_, *mut shmslot_segment>,
    segment: Segment,
) -> HotResult<()> {
    let reference = SharedReference::new(&segment);
    boundary::hand_out(
        ret_segment,
        shmslot_segment { segment, reference, health: Health::default() },
    )
}

/// Makes a segment and gives it its name in one step: nobody ever sees a half-made one. Allocates
/// all its memory.
///
/// A name of 1 to 200 bytes of UTF-8 without '/' is the file shmslot.NAME in the system's
/// shared-memory directory; an absolute path is used as it is. If a segment that nobody is attached
/// to any more has the name, options.if_orphaned decides. One that this version cannot attach to
/// (another layout version, corrupt, cut, its mode loosened) can be replaced, too; so can an empty
/// file of this user whose name begins with "shmslot.". Any other file stays.
///
/// options: NULL for all defaults. ret_segment: close it with shmslot_segment_close. reterr: NULL
/// or filled on failure.
/// Threads: any. Errors: INVALID, BAD_NAME, BAD_OPTIONS, EXISTS, NOT_FOUND (no such directory),
/// NAME_BUSY, PERMISSION, NO_MEMORY, NOT_SUPPORTED (file system without unnamed files, no /proc),
/// OPTIONS_MISMATCH (ADOPT), SYS, and of a file of this name that is no segment what
/// shmslot_segment_attach says. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_segment_create(
    name: *const c_char,
    options: *const shmslot_options,
    ret_segment: *mut *mut shmslot_segment,
    reterr: *mut shmslot_error,
) -> c_int {
    from_c!(name: Text, options: InSized, ret_segment: Out, reterr: Out);
    boundary::without_handle(reterr, || {
        ret_segment.present()?;
        let options = create_options(&options)?;
        hand_out(&ret_segment, Segment::create(name.name()?, &options)?)?;
        Ok(SHMSLOT_OK)
    })
}

/// Makes a segment without a name, in a memory file that is sealed against change of size. Others
/// attach through its descriptor: inherit it, or pass it over a unix socket.
/// Arguments and threads as in shmslot_segment_create. Errors: INVALID, BAD_OPTIONS, NO_MEMORY,
/// SYS. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_segment_create_anonymous(
    options: *const shmslot_options,
    ret_segment: *mut *mut shmslot_segment,
    reterr: *mut shmslot_error,
) -> c_int {
    from_c!(options: InSized, ret_segment: Out, reterr: Out);
    boundary::without_handle(reterr, || {
        ret_segment.present()?;
        let options = create_options(&options)?;
        hand_out(&ret_segment, Segment::create_anonymous(&options)?)?;
        Ok(SHMSLOT_OK)
    })
}

/// Makes a segment in private memory of this process: the same calls between threads, and for
/// tests. No name, no descriptor.
/// Arguments and threads as in shmslot_segment_create. Errors: INVALID, BAD_OPTIONS, NO_MEMORY,
/// SYS. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_segment_create_local(
    options: *const shmslot_options,
    ret_segment: *mut *mut shmslot_segment,
    reterr: *mut shmslot_error,
) -> c_int {
    from_c!(options: InSized, ret_segment: Out, reterr: Out);
    boundary::without_handle(reterr, || {
        ret_segment.present()?;
        let options = create_options(&options)?;
        hand_out(&ret_segment, Segment::create_local(&options)?)?;
        Ok(SHMSLOT_OK)
    })
}

/// Attaches to the segment of this name. Everything in it is checked before it is used; a file that
/// is no segment, or a corrupt one, is an error and nothing worse. But nobody must cut the file
/// later: then touching it raises SIGBUS. A sealed one (shmslot_segment_create_anonymous) cannot be
/// cut.
///
/// options: NULL for all defaults. Other arguments as in shmslot_segment_create.
/// Threads: any. Errors: INVALID, BAD_NAME, BAD_OPTIONS, NOT_FOUND, NAME_BUSY, PERMISSION,
/// NOT_A_FILE, EMPTY, NOT_A_SEGMENT, TRUNCATED, LAYOUT_VERSION, CORRUPT, TYPE_MISMATCH,
/// NO_PARTICIPANT_SLOT, NO_MEMORY, SYS. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_segment_attach(
    name: *const c_char,
    options: *const shmslot_attach_options,
    ret_segment: *mut *mut shmslot_segment,
    reterr: *mut shmslot_error,
) -> c_int {
    from_c!(name: Text, options: InSized, ret_segment: Out, reterr: Out);
    boundary::without_handle(reterr, || {
        ret_segment.present()?;
        let options = attach_options(&options)?;
        hand_out(&ret_segment, Segment::attach(name.name()?, &options)?)?;
        Ok(SHMSLOT_OK)
    })
}

/// Attaches as soon as a segment has this name, even a dead one. It sleeps where the kernel reports
/// new files, and with looks 50 ms apart at most where it does not. Signals do not end it.
/// timeout_ns: nanoseconds, 0 only to ask, -1 for no limit. Threads: any. Errors: those of
/// shmslot_segment_attach, NOT_FOUND if there is no such directory, BAD_TIMEOUT, AGAIN (timeout 0),
/// TIMEOUT. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_segment_attach_wait(
    name: *const c_char,
    options: *const shmslot_attach_options,
    timeout_ns: i64,
    ret_segment: *mut *mut shmslot_segment,
    reterr: *mut shmslot_error,
) -> c_int {
    from_c!(name: Text, options: InSized, ret_segment: Out, reterr: Out);
    boundary::without_handle(reterr, || {
        ret_segment.present()?;
        let options = attach_options(&options)?;
        let timeout = boundary::timeout(timeout_ns)?;
        hand_out(&ret_segment, Segment::attach_wait(name.name()?, &options, timeout)?)?;
        Ok(SHMSLOT_OK)
    })
}

/// Attaches to the segment behind a descriptor of shmslot_segment_create_anonymous, inherited or
/// received. The descriptor stays the caller's, who may close it after the call.
/// Threads: any. Errors: those of shmslot_segment_attach, NOT_SEALED if somebody could still change
/// its size, and NOT_SUPPORTED if /proc is not mounted. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_segment_attach_fd(
    fd: c_int,
    options: *const shmslot_attach_options,
    ret_segment: *mut *mut shmslot_segment,
    reterr: *mut shmslot_error,
) -> c_int {
    from_c!(fd: Fd, options: InSized, ret_segment: Out, reterr: Out);
    boundary::without_handle(reterr, || {
        ret_segment.present()?;
        let fd = fd.get()?;
        let options = attach_options(&options)?;
        hand_out(&ret_segment, Segment::attach_fd(fd, &options)?)?;
        Ok(SHMSLOT_OK)
    })
}

/// Attaches to the segment of this name, or creates it. Of several processes that do so at once one
/// creates. If nobody is attached to it, options.if_orphaned decides, with REFUSE like ADOPT.
///
/// What is there must give what is asked: counts and sizes not less; user_header_size, max_held,
/// policy, type, SINGLE_WRITER, TIMESTAMPS and EPHEMERAL the same. Fields that are 0 and flags that
/// are off ask nothing. Otherwise the call returns OPTIONS_MISMATCH or TYPE_MISMATCH, and attaches
/// nothing. By default a segment that nobody is attached to is replaced, and its samples are lost:
/// for example those of a publisher that ended before its readers began. ADOPT keeps as many as
/// options.history.
/// Returns 1 if this call created the segment, which has no sample then, and 0 if it attached.
/// Arguments and errors as in shmslot_segment_create and shmslot_segment_attach. Threads: any.
/// Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_segment_open(
    name: *const c_char,
    options: *const shmslot_options,
    ret_segment: *mut *mut shmslot_segment,
    reterr: *mut shmslot_error,
) -> c_int {
    from_c!(name: Text, options: InSized, ret_segment: Out, reterr: Out);
    boundary::without_handle(reterr, || {
        ret_segment.present()?;
        let options = create_options(&options)?;
        let (segment, created) = Segment::open(name.name()?, &options)?;
        hand_out(&ret_segment, segment)?;
        Ok(c_int::from(created))
    })
}

/// Removes the name of a segment, and never that of another segment which gets the name meanwhile.
/// Attached processes stay attached, and learn of it by shmslot_info.retired,
/// shmslot_segment_is_named, and waits that SHMSLOT_END_RETIRED ends. The memory goes with the last
/// of them. A segment of another layout version is unlinked only if nobody is attached.
/// Threads: any. Errors: INVALID, BAD_NAME, NOT_FOUND (also if another call was faster), NAME_BUSY,
/// PERMISSION, NOT_A_FILE, EMPTY and NOT_A_SEGMENT (nothing is removed that this library did not
/// make), LAYOUT_VERSION and TRUNCATED (a process is attached), NO_MEMORY, SYS (also if the file is
/// a mount point). Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_segment_unlink(
    name: *const c_char,
    reterr: *mut shmslot_error,
) -> c_int {
    from_c!(name: Text, reterr: Out);
    boundary::without_handle(reterr, || {
        Segment::unlink(name.name()?)?;
        Ok(SHMSLOT_OK)
    })
}

/// The segments of a directory, without attaching to any and without changing anything; also dead
/// ones, and those of other users and layout versions. Whatever else is in the directory is left
/// out. For each file it makes a few system calls, and reads at most 4096 rows of participants.
/// directory: a path, or NULL for the system's; there only names that begin with "shmslot." count.
/// array: room for capacity of them, element_size bytes each: sizeof(shmslot_segment_entry). NULL
/// if capacity is 0.
/// ret_count: how many there are, which may be more than there was room for. reterr: NULL or filled
/// on failure.
/// Threads: any. Errors: INVALID, NOT_FOUND, PERMISSION, BAD_NAME (of the directory), NO_MEMORY,
/// SYS. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_segment_list(
    directory: *const c_char,
    array: *mut shmslot_segment_entry,
    element_size: usize,
    capacity: usize,
    ret_count: *mut usize,
    reterr: *mut shmslot_error,
) -> c_int {
    from_c!(directory: Text, array[element_size, capacity]: OutArray, ret_count: Out, reterr: Out);
    boundary::without_handle(reterr, || {
        array.give_list(&ret_count, || Segment::list(directory.path()))
    })
}

/// Unlinks each segment of a directory that belongs to this user and that no process is attached
/// to, of whatever layout version, and so frees its memory. The kernel proves that nobody is
/// attached; a stopped process is attached. A process that attaches at that moment gets the
/// segment, or NOT_FOUND. Whatever is no segment stays. Nothing waits: a name that another process
/// is just taking away is left to it. Copies of segments, such as backups, are unlinked as well.
/// directory: as in shmslot_segment_list. ret_removed: how many were unlinked; NULL if not wanted.
/// reterr: NULL or filled on failure. If one cannot be unlinked, the call unlinks the others, and
/// returns the error of that one.
/// Threads: any. Errors: those of shmslot_segment_list. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_segment_unlink_dead(
    directory: *const c_char,
    ret_removed: *mut u32,
    reterr: *mut shmslot_error,
) -> c_int {
    from_c!(directory: Text, ret_removed: Out, reterr: Out);
    boundary::without_handle(reterr, || {
        let removed = Segment::unlink_dead(directory.path())?;
        ret_removed.give_if_wanted(removed);
        Ok(SHMSLOT_OK)
    })
}

/// Closes the handle; NULL is fine. Never fails and never waits. Writers, readers and samples of it
/// may be closed before or after: the mapping lives as long as any of them. A named segment keeps
/// its name until it is unlinked; one made with SHMSLOT_FLAG_EPHEMERAL loses it with the last
/// participant.
/// Threads: any, once. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_segment_close(segment: *mut shmslot_segment) {
    from_c!(segment: HandleRef);
    // SAFETY: the header allows this once, and no use from then on.
    unsafe { boundary::close(segment) };
}

/// The geometry of the segment, and its use at this moment. info_size: sizeof(shmslot_info); fields
/// that an older library does not know are 0. Threads: any. Errors: INVALID. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_segment_info(
    segment: *const shmslot_segment,
    ret_info: *mut shmslot_info,
    info_size: usize,
) -> c_int {
    from_c!(segment: HandleRef, ret_info[info_size]: OutSized);
    boundary::with(&segment, |segment| {
        let info = shmslot_info::from(&segment.segment.info()?);
        ret_info.give(&info)?;
        Ok(SHMSLOT_OK)
    })
}

/// Whether the name of this segment still leads to it: 1, or 0 if it leads to another file or to
/// none, for whatever reason (shmslot_segment_unlink, rm, RemoveIPC of systemd). Where the answer
/// is 0, a process that attaches by the name gets another segment; open or attach again to join it.
/// The path is looked at as this process sees it.
/// Threads: any. Errors: INVALID, NOT_SUPPORTED (without a name), PERMISSION (a directory of the
/// path may not be searched any more), NO_MEMORY, SYS. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_segment_is_named(segment: *const shmslot_segment) -> c_int {
    from_c!(segment: HandleRef);
    boundary::with_system(&segment, |segment| Ok(c_int::from(segment.segment.is_named()?)))
}

/// Every process that is attached, and those that died and have not been recovered yet.
/// array: room for capacity of them, element_size bytes each: sizeof(shmslot_participant). NULL if
/// capacity is 0.
/// ret_count: how many there are, which may be more than there was room for. Looking makes a few
/// system calls for each. Of more than 256, one that has executed another program may count as
/// alive in some calls.
/// Threads: any. Errors: INVALID, NO_MEMORY, SYS. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_segment_participants(
    segment: *const shmslot_segment,
    array: *mut shmslot_participant,
    element_size: usize,
    capacity: usize,
    ret_count: *mut usize,
) -> c_int {
    from_c!(segment: HandleRef, array[element_size, capacity]: OutArray, ret_count: Out);
    boundary::with_system(&segment, |segment| {
        Ok(array.give_list(&ret_count, || segment.segment.participants())?)
    })
}

/// Recovers processes that died while they were attached; returns how many, 0 or greater.
///
/// Their loans, their unread samples, the samples they held and their rows are released, and what
/// they were committing is finished or undone. Every sleeper looks again. Death is reported by the
/// kernel; a stopped process is not dead. Any process may call it at any time, several at once. It
/// is rarely needed: it runs by itself on attach, when a reserve finds nothing free (once a
/// millisecond at most), when no place for a reader or a single writer is left, and every 200 ms in
/// a wait; if there are more than 64 participants, each such look checks some of them, and the next
/// look continues there.
///
/// reterr: NULL or filled on failure. Threads: any. Errors: INVALID, NOT_SUPPORTED (an observer),
/// NO_MEMORY, SYS, CORRUPT. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_segment_recover(
    segment: *mut shmslot_segment,
    reterr: *mut shmslot_error,
) -> c_int {
    from_c!(segment: HandleRef, reterr: Out);
    boundary::without_handle(reterr, || {
        let recovered = segment.open()?.segment.recover()?;
        Ok(c_int::try_from(recovered).unwrap_or(c_int::MAX))
    })
}

/// Ends the membership of a reader whose process lives, for example one that is stuck.
///
/// Its unread samples are released, and nothing more is owed to it. What it holds stays valid until
/// it is marked, and so does a sample that it is taking at this moment. Its reads and waits return
/// SHMSLOT_E_EXPELLED from now on; its index is free when it has left. Without
/// SHMSLOT_POLICY_DROP_OLDEST the call takes milliseconds. It may be repeated.
///
/// reader, generation: from shmslot_reader_counters; no later reader is expelled in its place.
/// reterr: NULL or filled on failure. Threads: any. Errors: INVALID, NOT_FOUND (it has left), AGAIN
/// (another process is expelling it), BAD_INDEX, NOT_SUPPORTED (an observer; or a system without
/// membarrier: then the reader is stopped, and its unread samples stay), CORRUPT. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_segment_expel(
    segment: *mut shmslot_segment,
    reader: u32,
    generation: u32,
    reterr: *mut shmslot_error,
) -> c_int {
    from_c!(segment: HandleRef, reterr: Out);
    boundary::without_handle(reterr, || {
        let target = Target { index: reader, generation };
        segment.open()?.segment.inner().expel(target)?;
        Ok(SHMSLOT_OK)
    })
}

/// Returns the memory of all unused regions to the system. Otherwise regions keep it for the next
/// payload, because new memory costs far more than used memory. ret_bytes: how much it was, or
/// NULL. Threads: any. Errors: INVALID, NOT_SUPPORTED (an observer), NO_MEMORY, SYS, CORRUPT.
/// Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_segment_trim(
    segment: *mut shmslot_segment,
    ret_bytes: *mut u64,
) -> c_int {
    from_c!(segment: HandleRef, ret_bytes: Out);
    boundary::with_system(&segment, |segment| {
        let bytes = segment.segment.trim()?;
        ret_bytes.give_if_wanted(bytes);
        Ok(SHMSLOT_OK)
    })
}

/// A descriptor of the segment, 0 or greater, to be passed on or duplicated. It stays the
/// segment's: do not close it. A process that has it can attach. It does not keep this participant
/// alive.
/// Threads: any. Errors: INVALID, NOT_SUPPORTED (a local segment has none; /proc is not mounted),
/// PERMISSION (this process may not open it any more), NO_MEMORY, SYS. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_segment_fd(segment: *const shmslot_segment) -> c_int {
    from_c!(segment: HandleRef);
    boundary::with_system(&segment, |segment| Ok(segment.segment.fd()?.as_raw_fd()))
}

/// The absolute path of a named segment, "" for one without a name. Writes as much as fits, ending
/// in a NUL; *ret_len is the whole length without it, as snprintf returns it. buffer may be NULL if
/// size is 0.
/// Threads: any. Errors: INVALID. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_segment_path(
    segment: *const shmslot_segment,
    buffer: *mut c_char,
    size: usize,
    ret_len: *mut usize,
) -> c_int {
    from_c!(segment: HandleRef, buffer[size]: OutBytes, ret_len: Out);
    boundary::with(&segment, |segment| {
        ret_len.present()?;
        let path = segment.segment.path().map_or(&[][..], sys::path_bytes);
        let buffer = buffer.first(size)?;
        // The last byte stays the NUL that it is.
        let room = buffer.len().saturating_sub(1);
        for (target, byte) in buffer.iter_mut().take(room).zip(path) {
            *target = *byte;
        }
        ret_len.give(path.len())?;
        Ok(SHMSLOT_OK)
    })
}

/// The number of slots. Threads: any. Errors: INVALID. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_segment_slot_count(
    segment: *const shmslot_segment,
    ret_count: *mut u64,
) -> c_int {
    from_c!(segment: HandleRef, ret_count: Out);
    boundary::with(&segment, |segment| {
        ret_count.give(u64::from(segment.segment.inner().geometry().slot_count))?;
        Ok(SHMSLOT_OK)
    })
}

/// Bytes from one slot's payload to the next. Threads: any. Errors: INVALID. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_segment_slot_total_size(
    segment: *const shmslot_segment,
    ret_bytes: *mut u64,
) -> c_int {
    from_c!(segment: HandleRef, ret_bytes: Out);
    boundary::with(&segment, |segment| {
        ret_bytes.give(segment.segment.slot_total_size())?;
        Ok(SHMSLOT_OK)
    })
}

/// The payload bytes of a slot. Threads: any. Errors: INVALID. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_segment_slot_capacity(
    segment: *const shmslot_segment,
    ret_bytes: *mut u64,
) -> c_int {
    from_c!(segment: HandleRef, ret_bytes: Out);
    boundary::with(&segment, |segment| {
        ret_bytes.give(segment.segment.inner().geometry().slot_capacity)?;
        Ok(SHMSLOT_OK)
    })
}

/// A number that changes with the first commit, discard or mark after this call, in any process.
/// Ask for it, look at what you wait for, then give it to shmslot_segment_wait_for_change: no
/// change is missed in between. For one reader shmslot_wait is cheaper and says more.
/// Threads: any. Errors: INVALID, NOT_SUPPORTED (an observer). Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_segment_generation(
    segment: *const shmslot_segment,
    ret_generation: *mut u32,
) -> c_int {
    from_c!(segment: HandleRef, ret_generation: Out);
    boundary::with(&segment, |segment| {
        ret_generation.present()?;
        ret_generation.give(segment.segment.generation()?)?;
        Ok(SHMSLOT_OK)
    })
}

/// Sets what ends shmslot_segment_wait_for_change of this handle, beside a change, from now on:
/// SHMSLOT_END_SIGNAL, SHMSLOT_END_RETIRED, their sum, or 0, which is how a segment begins. A
/// change comes first. Threads: any. Errors: INVALID (also any other bit). Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_segment_end_waits(
    segment: *const shmslot_segment,
    when: u32,
) -> c_int {
    from_c!(segment: HandleRef);
    boundary::with(&segment, |segment| {
        segment.segment.end_waits(end_waits(when)?)?;
        Ok(SHMSLOT_OK)
    })
}

/// Sleeps until the generation is no longer last. No interrupt call ends it; use a timeout.
/// timeout_ns: nanoseconds, 0 only to ask, -1 for no limit. ret_generation: the new one, which the
/// next call can take as last; or NULL.
/// Threads: any. Errors: INVALID, BAD_TIMEOUT, AGAIN (timeout 0), TIMEOUT, INTERRUPTED and RETIRED
/// (as shmslot_segment_end_waits says), NOT_SUPPORTED (an observer). Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_segment_wait_for_change(
    segment: *const shmslot_segment,
    last: u32,
    timeout_ns: i64,
    ret_generation: *mut u32,
) -> c_int {
    from_c!(segment: HandleRef, ret_generation: Out);
    boundary::with(&segment, |segment| {
        let timeout = boundary::timeout(timeout_ns)?;
        let generation = segment.segment.wait_for_change(last, timeout)?;
        ret_generation.give_if_wanted(generation);
        Ok(SHMSLOT_OK)
    })
}
