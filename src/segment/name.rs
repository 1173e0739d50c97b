//! Names: which file a name means, and how a name passes from one file to the next.
//!
//! The kernel removes whatever a name leads to at that moment; it cannot be told to remove this
//! file and no other. What makes a removal safe is two rules that every process keeps:
//!
//! - A name is given by a link, which fails where something has the name already. So a name
//!   leads to a file until it is taken from that file.
//! - A name is taken from a file under the [`Right`] to do so, a lock on the file itself, and
//!   only after a look, under that lock, that the name leads to this file still.
//!
//! From the look to the removal the name therefore leads to the file that was looked at, however
//! long the process was stopped in between. One that is killed loses the lock, and the name is as
//! it was. `docs/protocol.md` has all of it.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::atomics::{Ordering, fence};
use crate::error::{Code, Error, Result};
use crate::layout::{self, BEING_TAKEN, Geometry, HOT_OFFSET, HotWords, LAYOUT_VERSION, RETIRED};
use crate::protocol::bell;
use crate::segment::attachment::Attachment;
use crate::segment::check::check_file;
use crate::segment::mapping::HotPage;
use crate::segment::options::{AttachOptions, CreateOptions, IfOrphaned};
use crate::segment::participants::{self, LOCK_BASE, MARK_BASE};
use crate::sys::{self, Fate, FileFacts, Process};

/// Longest name without a directory: with the prefix it must fit a file name.
const MAX_NAME: usize = 200;

/// File names of ours in the system's directory begin so.
const PREFIX: &str = "shmslot.";

/// Where a segment of this name is.
pub(crate) fn path_of(name: &str) -> Result<PathBuf> {
    let bad = |about| Err(Error::new(Code::BadName).about(about));
    if name.is_empty() {
        return bad("the name is empty");
    }
    if name.contains('\0') {
        return bad("the name contains a NUL");
    }
    if name.starts_with('/') {
        // Longer ones the kernel refuses, too.
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

/// Whether the name leads to the file with this device and inode.
pub(crate) fn leads_to(path: &Path, identity: (u64, u64)) -> Result<bool> {
    match sys::named_file_facts(path) {
        Ok(named) => Ok(named.identity == identity),
        Err(error) if error.code() == Code::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The same of an open file.
fn leads_to_file(path: &Path, fd: &OwnedFd) -> Result<bool> {
    leads_to(path, sys::file_facts(fd.as_fd())?.identity)
}

/// Of these bytes, whoever is about to take a name from the file has one locked, that of its own process. Frozen for all
/// layout versions.
const SEATS: u64 = 1 << sys::SHORT_BITS;
const SEATS_END: u64 = 2 * SEATS;
const _: () = assert!(SEATS_END <= MARK_BASE);

/// More of those who died with the right, and have left it to forked children, are not looked through.
const MOST_SEATS: u32 = 64;

/// The right to take the name from a file. One thread has it at a time.
///
/// A lock stays with a forked child when its process dies. So the lock alone does not keep others out: its place says whose it is,
/// and locks of the dead are passed over. Everybody locks first and then looks at the others, so of two at most one finds
/// itself alone.
struct Right<'f> {
    fd: &'f OwnedFd,
}

impl Right<'_> {
    /// Waits for others that have it, but not for one that was stopped.
    fn to_take_from(fd: &OwnedFd) -> Result<Right<'_>> {
        let mut found = None;
        until_not_busy(|| {
            found = Right::if_free(fd)?;
            Ok(found.is_some())
        })?;
        found.ok_or(Code::NameBusy.into())
    }

    /// The same, unless somebody else has it.
    fn if_free(fd: &OwnedFd) -> Result<Option<Right<'_>>> {
        let this = Process::this();
        let right = Right { fd };
        // Shared: a file that may only be read can be unlinked, too.
        let alone = sys::lock_shared(fd, SEATS + this.short(), 1)? && right.is_alone(this.pid_namespace)?;
        Ok(alone.then_some(right))
    }

    fn give_up(&self) {
        sys::unlock(self.fd, SEATS, SEATS);
        sys::unlock(self.fd, LOCK_BASE, 0);
    }

    /// Whether all others that have such a lock are dead.
    fn is_alone(&self, namespace: u64) -> Result<bool> {
        let mut parts = vec![(SEATS, SEATS_END)];
        let mut found = 0;
        while let Some((from, to)) = parts.pop().filter(|_| found < MOST_SEATS) {
            if from == to {
                continue;
            }
            match sys::any_lock(self.fd, from, to - from)? {
                None => {}
                Some((seat, 1)) if Process::fate_of(seat.wrapping_sub(SEATS), namespace) == Fate::Gone => {
                    found += 1;
                    parts.extend([(from, seat), (seat + 1, to)]);
                }
                Some(_) => return Ok(false),
            }
        }
        Ok(found < MOST_SEATS)
    }

    /// Whether no process is attached, by whatever layout. From then on none can attach as long as
    /// the right lasts. Shared, so that what a forked child of a former replacer has is not in the way.
    fn keeps_out_all(&self) -> Result<bool> {
        sys::lock_shared(self.fd, LOCK_BASE, 0)
    }

    /// Takes the name from the file; false if it did not have it any more.
    fn take(&self, path: &Path) -> Result<bool> {
        if !leads_to_file(path, self.fd)? {
            return Ok(false);
        }
        match sys::unlink_file(path) {
            // Somebody without our rules was faster: a person, or a program that tidies up.
            Err(error) if error.code() == Code::NotFound => Ok(true),
            taken => taken.map(|()| true),
        }
    }

    /// The same of a segment, which then says so itself. After the removal, so that none with a name says it, whenever
    /// this process dies. What nobody could write then is found by whoever looks at the name.
    fn retire(&self, path: &Path) -> Result<bool> {
        let taken = self.take(path)?;
        let whole = || {
            check_file(self.fd, &AttachOptions { any_owner: true, ..AttachOptions::default() }, None, false)
        };
        if taken && has_lost_all_names(self.fd) && whole().is_ok() {
            if let Ok(page) = HotPage::of(self.fd) {
                retire(page.words());
            }
        }
        Ok(taken)
    }

    /// Takes the name from a dead segment. Who attaches takes its row and then looks at the word; this writes the word and
    /// then looks at the rows: one of the two sees the other. Looking at rows, and not locking all of them, lets it see that
    /// a process is dead whose lock a forked child has inherited.
    fn take_from_dead(&self, path: &Path, rows: u32) -> Result<()> {
        let fd = self.fd;
        if !leads_to_file(path, fd)? {
            return Ok(());
        }
        sys::write_word(fd, RETIRED_OFFSET, BEING_TAKEN)?;
        // The kernel may look at an empty list of locks without taking a lock of its own.
        fence(Ordering::SeqCst);
        let taken = match participants::anyone_alive(fd, rows) {
            Ok(true) => Err(Code::Exists.into()),
            Ok(false) => self.retire(path).map(drop),
            Err(error) => Err(error),
        };
        taken.inspect_err(|_| {
            // It keeps its name, so it can be attached to as before. The first error is the one to
            // report.
            let _ = sys::write_word(fd, RETIRED_OFFSET, 0);
        })
    }
}

