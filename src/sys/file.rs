//! Files: create, name, open, seal, inspect, allocate, read and write.
#![allow(unsafe_code)] // `getrlimit`, and `getdents64`.

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{self, AtFlags, FallocateFlags, FcntlArg, OFlag, SealFlag};
use nix::sys::memfd::MFdFlags;
use nix::sys::stat::{self, Mode};
use nix::sys::{statvfs, uio};
use nix::unistd;

use super::descriptor;
use super::errno::{failed, failed_at_link, failed_at_name};
use crate::error::{Code, Error, Result};

/// The system's directory for shared memory.
pub(crate) const SHM_DIRECTORY: &str = "/dev/shm";

// ---- made, named, opened ----

/// A file that this process has just made, and that nobody else can see.
pub(crate) struct Unseen {
    pub(crate) fd: OwnedFd,
    /// Device and inode.
    pub(crate) identity: (u64, u64),
}

impl Unseen {
    /// Gives the file these permission bits, whatever the umask.
    fn with_mode(fd: OwnedFd, mode: u32) -> Result<Unseen> {
        let facts = file_facts(fd.as_fd())?;
        if facts.mode != mode {
            set_mode(&fd, mode)?;
        }
        Ok(Unseen { fd, identity: facts.identity })
    }
}

impl Unseen {
    /// The same file, opened once more: since Linux 6.14 the descriptor that made an anonymous file
    /// tells nobody of accesses to it.
    pub(crate) fn opened_again(self) -> Result<Unseen> {
        Ok(Unseen { fd: reopen(self.fd.as_fd(), true)?, identity: self.identity })
    }

    /// The same for whoever has a use for the first descriptor, too, where /proc is missing or
    /// refused; and whether it was opened again. Other errors may pass.
    pub(crate) fn opened_again_if_possible(self) -> Result<(Unseen, bool)> {
        match reopen(self.fd.as_fd(), true) {
            Ok(fd) => Ok((Unseen { fd, identity: self.identity }, true)),
            Err(error) if matches!(error.code(), Code::NotSupported | Code::Permission) => {
                Ok((self, false))
            }
            Err(error) => Err(error),
        }
    }
}

/// An anonymous file that can be sealed, with mode 0600.
pub(crate) fn anonymous_file(name: &CStr) -> Result<Unseen> {
    let flags = MFdFlags::MFD_ALLOW_SEALING;
    // Not executable, if the kernel knows the flag (6.3); older kernels refuse it.
    let never_run = MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL);
    let fd = descriptor::memory_file(name, flags | never_run)
        .or_else(|_| descriptor::memory_file(name, flags))
        .map_err(|errno| failed(errno, "making an anonymous file"))?;
    Unseen::with_mode(fd, 0o600)
}

/// A file without a name in `directory`, with this mode: it disappears with its last descriptor
/// unless it is linked.
pub(crate) fn unnamed_file(directory: &Path, mode: u32) -> Result<Unseen> {
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR;
    let made = descriptor::open(directory, flags, Mode::from_bits_truncate(0o600));
    let fd = made.map_err(|errno| match errno {
        // The errors of kernels and file systems without O_TMPFILE.
        Errno::EISDIR | Errno::EOPNOTSUPP | Errno::EINVAL => Error::new(Code::NotSupported)
            .errno(errno as i32)
            .about(format_args!("the file system of {directory:?} has no unnamed files"))
            .advice("use a tmpfs"),
        errno => failed_at_name(errno, format_args!("making a file in {directory:?}")),
    })?;
    Unseen::with_mode(fd, mode)
}

/// Sets the permission bits, whatever the umask.
pub(crate) fn set_mode(fd: &OwnedFd, mode: u32) -> Result<()> {
    stat::fchmod(fd, Mode::from_bits_truncate(mode))
        .map_err(|errno| failed(errno, "setting the mode"))
}

