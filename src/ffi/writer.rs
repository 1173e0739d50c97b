//! Writers: reserve, fill and commit slots.

use std::ffi::{c_int, c_void};
use std::sync::Arc;

use crate::error::{Code, HotResult};
use crate::ffi::arguments::{HandleRef, In, Out, address, from_c};
use crate::ffi::boundary;
use crate::ffi::handle::{Handle, Health};
use crate::ffi::library::{SHMSLOT_OK, shmslot_error};
use crate::ffi::options::end_waits;
use crate::ffi::plain::Plain;
use crate::ffi::segment::shmslot_segment;
use crate::protocol::calm::Right;
use crate::protocol::shape::KindOf;
use crate::protocol::words::Token;
use crate::writer::Core;

/// Reserves slots and commits them. Threads: any at once; on a SHMSLOT_FLAG_SINGLE_WRITER segment
/// one at a time.
pub struct shmslot_writer {
    pub(super) writer: Core,
    health: Health,
}

impl Handle for shmslot_writer {
    fn health(&self) -> &Health {
        &self.health
    }
}

/// A slot reserved and not yet committed or discarded. Plain data: it may be copied, moved and
/// forgotten.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct shmslot_loan {
    /// The payload, aligned as the segment says; writable for len bytes until the loan ends.
    pub data: *mut c_void,
    /// The bytes that were reserved.
    pub len: u64,
    /// The slot's user header, as many bytes as the segment says; NULL if it has none.
    pub user_header: *mut c_void,
    /// The segment that it belongs to.
    pub segment_id: u64,
    /// For the library: which slot, and which use of it.
    pub token: u64,
}

// SAFETY: integers and pointers.
unsafe impl Plain for shmslot_loan {}

impl shmslot_writer {
    #[inline(always)]
    fn loan_of(&self, token: Token, len: u64) -> shmslot_loan {
        let data = self.writer.segment().payload_of_loan(token.slot(), len).cast();
        shmslot_loan { data, ..self.loan_in_slot(token, len) }
    }

    /// The same of one that fits a slot.
    #[inline(always)]
    fn loan_in_slot(&self, token: Token, len: u64) -> shmslot_loan {
        let segment = self.writer.segment();
        shmslot_loan {
            data: segment.payload_in_slot(token.slot()).cast(),
            len,
            user_header: segment.user_header(token.slot()).cast(),
            segment_id: segment.geometry().segment_id,
            token: token.number(),
        }
    }

    #[inline(always)]
    fn token_of(&self, loan: shmslot_loan) -> HotResult<Token> {
        let segment = self.writer.segment();
        if loan.segment_id != segment.geometry().segment_id {
            return Err(segment.table().err().unwrap_or(Code::Stale));
        }
        Token::from_number(loan.token)
    }

    #[inline(always)]
    fn commit(&self, token: Token, len: usize, ret_sequence: &Out<'_, u64>) -> HotResult<c_int> {
        let sequence = self.writer.commit_token(token, len as u64, Right::Token)?;
        ret_sequence.give_if_wanted(sequence);
        Ok(SHMSLOT_OK)
    }
}

/// Opens a writer on the segment. From now on this process may write to all payloads.
/// ret_writer: close it with shmslot_writer_close, before or after the segment. reterr: NULL or
/// filled on failure.
/// Threads: any. Errors: INVALID, WRITER_EXISTS, NOT_SUPPORTED (an observer), NO_MEMORY
/// (also 4096 writers of one attachment), SYS, CORRUPT. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_writer_open(
    segment: *mut shmslot_segment,
    ret_writer: *mut *mut shmslot_writer,
    reterr: *mut shmslot_error,
) -> c_int {
    from_c!(segment: HandleRef, ret_writer: Out, reterr: Out);
    boundary::without_handle(reterr, || {
        ret_writer.present()?;
        let segment = segment.open()?;
        let writer = Core::open(Arc::clone(segment.segment.inner()))?;
        let handle = shmslot_writer { writer, health: Health::default() };
        boundary::hand_out(&ret_writer, handle)?;
        Ok(SHMSLOT_OK)
    })
}

