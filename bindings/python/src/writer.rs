//! Writers: they reserve loans, and commit them.

use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use pyo3::prelude::*;
use shmslot::{Code, EndWaits, Error, Policy, SharedWriter};

use crate::bytes::{Address, LARGE, Source};
use crate::errors::{closed, raise, raise_as};
use crate::loan::Loan;
use crate::turn::Ends;
use crate::waits::{Deadline, Slice, wait};

const WHAT: &str = "writer";

/// A value that belongs to a writer of one thread at a time. It is used and dropped by whoever has
/// the writer's turn.
struct Guarded<T>(T);

// SAFETY: `Writer` and its loans may be used by any thread, one at a time, which the turn ensures.
unsafe impl<T> Send for Guarded<T> {}

type OwnWriter = Arc<shmslot::Writer>;

/// The writer of a single-writer segment.
struct Single {
    turn: Mutex<Guarded<OwnWriter>>,
    /// Loans that were dropped while another thread had the turn. It discards them.
    dropped: Mutex<Vec<Guarded<shmslot::Loan<OwnWriter>>>>,
}

enum Kind {
    /// Any thread, at once.
    Many(Arc<SharedWriter>),
    Single(Single),
}

/// A writer, as long as it is open or has loans.
pub(crate) struct Desk {
    kind: Kind,
    ends: Ends,
    pub(crate) segment: shmslot::Segment,
    /// The policy is to fail at once.
    fails: bool,
    header_size: u32,
    id: u32,
}

impl Single {
    /// Calls with the turn, if it comes within `patience`.
    fn with<R>(&self, patience: Duration, call: impl FnOnce(&OwnWriter) -> R) -> Option<R> {
        let turn = match patience.is_zero() {
            true => self.turn.try_lock()?,
            false => self.turn.try_lock_for(patience)?,
        };
        self.drop_loans();
        let done = call(&turn.0);
        MutexGuard::unlock_fair(turn);
        self.settle();
        Some(done)
    }

    /// Discards what was dropped; the caller has the turn.
    fn drop_loans(&self) {
        let dropped = std::mem::take(&mut *self.dropped.lock());
        drop(dropped);
    }

    /// Discards what was dropped, if nobody has the turn: whoever has it does this at its end.
    fn settle(&self) {
        if !self.dropped.lock().is_empty()
            && let Some(_turn) = self.turn.try_lock()
        {
            self.drop_loans();
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        if let Kind::Single(single) = &self.kind
            && self.ends.is_here()
        {
            // Nobody else has it any more. The loans go before their writer.
            single.drop_loans();
        }
    }
}

/// A loan, with the writer that it keeps.
pub(crate) struct Taken {
    loan: Owned,
    pub(crate) start: Address,
    header: Address,
    header_room: usize,
    pub(crate) reserved: usize,
}

enum Owned {
    Many(shmslot::Loan<Arc<SharedWriter>>),
    Single(ManuallyDrop<Guarded<shmslot::Loan<OwnWriter>>>, Arc<Desk>),
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Owned::Single(loan, desk) = self {
            // SAFETY: it is taken once, here; `commit` forgets the value that it takes it from.
            let loan = unsafe { ManuallyDrop::take(loan) };
            desk.discard(loan);
        }
    }
}

impl Desk {
    fn open(segment: &shmslot::Segment) -> Result<Desk, Error> {
        let info = segment.info()?;
        let signals = EndWaits { signal: true, ..EndWaits::default() };
        let (kind, ends, id) = if info.geometry.single_writer {
            let writer = segment.writer()?;
            writer.end_waits(signals)?;
            let (ends, id) = (Ends::new(writer.interrupter()), writer.id());
            #[expect(clippy::arc_with_non_send_sync, reason = "loans share it, under its turn")]
            let turn = Mutex::new(Guarded(Arc::new(writer)));
            (Kind::Single(Single { turn, dropped: Mutex::default() }), ends, id)
        } else {
            let writer = segment.shared_writer()?;
            writer.end_waits(signals)?;
            let (ends, id) = (Ends::new(writer.interrupter()), writer.id());
            (Kind::Many(Arc::new(writer)), ends, id)
        };
        Ok(Desk {
            kind,
            ends,
            segment: segment.clone(),
            fails: info.geometry.policy == Policy::Fail,
            header_size: info.geometry.user_header_size,
            id,
        })
    }

