//! From C and back: pointers, strings, structs, results, panics. The only clever file of the boundary.

use std::ffi::{CStr, c_char, c_int};
use std::mem::size_of;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::error::{Code, Error, Hot, Result};
use crate::ffi::library::shmslot_error;
use crate::ffi::plain::Plain;
use crate::segment::payload::Bytes;
use crate::sys::Uncancelled;

/// What every handle begins with: whether a caught panic made it unusable.
#[derive(Default)]
pub(crate) struct Health {
    poisoned: AtomicBool,
}

/// A type that stands behind an opaque handle.
pub(crate) trait Handle {
    fn health(&self) -> &Health;
}

/// Runs a call on a handle: NULL is an error, a panic becomes a code and the handle answers with that code ever
/// after. Nothing but the code of an error is told, so the call passes nothing more on, and that in a register.
#[inline(always)]
pub(crate) fn with<T: Handle>(handle: *const T, call: impl FnOnce(&T) -> Hot<c_int>) -> c_int {
    // SAFETY: a handle is NULL or came from this library and is not closed yet; the header says so at each call.
    let Some(handle) = (unsafe { handle.as_ref() }) else { return Code::Invalid.number() };
    if handle.health().poisoned.load(Ordering::Relaxed) {
        return Code::Panic.number();
    }
    match catch_unwind(AssertUnwindSafe(|| call(handle))) {
        Ok(Ok(number)) => number,
        Ok(Err(code)) => code.number(),
        Err(panic) => {
            drop_quietly(panic);
            handle.health().poisoned.store(true, Ordering::Relaxed);
            Code::Panic.number()
        }
    }
}

/// The same for calls that make other system calls than those of a futex: no call is a point at which a thread is cancelled.
/// `with` is for hot calls, which would feel it; what they do by system calls guards itself.
pub(crate) fn with_system<T: Handle>(handle: *const T, call: impl FnOnce(&T) -> Hot<c_int>) -> c_int {
    let _whole = Uncancelled::new();
    with(handle, call)
}

/// A handle that is only looked at, as an argument of a call that makes something of it.
pub(crate) fn open<'a, T: Handle>(handle: *const T) -> Result<&'a T> {
    // SAFETY: as in `with`.
    let handle = unsafe { handle.as_ref() }.ok_or(Code::Invalid)?;
    if handle.health().poisoned.load(Ordering::Relaxed) {
        return Err(Code::Panic.into());
    }
    Ok(handle)
}

/// Several handles.
pub(crate) fn open_all<'a, T: Handle>(handles: *const *mut T, count: usize) -> Result<Vec<&'a T>> {
    const MANY: usize = 1 << 10;
    if handles.is_null() || count > MANY {
        return Err(Code::Invalid.into());
    }
    // SAFETY: not NULL, and by the header's word an array of `count` handles.
    (0..count).map(|index| open(unsafe { handles.wrapping_add(index).read_unaligned() })).collect()
}

/// Where the source of this crate lies, as the compiler names it: what panics there is caught here.
fn own_source() -> &'static str {
    let here = file!();
    here.strip_suffix("ffi/boundary.rs").unwrap_or(here)
}

/// A panic becomes a code, and that is all that is to be heard of it: the standard library's hook would print, and read
/// the environment for how much. Every handle comes from a call that has been here. What panics elsewhere in the process goes to
/// the hook that was there.
fn keep_panics_quiet() {
    static DONE: AtomicBool = AtomicBool::new(false);
    // A thread that panics cannot set a hook; another call will.
    if DONE.load(Ordering::Relaxed) || std::thread::panicking() || DONE.swap(true, Ordering::Relaxed) {
        return;
    }
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.location().is_some_and(|location| location.file().starts_with(own_source())) {
            others(panic);
        }
    }));
}

/// Runs a call that makes or names something and can tell more about a failure.
pub(crate) fn without_handle(reterr: *mut shmslot_error, call: impl FnOnce() -> Result<c_int>) -> c_int {
    let _whole = Uncancelled::new();
    keep_panics_quiet();
    let outcome = catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        drop_quietly(panic);
        Err(Code::Panic.into())
    });
    match outcome {
        Ok(number) => number,
        Err(error) => {
            give_if_wanted(reterr, shmslot_error::from(error));
            error.code().number()
        }
    }
}

/// Runs what cannot report anything: closing.
pub(crate) fn silently(call: impl FnOnce()) {
    let _whole = Uncancelled::new();
    if let Err(panic) = catch_unwind(AssertUnwindSafe(call)) {
        drop_quietly(panic);
    }
}

/// The payload of a panic may itself panic as it is dropped.
fn drop_quietly(panic: Box<dyn std::any::Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
}

/// Writes an output; NULL is an error, found before anything was done if the caller asks early with [`present`].
pub(crate) fn give<T>(output: *mut T, value: T) -> Hot<()> {
    present(output)?;
    // SAFETY: not NULL, and by the header's word it points at writable memory for one value; it need not be aligned.
    unsafe { output.write_unaligned(value) };
    Ok(())
}

/// Writes an output that the caller may not want.
pub(crate) fn give_if_wanted<T>(output: *mut T, value: T) {
    if !output.is_null() {
        // SAFETY: as in `give`.
        unsafe { output.write_unaligned(value) };
    }
}

/// That an output has somewhere to go.
pub(crate) fn present<T>(output: *mut T) -> Hot<()> {
    if output.is_null() { Err(Code::Invalid) } else { Ok(()) }
}

/// Copies a plain struct that the caller owns.
pub(crate) fn take<T: Plain>(input: *const T) -> Hot<T> {
    if input.is_null() {
        return Err(Code::Invalid);
    }
    // SAFETY: not NULL, and by the header's word it points at one value, which is a copy of integers and pointers.
    Ok(unsafe { input.read_unaligned() })
}

