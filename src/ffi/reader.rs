//! Readers: read samples in place and mark them.

use std::ffi::{c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::error::{Code, HotResult};
use crate::ffi::arguments::{HandleRef, In, Out, address, from_c};
use crate::ffi::boundary;
use crate::ffi::handle::{Handle, Health};
use crate::ffi::library::{SHMSLOT_OK, shmslot_error};
use crate::ffi::options::end_waits;
use crate::ffi::plain::Plain;
use crate::ffi::segment::shmslot_segment;
use crate::protocol::calm::{self, Marked, Right};
use crate::reader::{self, Core, HeldSample, Hold, Rest, SampleToken};

/// Reads the samples of a segment in the order of their sequence. Threads: one at a time; marking
/// and interrupting: any.
pub struct shmslot_reader {
    pub(super) core: Core,
    health: Health,
    /// Samples handed out, counted by the thread that reads.
    handed_out: AtomicU64,
    /// Minus the samples marked; after leaving, plus those handed out: then it is what is still
    /// held, and who brings it to 0 frees the handle.
    balance: AtomicI64,
}

impl Handle for shmslot_reader {
    fn health(&self) -> &Health {
        &self.health
    }
}

/// A held sample: its bytes cannot change or move until it is marked. Plain data: it may be copied
/// and moved.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct shmslot_sample {
    /// The payload, aligned as the segment says; readable for len bytes until the sample is marked.
    pub data: *const c_void,
    /// Length of the payload in bytes.
    pub len: u64,
    /// Its place in the order of all samples of the segment; the first is 1.
    pub sequence: u64,
    /// Monotonic time of its commit in nanoseconds, 0 if the segment keeps none.
    pub timestamp_ns: u64,
    /// The slot's user header, as many bytes as the segment says; NULL if it has none.
    pub user_header: *const c_void,
    /// The segment that it belongs to.
    pub segment_id: u64,
    /// The slot that it is in.
    pub slot: u32,
    /// Equal in all samples of one writer, and different from that of every other open writer.
    pub writer_id: u32,
    /// How it is held; for the library.
    pub flags: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: integers and pointers.
unsafe impl Plain for shmslot_sample {}

const HELD: u32 = 1;

impl shmslot_reader {
    /// Counts marks; true if the last of them was that of the last sample after leaving: then the
    /// caller frees the handle. Otherwise this is the last touch of this thread.
    #[inline(always)]
    fn count_marks(&self, samples: i64) -> bool {
        // AcqRel: whoever frees the handle comes after all that others did with it.
        self.balance.fetch_sub(samples, Ordering::AcqRel) == samples
    }

    /// Hands a sample to the caller.
    #[inline]
    fn hand_out(
        &self,
        held: Option<HeldSample>,
        ret_sample: &Out<'_, shmslot_sample>,
    ) -> HotResult<c_int> {
        let held = held.ok_or(Code::Again)?;
        self.count_out(1);
        ret_sample.give(self.describe(held))?;
        Ok(SHMSLOT_OK)
    }

    /// Counts samples that are handed to the caller.
    #[inline(always)]
    fn count_out(&self, samples: u64) {
        // Not one step: only the thread that reads writes it, and `leave` comes after that.
        let before = self.handed_out.load(Ordering::Relaxed);
        self.handed_out.store(before.wrapping_add(samples), Ordering::Relaxed);
    }

    #[inline]
    fn describe(&self, held: HeldSample) -> shmslot_sample {
        let taken = held.taken;
        shmslot_sample {
            data: self.core.segment().payload(held.place()).cast_const().cast(),
            sequence: taken.sequence(),
            timestamp_ns: self.core.timestamp_ns(taken),
            flags: u32::from(taken.hold() == Hold::Held) * HELD,
            ..self.describe_short(held)
        }
    }

    /// The same of a sample from [`Core::try_next`]: it is in its slot, is held by its owed bit, and
    /// has no time.
    #[inline(always)]
    fn describe_short(&self, HeldSample { taken, extent }: HeldSample) -> shmslot_sample {
        let segment = self.core.segment();
        shmslot_sample {
            data: segment.payload_in_slot(taken.slot()).cast_const().cast(),
            len: extent.len(),
            sequence: taken.owed_sequence(),
            timestamp_ns: 0,
            user_header: segment.user_header(taken.slot()).cast_const().cast(),
            segment_id: segment.geometry().segment_id,
            slot: taken.slot(),
            writer_id: extent.writer(),
            flags: 0,
            reserved: 0,
        }
    }
}

/// The token of a sample of this segment.
#[inline(always)]
fn token_of(core: &Core, sample: &shmslot_sample) -> HotResult<SampleToken> {
    let is_of_this = sample.segment_id == core.segment().geometry().segment_id;
    if !is_of_this || !SampleToken::is_sequence(sample.sequence) {
        return Err(core.segment().table().err().unwrap_or(Code::Stale));
    }
    let hold = match sample.flags {
        0 => Hold::Owed,
        HELD => Hold::Held,
        _ => return Err(Code::Stale),
    };
    Ok(SampleToken::new(sample.slot, sample.sequence, hold))
}

/// Marks a sample of a reader that may have left already.
#[inline(always)]
fn mark(
    reader: HandleRef<'_, shmslot_reader>,
    find: impl FnOnce(&Core) -> HotResult<SampleToken>,
) -> c_int {
    let mark = |handle: &shmslot_reader| {
        handle.core.mark(find(&handle.core)?, Right::Token)?;
        Ok(handle.count_marks(1))
    };
    // SAFETY: the balance reaches 0 in one mark, of the last sample after leaving, because exactly
    // one mark of each sample succeeds. The header forbids any use of the reader after that.
    unsafe { boundary::give_back(reader, mark) }
}

/// Joins the segment as a reader. It sees every sample that is committed from now on, exactly once
/// and in order, and before those up to history samples that the segment has retained.
///
/// history: at most the segment's. ret_reader: end it with shmslot_reader_leave. reterr: NULL or
/// filled on failure.
/// Threads: any. Errors: INVALID, BAD_OPTIONS (history), NO_READER_SLOT, EXPELLED (before it had
/// joined), NOT_SUPPORTED (an observer), NO_MEMORY, SYS, CORRUPT. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_reader_join(
    segment: *mut shmslot_segment,
    history: u32,
    ret_reader: *mut *mut shmslot_reader,
    reterr: *mut shmslot_error,
) -> c_int {
    from_c!(segment: HandleRef, ret_reader: Out, reterr: Out);
    boundary::without_handle(reterr, || {
        ret_reader.present()?;
        let segment = segment.open()?;
        let core = Core::join(Arc::clone(segment.segment.inner()), history)?;
        let handle = shmslot_reader {
            core,
            health: Health::default(),
            handed_out: AtomicU64::new(0),
            balance: AtomicI64::new(0),
        };
        boundary::hand_out(&ret_reader, handle)?;
        Ok(SHMSLOT_OK)
    })
}

