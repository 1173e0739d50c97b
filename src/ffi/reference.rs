//! Reference operations: for middleware that tracks its readers itself.

use std::ffi::{c_int, c_void};

use crate::error::{Code, HotResult};
use crate::ffi::arguments::{HandleRef, In, Out, from_c};
use crate::ffi::boundary;
use crate::ffi::library::{SHMSLOT_OK, shmslot_error};
use crate::ffi::plain::Plain;
use crate::ffi::segment::shmslot_segment;
use crate::reference::{Ref, RefHeader, SharedReference};

/// One use of a slot: reserved, or published. Plain data; stale as soon as the slot is reused.
///
/// The shmslot_ref_ calls are for middleware that tracks its readers itself: readers are the
/// caller's own numbers from 0 to max_readers - 1, and each reserve says which of them are active.
/// They work on segments whose policy is FAIL or BLOCK, also on local ones. The handle becomes a
/// writer of the segment with the first reserve, which may fail as shmslot_writer_open does; who
/// only reads is none, and may be attached with SHMSLOT_FLAG_OBSERVER for all but
/// shmslot_ref_next_unread and the marks. Joined readers see these samples like all others. They
/// get their numbers from the top, and never one that these calls have used: that is kept for them
/// until shmslot_ref_mark_reader_disconnected gives it up. A number that a joined reader has is a
/// BAD_INDEX. All may say CORRUPT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct shmslot_ref {
    /// The segment that it belongs to.
    pub segment_id: u64,
    /// For the library: which slot, and which use of it.
    pub token: u64,
}

// SAFETY: integers only.
unsafe impl Plain for shmslot_ref {}

/// What is known of a published slot beside its bytes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct shmslot_ref_header {
    /// Its place in the order of all samples; the first is 1.
    pub sequence: u64,
    /// Length of the payload in bytes.
    pub len: u64,
    /// The readers that have not marked it: bit i is reader i.
    pub unread: u64,
    /// The active readers of its reserve; 0 if it was no reserve of these calls.
    pub audience: u64,
    /// Monotonic time of its commit in nanoseconds, 0 if the segment keeps none.
    pub timestamp_ns: u64,
}

// SAFETY: integers only.
unsafe impl Plain for shmslot_ref_header {}

impl From<RefHeader> for shmslot_ref_header {
    fn from(header: RefHeader) -> shmslot_ref_header {
        let RefHeader { sequence, len, unread, audience, timestamp_ns } = header;
        shmslot_ref_header { sequence, len, unread, audience, timestamp_ns }
    }
}

impl From<Ref> for shmslot_ref {
    fn from(reference: Ref) -> shmslot_ref {
        shmslot_ref { segment_id: reference.segment_id(), token: reference.token() }
    }
}

#[inline(always)]
fn take(reference: &In<'_, shmslot_ref>) -> HotResult<Ref> {
    let given = reference.take()?;
    Ref::of_numbers(given.segment_id, given.token)
}

/// Reserves a slot that no reader of active_readers (bit i: reader i) has unread. Never waits.
///
/// Threads: any; on a SHMSLOT_FLAG_SINGLE_WRITER segment one at a time for all that reserves and
/// commits. Errors: INVALID, BAD_INDEX (a bit from max_readers on, or of a joined reader),
/// NO_FREE_SLOT, LOAN_LIMIT, NOT_SUPPORTED. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_ref_reserve(
    segment: *mut shmslot_segment,
    active_readers: u64,
    ret_ref: *mut shmslot_ref,
) -> c_int {
    from_c!(segment: HandleRef, ret_ref: Out);
    boundary::with(&segment, |segment| {
        ret_ref.present()?;
        let reference = segment.reference()?;
        let token = reference.reserve_token(active_readers)?;
        ret_ref.give(reference.reference_to(token).into())?;
        Ok(SHMSLOT_OK)
    })
}

/// Reserves room for up to len bytes: as shmslot_ref_reserve if a slot takes them. More, up to
/// max_payload, is in a region, and needs one that no reader of active_readers has unread beside
/// such a slot. All other calls are the same. reterr: NULL or filled on failure. Threads: as there.
/// Otherwise as shmslot_ref_reserve; also TOO_LARGE, NO_MEMORY and SYS (for a region). Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_ref_reserve_large(
    segment: *mut shmslot_segment,
    active_readers: u64,
    len: usize,
    ret_ref: *mut shmslot_ref,
    reterr: *mut shmslot_error,
) -> c_int {
    from_c!(segment: HandleRef, ret_ref: Out, reterr: Out);
    boundary::without_handle(reterr, || {
        ret_ref.present()?;
        let reference = segment.open()?.reference()?;
        ret_ref.give(reference.reserve_large(active_readers, len)?.into())?;
        Ok(SHMSLOT_OK)
    })
}