/// Closes the writer; NULL is fine. Never fails and never waits. Loans that are still out are
/// discarded: do not write to their payloads any more. Threads: any, once. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_writer_close(writer: *mut shmslot_writer) {
    from_c!(writer: HandleRef);
    // SAFETY: the header allows this once, and no use from then on.
    unsafe { boundary::close(writer) };
}

/// Ends one wait of this writer with SHMSLOT_E_INTERRUPTED: the running one, or else the next.
/// Threads: any, and signal handlers. Errors: INVALID. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_writer_interrupt(writer: *mut shmslot_writer) -> c_int {
    from_c!(writer: HandleRef);
    boundary::with(&writer, |writer| {
        writer.writer.interrupt()?;
        Ok(SHMSLOT_OK)
    })
}

/// The readers that still hold the slots which this writer would reuse next: bit i is reader i, as
/// shmslot_reader_index tells. They are those of the 64 oldest samples that readers keep. To be
/// asked after SHMSLOT_E_NO_FREE_SLOT. 0: no reader keeps a slot, so all are loaned or retained;
/// shmslot_segment_counters tells. Threads: any. Errors: INVALID. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_writer_blockers(
    writer: *mut shmslot_writer,
    ret_readers: *mut u64,
) -> c_int {
    from_c!(writer: HandleRef, ret_readers: Out);
    boundary::with(&writer, |writer| {
        ret_readers.give(writer.writer.blockers()?)?;
        Ok(SHMSLOT_OK)
    })
}

/// Says in numbers why a call of this writer has just failed with this code. Reserve, commit and
/// the other hot calls return a code alone. ret_error gets the code and a text:
/// NO_FREE_SLOT: how many slots this writer, other writers and readers have, and which readers.
/// numbers: slots in use; loans of this writer; these readers, reader i as bit i. It costs a walk
/// over all slots.
/// TOO_LARGE: len, which is what the call wanted to write, and the largest payload; both in
/// numbers. LOAN_LIMIT: the loans and max_loans; both in numbers.
/// STALE: what became of *loan, as far as the segment still shows.
/// Any other code of this header: the text of shmslot_strerror.
/// loan: looked at for STALE only; may be NULL. Threads: any. Errors: INVALID (also no code of this
/// header). Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_writer_explain(
    writer: *const shmslot_writer,
    code: c_int,
    len: usize,
    loan: *const shmslot_loan,
    ret_error: *mut shmslot_error,
) -> c_int {
    from_c!(writer: HandleRef, loan: In, ret_error: Out);
    boundary::with(&writer, |handle| {
        handle.writer.segment().table()?;
        let code = Code::from_number(code).ok_or(Code::Invalid)?;
        let error = match (code, loan.take()) {
            (Code::Stale, Ok(loan)) => handle.writer.explain_stale(handle.token_of(loan).ok()),
            _ => handle.writer.explain(code, len),
        };
        ret_error.give(shmslot_error::from(&error))?;
        Ok(SHMSLOT_OK)
    })
}

