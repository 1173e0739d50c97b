//! Segments: made, found by their names, looked at and removed.

use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::path::PathBuf;

use parking_lot::Mutex;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple, PyType};
use shmslot::{Code, EndWaits, Error, Policy, ReaderKind, SegmentState};

use crate::errors::{closed, raise, record};
use crate::options::{to_attach, to_create};
use crate::reader::Reader;
use crate::waits::{Deadline, Slice, wait};
use crate::writer::Writer;

/// Shared memory with a fixed number of slots, attached to this process.
///
/// Make one with `create`, `open`, `attach`, `attach_fd`, `create_anonymous` or `create_local`.
/// Pickling a named segment gives its name: the other process attaches to it.
#[pyclass(frozen, weakref, module = "shmslot")]
pub(crate) struct Segment {
    inner: Mutex<Option<shmslot::Segment>>,
    created: bool,
    /// How to attach to it anew: options of the other process.
    any_owner: bool,
    observer: bool,
}

impl Segment {
    fn made(inner: shmslot::Segment, created: bool, any_owner: bool) -> PyResult<Segment> {
        Segment::new(inner, created, any_owner, false)
    }

    fn new(
        inner: shmslot::Segment,
        created: bool,
        any_owner: bool,
        observer: bool,
    ) -> PyResult<Segment> {
        let signals = EndWaits { signal: true, ..EndWaits::default() };
        inner.end_waits(signals).map_err(raise)?;
        Ok(Segment { inner: Mutex::new(Some(inner)), created, any_owner, observer })
    }

    fn inner(&self) -> PyResult<shmslot::Segment> {
        let inner = self.inner.lock().clone();
        inner.ok_or_else(|| closed("segment"))
    }
}

/// The text of a field of fixed size.
fn text(padded: &[u8]) -> String {
    let end = padded.iter().position(|byte| *byte == 0).unwrap_or(padded.len());
    String::from_utf8_lossy(&padded[..end]).into_owned()
}

fn policy_name(policy: Policy) -> &'static str {
    match policy {
        Policy::Block => "block",
        Policy::Fail => "fail",
        Policy::DropOldest => "drop_oldest",
    }
}

/// Attributes for the records of Python, which have the same names.
macro_rules! attributes {
    ($py:expr, $from:expr, $($field:ident),+) => {{
        let attributes = PyDict::new($py);
        $( attributes.set_item(stringify!($field), $from.$field)?; )+
        attributes
    }};
}

