//! Linux: futex, memfd and seals, unnamed files, OFD locks, page protection.
#![allow(unsafe_code)] // One of the three places: system calls that no crate wraps safely.

use std::ffi::CStr;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{self, AtFlags, FallocateFlags, FcntlArg, OFlag, SealFlag};
use nix::sched::{self, CpuSet};
use nix::sys::memfd::MFdFlags;
use nix::sys::mman::{self, ProtFlags};
use nix::sys::stat::{self, Mode};
use nix::sys::statvfs;
use nix::sys::uio;
use nix::unistd;

use super::descriptor;
use crate::atomics::{AtomicU32, Deadline};
use crate::error::{Code, Error, Result};

/// Whatever the kernel says of a descriptor or of memory: either something is used up, or nobody expects it.
pub(super) fn failed(errno: Errno, about: &'static str) -> Error {
    let code = match errno {
        // EAGAIN: memory that would be locked as it is mapped, beyond RLIMIT_MEMLOCK.
        Errno::ENOMEM | Errno::ENOSPC | Errno::EDQUOT | Errno::ENOBUFS | Errno::EAGAIN => Code::NoMemory,
        _ => Code::Sys,
    };
    Error::with_errno(code, errno as i32, about)
}

/// What the kernel says of a name that the caller gave.
pub(super) fn failed_at_name(errno: Errno, about: &'static str) -> Error {
    let code = match errno {
        Errno::ENOENT | Errno::ENOTDIR => Code::NotFound,
        Errno::EEXIST => Code::Exists,
        Errno::EACCES | Errno::EPERM | Errno::EROFS => Code::Permission,
        Errno::EISDIR | Errno::ENXIO => Code::NotAFile,
        Errno::ENAMETOOLONG | Errno::ELOOP => Code::BadName,
        _ => return failed(errno, about),
    };
    Error::with_errno(code, errno as i32, about)
}

/// The same of a link in /proc/self/fd, which leads to an open file.
fn failed_at_link(errno: Errno, about: &'static str) -> Error {
    match errno {
        Errno::ENOENT => Error::with_errno(Code::NotSupported, errno as i32, "/proc is not mounted"),
        Errno::EACCES | Errno::EPERM | Errno::EROFS => {
            Error::with_errno(Code::Permission, errno as i32, about)
        }
        _ => failed(errno, about),
    }
}

/// Nanoseconds of the monotonic clock; no system call where the kernel offers a vDSO.
pub(crate) fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid timespec for the call to fill; the clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

pub(super) fn timespec(deadline: u64) -> libc::timespec {
    libc::timespec {
        tv_sec: (deadline / 1_000_000_000) as _,
        tv_nsec: (deadline % 1_000_000_000) as libc::c_long,
    }
}

/// Sleeps while `word` is `expected`. Shared, not private: the waker may be another process. WAIT_BITSET,
/// because that form takes an absolute monotonic deadline. Why it woke is not told: callers look again, and at the clock.
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, deadline: Deadline) {
    let until = deadline.map(timespec);
    let until = until.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the word is a live, aligned u32; `until` is null or points at a timespec that outlives the call.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT_BITSET,
            expected,
            until,
            std::ptr::null::<u32>(),
            libc::FUTEX_BITSET_MATCH_ANY,
        )
    };
}