    /// Reserves within a slice; `None` if another thread has the turn.
    fn reserve(self: &Arc<Desk>, len: usize, slice: Duration) -> Option<Result<Taken, Error>> {
        match &self.kind {
            Kind::Many(writer) => Some(writer.reserve_owned(len, Some(slice)).map(|mut loan| {
                let (start, header) = self.addresses(&mut loan);
                self.taken(start, header, len, Owned::Many(loan))
            })),
            Kind::Single(single) => single.with(slice, |writer| {
                writer.reserve_owned(len, Some(slice)).map(|mut loan| {
                    let (start, header) = self.addresses(&mut loan);
                    let loan = ManuallyDrop::new(Guarded(loan));
                    self.taken(start, header, len, Owned::Single(loan, Arc::clone(self)))
                })
            }),
        }
    }

    fn addresses<K: shmslot::KeepsWriter>(
        &self,
        loan: &mut shmslot::Loan<K>,
    ) -> (Address, Address) {
        let header = match self.header_size {
            0 => std::ptr::null_mut(),
            _ => loan.user_header(),
        };
        (Address(loan.as_mut_ptr()), Address(header))
    }

    fn taken(&self, start: Address, header: Address, reserved: usize, loan: Owned) -> Taken {
        Taken { loan, start, header, header_room: self.header_size as usize, reserved }
    }

    /// Reserves, for as long as the deadline lets it wait.
    fn reserve_until(
        self: &Arc<Desk>,
        py: Python<'_>,
        len: usize,
        deadline: Deadline,
    ) -> PyResult<Taken> {
        self.ends.check_fork()?;
        match self.reserve(len, Duration::ZERO) {
            Some(Ok(taken)) => return Ok(taken),
            Some(Err(error)) if self.may_wait(&error) => {}
            Some(Err(error)) => return Err(raise(self.explained(error, len))),
            None => {}
        }
        let taken = wait(py, deadline, |slice| match self.reserve(len, slice) {
            Some(Ok(taken)) => Ok(Slice::Done(taken)),
            Some(Err(error)) if self.may_wait(&error) => self.ends.after(WHAT, error),
            Some(Err(error)) => Err(raise(self.explained(error, len))),
            None => Ok(Slice::Again),
        })?;
        taken.ok_or_else(|| raise(self.explained(Code::NoFreeSlot.into(), len)))
    }

    /// Whether a reserve that failed may succeed later.
    fn may_wait(&self, error: &Error) -> bool {
        match error.code() {
            Code::NoFreeSlot => !self.fails,
            code => code == Code::Interrupted,
        }
    }

    /// The failure with its numbers.
    fn explained(&self, error: Error, len: usize) -> Error {
        let code = error.code();
        if !matches!(code, Code::NoFreeSlot | Code::LoanLimit | Code::TooLarge) {
            return error;
        }
        match &self.kind {
            Kind::Many(writer) => writer.explain(code, len),
            Kind::Single(single) => {
                single.with(Duration::ZERO, |writer| writer.explain(code, len)).unwrap_or(error)
            }
        }
    }

    fn discard(&self, loan: Guarded<shmslot::Loan<OwnWriter>>) {
        let Kind::Single(single) = &self.kind else { return };
        if !self.ends.is_here() {
            std::mem::forget(loan); // of the parent process, whose turn may be taken here for ever
            return;
        }
        single.dropped.lock().push(loan);
        single.settle();
        if !single.dropped.lock().is_empty() {
            self.ends.ask_for_turn();
        }
    }

    /// Calls with the writer within a slice; `None` if another thread has the turn.
    fn wait_by(&self, slice: Duration, how: WaitsFor) -> Option<Result<(), Error>> {
        match &self.kind {
            Kind::Many(writer) => Some(how.call(writer, slice)),
            Kind::Single(single) => single.with(slice, |writer| how.call(writer, slice)),
        }
    }
}

