//! Names: which file a name means, and how a name passes from one file to the next.
//!
//! The kernel removes whatever a name leads to at that moment; it cannot be told to remove one
//! particular file. Two rules that every process follows make a removal safe:
//!
//! - A name is given by a link, which fails if the name is taken. So a name leads to a file until
//!   it is taken from that file.
//! - A name is taken from a file under the [`Right`] to do so, a lock on the file itself, and only
//!   after a check, under that lock, that the name still leads to this file.
//!
//! So the name leads to the checked file from the check to the removal, however long the process is
//! stopped in between. A process that is killed loses the lock, and the name is unchanged.
//! `docs/protocol.md` has the details.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::os::fd::AsRawFd;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::atomics::{Chime, Ordering, fence};
use crate::error::{Code, Error, Result};
use crate::layout::{self, BEING_TAKEN, Geometry, HOT_OFFSET, HotWords, LAYOUT_VERSION, RETIRED};
use crate::protocol::bell;
use crate::segment::attachment::Attachment;
use crate::segment::check::{Checked, check_file};
use crate::segment::mapping::HotPage;
use crate::segment::options::{AttachOptions, CreateOptions, IfOrphaned};
use crate::segment::participants::{self, LOCK_BASE, MARK_BASE};
use crate::sys::{self, Fate, FileFacts, Process};

/// Longest name without a directory: with the prefix it must fit a file name.
const MAX_NAME: usize = 200;

/// The prefix of our file names in the system's directory.
const PREFIX: &str = "shmslot.";

/// The path of the segment with this name.
pub(crate) fn path_of(name: &str) -> Result<PathBuf> {
    let bad = |about| Err(Error::new(Code::BadName).about(about));
    if name.is_empty() {
        return bad("the name is empty");
    }
    if name.contains('\0') {
        return bad("the name contains a NUL");
    }
    if name.starts_with('/') {
        // The kernel refuses longer ones, too.
        return if name.len() < 4096 && !name.ends_with('/') {
            Ok(PathBuf::from(name))
        } else {
            bad("the path is too long or ends in '/'")
        };
    }
    if name.contains('/') {
        return bad("a relative name contains '/'");
    }
    if name.len() > MAX_NAME {
        return bad("the name is longer than 200 bytes");
    }
    Ok(Path::new(sys::SHM_DIRECTORY).join(format!("{PREFIX}{name}")))
}

/// The name without a directory of which this is the file name.
pub(crate) fn short_name(file: &OsStr) -> Option<&str> {
    file.to_str().and_then(|file| file.strip_prefix(PREFIX))
}