#[pymethods]
impl Segment {
    /// Create a segment with this name. Raises Exists if a live one has it.
    #[staticmethod]
    #[pyo3(signature = (name, **options))]
    fn create(
        py: Python<'_>,
        name: &str,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Segment> {
        let options = to_create(options)?;
        let made = py.detach(|| shmslot::Segment::create(name, &options)).map_err(raise)?;
        Segment::made(made, true, options.any_owner)
    }

    /// Attach to the segment with this name, or create it. Processes may do this at once.
    #[staticmethod]
    #[pyo3(signature = (name, **options))]
    fn open(py: Python<'_>, name: &str, options: Option<&Bound<'_, PyDict>>) -> PyResult<Segment> {
        let options = to_create(options)?;
        let (made, created) =
            py.detach(|| shmslot::Segment::open(name, &options)).map_err(raise)?;
        Segment::made(made, created, options.any_owner)
    }

    /// Create a segment without a name, in a sealed memory file; `fileno()` is the descriptor to
    /// pass on.
    #[staticmethod]
    #[pyo3(signature = (**options))]
    fn create_anonymous(py: Python<'_>, options: Option<&Bound<'_, PyDict>>) -> PyResult<Segment> {
        let options = to_create(options)?;
        let made = py.detach(|| shmslot::Segment::create_anonymous(&options)).map_err(raise)?;
        Segment::made(made, true, false)
    }

    /// Create a segment in private memory of this process, for threads and tests.
    #[staticmethod]
    #[pyo3(signature = (**options))]
    fn create_local(py: Python<'_>, options: Option<&Bound<'_, PyDict>>) -> PyResult<Segment> {
        let options = to_create(options)?;
        let made = py.detach(|| shmslot::Segment::create_local(&options)).map_err(raise)?;
        Segment::made(made, true, false)
    }

    /// Attach to the segment with this name. Wait for it at most `timeout` seconds; None is no
    /// limit. Raises NotFound, or Timeout after a wait.
    #[staticmethod]
    #[pyo3(signature = (name, *, timeout=0.0, **options))]
    fn attach(
        py: Python<'_>,
        name: &str,
        timeout: Option<f64>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Segment> {
        let deadline = Deadline::after(timeout)?;
        let options = to_attach(options)?;
        let attached = py.detach(|| shmslot::Segment::attach(name, &options));
        let inner = match attached {
            Ok(inner) => inner,
            Err(error) if error.code() == Code::NotFound && !matches!(deadline, Deadline::Now) => {
                let attached = wait(py, deadline, |slice| {
                    match shmslot::Segment::attach_wait(name, &options, Some(slice)) {
                        Ok(inner) => Ok(Slice::Done(inner)),
                        Err(error) if error.code() == Code::Timeout => Ok(Slice::Again),
                        Err(error) => Err(raise(error)),
                    }
                })?;
                attached.ok_or_else(|| raise(Code::Timeout.into()))?
            }
            Err(error) => return Err(raise(error)),
        };
        Segment::new(inner, false, options.any_owner, options.observer)
    }

    /// Attach to the segment behind a descriptor, which stays the caller's.
    #[staticmethod]
    #[pyo3(signature = (fd, **options))]
    fn attach_fd(
        py: Python<'_>,
        fd: RawFd,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Segment> {
        if fd < 0 {
            return Err(PyValueError::new_err(format!("{fd} is no descriptor")));
        }
        let options = to_attach(options)?;
        let attached = py.detach(|| {
            // SAFETY: it is not -1. If the caller has not opened it, the calls on it fail; it is
            // not kept.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            shmslot::Segment::attach_fd(fd, &options)
        });
        let inner = attached.map_err(raise)?;
        Segment::new(inner, false, options.any_owner, options.observer)
    }

    /// Open a writer.
    fn writer(&self) -> PyResult<Writer> {
        Writer::open(&self.inner()?)
    }

    /// Join as a reader, starting with up to `history` retained samples.
    ///
    /// What ends its waits besides a sample: `end_without_writers`, when no process has a writer
    /// open (a loop ends, other waits raise NoWriters); `end_at_peer_death`, when a process died
    /// (PeerDead); `end_when_retired`, when the segment lost its name (Retired).
    #[pyo3(signature = (history=0, *, end_without_writers=false, end_at_peer_death=false,
                        end_when_retired=false))]
    fn reader(
        &self,
        history: u32,
        end_without_writers: bool,
        end_at_peer_death: bool,
        end_when_retired: bool,
    ) -> PyResult<Reader> {
        let when = EndWaits {
            no_writers: end_without_writers,
            peer_dead: end_at_peer_death,
            retired: end_when_retired,
            signal: true,
        };
        Reader::join(&self.inner()?, history, when)
    }

