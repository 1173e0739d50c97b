//! Payloads for array libraries: DLPack, version 1.

use std::ffi::{CStr, c_void};
use std::ptr::null_mut;

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;

use crate::sample::Payload;

/// The device of memory that the processor uses: its type and number.
pub(crate) const CPU: (i32, i32) = (1, 0);

const NAME: &CStr = c"dltensor_versioned";
const READ_ONLY: u64 = 1;
const COPIED: u64 = 2;
const UNSIGNED: u8 = 1;

#[repr(C)]
struct Tensor {
    data: *mut c_void,
    device: [i32; 2],
    dimensions: i32,
    code: u8,
    bits: u8,
    lanes: u16,
    shape: *mut i64,
    strides: *mut i64,
    byte_offset: u64,
}

#[repr(C)]
struct Managed {
    version: [u32; 2],
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Managed)>,
    flags: u64,
    tensor: Tensor,
}

/// The tensor, and what it points to and keeps.
#[repr(C)]
struct Owned {
    managed: Managed, // first: its address is that of the whole
    shape: [i64; 1],
    strides: [i64; 1],
    keeps: Keeps,
}

enum Keeps {
    Payload(Option<Py<Payload>>),
    Copy { _bytes: Vec<u8> },
}

/// What a consumer asks for.
pub(crate) struct Request {
    pub(crate) stream: bool,
    pub(crate) max_version: Option<(u32, u32)>,
    pub(crate) dl_device: Option<(i32, i32)>,
    pub(crate) copy: Option<bool>,
}

/// The bytes of a payload in one dimension.
pub(crate) fn capsule<'py>(
    payload: Bound<'py, Payload>,
    request: &Request,
) -> PyResult<Bound<'py, PyAny>> {
    let py = payload.py();
    if request.stream {
        return Err(PyBufferError::new_err("memory of the processor has no stream; pass None"));
    }
    if request.dl_device.is_some_and(|device| device != CPU) {
        return Err(PyBufferError::new_err("a sample is memory of the processor, device (1, 0)"));
    }
    if request.max_version.is_none_or(|(major, _)| major < 1) {
        return Err(PyBufferError::new_err(
            "a sample is read-only, which DLPack tells since its version 1.0; use a newer consumer \
             (numpy 2.1), or an array that copies it",
        ));
    }
    let len = payload.get().len();
    let (start, keeps, flags) = match request.copy {
        Some(true) => {
            let mut bytes = vec![0_u8; len];
            let source = payload.get().start();
            let target = crate::bytes::Address(bytes.as_mut_ptr());
            // SAFETY: the payload is held by `payload`, and the copy has as many bytes.
            py.detach(move || unsafe {
                let (source, target) = (source, target);
                target.0.copy_from_nonoverlapping(source.0, len);
            });
            (bytes.as_mut_ptr(), Keeps::Copy { _bytes: bytes }, COPIED)
        }
        _ => (payload.get().start().0, Keeps::Payload(Some(payload.unbind())), READ_ONLY),
    };
    let managed = Box::into_raw(Box::new(Owned {
        managed: Managed {
            version: [1, 0],
            context: null_mut(),
            deleter: Some(delete),
            flags,
            tensor: Tensor {
                data: start.cast(),
                device: [CPU.0, CPU.1],
                dimensions: 1,
                code: UNSIGNED,
                bits: 8,
                lanes: 1,
                shape: null_mut(),
                strides: null_mut(),
                byte_offset: 0,
            },
        },
        shape: [len as i64], // a payload is at most 4 GiB
        strides: [1],
        keeps,
    }));
    // SAFETY: the box was just made, and nobody else has it. A capsule that nobody consumes deletes
    // it, and a consumer does otherwise.
    unsafe {
        (*managed).managed.tensor.shape = (&raw mut (*managed).shape).cast();
        (*managed).managed.tensor.strides = (&raw mut (*managed).strides).cast();
        let capsule = ffi::PyCapsule_New(managed.cast(), NAME.as_ptr(), Some(drop_capsule));
        if capsule.is_null() {
            delete(managed.cast());
            return Err(PyErr::fetch(py));
        }
        Ok(Bound::from_owned_ptr(py, capsule))
    }
}

/// Called by the consumer, on any thread.
///
/// # Safety
/// `managed` is one of [`capsule`], and is not used afterwards.
unsafe extern "C" fn delete(managed: *mut Managed) {
    // SAFETY: it was made by `Box::into_raw`, and is deleted once.
    let mut owned = unsafe { Box::from_raw(managed.cast::<Owned>()) };
    if let Keeps::Payload(payload) = &mut owned.keeps {
        let payload = payload.take();
        if Python::try_attach(|_| ()).is_none() {
            std::mem::forget(payload); // the interpreter has ended, and the process will
            return;
        }
        Python::attach(|_| drop(payload));
    }
}

/// # Safety
/// Python calls this, at the end of a capsule.
unsafe extern "C" fn drop_capsule(capsule: *mut ffi::PyObject) {
    // SAFETY: the capsule is alive. A consumer has given it another name.
    unsafe {
        if ffi::PyCapsule_IsValid(capsule, NAME.as_ptr()) == 1 {
            delete(ffi::PyCapsule_GetPointer(capsule, NAME.as_ptr()).cast());
        }
    }
}
