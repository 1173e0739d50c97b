//! The arguments of C callers. An exported function begins with [`from_c!`], which gives each raw
//! pointer a type that says what it is for. Safe code can then use it for nothing else, and not
//! after the call.
//!
//! These types find NULL and wrong sizes. That any other pointer is valid is the caller's promise:
//! exported functions are `unsafe`, the header says what they require, and `from_c!` compiles only
//! in an `unsafe fn`. Values need not be aligned.

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::mem::size_of;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;

use crate::error::{Code, Error, HotResult, Result};
use crate::ffi::handle::Handle;
use crate::ffi::library::SHMSLOT_OK;
use crate::ffi::plain::Plain;
use crate::segment::payload::Bytes;

/// No struct of the header will ever be larger.
const LARGEST_STRUCT: usize = 1 << 16;

/// A call from C. Its arguments borrow it, so none of them outlives the function that got them.
pub(crate) struct Call(());

impl Call {
    pub(crate) fn new() -> Call {
        Call(())
    }
}

/// `from_c!(reader: HandleRef, buffer[size]: OutBytes)` turns each argument into a value of that
/// type, which takes its name.
///
/// It calls the `unsafe fn new` of each type, and has no `unsafe` block: the enclosing function is
/// unsafe and leaves their conditions to its caller.
macro_rules! from_c {
    ($($name:ident $([$($size:ident),+])?: $kind:ident),+) => {
        let call = $crate::ffi::arguments::Call::new();
        $(
            #[allow(unsafe_op_in_unsafe_fn)]
            let $name = $crate::ffi::arguments::$kind::new($name $(, $($size),+)?, &call);
        )+
    };
}
pub(crate) use from_c;

/// A handle that stays open during the call.
#[repr(transparent)]
pub(crate) struct HandleRef<'c, T> {
    handle: *const T,
    call: PhantomData<&'c Call>,
}

impl<'c, T: Handle> HandleRef<'c, T> {
    /// # Safety
    /// `handle` is NULL, or an open handle of this type that this library made. Other threads use
    /// it only as the header allows. Nothing frees it until the call ends; or, in `boundary::leave`
    /// and `give_back`, until the call has counted itself out, after which it touches the handle
    /// only if it is the one that frees it.
    #[inline(always)]
    pub(crate) unsafe fn new(handle: *const T, _: &'c Call) -> Self {
        HandleRef { handle, call: PhantomData }
    }

    /// The handle, poisoned or not; `None` if it is NULL.
    #[inline(always)]
    pub(crate) fn get(&self) -> Option<&'c T> {
        // SAFETY: required by `new`; that other threads use it, too, is sound by `Handle`.
        unsafe { self.handle.as_ref() }
    }

    /// The handle, to be freed.
    pub(crate) fn into_raw(self) -> Option<NonNull<T>> {
        NonNull::new(self.handle.cast_mut())
    }

    /// The handle, in a call that reports errors in detail or takes several handles.
    pub(crate) fn open(&self) -> Result<&'c T> {
        let handle = self.get().ok_or(Code::Invalid)?;
        if handle.health().is_poisoned() {
            return Err(Code::Panic.into());
        }
        Ok(handle)
    }

    /// The same for a handle that may be NULL.
    pub(crate) fn open_if_any(&self) -> Result<Option<&'c T>> {
        if self.handle.is_null() { Ok(None) } else { self.open().map(Some) }
    }
}

/// An array of handles that stay open during the call.
pub(crate) struct HandleRefs<'c, T> {
    handles: *const *mut T,
    count: usize,
    call: &'c Call,
}

impl<'c, T: Handle> HandleRefs<'c, T> {
    const MOST: usize = 1 << 10;

    /// # Safety
    /// `handles` is NULL, or points at `count` handles, each as [`HandleRef::new`] requires it.
    pub(crate) unsafe fn new(handles: *const *mut T, count: usize, call: &'c Call) -> Self {
        HandleRefs { handles, count, call }
    }

    pub(crate) fn open(&self) -> Result<Vec<&'c T>> {
        if self.handles.is_null() {
            return Err(Code::Invalid.into());
        }
        if self.count > Self::MOST {
            return Err(Code::TooMany.into());
        }
        let nth = |index| {
            // SAFETY: not NULL, so `new` requires `count` such handles.
            unsafe { HandleRef::new(self.handles.wrapping_add(index).read_unaligned(), self.call) }
        };
        (0..self.count).map(|index| nth(index).open()).collect()
    }
}

/// A value that the caller owns, to be copied.
#[repr(transparent)]
pub(crate) struct In<'c, T> {
    from: *const T,
    call: PhantomData<&'c Call>,
}

