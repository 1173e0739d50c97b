//! Segments whose samples are values of one Rust type.
#![allow(unsafe_code)] // Values are moved to and from shared memory, which is no Rust reference.

use std::fmt;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::error::{Code, Error, Result};
use crate::layout::type_hash;
use crate::reader::{Reader, Sample};
use crate::segment::{AttachOptions, CreateOptions, Segment};
use crate::writer::{AnyThread, KeepsWriter, Loan, OneThread, Writer};

/// A type whose values may be in shared memory.
///
/// Integers, floats and arrays of such types implement it. Implement it for a `#[repr(C)]` struct
/// of your own whose fields implement it, and which has no padding.
///
/// # Safety
/// - Every pattern of bytes is a value of the type. Other processes write the bytes, and this
///   process does not check them before the first use. So it has no `bool`, `char`, enum or
///   reference.
/// - It has no padding, so all bytes of a value are initialized.
/// - It has no pointer, and nothing else that is meaningful in one process only.
pub unsafe trait ShmSafe: Copy + 'static {}

macro_rules! shm_safe {
    ($($type:ty)*) => { $(
        // SAFETY: every pattern of bytes is a value, and there is no padding.
        unsafe impl ShmSafe for $type {}
    )* };
}
shm_safe!(u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 f32 f64);

// SAFETY: as for the item; between items of an array there is no padding.
unsafe impl<T: ShmSafe, const COUNT: usize> ShmSafe for [T; COUNT] {}

/// The name of a sample type in all programs, whatever their language.
///
/// Choose it yourself, because the compiler's name changes with compilers, modules and renamings.
/// Change it when the meaning of the bytes changes.
pub trait TypeName {
    /// At most 63 bytes, and not empty.
    const TYPE_NAME: &'static str;
}

/// A [`Segment`] whose samples are values of type `T`. A program that attaches with another name or
/// size of the type gets [`Code::TypeMismatch`], in every language.
///
/// ```
/// use shmslot::{CreateOptions, ShmSafe, TypeName, TypedSegment};
///
/// #[derive(Clone, Copy)]
/// #[repr(C)]
/// struct Pose {
///     x: f64,
///     y: f64,
/// }
/// // SAFETY: two floats, and no padding.
/// unsafe impl ShmSafe for Pose {}
/// impl TypeName for Pose {
///     const TYPE_NAME: &'static str = "acme.Pose";
/// }
///
/// # fn main() -> shmslot::Result<()> {
/// let poses = TypedSegment::<Pose>::create_anonymous(&CreateOptions::default())?;
/// let reader = poses.reader(0)?;
/// let writer = poses.writer()?;
/// writer.write(&Pose { x: 1.5, y: 0.0 }, None)?;
/// let sample = reader.read()?.expect("one was committed");
/// assert_eq!(sample.get().x, 1.5);
/// # Ok(()) }
/// ```
pub struct TypedSegment<T> {
    segment: Segment,
    values: PhantomData<fn(T) -> T>,
}

impl<T> Clone for TypedSegment<T> {
    fn clone(&self) -> Self {
        TypedSegment { segment: self.segment.clone(), values: PhantomData }
    }
}

impl<T> fmt::Debug for TypedSegment<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.segment.fmt(f)
    }
}

impl<T: ShmSafe + TypeName> TypedSegment<T> {
    const NAMED: () = assert!(!T::TYPE_NAME.is_empty() && T::TYPE_NAME.len() <= 63);

    /// [`Segment::create`], with the identity of the type. Each slot takes one value, unless
    /// `options` ask for another capacity.
    pub fn create(name: &str, options: &CreateOptions) -> Result<TypedSegment<T>> {
        TypedSegment::of(Segment::create(name, &Self::making(options)?)?)
    }

    /// [`Segment::create_anonymous`]; see [`TypedSegment::create`].
    pub fn create_anonymous(options: &CreateOptions) -> Result<TypedSegment<T>> {
        TypedSegment::of(Segment::create_anonymous(&Self::making(options)?)?)
    }

    /// [`Segment::create_local`]; see [`TypedSegment::create`].
    pub fn create_local(options: &CreateOptions) -> Result<TypedSegment<T>> {
        TypedSegment::of(Segment::create_local(&Self::making(options)?)?)
    }

    /// [`Segment::open`]; see [`TypedSegment::create`].
    pub fn open(name: &str, options: &CreateOptions) -> Result<(TypedSegment<T>, bool)> {
        let (segment, created) = Segment::open(name, &Self::making(options)?)?;
        Ok((TypedSegment::of(segment)?, created))
    }

    /// [`Segment::attach`], if the segment has this type.
    pub fn attach(name: &str, options: &AttachOptions) -> Result<TypedSegment<T>> {
        TypedSegment::of(Segment::attach(name, &Self::typed(options))?)
    }

