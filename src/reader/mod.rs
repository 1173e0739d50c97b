//! What a reading program holds: readers and samples.
//!
//! - `core`: the membership, and the path of a sample; `batch`: that of many.
//! - `explain`: why a call has failed.
#![forbid(unsafe_code)]

mod batch;
mod core;
mod explain;

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::core::{Core, HeldSample, Hold, Rest, SampleToken, wait_any};
use crate::error::{Code, Error, Result};
use crate::events::Arm;
use crate::out_of_line::OutOfLine;
use crate::protocol::calm::Right;
use crate::segment::Segment;
use crate::segment::attachment::Attachment;
use crate::wait::{EndWaits, Interrupter};

/// Reads the samples of a segment, in the order of their sequence.
///
/// A `Reader` may move to another thread, and is used by one thread at a time. Its samples may move
/// anywhere.
pub struct Reader {
    core: Arc<Core>,
    one_thread: PhantomData<Cell<()>>,
}

impl Segment {
    /// Joins as a reader, starting with up to `history` retained samples.
    pub fn reader(&self, history: u32) -> Result<Reader> {
        Reader::join(Arc::clone(self.inner()), history)
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("index", &self.core.index()).finish_non_exhaustive()
    }
}

impl Reader {
    pub(crate) fn join(segment: Arc<Attachment>, history: u32) -> Result<Reader> {
        Ok(Reader { core: Arc::new(Core::join(segment, history)?), one_thread: PhantomData })
    }

    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    /// The next sample; `None` if there is none yet. Several samples may be held, and dropped in
    /// any order.
    #[inline(always)]
    pub fn read(&self) -> Result<Option<Sample<'_>>> {
        match self.core.try_next() {
            Ok(found) => Ok(found.map(|held| self.sample(held))),
            Err(rest) => match self.core.next_slowly(rest).taken(&self.core) {
                Ok(held) => Ok(Some(self.sample(held))),
                Err(Code::Again) => Ok(None),
                Err(code) => Err(code.into()),
            },
        }
    }

    /// Takes up to `most` samples, and adds them to `samples`; returns how many, 0 if there is none
    /// yet. It is [`Reader::read`], as often as that succeeds, and at most once for each slot. An error
    /// that ends it early comes at the next call; and only a call that returns 0 has armed a
    /// [descriptor](Reader::descriptor).
    pub fn read_many<'r>(&'r self, most: usize, samples: &mut Vec<Sample<'r>>) -> Result<usize> {
        Ok(self.core.read_many(most, |held| samples.push(self.sample(held)))?)
    }

    /// Drops all samples of a list. Where [`Writer::commit_many`](crate::Writer::commit_many) shares
    /// looks, this looks only once per 16 samples whether somebody waits for their slots. Samples of
    /// other readers are dropped, too, but from the first of them on each by itself.
    pub fn mark_many(&self, samples: &mut Vec<Sample<'_>>) {
        let nth = |place: usize| match samples.get(place) {
            Some(sample) if std::ptr::eq(sample.core(), &*self.core) => Ok(sample.held.taken),
            _ => Err(Code::Stale),
        };
        let marked = self.core.mark_many(samples.len(), Right::Sole, nth).unwrap_or(0);
        for sample in samples.iter_mut().take(marked) {
            sample.forget_hold();
        }
        // The others are marked as they are dropped.
        samples.clear();
    }

    /// The newest sample, if this reader has not read and dropped it or history retains it. It does
    /// not move the reader: the next peek returns this sample until there is a newer one.
    pub fn peek_latest(&self) -> Result<Option<Sample<'_>>> {
        Ok(self.core.peek_latest()?.map(|held| self.sample(held)))
    }

    #[inline]
    pub(crate) fn sample(&self, held: HeldSample) -> Sample<'_> {
        Sample { reader: Hand::Borrowed(&self.core), held }
    }

    /// Waits until there is a sample to read; `None` waits without limit.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<()> {
        self.core.wait(timeout)
    }

    /// Waits until one of several readers, of any segments, has a sample; returns its index in the
    /// slice.
    pub fn wait_any(readers: &[&Reader], timeout: Option<Duration>) -> Result<usize> {
        let cores: Vec<&Core> = readers.iter().map(|reader| &*reader.core).collect();
        wait_any(&cores, timeout)
    }

    /// A descriptor for an event loop, the same each time: readable when there may be something to
    /// read. By default each [`read`](Reader::read) that finds nothing arms it; so a loop reads
    /// until there is nothing, and then waits for the descriptor, be it level-triggered or
    /// edge-triggered. A reader that has one returns the ends of [`end_waits`](Reader::end_waits)
    /// from its reads, too. It belongs to the reader, so nobody reads or closes it.
    pub fn descriptor(&self, arm: Arm) -> Result<BorrowedFd<'_>> {
        Ok(self.core.descriptor(arm)?.as_fd())
    }

    /// Arms the descriptor; whether there is something to read all the same.
    pub fn arm(&self) -> Result<bool> {
        Ok(self.core.arm()?)
    }

    /// A handle that ends waits of this reader from another thread.
    pub fn interrupter(&self) -> Interrupter {
        self.core.interrupter()
    }

    /// What also ends waits of this reader, from now on. By default nothing does.
    pub fn end_waits(&self, when: EndWaits) -> Result<()> {
        Ok(self.core.end_waits(when)?)
    }

    /// Why a call of this reader has just failed with `code`, in numbers.
    pub fn explain(&self, code: Code) -> Error {
        self.core.explain(code)
    }

    /// Samples that were taken away from this reader before it read them (drop-oldest only).
    pub fn lost(&self) -> u64 {
        self.core.lost()
    }

    /// This reader's bit in masks of readers.
    pub fn index(&self) -> u32 {
        self.core.index()
    }
}

