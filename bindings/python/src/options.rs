//! Keyword arguments of the calls that make a segment or attach to one.

use std::time::Duration;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use shmslot::{AttachOptions, CreateOptions, IfOrphaned, Policy};

/// Sets the fields of options by their names.
trait Fields {
    /// False if there is no such field.
    fn set(&mut self, name: &str, value: &Bound<'_, PyAny>) -> PyResult<bool>;
}

impl Fields for AttachOptions {
    fn set(&mut self, name: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        match name {
            "type_hash" => self.type_hash = hash(value)?,
            "type_name" => self.type_name = value.extract()?,
            "prefault" => self.prefault = value.extract()?,
            "huge_pages" => self.huge_pages = value.extract()?,
            "any_owner" => self.any_owner = value.extract()?,
            "observer" => self.observer = value.extract()?,
            "spin" => self.spin = Some(seconds(value)?),
            "max_loans" => self.max_loans = value.extract()?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl Fields for CreateOptions {
    fn set(&mut self, name: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        match name {
            "slot_count" => self.slot_count = value.extract()?,
            "slot_capacity" => self.slot_capacity = value.extract()?,
            "payload_align" => self.payload_align = value.extract()?,
            "user_header_size" => self.user_header_size = value.extract()?,
            "max_readers" => self.max_readers = value.extract()?,
            "max_participants" => self.max_participants = value.extract()?,
            "history" => self.history = value.extract()?,
            "max_payload" => self.max_payload = value.extract()?,
            "region_count" => self.region_count = value.extract()?,
            "max_held" => self.max_held = value.extract()?,
            "policy" => {
                let policies = [
                    ("block", Policy::Block),
                    ("fail", Policy::Fail),
                    ("drop_oldest", Policy::DropOldest),
                ];
                self.policy = Some(choice(name, value, policies)?);
            }
            "single_writer" => self.single_writer = value.extract()?,
            "timestamps" => self.timestamps = value.extract()?,
            "ephemeral" => self.ephemeral = value.extract()?,
            "mode" => self.mode = value.extract()?,
            "if_orphaned" => {
                let reactions = [
                    ("replace", IfOrphaned::Replace),
                    ("adopt", IfOrphaned::Adopt),
                    ("refuse", IfOrphaned::Refuse),
                ];
                self.if_orphaned = choice(name, value, reactions)?;
            }
            "any_geometry" => self.any_geometry = value.extract()?,
            "type_hash" => self.type_hash = hash(value)?,
            "type_name" => self.type_name = value.extract()?,
            "prefault" => self.prefault = value.extract()?,
            "huge_pages" => self.huge_pages = value.extract()?,
            "any_owner" => self.any_owner = value.extract()?,
            "spin" => self.spin = Some(seconds(value)?),
            "max_loans" => self.max_loans = value.extract()?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn choice<T, const N: usize>(
    name: &str,
    value: &Bound<'_, PyAny>,
    choices: [(&str, T); N],
) -> PyResult<T> {
    let words = choices.each_ref().map(|(word, _)| format!("{word:?}")).join(", ");
    let chosen: String = value.extract()?;
    let found = choices.into_iter().find(|(word, _)| *word == chosen);
    found.map(|(_, value)| value).ok_or_else(|| {
        PyValueError::new_err(format!("{name} is {chosen:?}, and not one of {words}"))
    })
}

fn hash(value: &Bound<'_, PyAny>) -> PyResult<[u8; 16]> {
    let bytes: Vec<u8> = value.extract()?;
    <[u8; 16]>::try_from(bytes).map_err(|bytes| {
        let len = bytes.len();
        PyValueError::new_err(format!(
            "type_hash has {len} bytes, and not 16; make it by type_hash()"
        ))
    })
}

fn seconds(value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let seconds: f64 = value.extract()?;
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| PyValueError::new_err(format!("{seconds} is no number of seconds")))
}

fn read<T: Default + Fields>(options: Option<&Bound<'_, PyDict>>) -> PyResult<T> {
    let mut read = T::default();
    for (name, value) in options.into_iter().flatten() {
        let name = name.cast::<PyString>()?.to_str()?.to_owned();
        if !read.set(&name, &value)? {
            return Err(PyTypeError::new_err(format!("there is no option {name:?} here")));
        }
    }
    Ok(read)
}

/// Options that make a segment.
pub(crate) fn to_create(options: Option<&Bound<'_, PyDict>>) -> PyResult<CreateOptions> {
    read(options)
}

/// Options that attach to one.
pub(crate) fn to_attach(options: Option<&Bound<'_, PyDict>>) -> PyResult<AttachOptions> {
    read(options)
}