/// Whether the name leads to the file with this device and inode. The kernel tells of the loss of the
/// last name before that leads nowhere.
pub(crate) fn leads_to(path: &Path, identity: (u64, u64)) -> Result<bool> {
    match sys::named_file_facts(path) {
        Ok(named) => Ok(named.identity == identity && named.has_a_name),
        Err(error) if error.code() == Code::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// As [`leads_to`], for an open file.
fn leads_to_file(path: &Path, fd: &OwnedFd) -> Result<bool> {
    leads_to(path, sys::file_facts(fd.as_fd())?.identity)
}

/// A process that is about to take a name from the file has locked one of these bytes, that of its
/// own process. Frozen for all layout versions.
const SEATS: u64 = 1 << sys::SHORT_BITS;
const SEATS_END: u64 = 2 * SEATS;
const _: () = assert!(SEATS_END <= MARK_BASE);

/// How many seats of dead processes, which their forked children keep locked, are examined.
const MOST_SEATS: u32 = 64;

/// The right to take the name from a file. One thread has it at a time.
///
/// When a process dies, a forked child keeps its lock. So the lock alone does not exclude others:
/// its place says which process it belongs to, and locks of dead processes are ignored. Each
/// process locks first and then looks at the others, so at most one of two finds itself alone.
struct Right<'f> {
    fd: &'f OwnedFd,
}

impl Right<'_> {
    /// Waits for other processes that have it, but not for one that is stopped.
    fn to_take_from(fd: &OwnedFd) -> Result<Right<'_>> {
        let mut found = None;
        until_not_busy(|| {
            found = Right::if_free(fd)?;
            Ok(found.is_some())
        })?;
        found.ok_or(Code::NameBusy.into())
    }

    /// Takes it, unless another process has it.
    fn if_free(fd: &OwnedFd) -> Result<Option<Right<'_>>> {
        let this = Process::this();
        let right = Right { fd };
        // Shared: a process that may only read a file may be allowed to unlink it.
        let alone = sys::lock_shared(fd, SEATS + this.short(), 1)? && right.is_alone(&this)?;
        Ok(alone.then_some(right))
    }

    fn give_up(&self) {
        sys::unlock(self.fd, SEATS, SEATS);
        sys::unlock(self.fd, LOCK_BASE, 0);
    }

    /// Whether all other processes that have such a lock are dead.
    fn is_alone(&self, this: &Process) -> Result<bool> {
        let mut parts = vec![(SEATS, SEATS_END)];
        let mut found = 0;
        while let Some((from, to)) = parts.pop().filter(|_| found < MOST_SEATS) {
            if from == to {
                continue;
            }
            match sys::any_lock(self.fd, from, to - from)? {
                None => {}
                Some((seat, 1))
                    if Process::fate_of(seat.wrapping_sub(SEATS), this) == Fate::Gone =>
                {
                    found += 1;
                    parts.extend([(from, seat), (seat + 1, to)]);
                }
                Some(_) => return Ok(false),
            }
        }
        Ok(found < MOST_SEATS)
    }

    /// Whether no process is attached, by any layout. From then on none can attach while the right
    /// lasts. Shared, so that the lock that a forked child of a former replacer has does not
    /// conflict.
    fn keeps_out_all(&self) -> Result<bool> {
        sys::lock_shared(self.fd, LOCK_BASE, 0)
    }

    /// Takes the name from the file; false if the file did not have it any more.
    fn take(&self, path: &Path) -> Result<bool> {
        if !leads_to_file(path, self.fd)? {
            return Ok(false);
        }
        match sys::unlink_file(path) {
            // A person or program that does not follow our rules was faster.
            Err(error) if error.code() == Code::NotFound => Ok(true),
            taken => taken.map(|()| true),
        }
    }

    /// Takes the name, and records that in the segment. It does so after the removal, so that no
    /// segment with a name is marked, whenever this process dies. If it cannot write the record,
    /// processes that check the name find out.
    fn retire(&self, path: &Path) -> Result<bool> {
        let taken = self.take(path)?;
        let whole = || {
            check_file(
                self.fd,
                &AttachOptions { any_owner: true, ..AttachOptions::default() },
                None,
                false,
            )
        };
        if taken && has_lost_all_names(self.fd) && whole().is_ok() {
            if let Ok(page) = HotPage::of(self.fd) {
                retire(page.words(), &Chime::of(self.fd.as_raw_fd()));
            }
        }
        Ok(taken)
    }

    /// Takes the name from a dead segment; false if it had lost it already. A process that attaches
    /// takes its row and then loads the word; this stores the word and then checks the rows: one of
    /// the two sees the other. It checks rows instead of locking all of them, so that it recognizes
    /// a dead process whose lock a forked child has inherited.
    fn take_from_dead(&self, path: &Path, rows: u32) -> Result<bool> {
        let fd = self.fd;
        if !leads_to_file(path, fd)? {
            return Ok(false);
        }
        sys::write_word(fd, RETIRED_OFFSET, BEING_TAKEN)?;
        // The kernel may check an empty list of locks without taking a lock of its own.
        fence(Ordering::SeqCst);
        let taken = match participants::anyone_alive(fd, rows) {
            Ok(true) => Err(Code::Exists.into()),
            Ok(false) => self.retire(path),
            Err(error) => Err(error),
        };
        taken.inspect_err(|_| {
            // It keeps its name, so processes can attach as before. The first error is the one to
            // report.
            let _ = sys::write_word(fd, RETIRED_OFFSET, 0);
        })
    }
}

/// Whether no name leads to the file any more, by any path. It never gets one again, because the
/// kernel links a file without names only once, when it is new.
pub(crate) fn has_lost_all_names(fd: &OwnedFd) -> bool {
    sys::file_facts(fd.as_fd()).is_ok_and(|facts| !facts.has_a_name)
}

/// Records in a segment that [it has lost all names](has_lost_all_names), and wakes those that wait
/// for that.
pub(crate) fn retire(hot: &HotWords, chime: &Chime) {
    // SeqCst, and the ring begins with a fence: a sleeper sees this in its check, or is woken.
    hot.lifecycle.0.retired.store(RETIRED, Ordering::SeqCst);
    bell::ring_all(&hot.bells.0, chime);
}

impl Drop for Right<'_> {
    /// Unlocks explicitly, because a child that was forked meanwhile may have the file, too.
    fn drop(&mut self) {
        self.give_up();
    }
}

/// How long a call waits for another one that is taking the same name away. That takes some
/// microseconds, unless the process is stopped.
const PATIENCE: Duration = Duration::from_millis(500);

/// Tries to get what another process has while it takes a name away, but does not wait for one that
/// is stopped.
pub(crate) fn until_not_busy(mut try_it: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = sys::monotonic_ns().saturating_add(sys::nanoseconds(PATIENCE));
    let mut pause = Duration::from_micros(20);
    while !try_it()? {
        if sys::monotonic_ns() >= deadline {
            return Err(Code::NameBusy.into());
        }
        std::thread::sleep(pause);
        pause = Duration::from_millis(10).min(2 * pause);
    }
    Ok(())
}