/// Reserves room for up to len bytes, for this writer alone. Several loans at once are fine, ended
/// in any order. Payload and user header contain whatever bytes were there before. More than
/// slot_capacity, up to max_payload, is in a region, and needs a free slot and a free region;
/// nothing else differs.
///
/// When nothing is free: FAIL gives NO_FREE_SLOT whatever the timeout. BLOCK waits. DROP_OLDEST
/// takes the oldest sample that nobody holds away from those that have not read it, and waits only
/// if there is none. timeout_ns: nanoseconds, 0 not to wait (then NO_FREE_SLOT), -1 for no limit.
/// System calls only to wait, to look for the dead when nothing is free, for new memory of a region,
/// and one when slots begin to be freed out of order.
///
/// ret_loan: ends with commit, discard or the writer. Threads: see shmslot_writer. Errors: INVALID,
/// BAD_TIMEOUT, TOO_LARGE, NO_FREE_SLOT (also when the time is over), NO_MEMORY and SYS (for a
/// region), INTERRUPTED, RETIRED, LOAN_LIMIT, CORRUPT. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_slot_reserve(
    writer: *mut shmslot_writer,
    len: usize,
    timeout_ns: i64,
    ret_loan: *mut shmslot_loan,
) -> c_int {
    from_c!(writer: HandleRef, ret_loan: Out);
    let reserved = boundary::quickly(&writer, |handle| {
        if timeout_ns < -1 || ret_loan.present().is_err() {
            return None;
        }
        let token = handle.writer.try_reserve(len as u64)?;
        ret_loan.give_if_wanted(handle.loan_in_slot(token, len as u64));
        Some(SHMSLOT_OK)
    });
    match reserved {
        Some(number) => number,
        None => reserve_slow(writer, len, timeout_ns, ret_loan),
    }
}

/// Out of line, with the arguments where they were: so the common case saves no registers for it. A
/// function of C lets no panic out, which the compiler would have to expect otherwise.
#[inline(never)]
extern "C" fn reserve_slow(
    writer: HandleRef<'_, shmslot_writer>,
    len: usize,
    timeout_ns: i64,
    ret_loan: Out<'_, shmslot_loan>,
) -> c_int {
    boundary::with(&writer, |handle| {
        ret_loan.present()?;
        let token = handle.writer.reserve_after(len as u64, boundary::timeout(timeout_ns)?)?;
        ret_loan.give(handle.loan_of(token, len as u64))?;
        Ok(SHMSLOT_OK)
    })
}

/// Publishes the first len bytes of a loan to all readers; len may be less than was reserved, and
/// 0. The order of commits is the order of samples, over all writers of the segment.
///
/// ret_sequence: the sample's place in that order, from 1; NULL if not wanted. The loan is over on
/// success; on failure it is as it was. Threads: see shmslot_writer. Errors: INVALID, BAD_LENGTH,
/// STALE, CORRUPT. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_slot_commit(
    writer: *mut shmslot_writer,
    loan: *const shmslot_loan,
    len: usize,
    ret_sequence: *mut u64,
) -> c_int {
    from_c!(writer: HandleRef, loan: In, ret_sequence: Out);
    // Compiled separately, so that each has fewer registers to save.
    match writer.get().map(|handle| handle.writer.kind()) {
        Some(KindOf::CalmAlone) => commit_calmly::<true>(writer, loan, len, ret_sequence),
        Some(KindOf::CalmAmong) => commit_calmly::<false>(writer, loan, len, ret_sequence),
        _ => commit_slow(writer, loan, len, ret_sequence),
    }
}

#[inline(never)]
extern "C" fn commit_calmly<const ALONE: bool>(
    writer: HandleRef<'_, shmslot_writer>,
    loan: In<'_, shmslot_loan>,
    len: usize,
    ret_sequence: Out<'_, u64>,
) -> c_int {
    let committed = boundary::quickly(&writer, |handle| {
        let token = handle.token_of(loan.take().ok()?).ok()?;
        let sequence = handle.writer.commit_calmly::<ALONE>(token, len as u64, Right::Token)?;
        ret_sequence.give_if_wanted(sequence.get());
        Some(SHMSLOT_OK)
    });
    match committed {
        Some(number) => number,
        None => commit_slow(writer, loan, len, ret_sequence),
    }
}

/// Out of line, as [`reserve_slow`].
#[inline(never)]
extern "C" fn commit_slow(
    writer: HandleRef<'_, shmslot_writer>,
    loan: In<'_, shmslot_loan>,
    len: usize,
    ret_sequence: Out<'_, u64>,
) -> c_int {
    boundary::with(&writer, |handle| {
        handle.commit(handle.token_of(loan.take()?)?, len, &ret_sequence)
    })
}