/// Whether no name leads to the file any more, by whatever path. It never gets one again: the kernel gives a file without
/// one a name once, when it is new.
pub(crate) fn has_lost_all_names(fd: &OwnedFd) -> bool {
    sys::file_facts(fd.as_fd()).is_ok_and(|facts| !facts.has_a_name)
}

/// Lets a segment say that [it has lost all names](has_lost_all_names), and wakes those who wait for that.
pub(crate) fn retire(hot: &HotWords) {
    // SeqCst, and the ring begins with a fence: a sleeper sees this in its look, or is woken.
    hot.lifecycle.0.retired.store(RETIRED, Ordering::SeqCst);
    bell::ring_all(&hot.bells.0);
}

impl Drop for Right<'_> {
    /// By name, not only by closing: a child that was forked meanwhile may have the file, too.
    fn drop(&mut self) {
        self.give_up();
    }
}

/// How long a call waits for another that is about to take the same name away. That takes some
/// microseconds, unless the process is stopped.
const PATIENCE: Duration = Duration::from_millis(500);

/// Tries to get what another process has while it takes a name away, but does not wait for one that was stopped.
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

/// What stands at a name.
pub(crate) enum Way {
    /// Nothing, for the moment.
    Clear,
    /// What was there is ours now.
    Adopted(Box<Attachment>),
}