/// Wakes every sleeper of `word`, in whatever process.
pub(crate) fn futex_wake_all(word: &AtomicU32) {
    // SAFETY: the word is a live, aligned u32; the call only uses its address.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}

/// Most words that [`futex_wait_any`] sleeps on at once; the kernel's own limit.
pub(crate) const FUTEX_WAIT_ANY_MAX: usize = 128;

/// How long one of several words is looked at, where the kernel does not sleep on all, in nanoseconds.
const ONE_OF_SEVERAL: u64 = 1_000_000;

/// Sleeps while every word has its expected value. Kernels before 5.16 do not have that, and some sandboxes refuse it:
/// there it sleeps on the first word alone, for a short time. Why it woke is not told, as in [`futex_wait`].
pub(crate) fn futex_wait_any(words: &[(&AtomicU32, u32)], deadline: Deadline) {
    let waiters: Vec<libc::futex_waitv> = words
        .iter()
        .map(|(word, expected)| {
            // SAFETY: all-zero is a valid futex_waitv, a plain struct of integers.
            let mut waiter: libc::futex_waitv = unsafe { std::mem::zeroed() };
            waiter.val = u64::from(*expected);
            waiter.uaddr = word.as_ptr() as u64;
            waiter.flags = libc::FUTEX2_SIZE_U32 as u32;
            waiter
        })
        .collect();
    let until = deadline.map(timespec);
    let until = until.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: `waiters` holds as many entries as the count says, each with the address of a live u32; `until` is
    // null or points at a timespec that outlives the call.
    let result = unsafe {
        libc::syscall(libc::SYS_futex_waitv, waiters.as_ptr(), waiters.len(), 0, until, libc::CLOCK_MONOTONIC)
    };
    let slept = result >= 0 || matches!(Errno::last(), Errno::ETIMEDOUT | Errno::EAGAIN | Errno::EINTR);
    if let (false, Some((word, expected))) = (slept, words.first()) {
        let soon = monotonic_ns().saturating_add(ONE_OF_SEVERAL);
        futex_wait(word, *expected, Some(deadline.map_or(soon, |deadline| deadline.min(soon))));
    }
}

/// A random number that is not zero.
pub(crate) fn random_id() -> Result<u64> {
    let mut bytes = [0u8; 8];
    loop {
        // SAFETY: the buffer is writable for its length.
        let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        // So few bytes come all at once or not at all.
        match Errno::result(got) {
            Ok(_) => return Ok(u64::from_ne_bytes(bytes) | 1),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(failed(errno, "segment id")),
        }
    }
}

/// Tells the process that made this from a child that was forked since, at the cost of a load.
pub(crate) struct Birth {
    word: &'static AtomicU32,
    stamp: u32,
}

/// A word of a page that the kernel wipes in a forked child.
static WIPED: AtomicPtr<AtomicU32> = AtomicPtr::new(std::ptr::null_mut());
/// The last stamp that this process or one that it was forked from has given.
static LAST_STAMP: AtomicU32 = AtomicU32::new(0);

impl Birth {
    /// For what belongs to this process.
    pub(crate) fn of_this_process() -> Result<Birth> {
        let word = wiped_word()?;
        // Relaxed: forks order it for themselves; among threads any of them gives the same answer.
        let seen = word.load(Ordering::Relaxed);
        if seen != 0 {
            return Ok(Birth { word, stamp: seen });
        }
        // The first here since the fork. Zero means "wiped", so it is no stamp.
        let fresh = LAST_STAMP.fetch_add(1, Ordering::Relaxed).wrapping_add(1).max(1);
        let stamp = match word.compare_exchange(0, fresh, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => fresh,
            Err(other_thread) => other_thread,
        };
        Ok(Birth { word, stamp })
    }

    /// Whether this is still the process of birth.
    #[inline(always)]
    pub(crate) fn is_here(&self) -> bool {
        self.word.load(Ordering::Relaxed) == self.stamp
    }
}

/// The word, made at the first call. It lives as long as the process.
fn wiped_word() -> Result<&'static AtomicU32> {
    let known = WIPED.load(Ordering::Acquire);
    let word = if known.is_null() { make_wiped_word()? } else { known };
    // SAFETY: never unmapped once it is known, aligned, and every bit pattern is a valid atomic.
    Ok(unsafe { &*word })
}