/// Reserves up to capacity loans, each for up to len bytes, and returns how many. It is
/// shmslot_slot_reserve as often as that succeeds: the first waits as timeout_ns says, the others do
/// not wait. There are never more than slots. Loans of one call are mostly in the order in which
/// their commits are fastest.
///
/// ret_loans: room for capacity loans, the first ones written; NULL if capacity is 0, and then the
/// result is 0. Threads and errors as in shmslot_slot_reserve, if there is not even one. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_slot_reserve_many(
    writer: *mut shmslot_writer,
    len: usize,
    timeout_ns: i64,
    ret_loans: *mut shmslot_loan,
    capacity: usize,
) -> c_int {
    from_c!(writer: HandleRef, ret_loans[capacity]: OutItems);
    boundary::with(&writer, |handle| {
        let most = ret_loans.capacity()?;
        let timeout = boundary::timeout(timeout_ns)?;
        let mut places = 0..;
        let reserved = |token| {
            let loan = handle.loan_of(token, len as u64);
            ret_loans.give_nth(places.next().unwrap_or(usize::MAX), loan);
        };
        Ok(handle.writer.reserve_many(len as u64, timeout, most, reserved)? as c_int)
    })
}

/// Publishes count loans in turn, and returns how many. It is shmslot_slot_commit for each, but
/// looks only once per 16 samples whether somebody sleeps, joins or leaves, in a segment with a
/// power of two of slots, max_readers up to 15, and none of history, timestamps,
/// SHMSLOT_POLICY_DROP_OLDEST, max_loans and max_held. Samples of other writers may come in
/// between. If the result is below count, the next loan cannot be committed and is as it was, and
/// so are those after it; a call that begins with it returns the error.
///
/// loans: count of them, of this writer; may be NULL if count is 0. lens: how many bytes of each to
/// publish; NULL for the len in each loan, which the caller may have lowered. ret_sequences: room
/// for count sequences, the first ones written; NULL if not wanted. Threads and errors as in
/// shmslot_slot_commit, if not even one is published. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_slot_commit_many(
    writer: *mut shmslot_writer,
    loans: *const shmslot_loan,
    lens: *const usize,
    count: usize,
    ret_sequences: *mut u64,
) -> c_int {
    from_c!(
        writer: HandleRef,
        loans[count]: InItems,
        lens[count]: InItems,
        ret_sequences[count]: OutItems
    );
    boundary::with(&writer, |handle| {
        let nth = |place| {
            let loan = loans.take_nth(place)?;
            let len = if lens.is_null() { loan.len } else { lens.take_nth(place)? as u64 };
            Ok((handle.token_of(loan)?, len))
        };
        let mut places = 0..;
        let committed = |sequence| {
            ret_sequences.give_nth(places.next().unwrap_or(usize::MAX), sequence);
        };
        let done = handle.writer.commit_many(loans.count()?, Right::Token, nth, committed)?;
        Ok(done as c_int)
    })
}

/// Releases a loan without publishing it. It leaves no hole in the sequence.
/// Threads: see shmslot_writer. Errors: INVALID, STALE. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_slot_discard(
    writer: *mut shmslot_writer,
    loan: *const shmslot_loan,
) -> c_int {
    from_c!(writer: HandleRef, loan: In);
    boundary::with(&writer, |handle| {
        handle.writer.discard_token(handle.token_of(loan.take()?)?)?;
        Ok(SHMSLOT_OK)
    })
}

/// Reserves, copies len bytes and commits. bytes may be NULL if len is 0.
///
/// Arguments, threads and errors as in shmslot_slot_reserve and shmslot_slot_commit. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_slot_write(
    writer: *mut shmslot_writer,
    bytes: *const c_void,
    len: usize,
    timeout_ns: i64,
    ret_sequence: *mut u64,
) -> c_int {
    from_c!(writer: HandleRef, bytes[len]: InBytes, ret_sequence: Out);
    boundary::with(&writer, |handle| {
        let bytes = bytes.get()?;
        let sequence = handle.writer.write(bytes, boundary::timeout(timeout_ns)?)?;
        ret_sequence.give_if_wanted(sequence);
        Ok(SHMSLOT_OK)
    })
}

