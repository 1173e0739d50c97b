//! Readers: they get the samples of a segment in order.

use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::exceptions::{PyStopIteration, PyValueError};
use pyo3::prelude::*;
use shmslot::{Arm, Code, EndWaits, Error};

use crate::errors::{closed, raise};
use crate::sample::Sample;
use crate::turn::{Turn, Used};
use crate::waits::{Deadline, Slice, wait};
use crate::writer::cannot_be_pickled;

const WHAT: &str = "reader";

type Held = shmslot::Sample<'static>;

/// Gets the samples of a segment, in the order of their sequence.
///
/// A loop over it waits for each sample, and releases it at the end of its turn. One thread at a
/// time reads; the others wait for their turn.
#[pyclass(frozen, weakref, module = "shmslot")]
pub(crate) struct Reader {
    turn: Turn<shmslot::Reader>,
    index: u32,
    /// Whether a loop ends when no writer is left.
    ends_without_writers: bool,
    /// Whether it was closed: shown without a turn.
    closed: AtomicBool,
}

/// Waits for a sample and reads it.
fn next(reader: &shmslot::Reader, slice: Duration) -> Result<Option<Held>, Error> {
    if !slice.is_zero() {
        reader.wait(Some(slice))?;
    }
    let sample = reader.read().map_err(|error| explained(reader, error))?;
    Ok(sample.map(shmslot::Sample::into_owned))
}

/// The failure with its numbers.
fn explained(reader: &shmslot::Reader, error: Error) -> Error {
    match error.code() {
        code @ Code::HeldLimit => reader.explain(code),
        _ => error,
    }
}

impl Reader {
    pub(crate) fn join(
        segment: &shmslot::Segment,
        history: u32,
        end_waits: EndWaits,
    ) -> PyResult<Reader> {
        let reader = segment.reader(history).map_err(raise)?;
        reader.end_waits(EndWaits { signal: true, ..end_waits }).map_err(raise)?;
        let (index, interrupter) = (reader.index(), reader.interrupter());
        Ok(Reader {
            turn: Turn::new(WHAT, reader, interrupter),
            index,
            ends_without_writers: end_waits.no_writers,
            closed: AtomicBool::new(false),
        })
    }

    /// The next sample; `None` if the time was over before.
    fn next(&self, py: Python<'_>, deadline: Deadline) -> PyResult<Option<Held>> {
        self.turn.ends.check_fork()?;
        match self.turn.use_within(Duration::ZERO, |reader| next(reader, Duration::ZERO)) {
            Used::Done(Ok(Some(held))) => return Ok(Some(held)),
            Used::Done(Ok(None)) | Used::Busy => {}
            Used::Done(Err(error)) => return Err(raise(error)),
            Used::Closed => return Err(closed(WHAT)),
        }
        wait(py, deadline, |slice| match self.turn.part(slice, |reader| next(reader, slice))? {
            Slice::Done(Ok(Some(held))) => Ok(Slice::Done(held)),
            Slice::Done(Ok(None)) | Slice::Again => Ok(Slice::Again),
            Slice::Done(Err(error)) => self.turn.ends.after(WHAT, error),
        })
    }
}

#[pymethods]
impl Reader {
    /// The next sample. Wait for it, at most `timeout` seconds; None is no limit, 0 does not wait.
    /// Return None if the time was over before.
    #[pyo3(signature = (timeout=None))]
    fn read(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Sample>> {
        let held = self.next(py, Deadline::after(timeout)?)?;
        held.map(|held| Sample::new(py, held)).transpose()
    }

    /// The newest sample; None if there is none. It does not move the reader.
    fn latest(&self, py: Python<'_>) -> PyResult<Option<Sample>> {
        let held = self.turn.use_now(py, |reader| {
            let sample = reader.peek_latest().map_err(|error| explained(reader, error))?;
            Ok(sample.map(shmslot::Sample::into_owned))
        })?;
        held.map_err(raise)?.map(|held| Sample::new(py, held)).transpose()
    }

    /// Wait until there is a sample to read; False if the time was over before.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let deadline = Deadline::after(timeout)?;
        self.turn.ends.check_fork()?;
        let part = |slice| match self.turn.part(slice, |reader| reader.wait(Some(slice)))? {
            Slice::Done(Ok(())) => Ok(Slice::Done(())),
            Slice::Done(Err(error)) => self.turn.ends.after(WHAT, error),
            Slice::Again => Ok(Slice::Again),
        };
        if matches!(part(Duration::ZERO)?, Slice::Done(())) {
            return Ok(true);
        }
        Ok(wait(py, deadline, part)?.is_some())
    }

    /// End one wait of this reader, the current or the next one, with Interrupted. Any thread.
    fn interrupt(&self) -> PyResult<()> {
        if self.closed() {
            return Err(closed(WHAT));
        }
        self.turn.ends.interrupt()
    }

