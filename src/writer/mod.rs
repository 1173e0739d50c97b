//! What a writing program holds: writers and loans.
//!
//! - `guess`: which free slot is tried first.
//! - `calm`: what it remembers of a segment that can be calm.
//! - `core`: the path of a loan, and what each policy does when no slot is free; `batch`: that of
//!   many.
//! - `explain`: why a call has failed.
#![forbid(unsafe_code)]

mod batch;
mod calm;
mod core;
mod explain;
mod guess;

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::core::{Core, user_header_too_large};
use crate::error::{Code, Error, Result};
use crate::events::Arm;
use crate::protocol::calm::Right;
use crate::protocol::words::{Place, Token};
use crate::segment::Segment;
use crate::wait::{EndWaits, Interrupter};

/// Marks a [`Writer`] or [`Reference`](crate::Reference) that one thread uses at a time. It may
/// move to another thread.
pub struct OneThread {
    _not_sync: Cell<()>,
}

/// Marks a [`Writer`] or [`Reference`](crate::Reference) that any number of threads use at once.
pub struct AnyThread {}

/// Reserves slots of a segment, and commits them.
///
/// A plain `Writer` may move to another thread, and is used by one thread at a time. A
/// [`SharedWriter`] is `Sync`: any number of threads may use it at once.
///
/// # Why two
///
/// On a single-writer segment a reserve claims its slot by a plain store, so two threads that
/// reserve at once could get one slot. Its writer must stay with one thread, and the type ensures
/// that. On any other segment a reserve claims its slot by a compare-exchange, so each slot has one
/// [`Loan`], which has one owner as long as it exists.
pub struct Writer<Threads = OneThread> {
    core: Core,
    threads: PhantomData<Threads>,
}

/// A writer for any number of threads at once: by reference, or in an [`Arc`].
pub type SharedWriter = Writer<AnyThread>;

// The fields of a writer are `Sync`, so the marker alone decides.
const _: () = {
    const fn is_sync<T: Sync>() {}
    is_sync::<Core>();
    is_sync::<SharedWriter>();
};

impl<Threads> fmt::Debug for Writer<Threads> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("id", &self.id()).finish_non_exhaustive()
    }
}

impl Segment {
    /// Opens a writer for one thread at a time.
    pub fn writer(&self) -> Result<Writer> {
        Ok(Writer { core: Core::open(Arc::clone(self.inner()))?, threads: PhantomData })
    }

    /// Opens a writer for any number of threads at once. A single-writer segment has none:
    /// [`Code::NotSupported`].
    pub fn shared_writer(&self) -> Result<SharedWriter> {
        self.check_shareable()?;
        Ok(Writer { core: Core::open(Arc::clone(self.inner()))?, threads: PhantomData })
    }

    /// Whether several threads may reserve by one handle.
    pub(crate) fn check_shareable(&self) -> Result<()> {
        if self.inner().geometry().single_writer {
            return Err(Error::new(Code::NotSupported)
                .about("a single-writer segment has no writer that several threads share")
                .advice(
                    "open a Writer, which stays with one thread, or create the segment without it",
                ));
        }
        Ok(())
    }
}

impl<Threads> Writer<Threads> {
    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    /// Reserves a slot for up to `len` bytes. When nothing is free, the segment's policy decides
    /// what happens, for at most `timeout`; `None` waits without limit.
    #[inline(always)]
    pub fn reserve(&self, len: usize, timeout: Option<Duration>) -> Result<Loan<&Self>> {
        Loan::reserve(self, len, timeout)
    }