/// shmslot_slot_commit for callers that kept only the payload pointer of the loan.
/// Threads and errors as there; STALE if data is not the payload of a loan of this writer. Since
/// 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_slot_commit_ptr(
    writer: *mut shmslot_writer,
    data: *const c_void,
    len: usize,
    ret_sequence: *mut u64,
) -> c_int {
    from_c!(writer: HandleRef, ret_sequence: Out);
    boundary::with(&writer, |handle| {
        handle.commit(handle.writer.token_at(address(data)?)?, len, &ret_sequence)
    })
}

/// shmslot_slot_discard for callers that kept only the payload pointer of the loan.
/// Threads and errors as there; STALE if data is not the payload of a loan of this writer. Since
/// 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_slot_discard_ptr(
    writer: *mut shmslot_writer,
    data: *const c_void,
) -> c_int {
    from_c!(writer: HandleRef);
    boundary::with(&writer, |handle| {
        handle.writer.discard_token(handle.writer.token_at(address(data)?)?)?;
        Ok(SHMSLOT_OK)
    })
}

/// The loan of this writer whose payload begins at data, found in constant time.
/// Threads: see shmslot_writer. Errors: INVALID, STALE if there is none. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_loan_from_ptr(
    writer: *mut shmslot_writer,
    data: *const c_void,
    ret_loan: *mut shmslot_loan,
) -> c_int {
    from_c!(writer: HandleRef, ret_loan: Out);
    boundary::with(&writer, |handle| {
        ret_loan.present()?;
        let token = handle.writer.token_at(address(data)?)?;
        let len = handle.writer.reserved(token)?;
        ret_loan.give(handle.loan_of(token, len))?;
        Ok(SHMSLOT_OK)
    })
}

/// Sets what ends reserves and waits of this writer, beside what they wait for, from now on:
/// SHMSLOT_END_SIGNAL, SHMSLOT_END_RETIRED, their sum, or 0, which is how a writer begins. A slot
/// that is free comes first. Threads: any. Errors: INVALID (also any other bit). Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_writer_end_waits(writer: *mut shmslot_writer, when: u32) -> c_int {
    from_c!(writer: HandleRef);
    boundary::with(&writer, |handle| {
        handle.writer.end_waits(end_waits(when)?)?;
        Ok(SHMSLOT_OK)
    })
}

/// Waits until a slot can be had; regions are not counted in. With several writers another may be
/// faster then.
///
/// timeout_ns: nanoseconds, 0 only to ask, -1 for no limit. Threads: see shmslot_writer. Errors:
/// INVALID, BAD_TIMEOUT, AGAIN (timeout 0), TIMEOUT, INTERRUPTED, RETIRED (as
/// shmslot_writer_end_waits says). Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_wait_space(writer: *mut shmslot_writer, timeout_ns: i64) -> c_int {
    from_c!(writer: HandleRef);
    boundary::with(&writer, |handle| {
        handle.writer.wait_space(boundary::timeout(timeout_ns)?)?;
        Ok(SHMSLOT_OK)
    })
}

/// Waits until count readers or more are joined: each of them reads whatever is committed after
/// this call. A dead reader counts until it is recovered. timeout_ns and
/// threads: as in shmslot_wait_space. reterr: NULL or filled on failure. Errors: INVALID (also more
/// than max_readers), BAD_TIMEOUT, AGAIN (timeout 0), TIMEOUT, INTERRUPTED, RETIRED (as
/// shmslot_writer_end_waits says). Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_wait_readers(
    writer: *mut shmslot_writer,
    count: u32,
    timeout_ns: i64,
    reterr: *mut shmslot_error,
) -> c_int {
    from_c!(writer: HandleRef, reterr: Out);
    boundary::without_handle(reterr, || {
        let handle = writer.open()?;
        handle.writer.wait_readers(count, boundary::timeout(timeout_ns)?)?;
        Ok(SHMSLOT_OK)
    })
}