impl<'c, T: Plain> In<'c, T> {
    /// # Safety
    /// `from` is NULL, or a value can be read there during the call.
    #[inline(always)]
    pub(crate) unsafe fn new(from: *const T, _: &'c Call) -> Self {
        In { from, call: PhantomData }
    }

    #[inline(always)]
    pub(crate) fn take(&self) -> HotResult<T> {
        if self.from.is_null() {
            return Err(Code::Invalid);
        }
        // SAFETY: not NULL, so `new` requires a value there; any bytes are one.
        Ok(unsafe { self.from.read_unaligned() })
    }
}

/// Values that the caller owns, to be copied; `(NULL, 0)` is none.
pub(crate) struct InItems<'c, T> {
    from: *const T,
    count: usize,
    call: PhantomData<&'c Call>,
}

impl<'c, T: Plain> InItems<'c, T> {
    /// # Safety
    /// `from` is NULL, or `count` values can be read there during the call.
    #[inline(always)]
    pub(crate) unsafe fn new(from: *const T, count: usize, _: &'c Call) -> Self {
        InItems { from, count, call: PhantomData }
    }

    pub(crate) fn is_null(&self) -> bool {
        self.from.is_null()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> HotResult<usize> {
        let possible = self.count <= MOST_ITEMS && (self.count == 0 || !self.from.is_null());
        if possible { Ok(self.count) } else { Err(Code::Invalid) }
    }

    /// One of them.
    #[inline(always)]
    pub(crate) fn take_nth(&self, place: usize) -> HotResult<T> {
        if self.from.is_null() || place >= self.count {
            return Err(Code::Invalid);
        }
        // SAFETY: not NULL, so `new` requires `count` values there; any bytes are one.
        Ok(unsafe { self.from.add(place).read_unaligned() })
    }
}

/// A call takes and returns so many items at most: then their number is an `int`, and their size
/// fits the address space.
const MOST_ITEMS: usize = 1 << 24;

/// A struct that begins with its size, as the caller's version of the header has it.
pub(crate) struct InSized<'c, T> {
    from: *const T,
    call: PhantomData<&'c Call>,
}

impl<'c, T: Plain> InSized<'c, T> {
    /// # Safety
    /// `from` is NULL, or points at a `u32` and as many bytes, counted with it, as it says, all of
    /// them readable during the call. Pointers among them are as the comments of their fields say.
    pub(crate) unsafe fn new(from: *const T, _: &'c Call) -> Self {
        InSized { from, call: PhantomData }
    }

    /// Copies it; `None` if it is NULL, which is all defaults. Fields that this library does not
    /// know must be zero.
    pub(crate) fn take(&self) -> Result<Option<T>> {
        if self.from.is_null() {
            return Ok(None);
        }
        let start = self.from.cast::<u8>();
        // SAFETY: not NULL, so `new` requires a size there.
        let size = unsafe { start.cast::<u32>().read_unaligned() } as usize;
        // The first version of each struct is still the only one.
        if size < size_of::<T>() || size > LARGEST_STRUCT {
            let known = size_of::<T>();
            return Err(Error::new(Code::BadOptions)
                .about(format_args!("struct_size is {size}, and this library knows {known} bytes"))
                .with_numbers([size as u64, known as u64, 0]));
        }
        // SAFETY: `new` requires `size` readable bytes, and any bytes are a `T`.
        let (value, tail) = unsafe {
            let tail = std::slice::from_raw_parts(start.add(size_of::<T>()), size - size_of::<T>());
            (self.from.read_unaligned(), tail)
        };
        if tail.iter().any(|byte| *byte != 0) {
            return Err(Error::new(Code::BadOptions)
                .about("a field that this version of shmslot does not know is not 0")
                .advice("set it to 0, or use the version of the header"));
        }
        Ok(Some(value))
    }
}

/// A string.
pub(crate) struct Text<'c> {
    from: *const c_char,
    call: PhantomData<&'c Call>,
}

impl<'c> Text<'c> {
    /// # Safety
    /// `from` is NULL, or a string that ends in a NUL and does not change during the call.
    pub(crate) unsafe fn new(from: *const c_char, _: &'c Call) -> Self {
        Text { from, call: PhantomData }
    }

    /// The string; `None` if it is NULL.
    pub(crate) fn get(&self) -> Option<&'c CStr> {
        // SAFETY: not NULL, so `new` requires such a string.
        (!self.from.is_null()).then(|| unsafe { CStr::from_ptr(self.from) })
    }

    /// A path; `None` if it is NULL.
    pub(crate) fn path(&self) -> Option<&'c Path> {
        self.get().map(|path| Path::new(OsStr::from_bytes(path.to_bytes())))
    }

    /// A name, as the core takes it.
    pub(crate) fn name(&self) -> Result<&'c str> {
        let name = self.get().ok_or(Code::Invalid)?;
        name.to_str().map_err(|_| Error::new(Code::BadName).about("the name is not UTF-8"))
    }
}

