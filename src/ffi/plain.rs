//! What may cross the boundary by value.

/// A struct of integers and pointers, for which every bit pattern is valid.
///
/// # Safety
/// `repr(C)`, and no field has an invalid bit pattern.
pub(crate) unsafe trait Plain: Copy {}
