//! Objects of a process that has forked: in the child they are those of the parent.

use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::prelude::*;
use shmslot::Code;

use crate::errors::raise_as;

/// How often this process and its ancestors forked since the module was loaded.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// Called in a forked child, before anything else: the package registers it with `os`.
#[pyfunction(name = "_after_fork")]
pub(crate) fn after_fork() {
    // Relaxed: a forked child has one thread.
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// The process in which an object was made.
///
/// The library notices a fork by itself. It is noticed here before a lock of this binding is taken,
/// because another thread of the parent may have had it, and nobody unlocks it in the child.
#[derive(Clone, Copy)]
pub(crate) struct Birth(u32);

impl Birth {
    pub(crate) fn now() -> Birth {
        Birth(FORKS.load(Ordering::Relaxed))
    }

    pub(crate) fn is_here(self) -> bool {
        self.0 == FORKS.load(Ordering::Relaxed)
    }

    pub(crate) fn check(self) -> PyResult<()> {
        if self.is_here() {
            return Ok(());
        }
        Err(raise_as(
            Code::Forked,
            "this object belongs to the parent process; attach anew in the child, or start it with \
             the method 'spawn' and pass the Segment",
        ))
    }
}
