//! The buffer protocol, in both directions, and arrays over payloads.

use std::ffi::c_int;

use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyMemoryView};

/// From so many bytes on the GIL is released for a copy.
pub(crate) const LARGE: usize = 64 << 10;

/// An address in shared memory that may go to another thread.
#[derive(Clone, Copy)]
pub(crate) struct Address(pub(crate) *mut u8);

// SAFETY: an address alone gives no access; whoever uses it says why it may.
unsafe impl Send for Address {}
// SAFETY: as above.
unsafe impl Sync for Address {}

/// Fills a request for a buffer of `exporter`, which it keeps.
///
/// # Safety
/// `view` is what `__getbuffer__` got. `len` bytes at `start` stay readable, and writable unless
/// `read_only`, as long as `exporter` lives.
pub(crate) unsafe fn export(
    exporter: &Bound<'_, PyAny>,
    view: *mut ffi::Py_buffer,
    flags: c_int,
    start: *mut u8,
    len: usize,
    read_only: bool,
) -> PyResult<()> {
    // A payload is at most 4 GiB.
    let len = len as ffi::Py_ssize_t;
    // SAFETY: as this function requires.
    let failed = unsafe {
        ffi::PyBuffer_FillInfo(
            view,
            exporter.as_ptr(),
            start.cast(),
            len,
            c_int::from(read_only),
            flags,
        )
    };
    if failed == 0 { Ok(()) } else { Err(PyErr::fetch(exporter.py())) }
}

/// The bytes of an object of Python, which cannot be resized or freed meanwhile.
pub(crate) struct Source(Box<ffi::Py_buffer>);

// SAFETY: the pointers in it are used by one thread at a time; only the drop needs the GIL, and
// happens under it, as `Source` is made and dropped by functions that have it.
unsafe impl Send for Source {}
// SAFETY: as above.
unsafe impl Sync for Source {}

impl Source {
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<Source> {
        let mut buffer = Box::new(ffi::Py_buffer::new());
        // SAFETY: the GIL is held, and the buffer is released by `drop` if this succeeds.
        let failed = unsafe {
            ffi::PyObject_GetBuffer(object.as_ptr(), &raw mut *buffer, ffi::PyBUF_SIMPLE)
        };
        if failed == 0 { Ok(Source(buffer)) } else { Err(PyErr::fetch(object.py())) }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len.unsigned_abs()
    }

    /// Copies all to memory that has as many bytes.
    ///
    /// # Safety
    /// `self.len()` bytes at `to` are writable.
    pub(crate) unsafe fn copy_to(&self, to: Address) {
        // SAFETY: an exporter keeps its bytes readable until the buffer is released. They may
        // overlap, because they may be those of the same payload. Another thread of Python may
        // write to them meanwhile: no reference to them is made, and torn bytes are copied as such.
        unsafe { to.0.copy_from(self.0.buf.cast::<u8>(), self.len()) };
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // SAFETY: it was filled by `PyObject_GetBuffer`, and is released once.
        Python::attach(|_| unsafe { ffi::PyBuffer_Release(&raw mut *self.0) });
    }
}

/// Whether nothing but this reference keeps an object. True until the caller lets other code run,
/// because the GIL is held.
pub(crate) fn is_sole<T>(_py: Python<'_>, object: &Py<T>) -> bool {
    // SAFETY: the object is alive, and the GIL is held.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) == 1 }
}

/// A view of all bytes of an exporter.
pub(crate) fn view_of<'py>(exporter: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyMemoryView>> {
    PyMemoryView::from(exporter)
}

/// A numpy array over an exporter, without a copy; as many items as fit, if there is no shape.
pub(crate) fn array_of<'py>(
    exporter: &Bound<'py, PyAny>,
    len: usize,
    dtype: Option<Bound<'py, PyAny>>,
    shape: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    static DTYPE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static NDARRAY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = exporter.py();
    let dtype = match dtype {
        Some(dtype) => DTYPE.import(py, "numpy", "dtype")?.call1((dtype,))?,
        None => DTYPE.import(py, "numpy", "dtype")?.call1(("uint8",))?,
    };
    if dtype.getattr("hasobject")?.extract()? {
        // numpy does not refuse this: it would take the bytes of a payload for addresses.
        return Err(PyValueError::new_err(
            "a sample has bytes and no Python objects; use another dtype",
        ));
    }
    let shape = match shape {
        Some(shape) => shape,
        None => {
            let size: usize = dtype.getattr("itemsize")?.extract()?;
            if size == 0 || len % size != 0 {
                return Err(PyValueError::new_err(format!(
                    "{len} bytes are no whole number of items of {size} bytes; give the shape"
                )));
            }
            (len / size).into_pyobject(py)?.into_any()
        }
    };
    let arguments = PyDict::new(py);
    arguments.set_item("buffer", exporter)?;
    // It keeps the exporter without an export of it.
    NDARRAY.import(py, "numpy", "ndarray")?.call((shape, dtype), Some(&arguments))
}

/// A request for memory that was given away.
pub(crate) fn no_buffer(text: &'static str) -> PyErr {
    PyBufferError::new_err(text)
}