/// Leaves; NULL is fine. Never fails and never waits. What was not read is released. Held samples
/// stay valid and are marked with the same reader pointer as before; it dies with the last of them,
/// or now if there is none.
///
/// Threads: any, once, while no call but marks uses the reader; marks may run at the same time.
/// Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_reader_leave(reader: *mut shmslot_reader) {
    from_c!(reader: HandleRef);
    let leave = |handle: &shmslot_reader| {
        handle.core.leave();
        let handed_out = handle.handed_out.load(Ordering::Relaxed) as i64;
        // AcqRel: as in `mark`.
        handle.balance.fetch_add(handed_out, Ordering::AcqRel) + handed_out == 0
    };
    // SAFETY: the header allows this once, and only marks from then on. If the balance is 0 every
    // sample was marked, so no mark follows.
    unsafe { boundary::leave(reader, leave) };
}

/// Ends one wait of this reader with SHMSLOT_E_INTERRUPTED: the running one, or else the next.
/// Threads: any, and signal handlers. Errors: INVALID. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_reader_interrupt(reader: *mut shmslot_reader) -> c_int {
    from_c!(reader: HandleRef);
    boundary::with(&reader, |reader| {
        reader.core.interrupt()?;
        Ok(SHMSLOT_OK)
    })
}

/// Sets what ends waits of this reader, beside samples, from now on: a sum of
/// SHMSLOT_END_NO_WRITERS, SHMSLOT_END_PEER_DEAD, SHMSLOT_END_SIGNAL and SHMSLOT_END_RETIRED, or 0,
/// which is how a reader begins. Samples that are there are always read first.
///
/// Threads: any. Errors: INVALID. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_reader_end_waits(reader: *mut shmslot_reader, when: u32) -> c_int {
    from_c!(reader: HandleRef);
    boundary::with(&reader, |reader| {
        reader.core.end_waits(end_waits(when)?)?;
        Ok(SHMSLOT_OK)
    })
}