fn fd_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Gives an unnamed file its name, in one step; `Exists` if the name is taken.
pub(crate) fn link_file(fd: &OwnedFd, path: &Path) -> Result<()> {
    let direct = unistd::linkat(fd, c"", fcntl::AT_FDCWD, path, AtFlags::AT_EMPTY_PATH);
    let linked = match direct {
        // What a kernel before 6.10 says to a process without privileges.
        Err(Errno::ENOENT) => {
            let unnamed = fd_path(fd.as_fd());
            let follow = AtFlags::AT_SYMLINK_FOLLOW;
            unistd::linkat(fcntl::AT_FDCWD, unnamed.as_str(), fcntl::AT_FDCWD, path, follow)
        }
        direct => direct,
    };
    linked.map_err(|errno| match errno {
        // The directory exists: the file was made in it.
        Errno::ENOENT => failed_at_link(errno, format_args!("naming the segment {path:?}")),
        _ => failed_at_name(errno, format_args!("naming the segment {path:?}")),
    })
}

/// Removes a name.
pub(crate) fn unlink_file(path: &Path) -> Result<()> {
    unistd::unlink(path).map_err(|errno| match errno {
        Errno::EBUSY => Error::new(Code::Sys)
            .errno(errno as i32)
            .about(format_args!("{path:?} is a mount point, perhaps of a container"))
            .advice("unmount it, then remove it"),
        _ => failed_at_name(errno, format_args!("removing {path:?}")),
    })
}

/// Opens an existing file by name; does not follow a link at the end, and does not block on a pipe.
/// The caller adds the name to an error.
pub(crate) fn open_file(path: &Path, writable: bool) -> Result<OwnedFd> {
    let access = if writable { OFlag::O_RDWR } else { OFlag::O_RDONLY };
    let flags = access | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    descriptor::open(path, flags, Mode::empty()).map_err(|errno| {
        let error = failed_at_name(errno, "opening it");
        match error.code() {
            Code::NotFound => error.about("nothing has this name"),
            Code::NotAFile => match named_file_facts(path) {
                Ok(facts) => error.about(format_args!("it is {}, not a regular file", facts.kind)),
                Err(_) => error,
            },
            _ => error,
        }
    })
}

/// Opens a directory, to lock it.
pub(crate) fn open_folder(path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NONBLOCK;
    descriptor::open(path, flags, Mode::empty()).map_err(|errno| {
        // NOT_A_FILE would describe the file at the name itself.
        let failed = match errno {
            Errno::EISDIR | Errno::ENXIO => failed,
            _ => failed_at_name,
        };
        failed(errno, format_args!("opening the directory {path:?}"))
    })
}

/// Shows the names in a directory, until `show` fails.
pub(crate) fn each_name(path: &Path, mut show: impl FnMut(&OsStr) -> Result<()>) -> Result<()> {
    let folder = open_folder(path)?;
    let mut buffer = [0; 8192];
    loop {
        // SAFETY: as many writable bytes.
        let read = unsafe {
            libc::syscall(
                libc::SYS_getdents64,
                folder.as_raw_fd(),
                buffer.as_mut_ptr(),
                buffer.len(),
            )
        };
        let read = match Errno::result(read) {
            Err(Errno::EINTR) => continue,
            read => {
                read.map_err(|errno| failed(errno, format_args!("reading the directory {path:?}")))?
            }
        };
        let mut entries = buffer.get(..read as usize).unwrap_or(&[]);
        if entries.is_empty() {
            return Ok(());
        }
        while let Some((name, rest)) = first_entry(entries) {
            show(name)?;
            entries = rest;
        }
    }
}

/// The name of the first entry of a directory, as the kernel writes it, and what comes after the
/// entry.
fn first_entry(entries: &[u8]) -> Option<(&OsStr, &[u8])> {
    // Inode, offset, and then the size of the entry, its type and its name, which ends in a NUL.
    const SIZE: usize = 16;
    const NAME: usize = 19;
    let size = u16::from_ne_bytes(*entries.get(SIZE..)?.first_chunk()?);
    let name = entries.get(NAME..usize::from(size))?.split(|byte| *byte == 0).next()?;
    Some((OsStr::from_bytes(name), entries.get(usize::from(size)..)?))
}

/// Opens the file of a descriptor again, so that this participant has an open file, and locks, of
/// its own.
pub(crate) fn reopen(fd: BorrowedFd<'_>, writable: bool) -> Result<OwnedFd> {
    // Follows the link of /proc on purpose: it leads to the open file.
    let access = if writable { OFlag::O_RDWR } else { OFlag::O_RDONLY };
    let flags = access | OFlag::O_NONBLOCK;
    descriptor::open(fd_path(fd).as_str(), flags, Mode::empty())
        .map_err(|errno| failed_at_link(errno, "reopening the descriptor"))
}

