//! Samples: payloads that are held.

use std::ffi::c_int;

use parking_lot::Mutex;
use pyo3::exceptions::PyResourceWarning;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyMemoryView, PyTuple};
use shmslot::Code;

use crate::bytes::{Address, LARGE, array_of, export, is_sole, view_of};
use crate::dlpack;
use crate::errors::raise_as;
use crate::fork::Birth;

/// A held payload, as views and arrays keep it. Its end is the end of the hold.
#[pyclass(frozen, name = "_Payload", module = "shmslot")]
pub(crate) struct Payload {
    held: shmslot::Sample<'static>,
}

impl Payload {
    pub(crate) fn start(&self) -> Address {
        Address(self.held.as_ptr().cast_mut())
    }

    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }
}

#[pymethods]
impl Payload {
    /// # Safety
    /// Python calls this.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let (start, len) = (slf.get().start(), slf.get().len());
        // SAFETY: the sample is held, and so readable and unchanged, as long as this object lives.
        unsafe { export(slf.as_any(), view, flags, start.0, len, true) }
    }
}

/// A sample: bytes in shared memory that do not change while it is held.
///
/// The hold ends with the last of this object, its views and its arrays. `release()`, the end of a
/// `with` and the next turn of a loop over a reader give up this object's own part in it.
#[pyclass(frozen, weakref, module = "shmslot")]
pub(crate) struct Sample {
    payload: Mutex<Option<Py<Payload>>>,
    sequence: u64,
    timestamp_ns: u64,
    writer_id: u32,
    birth: Birth,
}

impl Sample {
    pub(crate) fn new(py: Python<'_>, held: shmslot::Sample<'static>) -> PyResult<Sample> {
        let (sequence, writer_id) = (held.sequence(), held.writer_id());
        let timestamp_ns = held.timestamp_ns();
        let payload = Mutex::new(Some(Py::new(py, Payload { held })?));
        Ok(Sample { payload, sequence, timestamp_ns, writer_id, birth: Birth::now() })
    }

    fn payload<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, Payload>> {
        self.birth.check()?;
        let payload = self.payload.lock().as_ref().map(|payload| payload.bind(py).clone());
        payload.ok_or_else(|| {
            raise_as(
                Code::Stale,
                "this sample was released: by release(), the end of its with, or the next turn of \
                 the loop; keep a view or an array of it, or read it with read()",
            )
        })
    }

    /// Gives up its own part in the hold; whether the slot is free by that.
    pub(crate) fn let_go(&self, py: Python<'_>) -> bool {
        let payload = self.payload.lock().take();
        payload.is_none_or(|payload| is_sole(py, &payload))
    }
}

#[pymethods]
impl Sample {
    /// A new read-only view of the payload. It keeps the sample held.
    #[getter]
    fn data<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyMemoryView>> {
        view_of(self.payload(py)?.as_any())
    }

    /// A read-only numpy array over the payload, without a copy. It keeps the sample held.
    ///
    /// Without a shape, it has one dimension with all items.
    #[pyo3(signature = (dtype=None, shape=None))]
    fn as_array<'py>(
        &self,
        py: Python<'py>,
        dtype: Option<Bound<'py, PyAny>>,
        shape: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let payload = self.payload(py)?;
        array_of(payload.as_any(), payload.get().len(), dtype, shape)
    }

    /// A copy of the payload.
    fn tobytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let payload = self.payload(py)?;
        let held = &payload.get().held;
        PyBytes::new_with(py, held.len(), |bytes| {
            match held.len() {
                LARGE.. => py.detach(|| held.copy_to(bytes)),
                _ => held.copy_to(bytes),
            };
            Ok(())
        })
    }

    /// A copy of the user header; empty if the segment has none.
    #[getter]
    fn header<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let payload = self.payload(py)?;
        let mut header = [0; 256]; // the largest there is
        let len = payload.get().held.read_user_header(&mut header);
        Ok(PyBytes::new(py, &header[..len]))
    }

    /// Its place in the order of all samples of the segment; the first is 1.
    #[getter]
    fn sequence(&self) -> u64 {
        self.sequence
    }

    /// When it was committed, in nanoseconds of time.monotonic_ns(); 0 if the segment keeps no
    /// times.
    #[getter]
    fn timestamp_ns(&self) -> u64 {
        self.timestamp_ns
    }

    /// The `id` of its writer.
    #[getter]
    fn writer_id(&self) -> u32 {
        self.writer_id
    }

    /// Give up this object's part in the hold. Return whether the slot is free now, which it is not
    /// while a view or an array of the sample lives.
    fn release(&self, py: Python<'_>) -> PyResult<bool> {
        self.birth.check()?;
        Ok(self.let_go(py))
    }

    /// Whether it was released.
    #[getter]
    fn released(&self) -> bool {
        self.payload.lock().is_none()
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.payload(py)?.get().len())
    }

    fn __bool__(&self) -> bool {
        true // an empty sample is one, too
    }

    fn __bytes__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.tobytes(py)
    }

    /// The payload for an array library, as bytes in one dimension. It keeps the sample held.
    #[pyo3(signature = (*, stream=None, max_version=None, dl_device=None, copy=None))]
    fn __dlpack__<'py>(
        &self,
        py: Python<'py>,
        stream: Option<&Bound<'py, PyAny>>,
        max_version: Option<(u32, u32)>,
        dl_device: Option<(i32, i32)>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let request = dlpack::Request { stream: stream.is_some(), max_version, dl_device, copy };
        dlpack::capsule(self.payload(py)?, &request)
    }

    /// The memory of the processor.
    fn __dlpack_device__(&self) -> (i32, i32) {
        dlpack::CPU
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        if self.let_go(py) {
            return Ok(());
        }
        let told = format!("sample {} is still held by a view or an array", self.sequence);
        let warnings = py.import("warnings")?;
        let arguments = PyDict::new(py);
        arguments.set_item("category", py.get_type::<PyResourceWarning>())?;
        warnings.call_method("warn", (told,), Some(&arguments)).map(drop)
    }

    fn __repr__(&self) -> String {
        let state = if self.released() { ", released" } else { "" };
        format!("<shmslot.Sample {}{state}>", self.sequence)
    }
}