/// Copies a struct that begins with its size, as the caller's version of the header has it. What the caller does not
/// know yet is zero; what this library does not know yet must be zero.
pub(crate) fn take_sized<T: Plain>(input: *const T) -> Result<T> {
    // SAFETY: not NULL, and by the header's word it points at a struct whose first field is its size.
    let size = unsafe { input.cast::<u32>().read_unaligned() } as usize;
    // The first version of each struct is still the only one.
    if size < size_of::<T>() || size > 1 << 16 {
        return Err(Error::about(Code::BadOptions, "struct_size"));
    }
    // SAFETY: `size` bytes are the caller's.
    let tail = unsafe { std::slice::from_raw_parts(input.cast::<u8>(), size) };
    if tail.iter().skip(size_of::<T>()).any(|byte| *byte != 0) {
        return Err(Error::about(Code::BadOptions, "a field that this version does not know"));
    }
    Ok(take(input)?)
}

/// Writes as much of an out-struct as the caller's version of the header has, and zeros after it.
pub(crate) fn give_sized<T: Plain>(output: *mut T, size: usize, value: &T) -> Hot<()> {
    present(output)?;
    if size == 0 || size > 1 << 16 {
        return Err(Code::Invalid);
    }
    let known = size.min(size_of::<T>());
    // SAFETY: by the header's word `size` bytes at `output` are the caller's to be written; the source has at least
    // `known`.
    unsafe {
        output.cast::<u8>().copy_from_nonoverlapping(std::ptr::from_ref(value).cast::<u8>(), known);
        output.cast::<u8>().wrapping_add(known).write_bytes(0, size - known);
    }
    Ok(())
}

/// A name, as the core takes it.
pub(crate) fn name<'a>(name: *const c_char) -> Result<&'a str> {
    if name.is_null() {
        return Err(Code::Invalid.into());
    }
    // SAFETY: not NULL, and by the header's word a string that ends in a NUL and lives for the call.
    let name = unsafe { CStr::from_ptr(name) };
    name.to_str().map_err(|_| Error::about(Code::BadName, "the name is not UTF-8"))
}

/// Bytes to be read; `(NULL, 0)` is empty.
pub(crate) fn bytes<'a>(start: *const u8, len: usize) -> Hot<Bytes<'a>> {
    if len > 0 && start.is_null() || len > isize::MAX as usize {
        return Err(Code::Invalid);
    }
    // SAFETY: by the header's word `len` bytes at `start` are readable for the call.
    Ok(unsafe { Bytes::from_raw(start, len) })
}

/// Bytes to be written; `(NULL, 0)` is empty.
pub(crate) fn buffer<'a>(start: *mut u8, len: usize) -> Hot<&'a mut [u8]> {
    if len == 0 {
        return Ok(&mut []);
    }
    if start.is_null() || len > isize::MAX as usize {
        return Err(Code::Invalid);
    }
    // SAFETY: by the header's word `len` bytes at `start` are the caller's to be written during the call; zeroing
    // them first makes them initialised.
    unsafe {
        start.write_bytes(0, len);
        Ok(std::slice::from_raw_parts_mut(start, len))
    }
}

/// A timeout in nanoseconds: from 0, or -1 for no limit.
#[inline]
pub(crate) fn timeout(ns: i64) -> Hot<Option<Duration>> {
    match ns {
        -1 => Ok(None),
        0.. => Ok(Some(Duration::from_nanos(ns as u64))),
        _ => Err(Code::BadTimeout),
    }
}

#[cfg(test)]
#[allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Panics are what is tested.
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    struct Thing(Health);

    impl Handle for Thing {
        fn health(&self) -> &Health {
            &self.0
        }
    }

    /// In a process of its own: a hook belongs to all tests of one. What it prints is what is looked at.
    #[test]
    fn a_panic_is_a_code_and_nothing_else() {
        if std::env::var_os("SHMSLOT_TEST_PANIC").is_none() {
            let child = Command::new(std::env::current_exe().expect("a test has a program"))
                .args(["--exact", "ffi::boundary::tests::a_panic_is_a_code_and_nothing_else", "--nocapture"])
                .env("SHMSLOT_TEST_PANIC", "1")
                .env("RUST_BACKTRACE", "1")
                .stdin(Stdio::null())
                .output()
                .expect("it starts");
            assert!(child.status.success(), "{child:?}");
            assert_eq!(String::from_utf8_lossy(&child.stderr), "elsewhere\n");
            return;
        }
        std::panic::set_hook(Box::new(|_| eprintln!("elsewhere")));
        let none = std::ptr::null_mut();
        let mut detail = shmslot_error { code: 0, os_errno: 0, numbers: [0; 3], text: [0; 248] };
        assert_eq!(without_handle(&mut detail, || panic!("a defect")), Code::Panic.number());
        assert_eq!(detail.code, Code::Panic.number());
        silently(|| panic!("a defect"));
        let thing = Thing(Health::default());
        assert_eq!(with(&thing, |_| Ok(1)), 1);
        let numbers = std::hint::black_box([1, 2, 3]);
        assert_eq!(with(&thing, |_| Ok(numbers[std::hint::black_box(7)])), Code::Panic.number());
        assert_eq!(with(&thing, |_| Ok(1)), Code::Panic.number(), "the handle is unusable from then on");
        assert_eq!(
            without_handle(none, || Ok(open(&raw const thing)?.0.poisoned.load(Ordering::Relaxed).into())),
            Code::Panic.number()
        );
        // A hook that somebody else has set still hears of the rest.
        let elsewhere = catch_unwind(|| Duration::MAX + std::hint::black_box(Duration::MAX));
        assert!(elsewhere.is_err());
    }
}