/// What a name leads to.
pub(crate) enum Way {
    /// Nothing, at the moment.
    Clear,
    /// An existing segment, which this process has adopted.
    Adopted(Box<Attachment>),
}

/// Examines the file that has the name, and treats a dead segment as the options say.
pub(crate) fn make_way(path: &Path, options: &CreateOptions) -> Result<Way> {
    let fd = match sys::open_file(path, true) {
        Err(error) if error.code() == Code::NotFound => return Ok(Way::Clear),
        opened => opened?,
    };
    // A process that replaces it need not agree with its type or its geometry.
    let any_type = AttachOptions { any_owner: options.any_owner, ..AttachOptions::default() };
    match check_file(&fd, &any_type, None, false) {
        Ok(Checked { geometry, .. }) => {
            if participants::anyone_alive(&fd, geometry.max_participants)? {
                return Err(Code::Exists.into());
            }
            match options.if_orphaned {
                // Its last participant was killed; otherwise the name would be gone.
                _ if geometry.ephemeral => replace(path, &fd, &geometry)?,
                IfOrphaned::Refuse => {
                    return Err(Error::new(Code::Exists)
                        .about("a segment that nobody is attached to has this name")
                        .advice("unlink it, or choose SHMSLOT_ORPHANED_REPLACE or SHMSLOT_ORPHANED_ADOPT"));
                }
                IfOrphaned::Adopt => {
                    if let Some(adopted) = attach(path, fd, &options.attaching(), Some(options))? {
                        return Ok(Way::Adopted(Box::new(adopted)));
                    }
                }
                IfOrphaned::Replace => replace(path, &fd, &geometry)?,
            }
        }
        Err(why) => {
            let facts = sys::file_facts(fd.as_fd())?;
            let own = facts.owner == sys::effective_uid() || options.any_owner;
            if !own || options.if_orphaned != IfOrphaned::Replace || !is_ours(path, &fd, facts)? {
                return Err(why);
            }
            clear_away(path, &fd, why.code())?;
        }
    }
    Ok(Way::Clear)
}

/// Attaches to the file that was found at a name. `None` if the name leads elsewhere by now.
pub(crate) fn attach(
    path: &Path,
    fd: OwnedFd,
    options: &AttachOptions,
    asked: Option<&CreateOptions>,
) -> Result<Option<Attachment>> {
    let Some(attachment) = Attachment::attach(fd, options, asked, Some(path.to_owned()), false)?
    else {
        settle(path, options)?;
        return Ok(None);
    };
    // This process now counts as attached, so only `unlink` takes the name away after this check.
    // The mapping keeps the inode from being reused for another file.
    let named = match attachment.kept() {
        Some(kept) => leads_to(path, kept.identity())?,
        None => false,
    };
    Ok(named.then_some(attachment))
}

/// Takes the name away from the file that has it now, and from no other. Attached processes stay
/// attached.
pub(crate) fn unlink(path: &Path) -> Result<()> {
    // Removing a file does not require permission to write to it. Without that permission, the loss
    // of the name is not recorded.
    let fd = sys::open_file(path, true).or_else(|_| sys::open_file(path, false))?;
    let facts = sys::file_facts(fd.as_fd())?;
    if !facts.is_regular {
        return Err(Error::new(Code::NotAFile)
            .about(format_args!("it is {}, not a regular file", facts.kind)));
    }
    if !is_ours(path, &fd, facts)? {
        return Err(if facts.size == 0 { Code::Empty } else { Code::NotASegment }.into());
    }
    let taken = match version_of(&fd)? {
        Some(LAYOUT_VERSION) => Right::to_take_from(&fd)?.retire(path)?,
        // What else unlinking requires in that version is not known here.
        Some(_) => clear_away(path, &fd, Code::LayoutVersion)?,
        None if facts.size > 0 => clear_away(path, &fd, Code::Truncated)?,
        None => clear_away(path, &fd, Code::Empty)?,
    };
    if taken {
        Ok(())
    } else {
        Err(Error::new(Code::NotFound).about("another call has just removed the name"))
    }
}

/// Whether this library, of any version, made the file, as far as its first bytes show; as far as
/// its name shows, if it has fewer bytes than the magic.
pub(crate) fn is_ours(path: &Path, fd: &OwnedFd, facts: FileFacts) -> Result<bool> {
    if !facts.is_regular {
        return Ok(false);
    }
    let mut start = [0; layout::MAGIC.len()];
    let read = sys::read_at(fd, 0, &mut start)?;
    if read == start.len() {
        return Ok(start == layout::MAGIC);
    }
    Ok(path.file_name().is_some_and(|file| short_name(file).is_some())
        && facts.owner == sys::effective_uid()
        && layout::MAGIC.starts_with(start.get(..read).unwrap_or(&[])))
}