/// Looks at what has the name already, and does with a dead segment what the options say.
pub(crate) fn make_way(path: &Path, options: &CreateOptions) -> Result<Way> {
    let fd = match sys::open_file(path, true) {
        Err(error) if error.code() == Code::NotFound => return Ok(Way::Clear),
        opened => opened?,
    };
    // Whoever replaces it need not agree about the type, nor find there what is asked.
    let any_type = AttachOptions { any_owner: options.any_owner, ..AttachOptions::default() };
    match check_file(&fd, &any_type, None, false) {
        Ok((geometry, _)) => {
            if participants::anyone_alive(&fd, geometry.max_participants)? {
                return Err(Code::Exists.into());
            }
            match options.if_orphaned {
                // Its last participant was killed, or the name would be gone.
                _ if geometry.ephemeral => replace(path, &fd, &geometry)?,
                IfOrphaned::Refuse => return Err(Error::new(Code::Exists).about("nobody is attached to it")),
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
    let Some(attachment) = Attachment::attach(fd, options, asked, Some(path.to_owned()), false)? else {
        settle(path, options)?;
        return Ok(None);
    };
    // This process counts as attached by now, so nobody but unlink takes the name away after this
    // look.
    let named = match attachment.fd()? {
        Some(fd) => leads_to_file(path, fd)?,
        None => false,
    };
    Ok(named.then_some(attachment))
}

/// Takes the name away, from the file that has it now and no other. Who is attached stays so.
pub(crate) fn unlink(path: &Path) -> Result<()> {
    // To remove a file one need not be allowed to write to it. Only then it cannot be told that it has no name.
    let fd = sys::open_file(path, true).or_else(|_| sys::open_file(path, false))?;
    let facts = sys::file_facts(fd.as_fd())?;
    if !facts.is_regular {
        return Err(Error::new(Code::NotAFile).about("the path"));
    }
    if !is_ours(path, &fd, facts)? {
        return Err(if facts.size == 0 { Code::Empty } else { Code::NotASegment }.into());
    }
    let taken = match version_of(&fd)? {
        Some(LAYOUT_VERSION) => Right::to_take_from(&fd)?.retire(path)?,
        // What else belongs to unlinking in that version is not known here.
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

/// Whether this library, of whatever version, has made the file, as far as can be told from its
/// first bytes: from its name, if there are fewer than the magic has.
fn is_ours(path: &Path, fd: &OwnedFd, facts: FileFacts) -> Result<bool> {
    if !facts.is_regular {
        return Ok(false);
    }
    let mut start = [0; layout::MAGIC.len()];
    let read = sys::read_at(fd, 0, &mut start)?;
    if read == start.len() {
        return Ok(start == layout::MAGIC);
    }
    let named_so =
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()));
    Ok(named_so
        && facts.owner == sys::effective_uid()
        && layout::MAGIC.starts_with(start.get(..read).unwrap_or(&[])))
}

/// The layout version of a file of ours, if it is long enough to say so.
fn version_of(fd: &OwnedFd) -> Result<Option<u32>> {
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
                "this library has layout version {LAYOUT_VERSION}, the segment version {found}, and a process is attached to it"
            ))
            .with_numbers([LAYOUT_VERSION.into(), found.into(), 0]),
        _ => Error::new(why).about("a process is attached to it"),
    })
}

/// Where the word stands that says whether a segment has its name.
const RETIRED_OFFSET: u64 = HOT_OFFSET
    + std::mem::offset_of!(HotWords, lifecycle) as u64
    + std::mem::offset_of!(layout::Lifecycle, retired) as u64;

/// Takes the name from a dead segment, for another one.
fn replace(path: &Path, fd: &OwnedFd, geometry: &Geometry) -> Result<()> {
    let taken = Right::to_take_from(fd)?.take_from_dead(path, geometry.max_participants);
    if geometry.ephemeral && taken.as_ref().is_err_and(|error| error.code() == Code::Exists) {
        // Whoever has closed it in between has found the right taken, and leaves the name to this process.
        take_with_the_last(path, fd, geometry)?;
    }
    taken
}

/// Attempts of one that closes an ephemeral segment. Each retry means that another process was attached in between, or that
/// others try to get the right: of two that try at once, each may find the other in its way.
const LAST_LOOKS: u32 = 64;

/// Takes the name from an ephemeral segment if nobody is attached to it any more. It does not wait: another process that has
/// the right either takes the name, or looks once more after it has given the right back.
pub(crate) fn take_with_the_last(path: &Path, fd: &OwnedFd, geometry: &Geometry) -> Result<()> {
    let rows = geometry.max_participants;
    for _ in 0..LAST_LOOKS {
        if participants::anyone_alive(fd, rows)? || !leads_to_file(path, fd)? {
            break;
        }
        let Some(right) = Right::if_free(fd)? else { continue };
        match right.take_from_dead(path, rows) {
            Err(error) if error.code() == Code::Exists => {}
            taken => return taken,
        }
    }
    Ok(())
}

/// Waits until whoever is taking the name away is done, and finishes or undoes what one has begun that died: an ephemeral
/// segment without participants loses its name, any other keeps it.
fn settle(path: &Path, options: &AttachOptions) -> Result<()> {
    let fd = match sys::open_file(path, true) {
        Err(error) if error.code() == Code::NotFound => return Ok(()),
        opened => opened?,
    };
    let right = Right::to_take_from(&fd)?;
    // The name may have passed to any file in between.
    let Ok((geometry, _)) = check_file(&fd, options, None, false) else { return Ok(()) };
    if geometry.ephemeral {
        return match right.take_from_dead(path, geometry.max_participants) {
            Err(error) if error.code() == Code::Exists => Ok(()),
            taken => taken,
        };
    }
    if sys::read_word(&fd, RETIRED_OFFSET)? != 0 && leads_to_file(path, &fd)? {
        sys::write_word(&fd, RETIRED_OFFSET, 0)?;
    }
    Ok(())
}
