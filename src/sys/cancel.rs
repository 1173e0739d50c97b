//! Keeping threads from being cancelled inside a call.
#![allow(unsafe_code)] // A call that no crate declares.

use std::marker::PhantomData;

unsafe extern "C" {
    /// Of POSIX; the libc crate leaves it out.
    fn pthread_setcancelstate(state: libc::c_int, before: *mut libc::c_int) -> libc::c_int;
}

/// Keeps this thread from being cancelled (`pthread_cancel`) while the value lives: that would unwind through frames that
/// cannot be unwound so, and the C library ends the process. A request that comes meanwhile stays pending.
pub(crate) struct Uncancelled {
    before: libc::c_int,
    this_thread: PhantomData<*const ()>,
}

impl Uncancelled {
    pub(crate) fn new() -> Uncancelled {
        /// In glibc and musl.
        const PTHREAD_CANCEL_DISABLE: libc::c_int = 1;
        let mut before = 0;
        // SAFETY: a state that exists, and room for the one before. It changes nothing but this thread's state.
        unsafe { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &mut before) };
        Uncancelled { before, this_thread: PhantomData }
    }
}

impl Drop for Uncancelled {
    fn drop(&mut self) {
        // SAFETY: the state that this thread had.
        unsafe { pthread_setcancelstate(self.before, std::ptr::null_mut()) };
    }
}