/// The layout version of a file of ours, if it is long enough.
pub(crate) fn version_of(fd: &OwnedFd) -> Result<Option<u32>> {
    let mut start = [0; layout::FROZEN_SIZE];
    let read = sys::read_at(fd, 0, &mut start)?;
    Ok(layout::version_of(start.get(..read).unwrap_or(&[])))
}

/// Takes the name from a file of ours that this version cannot attach to, if nobody is attached to
/// it.
fn clear_away(path: &Path, fd: &OwnedFd, why: Code) -> Result<bool> {
    let right = Right::to_take_from(fd)?;
    if right.keeps_out_all()? {
        return right.take(path);
    }
    Err(match version_of(fd)? {
        Some(found) if found != LAYOUT_VERSION => Error::new(Code::LayoutVersion)
            .about(format_args!(
                "this library has layout version {LAYOUT_VERSION}, the segment version {found}, and \
                 a process is attached to it"
            ))
            .with_numbers([LAYOUT_VERSION.into(), found.into(), 0]),
        _ => Error::new(why).about("a process is attached to it"),
    })
}

/// The offset of the word that says whether a segment has its name.
const RETIRED_OFFSET: u64 = HOT_OFFSET
    + std::mem::offset_of!(HotWords, lifecycle) as u64
    + std::mem::offset_of!(layout::Lifecycle, retired) as u64;

/// Takes the name from a dead segment, for another one.
fn replace(path: &Path, fd: &OwnedFd, geometry: &Geometry) -> Result<()> {
    let rows = geometry.max_participants;
    let taken = Right::to_take_from(fd)?.take_from_dead(path, rows);
    if geometry.ephemeral && taken.as_ref().is_err_and(|error| error.code() == Code::Exists) {
        // A process that closed it in between found the right taken, and leaves the name to this
        // process.
        take_if_dead(path, fd, rows)?;
    }
    taken.map(drop)
}

/// How often a call tries that does not wait for the right. Each retry means that another process
/// was attached in between, or that others try to get the right: of two that try at once, each may
/// find the other one.
const DEAD_LOOKS: u32 = 64;

/// Takes the name from a segment if nobody is attached to it any more; whether it did. It does not
/// wait: another process that has the right either takes the name, or checks again after it has
/// released the right.
pub(crate) fn take_if_dead(path: &Path, fd: &OwnedFd, rows: u32) -> Result<bool> {
    for _ in 0..DEAD_LOOKS {
        if participants::anyone_alive(fd, rows)? || !leads_to_file(path, fd)? {
            break;
        }
        let Some(right) = Right::if_free(fd)? else { continue };
        match right.take_from_dead(path, rows) {
            Err(error) if error.code() == Code::Exists => {}
            taken => return taken,
        }
    }
    Ok(false)
}

/// Takes the name from a file of ours that nobody is attached to, of any layout version; whether it
/// did.
pub(crate) fn unlink_if_dead(path: &Path) -> Result<bool> {
    let fd = match sys::open_file(path, true) {
        Err(error) if error.code() == Code::NotFound => return Ok(false),
        opened => opened?,
    };
    // The name may lead to another file by now.
    let facts = sys::file_facts(fd.as_fd())?;
    if facts.owner != sys::effective_uid() || !is_ours(path, &fd, facts)? {
        return Ok(false);
    }
    let any_mode = AttachOptions { any_owner: true, ..AttachOptions::default() };
    match check_file(&fd, &any_mode, None, false) {
        Ok(Checked { geometry, .. }) => take_if_dead(path, &fd, geometry.max_participants),
        Err(_) => match Right::if_free(&fd)? {
            Some(right) if right.keeps_out_all()? => right.take(path),
            _ => Ok(false),
        },
    }
}

/// Waits until another process has finished taking the name away, and completes or undoes what a
/// dead process had begun: an ephemeral segment without participants loses its name, and any other
/// keeps it.
fn settle(path: &Path, options: &AttachOptions) -> Result<()> {
    let fd = match sys::open_file(path, true) {
        Err(error) if error.code() == Code::NotFound => return Ok(()),
        opened => opened?,
    };
    let right = Right::to_take_from(&fd)?;
    // The name may lead to any file by now.
    let Ok(Checked { geometry, .. }) = check_file(&fd, options, None, false) else {
        return Ok(());
    };
    if geometry.ephemeral {
        return match right.take_from_dead(path, geometry.max_participants) {
            Err(error) if error.code() == Code::Exists => Ok(()),
            taken => taken.map(drop),
        };
    }
    if sys::read_word(&fd, RETIRED_OFFSET)? != 0 && leads_to_file(path, &fd)? {
        sys::write_word(&fd, RETIRED_OFFSET, 0)?;
    }
    Ok(())
}