fn make_wiped_word() -> Result<*mut AtomicU32> {
    let len = page_size();
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping, wherever the kernel likes.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), len, access, kind, -1, 0) };
    if page == libc::MAP_FAILED {
        return Err(failed(Errno::last(), "private memory"));
    }
    // SAFETY: the page just mapped.
    if unsafe { libc::madvise(page, len, libc::MADV_WIPEONFORK) } != 0 {
        let error = failed(Errno::last(), "detecting forks");
        // SAFETY: the page just mapped, which nobody else knows.
        unsafe { libc::munmap(page, len) };
        return Err(error);
    }
    let word = page.cast::<AtomicU32>();
    // AcqRel: who finds the word finds a mapped page.
    match WIPED.compare_exchange(std::ptr::null_mut(), word, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => Ok(word),
        Err(other_thread) => {
            // SAFETY: the page just mapped, which nobody else knows.
            unsafe { libc::munmap(page, len) };
            Ok(other_thread)
        }
    }
}

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

/// This process's effective user.
pub(crate) fn effective_uid() -> u32 {
    unistd::geteuid().as_raw()
}

/// An anonymous file, mode 0600, that may be sealed.
pub(crate) fn anonymous_file(name: &CStr) -> Result<OwnedFd> {
    let flags = MFdFlags::MFD_ALLOW_SEALING;
    // Never executable, where the kernel knows the flag (6.3); older ones refuse it.
    let never_run = MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL);
    let fd = descriptor::memory_file(name, flags | never_run)
        .or_else(|_| descriptor::memory_file(name, flags))
        .map_err(|errno| failed(errno, "anonymous segment"))?;
    set_mode(&fd, 0o600)?;
    Ok(fd)
}

/// All memory and swap of the machine, in bytes.
pub(crate) fn machine_memory() -> u64 {
    // SAFETY: all-zero is a valid sysinfo, a plain struct of integers, which the call fills.
    let info = unsafe {
        let mut info: libc::sysinfo = std::mem::zeroed();
        libc::sysinfo(&mut info);
        info
    };
    info.totalram.saturating_add(info.totalswap).saturating_mul(u64::from(info.mem_unit))
}

/// Forbids to shrink, to grow and to unseal.
pub(crate) fn seal_size(fd: &OwnedFd) -> Result<()> {
    fcntl::fcntl(fd, FcntlArg::F_ADD_SEALS(size_seals())).map(drop).map_err(|errno| failed(errno, "sealing"))
}

pub(super) fn size_seals() -> SealFlag {
    SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL
}

/// Whether nobody can shrink, grow or unseal the file any more.
pub(crate) fn is_size_sealed(fd: impl std::os::fd::AsFd) -> bool {
    fcntl::fcntl(fd, FcntlArg::F_GET_SEALS)
        .is_ok_and(|seals| SealFlag::from_bits_retain(seals).contains(size_seals()))
}

/// A file without a name in `directory`, mode 0600: it disappears with its last descriptor unless it is linked.
pub(crate) fn unnamed_file(directory: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR;
    descriptor::open(directory, flags, Mode::from_bits_truncate(0o600)).map_err(|errno| match errno {
        // What kernels and file systems without O_TMPFILE say.
        Errno::EISDIR | Errno::EOPNOTSUPP | Errno::EINVAL => Error::with_errno(
            Code::NotSupported,
            errno as i32,
            "the directory's file system has no unnamed files (use a tmpfs)",
        ),
        errno => failed_at_name(errno, "directory of the segment"),
    })
}

/// Sets the permission bits, whatever the umask.
pub(crate) fn set_mode(fd: &OwnedFd, mode: u32) -> Result<()> {
    stat::fchmod(fd, Mode::from_bits_truncate(mode)).map_err(|errno| failed(errno, "mode"))
}

fn fd_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Gives an unnamed file its name, in one step; `Exists` if the name is taken.
pub(crate) fn link_file(fd: &OwnedFd, path: &Path) -> Result<()> {
    use std::os::fd::AsFd;
    let unnamed = fd_path(fd.as_fd());
    let follow = AtFlags::AT_SYMLINK_FOLLOW;
    unistd::linkat(fcntl::AT_FDCWD, unnamed.as_str(), fcntl::AT_FDCWD, path, follow).map_err(|errno| {
        match errno {
            // The directory is there: the file was made in it.
            Errno::ENOENT => failed_at_link(errno, "naming the segment"),
            _ => failed_at_name(errno, "naming the segment"),
        }
    })
}