/// Bytes to be read; `(NULL, 0)` is empty.
pub(crate) struct InBytes<'c> {
    start: *const c_void,
    len: usize,
    call: PhantomData<&'c Call>,
}

impl<'c> InBytes<'c> {
    /// # Safety
    /// `start` is NULL, or `len` bytes can be read there during the call.
    #[inline(always)]
    pub(crate) unsafe fn new(start: *const c_void, len: usize, _: &'c Call) -> Self {
        InBytes { start, len, call: PhantomData }
    }

    #[inline(always)]
    pub(crate) fn get(&self) -> HotResult<Bytes<'c>> {
        if self.len > 0 && self.start.is_null() || self.len > isize::MAX as usize {
            return Err(Code::Invalid);
        }
        // SAFETY: there are none, or `new` requires that they are readable.
        Ok(unsafe { Bytes::from_raw(self.start.cast(), self.len) })
    }
}

/// Where a value goes.
#[repr(transparent)]
pub(crate) struct Out<'c, T> {
    to: *mut T,
    call: PhantomData<&'c Call>,
}

impl<'c, T> Out<'c, T> {
    /// # Safety
    /// `to` is NULL, or a value can be written there during the call, and no other thread uses the
    /// memory meanwhile.
    #[inline(always)]
    pub(crate) unsafe fn new(to: *mut T, _: &'c Call) -> Self {
        Out { to, call: PhantomData }
    }

    /// For a call that has no such output.
    pub(crate) fn none() -> Self {
        Out { to: std::ptr::null_mut(), call: PhantomData }
    }

    /// Fails if it is NULL. A call asks before it does anything.
    #[inline(always)]
    pub(crate) fn present(&self) -> HotResult<()> {
        if self.to.is_null() { Err(Code::Invalid) } else { Ok(()) }
    }

    /// Writes the value; NULL is an error.
    #[inline(always)]
    pub(crate) fn give(&self, value: T) -> HotResult<()> {
        self.present()?;
        self.give_if_wanted(value);
        Ok(())
    }

    /// Writes the value, unless NULL says that the caller does not want it.
    #[inline(always)]
    pub(crate) fn give_if_wanted(&self, value: T) {
        if !self.to.is_null() {
            // SAFETY: not NULL, so `new` requires room for a value there.
            unsafe { self.to.write_unaligned(value) };
        }
    }
}

/// Where values go, one after the other; `(NULL, 0)` has no room.
pub(crate) struct OutItems<'c, T> {
    to: *mut T,
    capacity: usize,
    call: PhantomData<&'c Call>,
}

impl<'c, T> OutItems<'c, T> {
    /// # Safety
    /// `to` is NULL, or `capacity` values can be written there during the call, and no other thread
    /// uses the memory meanwhile.
    #[inline(always)]
    pub(crate) unsafe fn new(to: *mut T, capacity: usize, _: &'c Call) -> Self {
        OutItems { to, capacity, call: PhantomData }
    }

    /// How many values a call should give at most.
    pub(crate) fn capacity(&self) -> HotResult<usize> {
        if self.capacity != 0 && self.to.is_null() {
            return Err(Code::Invalid);
        }
        Ok(self.capacity.min(MOST_ITEMS))
    }

    /// Writes one of the values, if there is room for it.
    #[inline(always)]
    pub(crate) fn give_nth(&self, place: usize, value: T) {
        if place < self.capacity && !self.to.is_null() {
            // SAFETY: not NULL, so `new` requires room for `capacity` values.
            unsafe { self.to.add(place).write_unaligned(value) };
        }
    }
}

/// Where structs go, one after the other, in the size that the caller's version of the header has.
pub(crate) struct OutArray<'c, T> {
    to: *mut T,
    element_size: usize,
    capacity: usize,
    call: PhantomData<&'c Call>,
}

impl<'c, T: Plain> OutArray<'c, T> {
    /// # Safety
    /// `to` is NULL, or `capacity` times `element_size` bytes can be written there during the call,
    /// and no other thread uses them meanwhile.
    pub(crate) unsafe fn new(to: *mut T, size: usize, capacity: usize, _: &'c Call) -> Self {
        OutArray { to, element_size: size, capacity, call: PhantomData }
    }