#[derive(Clone, Copy)]
enum WaitsFor {
    Space,
    Readers(u32),
}

impl WaitsFor {
    fn call<T>(self, writer: &shmslot::Writer<T>, slice: Duration) -> Result<(), Error> {
        match self {
            WaitsFor::Space => writer.wait_space(Some(slice)),
            WaitsFor::Readers(count) => writer.wait_readers(count, Some(slice)),
        }
    }
}

impl Taken {
    /// Publishes the first `len` bytes; returns the sequence. A failure gives the slot back.
    pub(crate) fn commit(self, py: Python<'_>, len: usize) -> PyResult<u64> {
        let (loan, desk) = match self.loan.into_parts() {
            Parts::Many(loan) => return loan.commit(len).map_err(raise),
            Parts::Single(loan, desk) => (loan, desk),
        };
        let Kind::Single(single) = &desk.kind else { return Err(closed(WHAT)) };
        let mut loan = Some(loan);
        let mut commit =
            |patience| single.with(patience, |_| loan.take().map(|Guarded(loan)| loan.commit(len)));
        let mut done = commit(Duration::ZERO);
        if done.is_none() {
            // Without a look at signals, which could leave it half done. Whoever has the turn gives
            // it up when asked.
            done = py.detach(|| {
                loop {
                    desk.ends.ask_for_turn();
                    if let Some(done) = commit(crate::waits::SLICE) {
                        return Some(done);
                    }
                }
            });
        }
        match done.flatten() {
            Some(committed) => committed.map_err(raise),
            None => Err(raise_as(Code::Stale, "this loan has ended; reserve another one")),
        }
    }

    /// Where its user header is, which belongs to the loan.
    pub(crate) fn header(&self) -> Header {
        Header { start: self.header, room: self.header_room }
    }

    /// Copies to the start of the payload, which was reserved for them.
    fn fill(&self, py: Python<'_>, bytes: &Source) {
        debug_assert!(bytes.len() <= self.reserved);
        let start = self.start;
        if bytes.len() >= LARGE {
            // SAFETY: as many bytes were reserved, and no other object has this loan.
            py.detach(|| unsafe { bytes.copy_to(start) });
        } else if bytes.len() > 0 {
            // SAFETY: as above.
            unsafe { bytes.copy_to(start) };
        }
    }
}

/// The user header of a loan.
pub(crate) struct Header {
    start: Address,
    room: usize,
}

impl Header {
    /// Copies to its start. The caller has the loan.
    pub(crate) fn fill(&self, bytes: &Source) -> PyResult<()> {
        let (len, room) = (bytes.len(), self.room);
        if len > room {
            return Err(raise_as(
                Code::TooLarge,
                &format!("{len} bytes of user header are wanted, and the segment has {room}"),
            ));
        }
        if len > 0 {
            // SAFETY: the header has `room` bytes, and the caller has its loan.
            unsafe { bytes.copy_to(self.start) };
        }
        Ok(())
    }
}

enum Parts {
    Many(shmslot::Loan<Arc<SharedWriter>>),
    Single(Guarded<shmslot::Loan<OwnWriter>>, Arc<Desk>),
}

impl Owned {
    /// Takes it apart, without the end that its drop would be.
    fn into_parts(self) -> Parts {
        let this = ManuallyDrop::new(self);
        // SAFETY: each field is read once, and the original is never dropped.
        unsafe {
            match &*this {
                Owned::Many(loan) => Parts::Many(std::ptr::read(loan)),
                Owned::Single(loan, desk) => Parts::Single(
                    ManuallyDrop::into_inner(std::ptr::read(loan)),
                    std::ptr::read(desk),
                ),
            }
        }
    }
}

/// Reserves slots of a segment, fills them and commits them.
#[pyclass(frozen, weakref, module = "shmslot")]
pub(crate) struct Writer {
    desk: Mutex<Option<Arc<Desk>>>,
}

impl Writer {
    pub(crate) fn open(segment: &shmslot::Segment) -> PyResult<Writer> {
        Ok(Writer { desk: Mutex::new(Some(Arc::new(Desk::open(segment).map_err(raise)?))) })
    }