/// Takes a name away.
pub(crate) fn unlink_file(path: &Path) -> Result<()> {
    unistd::unlink(path).map_err(|errno| match errno {
        Errno::EBUSY => Error::with_errno(
            Code::Sys,
            errno as i32,
            "the file is a mount point, perhaps of a container: unmount it, then remove it",
        ),
        _ => failed_at_name(errno, "removing the name"),
    })
}

/// Opens an existing file by name; never follows a link at the end, never blocks on a pipe.
pub(crate) fn open_file(path: &Path, writable: bool) -> Result<OwnedFd> {
    let access = if writable { OFlag::O_RDWR } else { OFlag::O_RDONLY };
    let flags = access | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    descriptor::open(path, flags, Mode::empty()).map_err(|errno| failed_at_name(errno, "opening the segment"))
}

/// Opens the file of a descriptor anew, so that locks and life are this participant's own.
pub(crate) fn reopen(fd: BorrowedFd<'_>, writable: bool) -> Result<OwnedFd> {
    // Follows the link of /proc on purpose: it is the descriptor.
    let access = if writable { OFlag::O_RDWR } else { OFlag::O_RDONLY };
    let flags = access | OFlag::O_NONBLOCK;
    descriptor::open(fd_path(fd).as_str(), flags, Mode::empty())
        .map_err(|errno| failed_at_link(errno, "reopening the descriptor"))
}

/// Takes over a descriptor that came from elsewhere.
pub(crate) fn keep(fd: OwnedFd) -> Result<OwnedFd> {
    descriptor::keep(fd).map_err(|errno| failed(errno, "the descriptor"))
}

/// Another descriptor of the same open file.
pub(crate) fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    descriptor::duplicate(fd).map_err(|errno| failed(errno, "the descriptor"))
}

/// What an attach must know of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileFacts {
    pub(crate) is_regular: bool,
    pub(crate) owner: u32,
    pub(crate) mode: u32,
    pub(crate) size: u64,
    /// Device and inode: the file's identity.
    pub(crate) identity: (u64, u64),
}

pub(crate) fn file_facts(fd: BorrowedFd<'_>) -> Result<FileFacts> {
    let facts = stat::fstat(fd).map_err(|errno| failed(errno, "looking at the file"))?;
    Ok(facts_of(&facts))
}

/// The same by name, not following a link.
pub(crate) fn named_file_facts(path: &Path) -> Result<FileFacts> {
    let facts = stat::lstat(path).map_err(|errno| failed_at_name(errno, "looking at the file"))?;
    Ok(facts_of(&facts))
}

fn facts_of(facts: &stat::FileStat) -> FileFacts {
    FileFacts {
        is_regular: facts.st_mode & libc::S_IFMT == libc::S_IFREG,
        owner: facts.st_uid,
        mode: facts.st_mode & 0o7777,
        size: u64::try_from(facts.st_size).unwrap_or(0),
        identity: (facts.st_dev, facts.st_ino),
    }
}

/// Refuses what the file system cannot have room for, before anything is taken.
pub(crate) fn check_room(fd: &OwnedFd, size: u64) -> Result<()> {
    let room = statvfs::fstatvfs(fd).map_err(|errno| failed(errno, "looking at the file system"))?;
    // No blocks at all: it has no limit of its own.
    if room.blocks() != 0 && room.blocks_available().saturating_mul(room.fragment_size()) < size {
        return Err(failed(Errno::ENOSPC, "allocating memory"));
    }
    Ok(())
}

