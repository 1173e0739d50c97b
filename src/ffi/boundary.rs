//! From C and back: results and panics. What C passes by pointer is in `arguments`.

use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::error::{Code, HotResult, Result};
use crate::ffi::arguments::{HandleRef, Out};
use crate::ffi::handle::Handle;
use crate::ffi::library::{SHMSLOT_OK, shmslot_error};
use crate::sys::Uncancelled;

/// Runs a call on a handle: NULL is an error, a panic becomes a code and the handle answers with
/// that code ever after. Nothing but the code of an error is told, so the call passes nothing more
/// on, and that in a register.
#[inline(always)]
pub(crate) fn with<T: Handle>(
    handle: &HandleRef<'_, T>,
    call: impl FnOnce(&T) -> HotResult<c_int>,
) -> c_int {
    let Some(handle) = handle.get() else { return Code::Invalid.number() };
    if handle.health().is_poisoned() {
        return Code::Panic.number();
    }
    match catch_unwind(AssertUnwindSafe(|| call(handle))) {
        Ok(Ok(number)) => number,
        Ok(Err(code)) => code.number(),
        Err(panic) => {
            drop_quietly(panic);
            handle.health().poison();
            Code::Panic.number()
        }
    }
}

/// Tries the common case of a hot call, before [`with`] does the whole of it: no panic is caught, so
/// `call` consists of code that has none. `None`: it was another case, and nothing has changed.
#[inline(always)]
pub(crate) fn quickly<T: Handle, R>(
    handle: &HandleRef<'_, T>,
    call: impl FnOnce(&T) -> Option<R>,
) -> Option<R> {
    let handle = handle.get()?;
    if handle.health().is_poisoned() { None } else { call(handle) }
}

/// As [`with`], for calls that make other system calls than those of a futex: no call is a point at
/// which a thread is cancelled. `with` is for hot calls, which would feel it; what they do by
/// system calls guards itself.
pub(crate) fn with_system<T: Handle>(
    handle: &HandleRef<'_, T>,
    call: impl FnOnce(&T) -> HotResult<c_int>,
) -> c_int {
    let _whole = Uncancelled::new();
    with(handle, call)
}

/// Gives a new handle to the caller. [`close`] frees it, or [`leave`] and [`give_back`] do.
pub(crate) fn hand_out<T: Handle>(ret_handle: &Out<'_, *mut T>, handle: T) -> HotResult<()> {
    ret_handle.present()?;
    ret_handle.give(Box::into_raw(Box::new(handle)))
}

/// Frees a handle; NULL is fine.
///
/// # Safety
/// [`hand_out`] made it, and nobody uses it, or a reference to it, from now on.
pub(crate) unsafe fn close<T: Handle>(handle: HandleRef<'_, T>) {
    if let Some(handle) = handle.into_raw() {
        // SAFETY: as the caller says.
        silently(|| drop(unsafe { Box::from_raw(handle.as_ptr()) }));
    }
}

/// Closes a handle that must outlive what it has given out. `end` returns whether nothing is out:
/// then the handle is freed now, and otherwise by the last [`give_back`]. NULL is fine.
///
/// # Safety
/// As for [`close`] if `end` returns true.
pub(crate) unsafe fn leave<T: Handle>(handle: HandleRef<'_, T>, end: impl FnOnce(&T) -> bool) {
    let mut nothing_is_out = false;
    if let Some(handle) = handle.get() {
        silently(|| nothing_is_out = end(handle));
    }
    if nothing_is_out {
        // SAFETY: as the caller says.
        unsafe { close(handle) };
    }
}

/// Runs a call that gives something back, as [`with`] does. `call` returns whether that was the
/// last thing out of a handle that [`leave`] has closed: then the handle is freed.
///
/// # Safety
/// As for [`close`] if `call` returns true.
#[inline(always)]
pub(crate) unsafe fn give_back<T: Handle>(
    handle: HandleRef<'_, T>,
    call: impl FnOnce(&T) -> HotResult<bool>,
) -> c_int {
    let mut was_last = false;
    let outcome = with(&handle, |handle| {
        was_last = call(handle)?;
        Ok(SHMSLOT_OK)
    });
    if was_last {
        // SAFETY: as the caller says.
        unsafe { close(handle) };
    }
    outcome
}

/// Where the source of this crate lies, as the compiler names it: what panics there is caught here.
fn own_source() -> &'static str {
    let here = file!();
    here.strip_suffix("ffi/boundary.rs").unwrap_or(here)
}

/// A panic becomes a code, and that is all that is to be heard of it: the standard library's hook
/// would print, and read the environment for how much. Every handle comes from a call that has been
/// here. What panics elsewhere in the process goes to the hook that was there.
fn keep_panics_quiet() {
    static DONE: AtomicBool = AtomicBool::new(false);
    // A thread that panics cannot set a hook; another call will.
    if DONE.load(Ordering::Relaxed)
        || std::thread::panicking()
        || DONE.swap(true, Ordering::Relaxed)
    {
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
pub(crate) fn without_handle(
    reterr: Out<'_, shmslot_error>,
    call: impl FnOnce() -> Result<c_int>,
) -> c_int {
    let _whole = Uncancelled::new();
    keep_panics_quiet();
    let outcome = catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        drop_quietly(panic);
        Err(Code::Panic.into())
    });
    match outcome {
        Ok(number) => number,
        Err(error) => {
            reterr.give_if_wanted(shmslot_error::from(&error));
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

/// A timeout in nanoseconds: from 0, or -1 for no limit.
#[inline]
pub(crate) fn timeout(ns: i64) -> HotResult<Option<Duration>> {
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
    use crate::ffi::arguments::Call;
    use crate::ffi::handle::Health;
    use std::process::{Command, Stdio};

    struct Thing(Health);

    impl Handle for Thing {
        fn health(&self) -> &Health {
            &self.0
        }
    }

    /// In a process of its own: a hook belongs to all tests of one. What it prints is what is
    /// looked at.
    #[test]
    fn a_panic_is_a_code_and_nothing_else() {
        if std::env::var_os("SHMSLOT_TEST_PANIC").is_none() {
            let child = Command::new(std::env::current_exe().expect("a test has a program"))
                .args([
                    "--exact",
                    "ffi::boundary::tests::a_panic_is_a_code_and_nothing_else",
                    "--nocapture",
                ])
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
        let call = Call::new();
        let mut detail = shmslot_error::from(&Code::Again.into());
        // SAFETY: `detail` lives as long.
        let reterr = unsafe { Out::new(&raw mut detail, &call) };
        assert_eq!(without_handle(reterr, || panic!("a defect")), Code::Panic.number());
        assert_eq!(detail.code, Code::Panic.number());
        silently(|| panic!("a defect"));
        let thing = Thing(Health::default());
        // SAFETY: `thing` lives as long.
        let handle = || unsafe { HandleRef::new(&raw const thing, &call) };
        assert_eq!(with(&handle(), |_| Ok(1)), 1);
        let numbers = std::hint::black_box([1, 2, 3]);
        assert_eq!(with(&handle(), |_| Ok(numbers[std::hint::black_box(7)])), Code::Panic.number());
        assert_eq!(
            with(&handle(), |_| Ok(1)),
            Code::Panic.number(),
            "the handle is unusable from then on"
        );
        let opened = without_handle(Out::none(), || Ok(handle().open()?.0.is_poisoned().into()));
        assert_eq!(opened, Code::Panic.number());
        // A hook that somebody else has set still hears of the rest.
        let elsewhere = catch_unwind(|| Duration::MAX + std::hint::black_box(Duration::MAX));
        assert!(elsewhere.is_err());
    }
}