/// Finds bytes of a slot, and gives out where they are and how many.
#[inline(always)]
fn give_bytes<P>(
    segment: &HandleRef<'_, shmslot_segment>,
    reference: &In<'_, shmslot_ref>,
    ret_start: &Out<'_, P>,
    ret_len: &Out<'_, usize>,
    find: impl FnOnce(&SharedReference, Ref) -> HotResult<(P, usize)>,
) -> c_int {
    boundary::with(segment, |segment| {
        ret_start.present()?;
        ret_len.present()?;
        let (start, len) = find(segment.reference()?, take(reference)?)?;
        ret_start.give(start)?;
        ret_len.give(len)?;
        Ok(SHMSLOT_OK)
    })
}

/// The payload of a reserved slot, and how many bytes it takes. Threads: any. Errors: INVALID,
/// STALE, NOT_SUPPORTED. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_ref_data_ptr(
    segment: *mut shmslot_segment,
    reference: *const shmslot_ref,
    ret_data: *mut *mut c_void,
    ret_capacity: *mut usize,
) -> c_int {
    from_c!(segment: HandleRef, reference: In, ret_data: Out, ret_capacity: Out);
    give_bytes(&segment, &reference, &ret_data, &ret_capacity, |slots, slot| {
        let (start, len) = slots.data_inline(slot)?;
        Ok((start.cast(), len))
    })
}

/// The user header of a reserved slot, to be filled before the commit, and its size; NULL and 0 if
/// the segment has none. Threads: any. Errors: INVALID, STALE, NOT_SUPPORTED. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_ref_data_user_header(
    segment: *mut shmslot_segment,
    reference: *const shmslot_ref,
    ret_header: *mut *mut c_void,
    ret_size: *mut usize,
) -> c_int {
    from_c!(segment: HandleRef, reference: In, ret_header: Out, ret_size: Out);
    give_bytes(&segment, &reference, &ret_header, &ret_size, |slots, slot| {
        let (start, len) = slots.data_user_header(slot)?;
        Ok((start.cast(), len))
    })
}

/// Copies len bytes into a reserved slot and publishes it to the active readers of its reserve.
/// ret_sequence: or NULL.
/// Threads: as shmslot_ref_reserve. Errors: INVALID, STALE, TOO_LARGE, NOT_SUPPORTED. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_ref_commit_copy(
    segment: *mut shmslot_segment,
    reference: *const shmslot_ref,
    bytes: *const c_void,
    len: usize,
    ret_sequence: *mut u64,
) -> c_int {
    from_c!(segment: HandleRef, reference: In, bytes[len]: InBytes, ret_sequence: Out);
    boundary::with(&segment, |segment| {
        let bytes = bytes.get()?;
        let sequence = segment.reference()?.commit_from(take(&reference)?, bytes)?;
        ret_sequence.give_if_wanted(sequence);
        Ok(SHMSLOT_OK)
    })
}

/// Publishes the first len bytes of a reserved slot, which were written in place. ret_sequence: or
/// NULL.
/// Threads: as shmslot_ref_reserve. Errors: INVALID, STALE, BAD_LENGTH, NOT_SUPPORTED. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_ref_commit_in_place(
    segment: *mut shmslot_segment,
    reference: *const shmslot_ref,
    len: usize,
    ret_sequence: *mut u64,
) -> c_int {
    from_c!(segment: HandleRef, reference: In, ret_sequence: Out);
    boundary::with(&segment, |segment| {
        let references = segment.reference()?;
        let sequence = references.commit_inline(references.token(take(&reference)?)?, len)?;
        ret_sequence.give_if_wanted(sequence);
        Ok(SHMSLOT_OK)
    })
}

/// Releases a reserved slot without publishing it. Threads: as shmslot_ref_reserve. Errors:
/// INVALID, STALE, NOT_SUPPORTED. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_ref_discard(
    segment: *mut shmslot_segment,
    reference: *const shmslot_ref,
) -> c_int {
    from_c!(segment: HandleRef, reference: In);
    boundary::with(&segment, |segment| {
        segment.reference()?.discard(take(&reference)?)?;
        Ok(SHMSLOT_OK)
    })
}

/// The oldest sample that a reader has not marked. It stays the answer until it is marked. Threads:
/// one at a time for each reader. Errors: INVALID, AGAIN (there is none), NOT_SUPPORTED, BAD_INDEX
/// (from max_readers on, or of a joined reader).
/// Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_ref_next_unread(
    segment: *mut shmslot_segment,
    reader_index: u32,
    ret_ref: *mut shmslot_ref,
) -> c_int {
    from_c!(segment: HandleRef, ret_ref: Out);
    boundary::with(&segment, |segment| {
        ret_ref.present()?;
        let reference = segment.reference()?;
        let token = reference.unread_inline(reader_index)?;
        ret_ref.give(reference.reference_to(token).into())?;
        Ok(SHMSLOT_OK)
    })
}