/// Refuses what would make a file longer than this process may: the kernel would end it for that (SIGXFSZ).
fn check_file_limit(end: u64) -> Result<()> {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the call fills the struct that it is given, or leaves it.
    unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &mut limit) };
    if end <= limit.rlim_cur {
        return Ok(());
    }
    let about = "a file of # bytes, and the limit for files (RLIMIT_FSIZE, ulimit -f) is #; raise it";
    Err(Error::with_errno(Code::Sys, libc::EFBIG, about).and_numbers([end, limit.rlim_cur, 0]))
}

/// Sets the size of a file. Nothing is allocated yet.
pub(crate) fn set_size(fd: &OwnedFd, size: u64) -> Result<()> {
    check_file_limit(size)?;
    let len = file_offset(size)?;
    loop {
        match unistd::ftruncate(fd, len) {
            Err(Errno::EINTR) => {}
            done => return done.map_err(|errno| failed(errno, "size of the segment")),
        }
    }
}

/// Has every page of a range allocated now, so that a full file system is an error here and never a SIGBUS later.
pub(crate) fn allocate(fd: &OwnedFd, start: u64, len: u64) -> Result<()> {
    // A signal ends the call and undoes it, so it is done in pieces that take a millisecond or so.
    const PIECE: u64 = 4 << 20;
    let end = start.saturating_add(len);
    let mut done = start;
    while done < end {
        let piece = PIECE.min(end - done);
        match fcntl::fallocate(fd, FallocateFlags::empty(), file_offset(done)?, file_offset(piece)?) {
            Ok(()) => done += piece,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(failed(errno, "allocating memory")),
        }
    }
    Ok(())
}

/// Gives the memory of a range back; it reads as zeros from then on.
pub(crate) fn deallocate(fd: &OwnedFd, start: u64, len: u64) -> Result<()> {
    let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    fcntl::fallocate(fd, hole, file_offset(start)?, file_offset(len)?)
        .map_err(|errno| failed(errno, "giving memory back"))
}

/// The same for private memory.
///
/// # Safety
/// The range lies in one live private mapping of this library, and nobody uses it meanwhile.
pub(crate) unsafe fn forget(start: NonNull<u8>, len: usize) -> Result<()> {
    // SAFETY: the caller vouches for the range.
    unsafe { mman::madvise(start.cast(), len, mman::MmapAdvise::MADV_DONTNEED) }
        .map_err(|errno| failed(errno, "giving memory back"))
}

fn file_offset(value: u64) -> Result<libc::off_t> {
    libc::off_t::try_from(value).map_err(|_| Code::NoMemory.into())
}

/// Reads from a file that need not be mapped; short only at its end.
pub(crate) fn read_at(fd: &OwnedFd, offset: u64, buffer: &mut [u8]) -> Result<usize> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match uio::pread(fd, rest, offset as libc::off_t + done as libc::off_t) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(failed(errno, "reading the segment")),
        }
    }
    Ok(done)
}

/// Reads one 32-bit word of a file that need not be mapped.
pub(crate) fn read_word(fd: &OwnedFd, offset: u64) -> Result<u32> {
    let mut word = [0; 4];
    read_at(fd, offset, &mut word)?;
    Ok(u32::from_le_bytes(word))
}

/// Writes one 32-bit word of a file that need not be mapped.
pub(crate) fn write_word(fd: &OwnedFd, offset: u64, word: u32) -> Result<()> {
    let bytes = word.to_le_bytes();
    // The limit is also one for what a file has already.
    check_file_limit(offset.saturating_add(bytes.len() as u64))?;
    loop {
        match uio::pwrite(fd, &bytes, offset as libc::off_t) {
            Err(Errno::EINTR) => {}
            done => return done.map(drop).map_err(|errno| failed(errno, "writing to the segment")),
        }
    }
}

fn byte_range(kind: libc::c_int, offset: u64, len: u64) -> libc::flock {
    // SAFETY: all-zero is a valid flock, a plain struct of integers.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = kind as libc::c_short;
    range.l_whence = libc::SEEK_SET as libc::c_short;
    range.l_start = offset as libc::off_t;
    range.l_len = len as libc::off_t;
    range
}