    /// Reserves up to `most` slots for up to `len` bytes each, and adds them to `loans`; returns how
    /// many. It is [`Writer::reserve`], as often as that succeeds; only the first waits.
    pub fn reserve_many<'w>(
        &'w self,
        len: usize,
        timeout: Option<Duration>,
        most: usize,
        loans: &mut Vec<Loan<&'w Self>>,
    ) -> Result<usize> {
        let reserved = |token| loans.push(Loan { writer: self, token, len, committed: false });
        Ok(self.core.reserve_many(len as u64, timeout, most, reserved)?)
    }

    /// Publishes the first loans of a list, each with its length in `lens`, and takes them from the
    /// list; returns how many. It is [`Loan::commit`] for each in turn, but looks only once per 16
    /// samples whether somebody sleeps, joins or leaves, in a segment with a power of two of slots, up
    /// to 15 readers, and no history, timestamps, drop-oldest or limits.
    ///
    /// If it is fewer than there are lengths and loans, the next one cannot be committed, and a
    /// further call returns the error. [`Code::Invalid`]: that is the loan of another writer. The
    /// loans that are left in the list are as before. `committed` gets each sequence; if it panics,
    /// the list is empty, and the loans that were not committed are discarded.
    pub fn commit_many<'w>(
        &'w self,
        loans: &mut Vec<Loan<&'w Self>>,
        lens: &[usize],
        committed: impl FnMut(u64),
    ) -> Result<usize> {
        // Until it returns, nobody can commit them a second time.
        let mut given = std::mem::take(loans);
        let nth = |place: usize| match (given.get(place), lens.get(place)) {
            (Some(loan), Some(len)) if std::ptr::eq(loan.writer, self) => {
                Ok((loan.token, *len as u64))
            }
            _ => Err(Code::Invalid),
        };
        let count = given.len().min(lens.len());
        let outcome = self.core.commit_many(count, Right::Sole, nth, committed);
        let done = *outcome.as_ref().unwrap_or(&0);
        for loan in given.iter_mut().take(done) {
            loan.committed = true;
        }
        given.drain(..done);
        *loans = given;
        Ok(outcome?)
    }

    /// Reserves, copies and commits; returns the sequence.
    pub fn write(&self, bytes: &[u8], timeout: Option<Duration>) -> Result<u64> {
        self.core.write(bytes.into(), timeout)
    }

    /// Waits until there is a slot to reserve; `None` waits without limit. Another writer may then
    /// be faster.
    pub fn wait_space(&self, timeout: Option<Duration>) -> Result<()> {
        self.core.wait_space(timeout)
    }

    /// Waits until at least `count` readers are joined; `None` waits without limit. Each of them
    /// reads everything that is committed after this call.
    pub fn wait_readers(&self, count: u32, timeout: Option<Duration>) -> Result<()> {
        self.core.wait_readers(count, timeout)
    }

    /// A handle that ends waits of this writer from another thread.
    pub fn interrupter(&self) -> Interrupter {
        self.core.interrupter()
    }

    /// A descriptor for an event loop, the same each time: readable when there may be a slot to
    /// reserve. A reserve with a timeout of 0 that gets [`Code::NoFreeSlot`] arms it, and so does
    /// [`wait_space`](Writer::wait_space) that gets [`Code::Again`]; then it becomes readable when
    /// a slot is released. One thread makes these calls. It belongs to the writer, so nobody reads
    /// or closes it.
    pub fn descriptor(&self, arm: Arm) -> Result<BorrowedFd<'_>> {
        Ok(self.core.descriptor(arm)?.as_fd())
    }

    /// Arms the descriptor; whether there may be a slot to reserve all the same.
    pub fn arm(&self) -> Result<bool> {
        Ok(self.core.arm()?)
    }

    /// What also ends waits of this writer, from now on.
    pub fn end_waits(&self, when: EndWaits) -> Result<()> {
        self.core.end_waits(when)
    }

    /// Why a call of this writer has just failed with `code`, in numbers. `len` is what that call
    /// wanted to reserve or write. [`Code::NoFreeSlot`] costs a walk over all slots; what has
    /// changed since the call shows in the numbers.
    pub fn explain(&self, code: Code, len: usize) -> Error {
        self.core.explain(code, len)
    }

    /// Readers that still hold the slots this writer would reuse next, reader i as bit i.
    pub fn blockers(&self) -> Result<u64> {
        self.core.blockers()
    }

    /// The number that samples of this writer carry.
    pub fn id(&self) -> u32 {
        self.core.id()
    }
}