/// How many samples SHMSLOT_POLICY_DROP_OLDEST has taken away from this reader, as far as it has
/// read: exactly those of which the commit began after it had joined and that it has not read. 0
/// under the other policies.
/// Threads: any. Errors: INVALID. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_reader_lost(
    reader: *const shmslot_reader,
    ret_lost: *mut u64,
) -> c_int {
    from_c!(reader: HandleRef, ret_lost: Out);
    boundary::with(&reader, |reader| {
        reader.core.segment().table()?;
        ret_lost.give(reader.core.lost())?;
        Ok(SHMSLOT_OK)
    })
}

/// The reader's bit in masks of readers, 0 to 62. Threads: any. Errors: INVALID. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_reader_index(reader: *const shmslot_reader) -> c_int {
    from_c!(reader: HandleRef);
    boundary::with(&reader, |reader| {
        reader.core.segment().table()?;
        Ok(reader.core.index() as c_int)
    })
}

/// Says in numbers why a call of this reader has just failed with this code. ret_error gets the code
/// and a text. HELD_LIMIT: the samples held and max_held; both in numbers. STALE: what is known of
/// *sample; numbers: its sequence, and the one that the reader reads next. Any other code: the text
/// of shmslot_strerror. sample: looked at for STALE only; may be NULL.
/// Threads: any. Errors: INVALID (also no code of this header). Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_reader_explain(
    reader: *const shmslot_reader,
    code: c_int,
    sample: *const shmslot_sample,
    ret_error: *mut shmslot_error,
) -> c_int {
    from_c!(reader: HandleRef, sample: In, ret_error: Out);
    boundary::with(&reader, |reader| {
        reader.core.segment().table()?;
        let code = Code::from_number(code).ok_or(Code::Invalid)?;
        let error = match (code, sample.take()) {
            (Code::Stale, Ok(sample)) => {
                reader.core.explain_stale(token_of(&reader.core, &sample).ok())
            }
            _ => reader.core.explain(code),
        };
        ret_error.give(shmslot_error::from(&error))?;
        Ok(SHMSLOT_OK)
    })
}

/// Reads the next sample in place. Several may be held, and marked in any order. Makes no system
/// call, but see shmslot_reader_fd.
///
/// ret_sample: until shmslot_slot_mark. Threads: see shmslot_reader. Errors: INVALID, AGAIN
/// (nothing there yet), HELD (the next one is held by a peek), HELD_LIMIT (this reader holds
/// max_held samples, even if there is no other), EXPELLED, CORRUPT, DESCRIPTOR_LOST. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_slot_read(
    reader: *mut shmslot_reader,
    ret_sample: *mut shmslot_sample,
) -> c_int {
    from_c!(reader: HandleRef, ret_sample: Out);
    let read = boundary::quickly(&reader, |reader| {
        ret_sample.present().ok()?;
        Some(match reader.core.try_next() {
            Ok(Some(held)) => {
                reader.count_out(1);
                ret_sample.give_if_wanted(reader.describe_short(held));
                Ok(SHMSLOT_OK)
            }
            Ok(None) => Ok(Code::Again.number()),
            Err(rest) => Err(rest),
        })
    });
    match read {
        Some(Ok(number)) => number,
        Some(Err(rest)) => read_slow(reader, ret_sample, rest),
        None => read_slow(reader, ret_sample, Rest::All),
    }
}

/// Out of line, as `reserve_slow` of a writer.
#[inline(never)]
extern "C" fn read_slow(
    reader: HandleRef<'_, shmslot_reader>,
    ret_sample: Out<'_, shmslot_sample>,
    rest: Rest,
) -> c_int {
    boundary::with(&reader, |reader| {
        ret_sample.present()?;
        reader.hand_out(Some(reader.core.next_slowly(rest).taken(&reader.core)?), &ret_sample)
    })
}

