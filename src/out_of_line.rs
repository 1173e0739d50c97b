//! A value whose drop is never compiled into the place where it happens.
#![allow(unsafe_code)] // The standard library drops a value by hand in an unsafe call only.

use std::mem::ManuallyDrop;
use std::ops::Deref;

/// Keeps the rare drop of a field out of the frequent one of what contains it: that one then is
/// short enough to be compiled into its place, and what it belongs to can stay in registers.
pub(crate) struct OutOfLine<T>(ManuallyDrop<T>);

impl<T> OutOfLine<T> {
    pub(crate) fn new(value: T) -> OutOfLine<T> {
        OutOfLine(ManuallyDrop::new(value))
    }
}

impl<T> Deref for OutOfLine<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Drop for OutOfLine<T> {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: nothing uses the value after this drop, which happens once.
        drop_out_of_line(unsafe { ManuallyDrop::take(&mut self.0) });
    }
}

/// By value: an address of the field would keep what contains it in memory.
#[cold]
#[inline(never)]
fn drop_out_of_line<T>(value: T) {
    drop(value);
}