    /// Samples that were taken away from this reader before it read them (policy "drop_oldest").
    #[getter]
    fn lost(&self, py: Python<'_>) -> PyResult<u64> {
        self.turn.use_now(py, |reader| reader.lost())
    }

    /// Its number in masks of readers.
    #[getter]
    fn index(&self) -> u32 {
        self.index
    }

    /// Whether it was closed.
    #[getter]
    fn closed(&self) -> bool {
        // Relaxed: it becomes true once.
        self.closed.load(Ordering::Relaxed)
    }

    /// Leave. Samples that are held stay valid. Closing again does nothing.
    fn close(&self, py: Python<'_>) {
        self.closed.store(true, Ordering::Relaxed);
        drop(self.turn.close(py));
    }

    /// A descriptor for an event loop, the same each time: readable when there may be something to
    /// read. A `read(timeout=0)` that returns None arms it. It stays the reader's: nobody reads or
    /// closes it.
    fn fileno(&self, py: Python<'_>) -> PyResult<RawFd> {
        let descriptor = self.turn.use_now(py, |reader| {
            reader.descriptor(Arm::default()).map(|descriptor| descriptor.as_raw_fd())
        })?;
        descriptor.map_err(raise)
    }

    /// What `async for` uses: as a loop with `for`, in asyncio.
    fn __aiter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, PyAny>> {
        slf.py().import("shmslot._asyncio")?.getattr("AsyncSamples")?.call1((slf,))
    }

    fn __iter__(slf: Bound<'_, Self>) -> Samples {
        Samples { reader: slf.unbind(), last: Mutex::default() }
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyAny>) {
        self.close(py);
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(cannot_be_pickled("Reader"))
    }

    fn __repr__(&self) -> String {
        let state = if self.closed() { ", closed" } else { "" };
        format!("<shmslot.Reader {}{state}>", self.index)
    }
}

/// A loop over a reader.
#[pyclass(frozen, name = "_Samples", module = "shmslot")]
pub(crate) struct Samples {
    reader: Py<Reader>,
    /// The sample of this turn.
    last: Mutex<Option<Py<Sample>>>,
}

#[pymethods]
impl Samples {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<Sample>> {
        // Before the wait, which may be long: the writer may need the slot for the next sample.
        let last = self.last.lock().take();
        if let Some(last) = last {
            last.get().let_go(py);
        }
        let reader = self.reader.get();
        let held = match reader.next(py, Deadline::Never) {
            Ok(Some(held)) => held,
            Ok(None) => return Err(closed(WHAT)), // a wait without limit comes to its end
            Err(error) if reader.ends_without_writers && is_no_writers(py, &error) => {
                return Err(PyStopIteration::new_err(()));
            }
            Err(error) => return Err(error),
        };
        let sample = Py::new(py, Sample::new(py, held)?)?;
        *self.last.lock() = Some(sample.clone_ref(py));
        Ok(sample)
    }
}

fn is_no_writers(py: Python<'_>, error: &PyErr) -> bool {
    let code = error.value(py).getattr("code").and_then(|code| code.extract::<i32>());
    code.is_ok_and(|code| code == Code::NoWriters.number())
}

/// Wait until one of several readers, of any segments, has a sample; return that reader, or None if
/// the time was over before.
#[pyfunction]
#[pyo3(signature = (readers, timeout=None))]
pub(crate) fn wait_any<'py>(
    py: Python<'py>,
    readers: Vec<Bound<'py, Reader>>,
    timeout: Option<f64>,
) -> PyResult<Option<Bound<'py, Reader>>> {
    let deadline = Deadline::after(timeout)?;
    let turns: Vec<&Turn<shmslot::Reader>> =
        readers.iter().map(|reader| &reader.get().turn).collect();
    for (at, turn) in turns.iter().enumerate() {
        turn.ends.check_fork()?;
        if turns[..at].iter().any(|other| std::ptr::eq(*other, *turn)) {
            return Err(PyValueError::new_err("a reader is given twice; give each once"));
        }
    }
    let part = |slice: Duration| {
        match Turn::use_all(&turns, slice, |all| shmslot::Reader::wait_any(all, Some(slice))) {
            Used::Done(Ok(at)) => Ok(Slice::Done(at)),
            Used::Done(Err(error)) if error.code() == Code::Interrupted => {
                // One of them was asked, or none.
                for turn in &turns {
                    turn.ends.after::<()>(WHAT, Code::Interrupted.into())?;
                }
                Ok(Slice::Again)
            }
            Used::Done(Err(error)) => match error.code() {
                Code::Again | Code::Timeout => Ok(Slice::Again),
                _ => Err(raise(error)),
            },
            Used::Busy => Ok(Slice::Again),
            Used::Closed => Err(closed(WHAT)),
        }
    };
    let found = match part(Duration::ZERO)? {
        Slice::Done(at) => Some(at),
        Slice::Again => wait(py, deadline, part)?,
    };
    Ok(found.and_then(|at| readers.into_iter().nth(at)))
}
