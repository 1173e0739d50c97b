//! What may cross the boundary by value.

/// An integer, or a struct of integers and pointers, for which every bit pattern is valid.
///
/// # Safety
/// `repr(C)` if it is a struct, and no field has an invalid bit pattern.
pub(crate) unsafe trait Plain: Copy {}

// SAFETY: an integer.
unsafe impl Plain for usize {}