impl Drop for Reader {
    /// Leaves. Held samples that were [made independent](Sample::into_owned) stay valid until they
    /// are dropped.
    fn drop(&mut self) {
        self.core.leave();
    }
}

/// Keeps a sample's membership alive.
enum Hand<'r> {
    Borrowed(&'r Arc<Core>),
    #[expect(
        clippy::redundant_allocation,
        reason = "the drop of a bare Arc takes its address, which keeps every sample in memory and \
                  costs each round 17 instructions (benches/instructions)"
    )]
    Owned(OutOfLine<Box<Arc<Core>>>),
}

/// A held sample: its bytes do not change or move until it is dropped, which marks it.
///
/// It borrows its reader, which costs nothing; [`Sample::into_owned`] makes one that may outlive
/// the reader. Payload bytes are shared memory: they are read through copies or raw pointers, never
/// through references.
pub struct Sample<'r> {
    reader: Hand<'r>,
    held: HeldSample,
}

impl fmt::Debug for Sample<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sample")
            .field("sequence", &self.sequence())
            .field("len", &self.len())
            .finish()
    }
}

impl<'r> Sample<'r> {
    #[inline]
    fn core(&self) -> &Core {
        match &self.reader {
            Hand::Borrowed(core) => core,
            Hand::Owned(core) => core,
        }
    }

    /// This sample, independent of its reader. It allocates.
    pub fn into_owned(self) -> Sample<'static> {
        let core = match &self.reader {
            Hand::Borrowed(core) => Box::new(Arc::clone(core)),
            Hand::Owned(core) => Box::clone(core),
        };
        Sample { reader: Hand::Owned(OutOfLine::new(core)), held: self.into_held() }
    }

    /// Its hold, which moves to another sample.
    pub(crate) fn into_held(mut self) -> HeldSample {
        let held = self.held;
        self.forget_hold();
        held
    }

    /// Its drop must not end the hold.
    fn forget_hold(&mut self) {
        let taken = self.held.taken;
        self.held.taken = SampleToken::new(taken.slot(), taken.sequence(), Hold::Moved);
    }

    /// The payload, aligned as the segment says; readable for [`Sample::len`] bytes.
    #[inline]
    pub fn as_ptr(&self) -> *const u8 {
        self.core().segment().payload(self.held.place())
    }

    /// Length of the payload in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        // At most the capacity, which fits the address space because the mapping does.
        self.held.extent.len() as usize
    }

    /// Whether the payload has no bytes; such a sample is valid like any other.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its place in the order of all samples of the segment; the first is 1.
    #[inline]
    pub fn sequence(&self) -> u64 {
        self.held.taken.sequence()
    }

    /// Monotonic time of its commit in nanoseconds; 0 if the segment keeps none, and in a forked
    /// child.
    pub fn timestamp_ns(&self) -> u64 {
        self.core().timestamp_ns(self.held.taken)
    }

    /// The [`Writer::id`](crate::Writer::id) of its writer.
    #[inline]
    pub fn writer_id(&self) -> u32 {
        self.held.extent.writer()
    }

    /// The slot's user header, whose size the segment decides; null if it has none.
    pub fn user_header(&self) -> *const u8 {
        self.core().segment().user_header(self.held.taken.slot())
    }

    /// Copies the start of the user header into `buffer`, as much as exists and fits; returns how
    /// many bytes.
    pub fn read_user_header(&self, buffer: &mut [u8]) -> usize {
        self.core().segment().user_header_bytes(self.held.taken.slot()).copy_to(buffer)
    }

    /// Copies the start of the payload into `buffer`, as much as fits; returns how many bytes.
    pub fn copy_to(&self, buffer: &mut [u8]) -> usize {
        self.core().segment().payload_bytes(self.held.place(), self.len()).copy_to(buffer)
    }

    /// A copy of the payload.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len()];
        self.copy_to(&mut bytes);
        bytes
    }
}

impl Drop for Sample<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.held.taken.hold() != Hold::Moved {
            // It is held exactly once; in a segment that was corrupted meanwhile there is nothing
            // to release.
            let _ = self.core().mark_own(self.held.taken);
        }
    }
}