/// Reads up to capacity samples in place, in order, and returns how many. It is shmslot_slot_read as
/// often as that succeeds, and at most once for each slot. A result below capacity says that there
/// were no more, or that an error ended it, which the next call returns. Only a call that returns
/// AGAIN has armed shmslot_reader_fd.
///
/// ret_samples: room for capacity samples, the first ones written; each until it is marked, together
/// or alone. NULL if capacity is 0, and then the result is 0. Threads and errors as in
/// shmslot_slot_read, if there is not even one. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_slot_read_many(
    reader: *mut shmslot_reader,
    ret_samples: *mut shmslot_sample,
    capacity: usize,
) -> c_int {
    from_c!(reader: HandleRef, ret_samples[capacity]: OutItems);
    boundary::with(&reader, |reader| {
        let most = ret_samples.capacity()?;
        let mut places = 0..;
        let read = |held| {
            let sample = reader.describe(held);
            ret_samples.give_nth(places.next().unwrap_or(usize::MAX), sample);
        };
        let count = reader.core.read_many(most, read)?;
        reader.count_out(count as u64);
        if count == 0 && most != 0 { Err(Code::Again) } else { Ok(count as c_int) }
    })
}

/// Takes the newest sample of all, if this reader has not read and marked it or the segment retains
/// it. With history, and no SHMSLOT_POLICY_DROP_OLDEST, there is one as soon as there was a commit.
/// It does not move the reader: after the mark the next peek finds the same sample until there is a
/// newer one, and a read comes to it in its turn. Under SHMSLOT_POLICY_DROP_OLDEST that read says
/// HELD until the mark.
///
/// ret_sample: until shmslot_slot_mark. Threads: see shmslot_reader. Errors: INVALID, AGAIN (none,
/// or it was read and is not retained), HELD (already), HELD_LIMIT, EXPELLED, CORRUPT. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_slot_peek_latest(
    reader: *mut shmslot_reader,
    ret_sample: *mut shmslot_sample,
) -> c_int {
    from_c!(reader: HandleRef, ret_sample: Out);
    boundary::with(&reader, |reader| {
        ret_sample.present()?;
        reader.hand_out(reader.core.peek_latest()?, &ret_sample)
    })
}

/// Releases a sample: its slot can be reused as soon as all readers have released it. Each sample
/// is marked once, in any order, also after shmslot_reader_leave. A second mark is STALE; but after
/// leaving, the mark of the last sample ends the handle.
///
/// Threads: any. Errors: INVALID, STALE. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_slot_mark(
    reader: *mut shmslot_reader,
    sample: *const shmslot_sample,
) -> c_int {
    from_c!(reader: HandleRef, sample: In);
    let marked = boundary::quickly(&reader, |reader| {
        let taken = token_of(&reader.core, &sample.take().ok()?).ok()?;
        match reader.core.try_mark(taken, Right::Token)? {
            (_, Marked::Done) => Some(Ok(reader.count_marks(1))),
            (_, Marked::Watched) => Some(Err(taken.slot())),
            (_, Marked::Not) => None,
        }
    });
    match marked {
        Some(Ok(false)) => SHMSLOT_OK,
        Some(Ok(true)) => end_left(reader),
        Some(Err(slot)) => end_watched_mark(reader, slot),
        None => mark_slow(reader, sample),
    }
}

/// Releases count samples in turn, and returns how many. It is shmslot_slot_mark for each; where
/// shmslot_slot_commit_many shares looks, this looks only once per 16 samples whether somebody waits
/// for their slots. If the result is below count,
/// the next sample is not held by this reader, and nothing was done with those after it; a call that
/// begins with it returns STALE.
///
/// samples: count of them, however they were read; may be NULL if count is 0. After leaving, the
/// handle dies with the last sample, as in shmslot_slot_mark. Threads: any. Errors: INVALID, STALE,
/// if not even one is released. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_slot_mark_many(
    reader: *mut shmslot_reader,
    samples: *const shmslot_sample,
    count: usize,
) -> c_int {
    from_c!(reader: HandleRef, samples[count]: InItems);
    let mut marked = 0;
    let mark = |handle: &shmslot_reader| {
        let nth = |place| token_of(&handle.core, &samples.take_nth(place)?);
        marked = handle.core.mark_many(samples.count()?, Right::Token, nth)?;
        Ok(marked != 0 && handle.count_marks(marked as i64))
    };
    // SAFETY: as in `mark`. Until its marks are counted, this call keeps the balance above 0.
    let outcome = unsafe { boundary::give_back(reader, mark) };
    if outcome == SHMSLOT_OK { marked as c_int } else { outcome }
}