    /// The use of the segment now: its slots, each reader, and each writer that has loans.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let inner = self.inner()?;
        let counters = inner.counters().map_err(raise)?;
        let stats = attributes!(
            py,
            counters,
            next_sequence,
            free,
            loaned,
            unread,
            held,
            retained,
            regions,
            region_bytes,
            participants,
            dead,
            recovered,
            retired
        );
        stats.set_item("open_writers", counters.writers)?;
        let readers = inner.readers().map_err(raise)?.into_iter().map(|reader| {
            let fields = attributes!(
                py,
                reader,
                index,
                participant,
                pid,
                alive,
                generation,
                next_sequence,
                lag,
                unread,
                held,
                lost,
                oldest_held,
                oldest_held_ns
            );
            let kind = match reader.kind {
                ReaderKind::Joined => "joined",
                ReaderKind::Left => "left",
                ReaderKind::Named => "named",
                ReaderKind::Expelled => "expelled",
            };
            fields.set_item("kind", kind)?;
            record(py, "ReaderStats", &fields)
        });
        stats.set_item("readers", PyTuple::new(py, readers.collect::<PyResult<Vec<_>>>()?)?)?;
        let writers = inner.writers().map_err(raise)?.into_iter().map(|writer| {
            let fields = attributes!(py, writer, id, participant, pid, alive, loans);
            record(py, "WriterStats", &fields)
        });
        stats.set_item("writers", PyTuple::new(py, writers.collect::<PyResult<Vec<_>>>()?)?)?;
        record(py, "Stats", &stats)
    }

    /// What was decided when the segment was created.
    fn info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let inner = self.inner()?;
        let info = inner.info().map_err(raise)?;
        let geometry = &info.geometry;
        let fields = attributes!(
            py,
            geometry,
            segment_id,
            slot_count,
            slot_capacity,
            payload_align,
            user_header_size,
            max_readers,
            max_participants,
            history,
            max_payload,
            region_count,
            max_held,
            single_writer,
            timestamps,
            ephemeral,
            mode
        );
        fields.set_item("policy", policy_name(geometry.policy))?;
        fields.set_item("type_hash", PyBytes::new(py, &geometry.type_hash))?;
        fields.set_item("type_name", text(&geometry.type_name))?;
        fields.set_item("total_size", info.total_size)?;
        fields.set_item("huge_bytes", info.huge_bytes)?;
        record(py, "Info", &fields)
    }

    /// Every attached process, including those that died and are not recovered yet.
    fn participants<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let list = self.inner()?.participants().map_err(raise)?;
        let records = list.into_iter().map(|participant| {
            let fields = attributes!(py, participant, index, pid, alive, writers, readers);
            record(py, "Participant", &fields)
        });
        records.collect()
    }

    /// The participants that died while attached, the last one that was noticed first.
    fn deaths<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let list = self.inner()?.deaths().map_err(raise)?;
        let records = list.into_iter().map(|death| {
            let fields = attributes!(py, death, participant, pid, writers, readers, noticed_ns);
            record(py, "Death", &fields)
        });
        records.collect()
    }

    /// Recover dead participants now; return how many there were. It also happens by itself.
    fn recover(&self, py: Python<'_>) -> PyResult<u32> {
        let inner = self.inner()?;
        py.detach(|| inner.recover()).map_err(raise)
    }

    /// Give the memory of all unused regions back to the system; return how many bytes.
    fn trim(&self, py: Python<'_>) -> PyResult<u64> {
        let inner = self.inner()?;
        py.detach(|| inner.trim()).map_err(raise)
    }

    /// End the membership of the reader with this index, as `stats()` shows it.
    #[pyo3(signature = (index, generation))]
    fn expel(&self, index: u32, generation: u32) -> PyResult<()> {
        let inner = self.inner()?;
        let readers = inner.readers().map_err(raise)?;
        let reader = readers
            .into_iter()
            .find(|reader| (reader.index, reader.generation) == (index, generation));
        match reader {
            Some(reader) => inner.expel(&reader).map_err(raise),
            None => Err(raise(Error::from(Code::NotFound))),
        }
    }

    /// A number that changes with the next commit, discard or mark after this call.
    fn generation(&self) -> PyResult<u32> {
        self.inner()?.generation().map_err(raise)
    }

    /// Wait until `generation()` differs from `last`, and return it; None if the time was over
    /// before.
    #[pyo3(signature = (last, timeout=None))]
    fn wait_for_change(
        &self,
        py: Python<'_>,
        last: u32,
        timeout: Option<f64>,
    ) -> PyResult<Option<u32>> {
        let deadline = Deadline::after(timeout)?;
        let inner = self.inner()?;
        let now = inner.generation().map_err(raise)?;
        if now != last {
            return Ok(Some(now));
        }
        wait(py, deadline, |slice| match inner.wait_for_change(last, Some(slice)) {
            Ok(generation) => Ok(Slice::Done(generation)),
            Err(error) => match error.code() {
                Code::Timeout | Code::Interrupted => Ok(Slice::Again),
                _ => Err(raise(error)),
            },
        })
    }

    /// The descriptor to pass to another process, which attaches with `attach_fd`. It stays the
    /// segment's.
    fn fileno(&self) -> PyResult<RawFd> {
        Ok(self.inner()?.fd().map_err(raise)?.as_raw_fd())
    }

    /// The path of a named segment, None for another.
    #[getter]
    fn path(&self) -> PyResult<Option<String>> {
        let inner = self.inner()?;
        Ok(inner.path().map(|path| path.to_string_lossy().into_owned()))
    }

    /// Whether its name still leads to this segment.
    #[getter]
    fn is_named(&self) -> PyResult<bool> {
        self.inner()?.is_named().map_err(raise)
    }

    /// Whether this object created the segment.
    #[getter]
    fn created(&self) -> bool {
        self.created
    }

    /// Whether it was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.inner.lock().is_none()
    }

    /// Remove the name, if it still leads to this segment. Attached processes stay attached.
    fn unlink(&self) -> PyResult<()> {
        let inner = self.inner()?;
        let Some(path) = inner.path() else {
            return Err(raise(Error::from(Code::NotSupported)));
        };
        if !inner.is_named().map_err(raise)? {
            return Err(raise(Error::from(Code::Retired)));
        }
        shmslot::Segment::unlink(&path.to_string_lossy()).map_err(raise)
    }

    /// Close it. Its writers, readers, samples and loans stay valid. Closing again does nothing.
    fn close(&self) {
        let inner = self.inner.lock().take();
        drop(inner);
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, PyAny>) {
        self.close();
    }

    fn __reduce__<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyAny>, (String, bool, bool))> {
        let Some(path) = self.path()? else {
            return Err(PyTypeError::new_err(
                "a segment without a name cannot be pickled; pass its descriptor to attach_fd, or \
                 create it with a name",
            ));
        };
        let again = py.import("shmslot._shmslot")?.getattr("Segment")?.getattr("_again")?;
        Ok((again, (path, self.any_owner, self.observer)))
    }

    /// What unpickling calls.
    #[classmethod]
    #[pyo3(name = "_again")]
    fn again(
        _class: &Bound<'_, PyType>,
        path: &str,
        any_owner: bool,
        observer: bool,
    ) -> PyResult<Segment> {
        let options = shmslot::AttachOptions { any_owner, observer, ..Default::default() };
        let inner = shmslot::Segment::attach(path, &options).map_err(raise)?;
        Segment::new(inner, false, any_owner, observer)
    }

    fn __repr__(&self) -> String {
        match &*self.inner.lock() {
            None => "<shmslot.Segment, closed>".to_owned(),
            Some(inner) => match inner.path() {
                Some(path) => format!("<shmslot.Segment {:?}>", path.to_string_lossy()),
                None => "<shmslot.Segment without a name>".to_owned(),
            },
        }
    }
}

