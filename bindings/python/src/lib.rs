//! The Python module `shmslot._shmslot`: the calls of the Rust crate as Python classes.
//!
//! `python/shmslot/` has what Python itself says better: the exceptions, the records, the types.
//!
//! - `errors`: a failure as an exception of the package.
//! - `fork`: objects of a forked process.
//! - `waits`: timeouts, and waits that let signal handlers run.
//! - `turn`: objects that one thread uses at a time.
//! - `bytes`: the buffer protocol, and arrays over payloads.
//! - `options`: keyword arguments.
//! - `segment`, `writer`, `loan`, `reader`, `sample`: what a program has in hand.
//! - `dlpack`: a payload for array libraries.
//!
//! # Holds
//!
//! A payload is shown to Python by an object of its own, `_Payload` or `_Room`, which owns the hold
//! or the loan. Views and arrays keep that object; some of them, such as numpy's
//! `ndarray(buffer=...)`, keep no export of it. So a hold ends when the object is deallocated, and
//! never when the number of its exports falls to zero.

mod bytes;
mod dlpack;
mod errors;
mod fork;
mod loan;
mod options;
mod reader;
mod sample;
mod segment;
mod turn;
mod waits;
mod writer;

use pyo3::prelude::*;

/// The compiled part of the package `shmslot`.
// Uniqueness of a loan's memory is judged by reference counts, which tell it only under the GIL.
#[pymodule(gil_used = true)]
mod _shmslot {
    use pyo3::prelude::*;
    use pyo3::types::PyDict;

    #[pymodule_export]
    use crate::fork::after_fork;
    #[pymodule_export]
    use crate::loan::{Loan, Room};
    #[pymodule_export]
    use crate::reader::{Reader, Samples, wait_any};
    #[pymodule_export]
    use crate::sample::{Payload, Sample};
    #[pymodule_export]
    use crate::segment::{Segment, list_segments, type_hash, unlink, unlink_dead};
    #[pymodule_export]
    use crate::writer::Writer;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let codes = PyDict::new(module.py());
        for code in shmslot::Code::ALL {
            codes.set_item(format!("{code:?}"), code.number())?;
        }
        module.add("CODES", codes)
    }
}