    /// Writes as many of a list as there is room for, and how many there are. `list` is called only
    /// if the number can be written.
    pub(crate) fn give_list<V>(
        &self,
        ret_count: &Out<'_, usize>,
        list: impl FnOnce() -> Result<Vec<V>>,
    ) -> Result<c_int>
    where
        T: for<'a> From<&'a V>,
    {
        ret_count.present()?;
        let values = list()?;
        for (index, value) in values.iter().take(self.capacity).enumerate() {
            self.give_nth(index, &T::from(value))?;
        }
        ret_count.give(values.len())?;
        Ok(SHMSLOT_OK)
    }

    /// Whether there is room for anything.
    pub(crate) fn present(&self) -> HotResult<()> {
        if self.to.is_null() || self.capacity == 0 { Err(Code::Invalid) } else { Ok(()) }
    }

    /// Writes as many values as there is room for.
    pub(crate) fn give_all(&self, values: impl Iterator<Item = T>) -> HotResult<()> {
        for (index, value) in values.take(self.capacity).enumerate() {
            self.give_nth(index, &value)?;
        }
        Ok(())
    }

    /// Writes as much of a struct as the caller's version of the header has, and zeros after it.
    fn give_nth(&self, index: usize, value: &T) -> HotResult<()> {
        let size = self.element_size;
        if self.to.is_null() || size == 0 || size > LARGEST_STRUCT {
            return Err(Code::Invalid);
        }
        let distance = index.checked_mul(size).ok_or(Code::Invalid)?;
        let known = size.min(size_of::<T>());
        // SAFETY: not NULL, and all callers keep `index` below `capacity`, so `new` requires that
        // `size` bytes can be written there; the source has at least `known`.
        unsafe {
            let target = self.to.cast::<u8>().add(distance);
            target.copy_from_nonoverlapping(std::ptr::from_ref(value).cast::<u8>(), known);
            target.add(known).write_bytes(0, size - known);
        }
        Ok(())
    }
}

/// Where one such struct goes.
pub(crate) struct OutSized<'c, T>(OutArray<'c, T>);

impl<'c, T: Plain> OutSized<'c, T> {
    /// # Safety
    /// `to` is NULL, or `size` bytes can be written there during the call, and no other thread uses
    /// them meanwhile.
    pub(crate) unsafe fn new(to: *mut T, size: usize, call: &'c Call) -> Self {
        // SAFETY: an array of one.
        OutSized(unsafe { OutArray::new(to, size, 1, call) })
    }

    pub(crate) fn give(&self, value: &T) -> HotResult<()> {
        self.0.give_nth(0, value)
    }
}

/// Where bytes go; `(NULL, 0)` is empty.
pub(crate) struct OutBytes<'c, T> {
    start: *mut T,
    size: usize,
    call: PhantomData<&'c Call>,
}

impl<'c, T> OutBytes<'c, T> {
    /// # Safety
    /// `start` is NULL, or `size` bytes can be written there during the call, and no other thread
    /// uses them meanwhile.
    pub(crate) unsafe fn new(start: *mut T, size: usize, _: &'c Call) -> Self {
        OutBytes { start, size, call: PhantomData }
    }

    /// The first `len` bytes, zeroed. The rest is not touched.
    pub(crate) fn first(self, len: usize) -> HotResult<&'c mut [u8]> {
        if len == 0 {
            return Ok(&mut []);
        }
        if self.start.is_null() || len > self.size || len > isize::MAX as usize {
            return Err(Code::Invalid);
        }
        let start = self.start.cast::<u8>();
        // SAFETY: not NULL, so `new` requires as many; zeroing them first makes them initialised.
        unsafe {
            start.write_bytes(0, len);
            Ok(std::slice::from_raw_parts_mut(start, len))
        }
    }
}

/// A descriptor that the caller lends.
pub(crate) struct Fd<'c> {
    number: c_int,
    call: PhantomData<&'c Call>,
}

impl<'c> Fd<'c> {
    /// # Safety
    /// `number` is negative, or an open descriptor that the caller keeps open during the call.
    pub(crate) unsafe fn new(number: c_int, _: &'c Call) -> Self {
        Fd { number, call: PhantomData }
    }

    pub(crate) fn get(&self) -> Result<BorrowedFd<'c>> {
        if self.number < 0 {
            return Err(Code::Invalid.into());
        }
        // SAFETY: not negative, and required by `new`.
        Ok(unsafe { BorrowedFd::borrow_raw(self.number) })
    }
}

/// A payload pointer of which only the address counts.
pub(crate) fn address(data: *const c_void) -> HotResult<*const u8> {
    if data.is_null() { Err(Code::Invalid) } else { Ok(data.cast()) }
}