/// Remove the name of a segment. Attached processes stay attached.
#[pyfunction]
pub(crate) fn unlink(name: &str) -> PyResult<()> {
    shmslot::Segment::unlink(name).map_err(raise)
}

/// The segments of a directory; of the system's shared-memory directory, if none is given.
#[pyfunction]
#[pyo3(signature = (directory=None))]
pub(crate) fn list_segments(
    py: Python<'_>,
    directory: Option<PathBuf>,
) -> PyResult<Vec<Bound<'_, PyAny>>> {
    let listed = py.detach(|| shmslot::Segment::list(directory.as_deref())).map_err(raise)?;
    let records = listed.into_iter().map(|entry| {
        let fields = attributes!(
            py,
            entry,
            name,
            size,
            segment_id,
            participants,
            layout_version,
            owner,
            mode,
            ephemeral
        );
        let state = match entry.state {
            SegmentState::Unknown => "unknown",
            SegmentState::Alive => "alive",
            SegmentState::Dead => "dead",
        };
        fields.set_item("state", state)?;
        let refusal = entry
            .refusal
            .map(|code| py.import("shmslot._errors")?.getattr("Code")?.call1((code.number(),)));
        fields.set_item("refusal", refusal.transpose()?)?;
        record(py, "SegmentEntry", &fields)
    });
    records.collect()
}

/// Remove the segments of a directory that no process uses; return how many.
#[pyfunction]
#[pyo3(signature = (directory=None))]
pub(crate) fn unlink_dead(py: Python<'_>, directory: Option<PathBuf>) -> PyResult<u32> {
    py.detach(|| shmslot::Segment::unlink_dead(directory.as_deref())).map_err(raise)
}

/// The identity of a type by its name and size, the same in all languages.
#[pyfunction]
pub(crate) fn type_hash<'py>(py: Python<'py>, name: &str, size: u64) -> Bound<'py, PyBytes> {
    PyBytes::new(py, &shmslot::type_hash(name, size))
}