/// Takes ownership of a descriptor that another party made.
pub(crate) fn keep(fd: OwnedFd) -> Result<OwnedFd> {
    descriptor::keep(fd).map_err(|errno| failed(errno, "duplicating the descriptor"))
}

/// Another descriptor of this open file.
pub(crate) fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    descriptor::duplicate(fd).map_err(|errno| failed(errno, "duplicating the descriptor"))
}

/// A path as the bytes that the kernel sees.
pub(crate) fn path_bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

// ---- seals ----

/// Seals a file against shrinking, growing and unsealing.
pub(crate) fn seal_size(fd: &OwnedFd) -> Result<()> {
    fcntl::fcntl(fd, FcntlArg::F_ADD_SEALS(size_seals()))
        .map(drop)
        .map_err(|errno| failed(errno, "sealing"))
}

fn size_seals() -> SealFlag {
    SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL
}

/// Whether nobody can shrink, grow or unseal the file any more.
pub(crate) fn is_size_sealed(fd: impl AsFd) -> bool {
    fcntl::fcntl(fd, FcntlArg::F_GET_SEALS)
        .is_ok_and(|seals| SealFlag::from_bits_retain(seals).contains(size_seals()))
}

/// Seals a file against shrinking, growing and unsealing. Unless others may write, it also forbids
/// new writable mappings, if the kernel can (5.1); existing ones stay writable.
pub(crate) fn seal_for_readers(fd: BorrowedFd<'_>, others_may_write: bool) -> Result<()> {
    let size = size_seals();
    let all = if others_may_write { size } else { size | SealFlag::F_SEAL_FUTURE_WRITE };
    fcntl::fcntl(fd, FcntlArg::F_ADD_SEALS(all))
        .or_else(|_| fcntl::fcntl(fd, FcntlArg::F_ADD_SEALS(size)))
        .map(drop)
        .map_err(|errno| failed(errno, "sealing a region"))
}

// ---- what is known of a file ----

/// What attach must know about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileFacts {
    pub(crate) is_regular: bool,
    /// What it is, in a word.
    pub(crate) kind: &'static str,
    pub(crate) owner: u32,
    pub(crate) mode: u32,
    pub(crate) size: u64,
    /// Whether any name leads to it.
    pub(crate) has_a_name: bool,
    /// Device and inode: the file's identity.
    pub(crate) identity: (u64, u64),
}

pub(crate) fn file_facts(fd: BorrowedFd<'_>) -> Result<FileFacts> {
    let facts = stat::fstat(fd).map_err(|errno| failed(errno, "looking at the file"))?;
    Ok(facts_of(&facts))
}

/// As [`file_facts`], by name, without following a link.
pub(crate) fn named_file_facts(path: &Path) -> Result<FileFacts> {
    let facts = stat::lstat(path)
        .map_err(|errno| failed_at_name(errno, format_args!("looking at {path:?}")))?;
    Ok(facts_of(&facts))
}

fn facts_of(facts: &stat::FileStat) -> FileFacts {
    FileFacts {
        is_regular: facts.st_mode & libc::S_IFMT == libc::S_IFREG,
        kind: match facts.st_mode & libc::S_IFMT {
            libc::S_IFREG => "a regular file",
            libc::S_IFDIR => "a directory",
            libc::S_IFIFO => "a pipe or FIFO",
            libc::S_IFSOCK => "a socket",
            libc::S_IFLNK => "a symbolic link",
            _ => "a device",
        },
        owner: facts.st_uid,
        mode: facts.st_mode & 0o7777,
        size: u64::try_from(facts.st_size).unwrap_or(0),
        has_a_name: facts.st_nlink != 0,
        identity: (facts.st_dev, facts.st_ino),
    }
}

// ---- its memory ----

/// Refuses a size for which the file system has no room, before anything is allocated.
fn check_room(fd: &OwnedFd, size: u64) -> Result<()> {
    match free_bytes(fd)? {
        Some(free) if free < size => Err(no_room(size, free)),
        _ => Ok(()),
    }
}