/// Out of line, as `reserve_slow` of a writer; so are the next two.
#[inline(never)]
extern "C" fn mark_slow(
    reader: HandleRef<'_, shmslot_reader>,
    sample: In<'_, shmslot_sample>,
) -> c_int {
    mark(reader, |core| token_of(core, &sample.take()?))
}

/// Frees a reader that has left, after the mark of its last sample.
#[inline(never)]
extern "C" fn end_left(reader: HandleRef<'_, shmslot_reader>) -> c_int {
    // SAFETY: as in `mark`.
    unsafe { boundary::close(reader) };
    SHMSLOT_OK
}

/// The rest of a mark for which somebody may be waiting.
#[inline(never)]
extern "C" fn end_watched_mark(reader: HandleRef<'_, shmslot_reader>, slot: u32) -> c_int {
    let end = |handle: &shmslot_reader| {
        calm::mark_with_attention(handle.core.segment().table()?, slot)?;
        Ok(handle.count_marks(1))
    };
    // SAFETY: as in `mark`.
    unsafe { boundary::give_back(reader, end) }
}

/// shmslot_slot_mark for callers that kept only the payload pointer of the sample.
/// Threads: any. Errors: INVALID, STALE if data is not the payload of a sample that this reader
/// holds. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_slot_mark_ptr(
    reader: *mut shmslot_reader,
    data: *const c_void,
) -> c_int {
    from_c!(reader: HandleRef);
    mark(reader, |core| core.held_at(address(data)?))
}

/// The sample that this reader holds whose payload begins at data, found in constant time. It is
/// not held a second time.
/// Threads: any. Errors: INVALID, STALE if there is none. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_sample_from_ptr(
    reader: *mut shmslot_reader,
    data: *const c_void,
    ret_sample: *mut shmslot_sample,
) -> c_int {
    from_c!(reader: HandleRef, ret_sample: Out);
    boundary::with(&reader, |reader| {
        ret_sample.present()?;
        let taken = reader.core.held_at(address(data)?)?;
        ret_sample.give(reader.describe(reader.core.facts(taken)?))?;
        Ok(SHMSLOT_OK)
    })
}

/// Waits until shmslot_slot_read has a sample. Polls for options.spin_ns, then sleeps without using
/// the processor. Under SHMSLOT_POLICY_DROP_OLDEST the sample may be taken away again before the
/// read, which then says AGAIN.
///
/// timeout_ns: nanoseconds, 0 only to ask, -1 for no limit. Threads: see shmslot_reader. Errors:
/// INVALID, BAD_TIMEOUT, AGAIN (timeout 0), TIMEOUT, INTERRUPTED, NO_WRITERS, PEER_DEAD and RETIRED
/// (as shmslot_reader_end_waits says), EXPELLED, CORRUPT. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_wait(reader: *mut shmslot_reader, timeout_ns: i64) -> c_int {
    from_c!(reader: HandleRef);
    boundary::with(&reader, |reader| {
        reader.core.wait(boundary::timeout(timeout_ns)?)?;
        Ok(SHMSLOT_OK)
    })
}

/// Waits until one of count readers has a sample; they may belong to different segments. *ret_index
/// is the lowest that has.
///
/// count: 1 to 1024. Up to 128 are looked at every millisecond on kernels before 5.16, and where
/// futex_waitv is refused; elsewhere it sleeps. More cost as making a shmslot_set does, each time.
/// Errors: as shmslot_wait, TOO_MANY; from 129 SYS. Threads: see shmslot_reader. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_wait_any(
    readers: *const *mut shmslot_reader,
    count: usize,
    timeout_ns: i64,
    ret_index: *mut usize,
) -> c_int {
    from_c!(readers[count]: HandleRefs, ret_index: Out);
    boundary::without_handle(Out::none(), || {
        ret_index.present()?;
        let timeout = boundary::timeout(timeout_ns)?;
        let handles = readers.open()?;
        let cores: Vec<&Core> = handles.iter().map(|handle| &handle.core).collect();
        ret_index.give(reader::wait_any(&cores, timeout)?)?;
        Ok(SHMSLOT_OK)
    })
}