impl<Threads> Writer<Threads> {
    /// As [`Writer::reserve`], with a loan that keeps the writer and borrows nothing. That of a
    /// [`SharedWriter`] may move to a thread of unknown lifetime; that of a plain `Writer` stays
    /// with the thread of its writer.
    pub fn reserve_owned(
        self: &Arc<Self>,
        len: usize,
        timeout: Option<Duration>,
    ) -> Result<Loan<Arc<Self>>> {
        Loan::reserve(Arc::clone(self), len, timeout)
    }
}

/// How a loan keeps its writer.
pub trait KeepsWriter: sealed::KeepsWriter {}

mod sealed {
    pub trait KeepsWriter {
        fn core(&self) -> &super::Core;
    }
}

impl<Threads> KeepsWriter for &Writer<Threads> {}

impl<Threads> sealed::KeepsWriter for &Writer<Threads> {
    #[inline(always)]
    fn core(&self) -> &Core {
        &self.core
    }
}

impl<Threads> KeepsWriter for Arc<Writer<Threads>> {}

impl<Threads> sealed::KeepsWriter for Arc<Writer<Threads>> {
    #[inline(always)]
    fn core(&self) -> &Core {
        &self.core
    }
}

/// A slot that is reserved and not yet committed. Dropping it discards it, which leaves no hole in
/// the sequence.
///
/// The loan of a [`SharedWriter`] is `Send`: another thread may fill and commit it.
///
/// Payload bytes are shared memory: they are written through copies or raw pointers, never through
/// references.
pub struct Loan<Keeper: KeepsWriter> {
    writer: Keeper,
    token: Token,
    len: usize,
    committed: bool,
}

impl<Keeper: KeepsWriter> fmt::Debug for Loan<Keeper> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loan").field("slot", &self.token.slot()).field("len", &self.len).finish()
    }
}

impl<Keeper: KeepsWriter> Loan<Keeper> {
    #[inline(always)]
    fn reserve(writer: Keeper, len: usize, timeout: Option<Duration>) -> Result<Loan<Keeper>> {
        let token = writer.core().reserve_token(len as u64, timeout)?;
        Ok(Loan { writer, token, len, committed: false })
    }

    #[inline(always)]
    fn place(&self) -> Place {
        self.writer.core().segment().place_of_loan(self.token.slot(), self.len as u64)
    }

    /// The payload, aligned as the segment says; writable for [`Loan::reserved`] bytes until the
    /// loan ends.
    #[inline]
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.writer.core().segment().payload_of_loan(self.token.slot(), self.len as u64)
    }

    /// The bytes that were reserved.
    pub fn reserved(&self) -> usize {
        self.len
    }

    /// The slot's user header, whose size the segment decides; null if it has none.
    pub fn user_header(&mut self) -> *mut u8 {
        self.writer.core().segment().user_header(self.token.slot())
    }

    /// Copies `bytes` to the start of the user header.
    pub fn write_user_header(&mut self, bytes: &[u8]) -> Result<()> {
        let segment = self.writer.core().segment();
        if segment.fill_user_header(self.token.slot(), bytes.into()) {
            Ok(())
        } else {
            Err(user_header_too_large(bytes.len(), segment.geometry().user_header_size))
        }
    }

    /// Copies `bytes` to the start of the payload.
    pub fn copy_from(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.len() > self.len {
            let (wanted, room) = (bytes.len(), self.len);
            return Err(Error::new(Code::BadLength)
                .about(format_args!("{wanted} bytes do not fit the {room} that were reserved"))
                .with_numbers([wanted as u64, room as u64, 0]));
        }
        self.writer.core().segment().fill(self.place(), bytes.into());
        Ok(())
    }

    /// Publishes the first `len` bytes; returns the sequence of the sample. An error gives the slot
    /// back.
    #[inline]
    pub fn commit(mut self, len: usize) -> Result<u64> {
        let core = self.writer.core();
        let sequence = core.commit_loan(self.token, len as u64)?;
        self.committed = true;
        Ok(sequence)
    }

    /// Gives the slot back unpublished.
    pub fn discard(self) {}
}

impl<Keeper: KeepsWriter> Drop for Loan<Keeper> {
    // Inline, so that the compiler sees that nothing is left to do after a commit.
    #[inline]
    fn drop(&mut self) {
        if !self.committed {
            self.writer.core().discard_loan(self.token);
        }
    }
}
