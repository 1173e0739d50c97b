//! Loans: memory of a slot that is being filled.

use std::ffi::c_int;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyMemoryView;
use shmslot::Code;

use crate::bytes::{Address, Source, array_of, export, is_sole, no_buffer, view_of};
use crate::errors::raise_as;
use crate::fork::Birth;
use crate::writer::{Desk, Taken};

/// The memory of a loan, as views and arrays keep it. Its end discards the loan, unless that was
/// committed.
#[pyclass(frozen, name = "_Room", module = "shmslot")]
pub(crate) struct Room {
    state: Mutex<State>,
    start: Address,
    len: usize,
}

enum State {
    Open(Taken),
    /// Committed while views may live: they keep the mapping.
    Forced {
        _mapping: shmslot::Segment,
    },
    Committed,
}

#[pymethods]
impl Room {
    /// # Safety
    /// Python calls this.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let this = slf.get();
        if !matches!(*this.state.lock(), State::Open(_)) {
            return Err(no_buffer("this loan has ended; reserve another one"));
        }
        // SAFETY: the loan has as many bytes. It is committed when nothing but the `Loan` keeps
        // this object; or by force, and then the mapping stays.
        unsafe { export(slf.as_any(), view, flags, this.start.0, this.len, false) }
    }
}

/// A slot that is reserved, to be filled and committed. Nothing else uses its memory.
///
/// `with loan as view:` gives its memory, commits at the end, and discards if an exception is
/// raised. A loan that is dropped is discarded.
#[pyclass(frozen, weakref, module = "shmslot")]
pub(crate) struct Loan {
    room: Mutex<Option<Py<Room>>>,
    /// The view that `with` gave.
    view: Mutex<Option<Py<PyMemoryView>>>,
    reserved: usize,
    /// How many bytes the end of the `with` commits. It is atomic, as the next one, because objects
    /// of Python are shared; all accesses are relaxed, because the GIL orders them.
    size: AtomicUsize,
    /// 0 until it is committed.
    sequence: AtomicU64,
    birth: Birth,
    mapping: shmslot::Segment,
}

impl Loan {
    pub(crate) fn new(py: Python<'_>, taken: Taken, desk: &Desk) -> PyResult<Loan> {
        let (start, reserved) = (taken.start, taken.reserved);
        let room = Room { state: Mutex::new(State::Open(taken)), start, len: reserved };
        Ok(Loan {
            room: Mutex::new(Some(Py::new(py, room)?)),
            view: Mutex::default(),
            reserved,
            size: AtomicUsize::new(reserved),
            sequence: AtomicU64::new(0),
            birth: Birth::now(),
            mapping: desk.segment.clone(),
        })
    }

    fn room<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, Room>> {
        self.birth.check()?;
        let room = self.room.lock().as_ref().map(|room| room.bind(py).clone());
        room.ok_or_else(ended)
    }

    /// Releases the view that `with` gave.
    fn release_view(&self, py: Python<'_>) -> PyResult<()> {
        let view = self.view.lock().take();
        let Some(view) = view else { return Ok(()) };
        let released = view.call_method0(py, "release");
        if released.is_err() {
            *self.view.lock() = Some(view);
        }
        match released {
            Err(error) if error.is_instance_of::<PyBufferError>(py) => {
                let told = in_use();
                told.set_cause(py, Some(error));
                Err(told)
            }
            other => other.map(drop),
        }
    }

    /// The loan to commit: of memory that nothing else keeps, unless by force.
    fn take(&self, py: Python<'_>, force: bool) -> PyResult<Taken> {
        self.birth.check()?;
        let state = {
            let mut kept = self.room.lock();
            let Some(room) = kept.as_ref() else {
                drop(kept);
                return Err(ended());
            };
            // Under the GIL no other thread gets a reference between this and the change of state.
            if !force && !is_sole(py, room) {
                drop(kept);
                return Err(in_use());
            }
            let after = match force {
                true => State::Forced { _mapping: self.mapping.clone() },
                false => State::Committed,
            };
            let state = std::mem::replace(&mut *room.get().state.lock(), after);
            let room = kept.take();
            drop(kept);
            drop(room);
            state
        };
        match state {
            State::Open(taken) => Ok(taken),
            State::Forced { .. } | State::Committed => Err(ended()),
        }
    }

    fn commit_now(&self, py: Python<'_>, length: usize, force: bool) -> PyResult<u64> {
        let sequence = self.take(py, force)?.commit(py, length)?;
        self.sequence.store(sequence, Ordering::Relaxed);
        Ok(sequence)
    }