    /// [`Segment::attach_wait`], if the segment has this type.
    pub fn attach_wait(
        name: &str,
        options: &AttachOptions,
        timeout: Option<Duration>,
    ) -> Result<TypedSegment<T>> {
        TypedSegment::of(Segment::attach_wait(name, &Self::typed(options), timeout)?)
    }

    /// [`Segment::attach_fd`], if the segment has this type.
    pub fn attach_fd(fd: BorrowedFd<'_>, options: &AttachOptions) -> Result<TypedSegment<T>> {
        TypedSegment::of(Segment::attach_fd(fd, &Self::typed(options))?)
    }

    /// A segment that was attached in another way, if it has this type.
    pub fn of(segment: Segment) -> Result<TypedSegment<T>> {
        let geometry = segment.inner().geometry();
        if geometry.type_hash != type_hash(T::TYPE_NAME, size_of::<T>() as u64) {
            return Err(Error::new(Code::TypeMismatch).about(format_args!(
                "{:?} of {} bytes is wanted",
                T::TYPE_NAME,
                size_of::<T>()
            )));
        }
        let room = geometry.slot_capacity.max(geometry.max_payload);
        if room < size_of::<T>() as u64 || geometry.payload_align < align_of::<T>() as u32 {
            let (size, align, found) = (size_of::<T>(), align_of::<T>(), geometry.payload_align);
            return Err(Error::new(Code::TypeMismatch)
                .about(format_args!(
                    "{size} bytes aligned to {align} are wanted, {room} aligned to {found} found"
                ))
                .with_numbers([size as u64, room, found.into()]));
        }
        Ok(TypedSegment { segment, values: PhantomData })
    }

    fn typed(options: &AttachOptions) -> AttachOptions {
        let () = Self::NAMED;
        AttachOptions {
            type_hash: type_hash(T::TYPE_NAME, size_of::<T>() as u64),
            type_name: T::TYPE_NAME.to_owned(),
            ..options.clone()
        }
    }

    fn making(options: &CreateOptions) -> Result<CreateOptions> {
        let () = Self::NAMED;
        let mut typed = CreateOptions {
            type_hash: type_hash(T::TYPE_NAME, size_of::<T>() as u64),
            type_name: T::TYPE_NAME.to_owned(),
            ..options.clone()
        };
        if typed.slot_capacity == 0 {
            typed.slot_capacity = size_of::<T>().max(1) as u64;
        }
        typed.payload_align = typed.payload_align.max(align_of::<T>().max(64) as u32);
        let (size, room) = (size_of::<T>() as u64, typed.slot_capacity.max(typed.max_payload));
        if room < size {
            return Err(Error::new(Code::BadOptions)
                .about(format_args!(
                    "{size} bytes are wanted, and slot_capacity and max_payload give {room}"
                ))
                .with_numbers([size, room, 0]));
        }
        Ok(typed)
    }

    /// Opens a writer for one thread at a time.
    pub fn writer(&self) -> Result<TypedWriter<T>> {
        Ok(TypedWriter { writer: self.segment.writer()?, values: PhantomData })
    }

    /// Opens a writer for any number of threads at once; see [`Segment::shared_writer`].
    pub fn shared_writer(&self) -> Result<TypedWriter<T, AnyThread>> {
        Ok(TypedWriter { writer: self.segment.shared_writer()?, values: PhantomData })
    }

    /// Joins as a reader, starting with up to `history` retained samples.
    pub fn reader(&self, history: u32) -> Result<TypedReader<T>> {
        Ok(TypedReader { reader: self.segment.reader(history)?, values: PhantomData })
    }

    /// Everything else that a segment can do.
    pub fn untyped(&self) -> &Segment {
        &self.segment
    }
}

/// A [`Writer`] of values of type `T`.
pub struct TypedWriter<T, Threads = OneThread> {
    writer: Writer<Threads>,
    values: PhantomData<fn(T)>,
}

impl<T, Threads> fmt::Debug for TypedWriter<T, Threads> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.writer.fmt(f)
    }
}

impl<T: ShmSafe, Threads> TypedWriter<T, Threads> {
    /// Reserves a slot for a value; see [`Writer::reserve`].
    pub fn reserve(&self, timeout: Option<Duration>) -> Result<TypedLoan<T, &Writer<Threads>>> {
        Ok(TypedLoan { loan: self.writer.reserve(size_of::<T>(), timeout)?, values: PhantomData })
    }

    /// Reserves, copies and commits; returns the sequence.
    pub fn write(&self, value: &T, timeout: Option<Duration>) -> Result<u64> {
        let mut loan = self.reserve(timeout)?;
        loan.write(*value);
        loan.commit()
    }

