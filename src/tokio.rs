//! Readers and writers in the runtime tokio: their descriptors in its event loop.
//!
//! tokio waits for descriptors edge-triggered, and remembers that one was readable until it is told
//! that nothing is left. Only a call that has found nothing, and so has armed the descriptor, tells
//! it that; what happens from then on is a new event. No thread is needed, and as long as there is
//! something to find no system call is made. But what tokio remembers is the outcome of the last
//! call, which may have asked something else: each call looks once by itself.
//!
//! A future that is dropped has taken nothing: it takes and returns in one step.
#![allow(unsafe_code)] // tokio takes a descriptor in an unsafe call only.

use std::fmt;
use std::future::{self, Future};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::tokio::io::Interest;
use ::tokio::io::unix::AsyncFd;
use ::tokio::runtime::Handle;
use ::tokio::task::coop::consume_budget;
use futures_core::Stream;

use crate::error::{Code, Error, Result};
use crate::events::{Arm, Descriptor};
use crate::reader::{HeldSample, Reader, Sample};
use crate::sys::ForkGuard;
use crate::writer::Writer;

/// The number of a descriptor, which somebody else keeps open.
struct Number(RawFd);

impl AsRawFd for Number {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

/// A descriptor in the event loop of tokio, until it is dropped.
struct Registration {
    in_loop: ManuallyDrop<AsyncFd<Number>>,
    /// The process that it belongs to.
    birth: ForkGuard,
}

impl Registration {
    /// # Safety
    ///
    /// Until this is dropped, the descriptor stays open; except in a forked child.
    unsafe fn new(descriptor: &Descriptor) -> Result<Registration> {
        if !descriptor.arms_itself() {
            return Err(Error::new(Code::Invalid)
                .about("it has a descriptor that is armed on request, and tokio asks for nothing")
                .advice("pass one that has no descriptor yet"));
        }
        let birth = ForkGuard::of_this_process()?;
        let number = Number(descriptor.as_fd().as_raw_fd());
        // SAFETY: a `Number` always returns the same one, which the caller keeps open. A forked
        // child never uses its copy of the `AsyncFd`.
        let made = unsafe { AsyncFd::register_with_interest(number, Interest::READABLE) };
        let in_loop = ManuallyDrop::new(made.map_err(|error| not_registered(&error.into()))?);
        Ok(Registration { in_loop, birth })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // A forked child shares the epoll of its parent, and would take the descriptor out of that.
        if self.birth.same_process() {
            // SAFETY: it is dropped here only, and not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.in_loop) };
        }
    }
}

/// What waits for its descriptor in the event loop of tokio.
struct Waiting<T> {
    /// Before `waits`, which closes the descriptor: fields are dropped in this order.
    registration: Registration,
    waits: T,
}

impl<T> Waiting<T> {
    fn new(
        waits: T,
        descriptor: impl FnOnce(&T) -> Result<&Descriptor>,
    ) -> std::result::Result<Waiting<T>, NotAwaitable<T>> {
        let registration = in_runtime().and_then(|()| {
            let descriptor = descriptor(&waits)?;
            // SAFETY: it belongs to `waits`, which has it open for all its life, and whose place is
            // behind the registration.
            unsafe { Registration::new(descriptor) }
        });
        match registration {
            Ok(registration) => Ok(Waiting { registration, waits }),
            Err(error) => Err(NotAwaitable { error, given: waits }),
        }
    }

    fn into_inner(self) -> T {
        drop(self.registration);
        self.waits
    }

    /// Looks once, and each time the descriptor may have become readable, until that finds
    /// something. A look that finds nothing has armed it. `looked`: the call has done so.
    fn poll<F>(
        &mut self,
        context: &mut Context<'_>,
        looked: &mut bool,
        mut look: impl FnMut(&T) -> Result<Option<F>>,
    ) -> Poll<Result<F>> {
        if !self.registration.birth.same_process() {
            return Poll::Ready(Err(Code::Forked.into()));
        }
        loop {
            let ready = self.registration.in_loop.poll_read_ready(context);
            if ready.is_pending() {
                if *looked {
                    return Poll::Pending;
                }
                // A task that always finds something must let others run, too. tokio counts only
                // what it says is ready; so this look is counted here. Pending: polled again soon.
                ready!(pin!(consume_budget()).poll(context));
            }
            *looked = true;
            if let Some(found) = look(&self.waits)? {
                return Poll::Ready(Ok(found));
            }
            // It is armed, and its next event wakes the task.
            let mut ready = ready!(ready).map_err(|error| not_awaited(&error))?;
            // Not if tokio was told of a new event since it said that it is readable.
            ready.clear_ready();
        }
    }
}

fn in_runtime() -> Result<()> {
    Handle::try_current().map(drop).map_err(|_| {
        Error::new(Code::Invalid)
            .about("this thread is not in a runtime of tokio")
            .advice("make it in an async function, or after Runtime::enter")
    })
}

fn not_registered(error: &io::Error) -> Error {
    let advice = match error.raw_os_error() {
        Some(libc::EEXIST) => "take the descriptor out of this runtime, where it is already",
        Some(libc::ENOSPC) => "raise fs.epoll.max_user_watches, which limits this user",
        Some(_) => "os_errno says why",
        None => "make it before its runtime is shut down",
    };
    from_tokio(error, "register").advice(advice)
}

/// A runtime refuses to wait only when it ends.
fn not_awaited(error: &io::Error) -> Error {
    from_tokio(error, "wait for").advice("await it before its runtime is shut down")
}

fn from_tokio(error: &io::Error, refused: &str) -> Error {
    Error::new(Code::Sys)
        .errno(error.raw_os_error().unwrap_or_default())
        .about(format_args!("tokio does not {refused} the descriptor: {error}"))
}

/// Why a reader or a writer was not made awaitable, and the reader or writer. With `?` it becomes
/// an [`Error`], and the reader or writer is closed.
#[derive(Debug)]
pub struct NotAwaitable<T> {
    /// The reason.
    pub error: Error,
    /// What was to be awaited. It may have got its descriptor, and then no set takes it.
    pub given: T,
}

impl<T> fmt::Display for NotAwaitable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T: fmt::Debug> std::error::Error for NotAwaitable<T> {}

impl<T> From<NotAwaitable<T>> for Error {
    fn from(refused: NotAwaitable<T>) -> Error {
        refused.error
    }
}

/// A [`Reader`] whose samples are awaited, in the runtime that it was made in.
///
/// It is a [`Stream`] of samples that are [independent](Sample::into_owned), too. After an error,
/// such as an end of [`Reader::end_waits`], the next call looks again: a stream never ends.
///
/// A forked child gets [`Code::Forked`], and may drop it: its parent still waits.
pub struct AsyncReader(Waiting<Reader>);

impl fmt::Debug for AsyncReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AsyncReader").field(self.get()).finish()
    }
}