    fn desk(&self) -> PyResult<Arc<Desk>> {
        let desk = self.desk.lock().clone();
        desk.ok_or_else(|| closed(WHAT))
    }

    fn wait_for(&self, py: Python<'_>, how: WaitsFor, timeout: Option<f64>) -> PyResult<bool> {
        let deadline = Deadline::after(timeout)?;
        let desk = self.desk()?;
        desk.ends.check_fork()?;
        let part = |slice| match desk.wait_by(slice, how) {
            Some(Ok(())) => Ok(Slice::Done(())),
            Some(Err(error)) => desk.ends.after(WHAT, error),
            None => Ok(Slice::Again),
        };
        if matches!(part(Duration::ZERO)?, Slice::Done(())) {
            return Ok(true);
        }
        Ok(wait(py, deadline, part)?.is_some())
    }
}

#[pymethods]
impl Writer {
    /// Reserve a slot for up to `length` bytes. `with` gives its memory, and commits it at the end.
    ///
    /// When nothing is free, the segment's policy decides what happens, for at most `timeout`
    /// seconds; None waits without limit. Raises NoFreeSlot if nothing became free.
    #[pyo3(signature = (length, timeout=None))]
    fn reserve(&self, py: Python<'_>, length: usize, timeout: Option<f64>) -> PyResult<Loan> {
        let deadline = Deadline::after(timeout)?;
        let desk = self.desk()?;
        Loan::new(py, desk.reserve_until(py, length, deadline)?, &desk)
    }

    /// Copy `data` to a slot and commit it; return its sequence.
    ///
    /// `data` is any object with contiguous bytes: bytes, bytearray, a memoryview, a numpy array.
    #[pyo3(signature = (data, *, header=None, timeout=None))]
    fn write(
        &self,
        py: Python<'_>,
        data: &Bound<'_, PyAny>,
        header: Option<&Bound<'_, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<u64> {
        let deadline = Deadline::after(timeout)?;
        let source = Source::of(data)?;
        let header = header.map(Source::of).transpose()?;
        let taken = self.desk()?.reserve_until(py, source.len(), deadline)?;
        if let Some(header) = header {
            taken.header().fill(&header)?;
        }
        taken.fill(py, &source);
        taken.commit(py, source.len())
    }

    /// Wait until there is a slot to reserve; False if the time was over before.
    #[pyo3(signature = (timeout=None))]
    fn wait_space(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        self.wait_for(py, WaitsFor::Space, timeout)
    }

    /// Wait until `count` readers are joined; False if the time was over before.
    #[pyo3(signature = (count=1, timeout=None))]
    fn wait_readers(&self, py: Python<'_>, count: u32, timeout: Option<f64>) -> PyResult<bool> {
        self.wait_for(py, WaitsFor::Readers(count), timeout)
    }

    /// End one wait of this writer, the current or the next one, with Interrupted. Any thread.
    fn interrupt(&self) -> PyResult<()> {
        self.desk()?.ends.interrupt()
    }

    /// The number that samples of this writer carry.
    #[getter]
    fn id(&self) -> PyResult<u32> {
        Ok(self.desk()?.id)
    }

    /// Whether it was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.desk.lock().is_none()
    }

    /// Close the writer. Its loans stay valid. Closing again does nothing.
    fn close(&self) {
        let desk = self.desk.lock().take();
        if let Some(desk) = desk {
            desk.ends.close();
        }
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, PyAny>) {
        self.close();
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(cannot_be_pickled("Writer"))
    }

    fn __repr__(&self) -> String {
        match &*self.desk.lock() {
            Some(desk) => format!("<shmslot.Writer {:#x}>", desk.id),
            None => "<shmslot.Writer, closed>".to_owned(),
        }
    }
}

/// The reaction to an attempt to pass a handle to another process.
pub(crate) fn cannot_be_pickled(what: &str) -> PyErr {
    pyo3::exceptions::PyTypeError::new_err(format!(
        "a {what} belongs to its process and cannot be pickled; pass the Segment, and open one there"
    ))
}
