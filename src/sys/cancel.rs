//! Prevents the cancellation of threads inside a call.
#![allow(unsafe_code)] // A call that no crate declares.

use std::marker::PhantomData;

unsafe extern "C" {
    /// A function of POSIX that the libc crate does not declare.
    fn pthread_setcancelstate(state: libc::c_int, before: *mut libc::c_int) -> libc::c_int;
}

/// Prevents the cancellation of this thread (`pthread_cancel`) while the value lives. A
/// cancellation would unwind through frames that cannot be unwound that way, and the C library
/// would end the process. A request that arrives meanwhile stays pending.
pub(crate) struct Uncancelled {
    before: libc::c_int,
    this_thread: PhantomData<*const ()>,
}

impl Uncancelled {
    pub(crate) fn new() -> Uncancelled {
        /// Its value in glibc and musl.
        const PTHREAD_CANCEL_DISABLE: libc::c_int = 1;
        let mut before = 0;
        // SAFETY: a valid state, and room for the previous one. It changes only this thread's
        // state.
        unsafe { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &mut before) };
        Uncancelled { before, this_thread: PhantomData }
    }
}

impl Drop for Uncancelled {
    fn drop(&mut self) {
        // SAFETY: the state that this thread had before.
        unsafe { pthread_setcancelstate(self.before, std::ptr::null_mut()) };
    }
}