/// Locks a range of bytes for this open file; false if another open file has any of it. The kernel gives the lock back when
/// the last descriptor of this open file is gone, however that comes about.
pub(crate) fn lock(fd: &OwnedFd, offset: u64, len: u64) -> Result<bool> {
    set_lock(fd, libc::F_WRLCK, offset, len)
}

/// The same, up to the last byte there can be if `len` is 0, also of a file that is open for reading only: others may share the
/// lock, but nobody has [`lock`] meanwhile.
pub(crate) fn lock_shared(fd: &OwnedFd, offset: u64, len: u64) -> Result<bool> {
    set_lock(fd, libc::F_RDLCK, offset, len)
}

/// Opens a folder, to lock it.
pub(crate) fn open_folder(path: &Path) -> Result<OwnedFd> {
    const ABOUT: &str = "opening the folder of the name";
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NONBLOCK;
    descriptor::open(path, flags, Mode::empty()).map_err(|errno| match errno {
        // NOT_A_FILE speaks of what stands at the name itself.
        Errno::EISDIR | Errno::ENXIO => failed(errno, ABOUT),
        _ => failed_at_name(errno, ABOUT),
    })
}

/// Locks a file as a whole, or a folder, for as long as it is open; false if another open file has it locked so.
pub(crate) fn lock_whole(fd: &OwnedFd) -> Result<bool> {
    // SAFETY: takes and returns integers.
    match Errno::result(unsafe { libc::flock(fd.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
        Ok(_) => Ok(true),
        Err(Errno::EWOULDBLOCK | Errno::EINTR) => Ok(false),
        Err(errno) => Err(failed(errno, "locking the folder of the name")),
    }
}

fn set_lock(fd: &OwnedFd, kind: libc::c_int, offset: u64, len: u64) -> Result<bool> {
    match fcntl::fcntl(fd, FcntlArg::F_OFD_SETLK(&byte_range(kind, offset, len))) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(errno) => Err(failed(errno, "locking")),
    }
}

/// Gives a locked range back.
pub(crate) fn unlock(fd: &OwnedFd, offset: u64, len: u64) {
    let range = byte_range(libc::F_UNLCK, offset, len);
    // Unlocking a range of an open file cannot fail for a reason that anybody could act on.
    let _ = fcntl::fcntl(fd, FcntlArg::F_OFD_SETLK(&range));
}

/// Whether any other open file has [locked](lock) in the range. Read locks do not count: who may only read could have taken
/// them.
pub(crate) fn is_locked(fd: &OwnedFd, offset: u64, len: u64) -> Result<bool> {
    is_in_the_way(fd, libc::F_RDLCK, offset, len).map_err(|errno| failed(errno, "locking"))
}

/// Whether a lock of that kind would have to wait for another open file's. Its own are in nobody's way here.
pub(super) fn is_in_the_way(
    fd: &OwnedFd,
    kind: libc::c_int,
    offset: u64,
    len: u64,
) -> std::result::Result<bool, Errno> {
    let mut range = byte_range(kind, offset, len);
    fcntl::fcntl(fd, FcntlArg::F_OFD_GETLK(&mut range))?;
    Ok(range.l_type != libc::F_UNLCK as libc::c_short)
}

/// A lock of whatever kind that another open file has in the range, by its start and length; 0 is up to the last byte.
pub(crate) fn any_lock(fd: &OwnedFd, offset: u64, len: u64) -> Result<Option<(u64, u64)>> {
    let mut range = byte_range(libc::F_WRLCK, offset, len);
    fcntl::fcntl(fd, FcntlArg::F_OFD_GETLK(&mut range)).map_err(|errno| failed(errno, "locking"))?;
    let found = range.l_type != libc::F_UNLCK as libc::c_short;
    Ok(found.then_some((range.l_start as u64, range.l_len as u64)))
}

/// Sets whether a range of whole pages may be written.
///
/// # Safety
/// The range lies in one live mapping of this library, and when write access goes, no code writes there.
pub(crate) unsafe fn protect(start: NonNull<u8>, len: usize, writable: bool) -> Result<()> {
    let access = if writable { ProtFlags::PROT_READ | ProtFlags::PROT_WRITE } else { ProtFlags::PROT_READ };
    // SAFETY: the caller vouches for the range.
    unsafe { mman::mprotect(start.cast(), len, access) }.map_err(|errno| failed(errno, "page protection"))
}

/// Asks for huge pages; the bytes that are in huge pages now.
///
/// # Safety
/// The range lies in one live mapping of this library.
pub(crate) unsafe fn collapse(start: NonNull<u8>, len: usize) -> usize {
    /// Of Linux 6.1; the libc crate has it for glibc only.
    const MADV_COLLAPSE: libc::c_int = 25;
    const HUGE: usize = 2 << 20;
    let skip = start.as_ptr().addr().next_multiple_of(HUGE) - start.as_ptr().addr();
    let whole = len.saturating_sub(skip) / HUGE * HUGE;
    if whole == 0 {
        return 0;
    }
    let first = start.as_ptr().wrapping_add(skip);
    // SAFETY: inside the caller's range, which stays mapped; collapsing changes no byte of it.
    let result = unsafe { libc::madvise(first.cast(), whole, MADV_COLLAPSE) };
    if result == 0 { whole } else { 0 }
}

/// Copies with stores that do not go through the caches, where the processor has such.
///
/// # Safety
/// `len` bytes are readable at `from` and writable at `to`, and the two do not overlap.
pub(crate) unsafe fn copy_around_caches(to: *mut u8, from: *const u8, len: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};
        const STEP: usize = size_of::<__m128i>();
        let head = to.align_offset(STEP).min(len);
        let steps = (len - head) / STEP;
        let tail = head + steps * STEP;
        // SAFETY: head, steps and tail are the bytes that the caller vouches for, one behind the other; the steps begin on
        // a border of their size. Every x86-64 processor has these instructions.
        unsafe {
            to.copy_from_nonoverlapping(from, head);
            for step in 0..steps {
                let at = head + step * STEP;
                _mm_stream_si128(to.add(at).cast(), _mm_loadu_si128(from.add(at).cast()));
            }
            to.add(tail).copy_from_nonoverlapping(from.add(tail), len - tail);
            // Such stores are not ordered with the store that publishes them, unless they are told to be.
            _mm_sfence();
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: the caller vouches for both.
    unsafe {
        to.copy_from_nonoverlapping(from, len);
    }
}

/// Asks for the cache line of an address, which will be read soon. A hint: it changes nothing.
#[inline(always)]
pub(crate) fn expect_read(address: *const u8) {
    // SAFETY: a prefetch never faults, wherever it points, and both processors have had it from their beginning.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        core::arch::asm!("prefetcht0 [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
        #[cfg(target_arch = "aarch64")]
        core::arch::asm!("prfm pldl1keep, [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
}

/// The same for an address that will be written soon.
#[inline(always)]
pub(crate) fn expect_write(address: *mut u8) {
    // SAFETY: as above; x86-64 processors that do not know `prefetchw` take it for one that does nothing.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        core::arch::asm!("prefetchw [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
        #[cfg(target_arch = "aarch64")]
        core::arch::asm!("prfm pstl1keep, [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
}

/// The system's directory for shared memory.
pub(crate) const SHM_DIRECTORY: &str = "/dev/shm";

/// A path as the bytes that the kernel sees.
pub(crate) fn path_bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

/// Size of the pages that the kernel protects.
pub(crate) fn page_size() -> usize {
    // SAFETY: asks for a number.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}

/// Whether the calling thread may run on more than one processor.
pub(crate) fn several_processors() -> bool {
    match sched::sched_getaffinity(unistd::Pid::from_raw(0)) {
        Ok(set) => (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).nth(1).is_some(),
        // More of them than such a set has room for.
        Err(_) => true,
    }
}

/// A duration as nanoseconds, cut at what fits.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