/// Free bytes of the file system; `None` if it has no limit of its own, and no blocks at all.
fn free_bytes(fd: &OwnedFd) -> Result<Option<u64>> {
    let room =
        statvfs::fstatvfs(fd).map_err(|errno| failed(errno, "looking at the file system"))?;
    let free = room.blocks_available().saturating_mul(room.fragment_size());
    Ok((room.blocks() != 0).then_some(free))
}

fn no_room(size: u64, free: u64) -> Error {
    failed(Errno::ENOSPC, "allocating memory")
        .about(format_args!("{size} bytes are needed, and the file system has {free} free"))
        .advice(
            "free some, ask for fewer or smaller slots, or make it larger (a container's /dev/shm \
             often has 64 MB)",
        )
        .with_numbers([size, free, 0])
}

/// Refuses a file longer than this process may write, because the kernel would end the process for
/// that (SIGXFSZ).
fn check_file_limit(end: u64) -> Result<()> {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the call fills the struct, or leaves it unchanged.
    unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &mut limit) };
    if end <= limit.rlim_cur {
        return Ok(());
    }
    let limit = limit.rlim_cur;
    Err(Error::new(Code::Sys)
        .errno(libc::EFBIG)
        .about(format_args!(
            "a file of {end} bytes is longer than RLIMIT_FSIZE allows, which is {limit}"
        ))
        .advice("raise the limit (ulimit -f), or make the segment smaller")
        .with_numbers([end, limit, 0]))
}

/// Makes a new, empty file so long, and allocates its first `used` bytes. If there is no room,
/// nothing is allocated.
pub(crate) fn set_size(fd: &OwnedFd, used: u64, size: u64) -> Result<()> {
    check_file_limit(size)?;
    // A single piece is allocated as a whole or not at all.
    if used > PIECE {
        check_room(fd, used)?;
    }
    // This makes the file longer, too.
    allocate(fd, 0, used)?;
    if size <= used {
        return Ok(());
    }
    let len = file_offset(size)?;
    loop {
        match unistd::ftruncate(fd, len) {
            Err(Errno::EINTR) => {}
            done => return done.map_err(|errno| failed(errno, "setting the size of the segment")),
        }
    }
}

/// A signal ends an allocation and undoes it, so memory is allocated in pieces of about a
/// millisecond.
pub(crate) const PIECE: u64 = 4 << 20;

/// Allocates every page of a range now, so that a full file system is an error here and never a
/// SIGBUS later.
pub(crate) fn allocate(fd: &OwnedFd, start: u64, len: u64) -> Result<()> {
    let end = start.saturating_add(len);
    let mut done = start;
    while done < end {
        let piece = PIECE.min(end - done);
        match fcntl::fallocate(fd, FallocateFlags::empty(), file_offset(done)?, file_offset(piece)?)
        {
            Ok(()) => done += piece,
            Err(Errno::EINTR) => {}
            Err(Errno::ENOSPC) => return Err(no_room(end - done, free_bytes(fd)?.unwrap_or(0))),
            Err(errno) => {
                return Err(failed(errno, format_args!("allocating {} bytes", end - done)));
            }
        }
    }
    Ok(())
}

/// Gives the memory of a range back; it reads as zeros afterwards.
pub(crate) fn deallocate(fd: &OwnedFd, start: u64, len: u64) -> Result<()> {
    let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    fcntl::fallocate(fd, hole, file_offset(start)?, file_offset(len)?)
        .map_err(|errno| failed(errno, "releasing memory"))
}

fn file_offset(value: u64) -> Result<libc::off_t> {
    libc::off_t::try_from(value).map_err(|_| Code::NoMemory.into())
}

// ---- its bytes ----

/// Reads from a file that need not be mapped; returns less only at its end.
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
    // The limit also applies to bytes that the file already has.
    check_file_limit(offset.saturating_add(bytes.len() as u64))?;
    loop {
        match uio::pwrite(fd, &bytes, offset as libc::off_t) {
            Err(Errno::EINTR) => {}
            done => return done.map(drop).map_err(|errno| failed(errno, "writing to the segment")),
        }
    }
}