impl AsyncReader {
    /// Makes a reader awaitable, in the runtime of the calling thread. The reader must be in no
    /// set, and its [descriptor](Reader::descriptor), if it has one, must not be armed on request:
    /// otherwise [`Code::Invalid`].
    ///
    /// # Panics
    ///
    /// If the runtime was built without `enable_io` or `enable_all`: tokio panics then.
    pub fn new(reader: Reader) -> std::result::Result<AsyncReader, NotAwaitable<Reader>> {
        Waiting::new(reader, |reader| reader.core().descriptor(Arm::WhenNothingIsThere))
            .map(AsyncReader)
    }

    /// The reader. A sample that is read from it directly does not come again from
    /// [`next`](AsyncReader::next).
    pub fn get(&self) -> &Reader {
        &self.0.waits
    }

    /// Gives the reader back, and takes its descriptor out of the runtime.
    pub fn into_inner(self) -> Reader {
        self.0.into_inner()
    }

    /// The next sample, as soon as there is one. The future may be dropped at any time, as
    /// `select!` does, and no sample is lost.
    ///
    /// It hides `StreamExt::next`, whose samples are independent: that is
    /// `StreamExt::next(&mut reader)`.
    pub async fn next(&mut self) -> Result<Sample<'_>> {
        let mut looked = false;
        let held = future::poll_fn(|context| self.poll_held(context, &mut looked)).await?;
        Ok(self.get().sample(held))
    }

    fn poll_held(
        &mut self,
        context: &mut Context<'_>,
        looked: &mut bool,
    ) -> Poll<Result<HeldSample>> {
        self.0.poll(context, looked, |reader| Ok(reader.read()?.map(Sample::into_held)))
    }
}

impl Stream for AsyncReader {
    type Item = Result<Sample<'static>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let held = ready!(self.poll_held(context, &mut false));
        Poll::Ready(Some(held.map(|held| self.get().sample(held).into_owned())))
    }
}

/// A [`Writer`] that awaits free slots, in the runtime that it was made in.
///
/// A forked child gets [`Code::Forked`], and may drop it: its parent still waits.
pub struct AsyncWriter(Waiting<Writer>);

impl fmt::Debug for AsyncWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AsyncWriter").field(self.get()).finish()
    }
}

impl AsyncWriter {
    /// Makes a writer awaitable, in the runtime of the calling thread. The writer must be in no
    /// set, and its [descriptor](Writer::descriptor), if it has one, must not be armed on request:
    /// otherwise [`Code::Invalid`].
    ///
    /// # Panics
    ///
    /// If the runtime was built without `enable_io` or `enable_all`: tokio panics then.
    #[allow(clippy::result_large_err)] // What it returns otherwise is as large.
    pub fn new(writer: Writer) -> std::result::Result<AsyncWriter, NotAwaitable<Writer>> {
        Waiting::new(writer, |writer| writer.core().descriptor(Arm::WhenNothingIsThere))
            .map(AsyncWriter)
    }

    /// The writer. Reserve with a timeout of 0: others block the thread.
    pub fn get(&self) -> &Writer {
        &self.0.waits
    }

    /// Gives the writer back, and takes its descriptor out of the runtime.
    pub fn into_inner(self) -> Writer {
        self.0.into_inner()
    }

    /// Waits until there is a slot to reserve. Another writer may then be faster: if the reserve
    /// gets [`Code::NoFreeSlot`], wait again. The future may be dropped at any time.
    ///
    /// It knows of slots, not of regions: a large payload may get [`Code::NoFreeSlot`] all the
    /// same, and a loop of `space` and reserve would then never sleep. Use
    /// [`write`](AsyncWriter::write), which waits for both.
    pub async fn space(&mut self) -> Result<()> {
        self.until_found(|writer| writer.wait_space(Some(Duration::ZERO)), Code::Again).await
    }

    /// Writes one sample as soon as there is a slot, and for a large payload a region; returns its
    /// sequence. If the future is dropped before it is ready, nothing was written.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<u64> {
        self.until_found(|writer| writer.write(bytes, Some(Duration::ZERO)), Code::NoFreeSlot).await
    }

    /// Makes a call until it returns something else than that there is nothing.
    async fn until_found<F>(
        &mut self,
        mut call: impl FnMut(&Writer) -> Result<F>,
        nothing: Code,
    ) -> Result<F> {
        let mut look = |writer: &Writer| match call(writer) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.code() == nothing => Ok(None),
            Err(error) => Err(error),
        };
        let mut looked = false;
        future::poll_fn(|context| self.0.poll(context, &mut looked, &mut look)).await
    }
}