/// The sample that is published in a slot, 0 to slot_count - 1, whichever readers it is for, read
/// or not. It stays until the slot is reserved again: what was committed for nobody (a mask of 0)
/// is found here, and as long. A payload in a region may be gone before, if nobody has it unread:
/// to read it is STALE then.
/// Threads: any. Errors: INVALID, AGAIN (there is none), NOT_SUPPORTED. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_ref_published(
    segment: *mut shmslot_segment,
    slot: u32,
    ret_ref: *mut shmslot_ref,
) -> c_int {
    from_c!(segment: HandleRef, ret_ref: Out);
    boundary::with(&segment, |segment| {
        ret_ref.present()?;
        let found = segment.reference()?.published(slot)?.ok_or(Code::Again)?;
        ret_ref.give(found.into())?;
        Ok(SHMSLOT_OK)
    })
}

/// The payload of a published slot and its length. Its bytes stay as long as a reader that is
/// active at every reserve has not marked it. Threads: any. Errors: INVALID, STALE, NOT_SUPPORTED.
/// Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_ref_read_ptr(
    segment: *mut shmslot_segment,
    reference: *const shmslot_ref,
    ret_data: *mut *const c_void,
    ret_len: *mut usize,
) -> c_int {
    from_c!(segment: HandleRef, reference: In, ret_data: Out, ret_len: Out);
    give_bytes(&segment, &reference, &ret_data, &ret_len, |slots, slot| {
        let (start, len) = slots.read_inline(slot)?;
        Ok((start.cast(), len))
    })
}

/// The user header of a published slot and its size; NULL and 0 if the segment has none. It stays
/// as the payload does. Threads: any. Errors: INVALID, STALE, NOT_SUPPORTED. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_ref_read_user_header(
    segment: *mut shmslot_segment,
    reference: *const shmslot_ref,
    ret_header: *mut *const c_void,
    ret_size: *mut usize,
) -> c_int {
    from_c!(segment: HandleRef, reference: In, ret_header: Out, ret_size: Out);
    give_bytes(&segment, &reference, &ret_header, &ret_size, |slots, slot| {
        let (start, len) = slots.read_user_header(slot)?;
        Ok((start.cast(), len))
    })
}

/// What is known of a published slot. Threads: any. Errors: INVALID, STALE, NOT_SUPPORTED. Since
/// 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_ref_read_header(
    segment: *mut shmslot_segment,
    reference: *const shmslot_ref,
    ret_header: *mut shmslot_ref_header,
) -> c_int {
    from_c!(segment: HandleRef, reference: In, ret_header: Out);
    boundary::with(&segment, |segment| {
        ret_header.present()?;
        ret_header.give(segment.reference()?.header(take(&reference)?)?.into())?;
        Ok(SHMSLOT_OK)
    })
}

/// Copies a published slot into buffer and tells what is known of it. ret_header, ret_len: NULL if
/// not wanted. The buffer may be overwritten by a call that fails. Threads: any. Errors: INVALID,
/// STALE, TOO_LARGE (size is less than its length), NOT_SUPPORTED. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_ref_read_copy(
    segment: *mut shmslot_segment,
    reference: *const shmslot_ref,
    ret_header: *mut shmslot_ref_header,
    buffer: *mut c_void,
    size: usize,
    ret_len: *mut usize,
) -> c_int {
    from_c!(segment: HandleRef, reference: In, ret_header: Out, buffer[size]: OutBytes, ret_len: Out);
    boundary::with(&segment, |segment| {
        let reference = take(&reference)?;
        let header = segment.reference()?.header(reference)?;
        if header.len > size as u64 {
            return Err(Code::TooLarge);
        }
        // Only what will be written.
        let buffer = buffer.first(header.len as usize)?;
        // SAFETY: the header lets C reserve the slot during the call. Bytes that another thread of
        // this process writes then are copied like those of another process: no decision depends on
        // them, and the look afterwards answers STALE.
        let header = unsafe { segment.reference()?.read_copy(reference, buffer) }?;
        ret_header.give_if_wanted(header.into());
        ret_len.give_if_wanted(header.len as usize);
        Ok(SHMSLOT_OK)
    })
}

/// Marks a published slot as read by one reader. Threads: any. Errors: INVALID, STALE (also if this
/// reader had marked it), BAD_INDEX, NOT_SUPPORTED. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_ref_mark_read(
    segment: *mut shmslot_segment,
    reference: *const shmslot_ref,
    reader_index: u32,
) -> c_int {
    from_c!(segment: HandleRef, reference: In);
    boundary::with(&segment, |segment| {
        let references = segment.reference()?;
        references.mark_inline(references.token(take(&reference)?)?, reader_index)?;
        Ok(SHMSLOT_OK)
    })
}

/// Marks everything as read by one reader, which is gone. Looks at every slot. From here on a
/// reader that joins may get its number, until it is used again. Threads: any. Errors: INVALID,
/// BAD_INDEX, NOT_SUPPORTED. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_ref_mark_reader_disconnected(
    segment: *mut shmslot_segment,
    reader_index: u32,
) -> c_int {
    from_c!(segment: HandleRef);
    boundary::with(&segment, |segment| {
        segment.reference()?.mark_reader_disconnected(reader_index)?;
        Ok(SHMSLOT_OK)
    })
}