    /// Gives up its own reference to the memory; whether the loan has ended by that.
    fn let_go(&self, py: Python<'_>) -> bool {
        let view = self.view.lock().take();
        if let Some(view) = view {
            // Its slices and arrays may live on; then the memory does, too.
            let _ = view.call_method0(py, "release");
        }
        let room = self.room.lock().take();
        room.is_some_and(|room| is_sole(py, &room))
    }
}

fn ended() -> PyErr {
    raise_as(Code::Stale, "this loan has ended; reserve another one")
}

fn in_use() -> PyErr {
    PyBufferError::new_err(
        "a view or an array of this loan is still in use, and could change the sample later; del \
         it before the commit, or commit(force=True) if nothing will write to it",
    )
}

#[pymethods]
impl Loan {
    /// A new writable view of all bytes that were reserved.
    #[getter]
    fn data<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyMemoryView>> {
        view_of(self.room(py)?.as_any())
    }

    /// A numpy array over the memory, without a copy. It must be gone before the commit.
    #[pyo3(signature = (dtype=None, shape=None))]
    fn as_array<'py>(
        &self,
        py: Python<'py>,
        dtype: Option<Bound<'py, PyAny>>,
        shape: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        array_of(self.room(py)?.as_any(), self.reserved, dtype, shape)
    }

    /// Copy bytes to the start of the slot's user header.
    fn set_header(&self, py: Python<'_>, header: &Bound<'_, PyAny>) -> PyResult<()> {
        let header = Source::of(header)?;
        let room = self.room(py)?;
        let place = match &*room.get().state.lock() {
            State::Open(taken) => Some(taken.header()),
            State::Forced { .. } | State::Committed => None,
        };
        // Under the GIL nobody commits it meanwhile.
        place.ok_or_else(ended)?.fill(&header)
    }

    /// Bytes that were reserved.
    #[getter]
    fn reserved(&self) -> usize {
        self.reserved
    }

    /// Bytes that the end of the `with` commits: all that were reserved, unless it is set.
    #[getter]
    fn get_size(&self) -> usize {
        self.size.load(Ordering::Relaxed)
    }

    #[setter]
    fn set_size(&self, size: usize) -> PyResult<()> {
        if size > self.reserved {
            let reserved = self.reserved;
            return Err(raise_as(
                Code::BadLength,
                &format!("{size} bytes are more than the {reserved} that were reserved"),
            ));
        }
        self.size.store(size, Ordering::Relaxed);
        Ok(())
    }

    /// The sequence of the sample; None until it is committed.
    #[getter]
    fn sequence(&self) -> Option<u64> {
        Some(self.sequence.load(Ordering::Relaxed)).filter(|sequence| *sequence != 0)
    }

    /// Publish the first `length` bytes, or `size` of them; return the sequence.
    ///
    /// Raises BufferError, and changes nothing, while a view or an array of the loan lives: it
    /// could change the sample. `force=True` commits nevertheless.
    #[pyo3(signature = (length=None, *, force=false))]
    fn commit(&self, py: Python<'_>, length: Option<usize>, force: bool) -> PyResult<u64> {
        self.birth.check()?;
        if let Err(error) = self.release_view(py)
            && !force
        {
            return Err(error);
        }
        self.commit_now(py, length.unwrap_or(self.get_size()), force)
    }

    /// Give the slot back unpublished, which leaves no hole. Return whether it is free now: it is
    /// given back with the last view or array of it.
    fn discard(&self, py: Python<'_>) -> PyResult<bool> {
        self.birth.check()?;
        Ok(self.let_go(py))
    }

    fn __enter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyMemoryView>> {
        let view = view_of(self.room(py)?.as_any())?;
        *self.view.lock() = Some(view.clone().unbind());
        Ok(view)
    }

    #[pyo3(signature = (exception_type, _exception, _traceback))]
    fn __exit__(
        &self,
        py: Python<'_>,
        exception_type: Option<&Bound<'_, PyAny>>,
        _exception: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        if exception_type.is_some() {
            self.let_go(py);
            return Ok(());
        }
        if self.room.lock().is_none() {
            return Ok(()); // committed or discarded inside
        }
        let committed =
            self.release_view(py).and_then(|()| self.commit_now(py, self.get_size(), false));
        if committed.is_err() {
            self.let_go(py);
        }
        committed.map(drop)
    }

    fn __repr__(&self) -> String {
        match (&*self.room.lock(), self.sequence()) {
            (Some(_), _) => format!("<shmslot.Loan of {} bytes>", self.reserved),
            (None, Some(sequence)) => format!("<shmslot.Loan, committed as {sequence}>"),
            (None, None) => "<shmslot.Loan, discarded>".to_owned(),
        }
    }
}