    /// Everything else that a writer can do.
    pub fn untyped(&self) -> &Writer<Threads> {
        &self.writer
    }
}

/// A [`Loan`] that is a value of type `T`: it has the slot's previous bytes until it is written.
pub struct TypedLoan<T, Keeper: KeepsWriter> {
    loan: Loan<Keeper>,
    values: PhantomData<fn(T)>,
}

impl<T, Keeper: KeepsWriter> fmt::Debug for TypedLoan<T, Keeper> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.loan.fmt(f)
    }
}

impl<T: ShmSafe, Keeper: KeepsWriter> TypedLoan<T, Keeper> {
    /// Writes the value.
    pub fn write(&mut self, value: T) {
        // SAFETY: the loan has as many bytes, aligned for the type as the segment was checked for.
        // They are writable, and belong to this loan alone.
        unsafe { self.as_mut_ptr().write(value) };
    }

    /// The address of the value, to be filled in place.
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.loan.as_mut_ptr().cast()
    }

    /// The value in place.
    ///
    /// # Safety
    /// No other process writes to the payload while the reference lives. A process that uses this
    /// library as documented does not. A faulty or hostile one can, and no check detects it.
    pub unsafe fn as_mut(&mut self) -> &mut T {
        // SAFETY: as in `write`; every pattern of bytes is a value, and the caller excludes other
        // accesses.
        unsafe { &mut *self.as_mut_ptr() }
    }

    /// Publishes the value; returns the sequence of the sample. An error gives the slot back.
    pub fn commit(self) -> Result<u64> {
        self.loan.commit(size_of::<T>())
    }

    /// Gives the slot back unpublished.
    pub fn discard(self) {}

    /// The bytes, and the user header.
    pub fn untyped(&mut self) -> &mut Loan<Keeper> {
        &mut self.loan
    }
}

/// A [`Reader`] of values of type `T`.
pub struct TypedReader<T> {
    reader: Reader,
    values: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for TypedReader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reader.fmt(f)
    }
}

impl<T: ShmSafe> TypedReader<T> {
    /// The next value; `None` if there is none yet. A sample of another length than a value, which
    /// only an untyped writer can have made, is marked, and the call returns
    /// [`Code::TypeMismatch`].
    pub fn read(&self) -> Result<Option<TypedSample<'_, T>>> {
        self.reader.read()?.map(TypedSample::of).transpose()
    }

    /// The newest value, as [`Reader::peek_latest`] returns it.
    pub fn peek_latest(&self) -> Result<Option<TypedSample<'_, T>>> {
        self.reader.peek_latest()?.map(TypedSample::of).transpose()
    }

    /// Waits until there is a value to read; `None` waits without limit.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<()> {
        self.reader.wait(timeout)
    }

    /// Everything else that a reader can do.
    pub fn untyped(&self) -> &Reader {
        &self.reader
    }
}

/// A [`Sample`] that is a value of type `T`.
pub struct TypedSample<'r, T> {
    sample: Sample<'r>,
    values: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for TypedSample<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sample.fmt(f)
    }
}

impl<'r, T: ShmSafe> TypedSample<'r, T> {
    fn of(sample: Sample<'r>) -> Result<TypedSample<'r, T>> {
        let (found, wanted) = (sample.len(), size_of::<T>());
        if found != wanted {
            return Err(Error::new(Code::TypeMismatch)
                .about(format_args!("a sample of {found} bytes is no value of {wanted}"))
                .with_numbers([wanted as u64, found as u64, 0]));
        }
        Ok(TypedSample { sample, values: PhantomData })
    }

    /// A copy of the value.
    pub fn get(&self) -> T {
        // SAFETY: the sample has as many bytes, aligned for the type as the segment was checked
        // for, and is held. Every pattern of bytes is a value. Volatile: if a faulty process writes
        // to them meanwhile, this is still one value that does not change any more.
        unsafe { self.as_ptr().read_volatile() }
    }

    /// The address of the value.
    pub fn as_ptr(&self) -> *const T {
        self.sample.as_ptr().cast()
    }

    /// The value in place.
    ///
    /// # Safety
    /// No process writes to the payload while the reference lives. A process that uses this library
    /// as documented does not, because the sample is held. A faulty or hostile one can, and no
    /// check detects it.
    pub unsafe fn as_ref(&self) -> &T {
        // SAFETY: as in `get`, and the caller excludes changes.
        unsafe { &*self.as_ptr() }
    }

    /// This sample, independent of its reader; see [`Sample::into_owned`].
    pub fn into_owned(self) -> TypedSample<'static, T> {
        TypedSample { sample: self.sample.into_owned(), values: PhantomData }
    }

    /// The untyped sample, with all its other calls.
    pub fn untyped(&self) -> &Sample<'r> {
        &self.sample
    }
}
