//! A failure as an exception of the package: `python/shmslot/_errors.py` has the classes.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;
use shmslot::{Code, Error};

/// The exception of a failed call.
pub(crate) fn raise(error: Error) -> PyErr {
    let text = error.to_string();
    make(error.code(), error.os_errno(), error.numbers(), &text)
}

/// An exception of this binding, where the library was not called.
pub(crate) fn raise_as(code: Code, text: &str) -> PyErr {
    make(code, 0, [0; 3], text)
}

/// A use of something that was closed.
pub(crate) fn closed(what: &str) -> PyErr {
    raise_as(Code::Invalid, &format!("this {what} is closed; open another one"))
}

fn make(code: Code, os_errno: i32, numbers: [u64; 3], text: &str) -> PyErr {
    static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    Python::attach(|py| {
        MAKE.import(py, "shmslot._errors", "make")
            .and_then(|make| {
                make.call1((code.number(), os_errno, <(u64, u64, u64)>::from(numbers), text))
            })
            .map_or_else(|error| error, PyErr::from_value)
    })
}

/// A record of `python/shmslot/_records.py`.
pub(crate) fn record<'py>(
    py: Python<'py>,
    class: &str,
    fields: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    py.import("shmslot._records")?.getattr(class)?.call((), Some(fields))
}
