//! Descriptors for event loops: what a reader or a writer waits behind.
//!
//! A descriptor watches the file of the segment. Whoever rings the bell that it is armed on
//! accesses that file once, which makes the descriptors of all who wait readable; and so does the
//! kernel when a process dies and its files are closed. To sleep: read until there is nothing,
//! *drain* the descriptor, arm the bell, look again, and let the loop wait. A descriptor is never
//! armed before it is drained, so a ring that follows the arming is not read away; and nobody
//! sleeps with events in the queue, because the kernel merges an event with an equal one that is
//! there, and then wakes nobody.
//!
//! A member of a [set](crate::set) is not drained: the set does that, and remembers whom it has
//! told.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::iter;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use crate::error::{Code, Error, HotResult, Result};
use crate::segment::attachment::Attachment;
use crate::sys::{self, Deadline, FileWatch, Polled};
use crate::wait::WaitFor;

/// When a descriptor is armed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arm {
    /// By each call that finds nothing. The loop needs no rule but to go on until then.
    #[default]
    WhenNothingIsThere,
    /// By a call of its own: for programs that poll, and only sometimes wait for the descriptor.
    OnRequest,
}

/// A descriptor of one reader or writer, and when it is armed.
#[derive(Debug)]
pub(crate) struct Descriptor {
    watch: FileWatch,
    arm: Arm,
}

impl Descriptor {
    /// One that is readable: the first turn of the loop arms it.
    fn new(segment: &Attachment, arm: Arm) -> Result<Descriptor> {
        let watch = FileWatch::new()?;
        segment.watch_file(&watch)?;
        notice_the_past(segment)?;
        // What wakes others must wake this process, too.
        segment.chime();
        if !watch.is_readable() {
            return Err(not_told());
        }
        Ok(Descriptor { watch, arm })
    }

    /// Whether calls that find nothing arm it.
    pub(crate) fn arms_itself(&self) -> bool {
        self.arm == Arm::WhenNothingIsThere
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }
}

/// The error where a descriptor does not become readable.
pub(crate) fn not_told() -> Error {
    Error::new(Code::NotSupported)
        .about("this system tells nothing of accesses to the file of the segment")
        .advice("wait with shmslot_wait in a thread")
}

/// A reader, a writer or a segment in a set.
#[derive(Debug)]
pub(crate) struct InSet {
    /// Not kept open by the set.
    pub(crate) segment: Weak<Attachment>,
    pub(crate) what: WaitFor,
    pub(crate) cookie: u64,
    /// The set has told of it, and it has not found since that nothing is there.
    busy: AtomicBool,
    /// Whether it is among those of which the set will tell.
    listed: AtomicBool,
    /// It was removed, or its reader or writer is gone.
    gone: AtomicBool,
}

// Relaxed, all of them: the set and its members are used by one thread at a time.
impl InSet {
    pub(crate) fn new(segment: &Arc<Attachment>, what: WaitFor, cookie: u64) -> InSet {
        let [busy, listed, gone] = [(); 3].map(|()| AtomicBool::new(false));
        InSet { segment: Arc::downgrade(segment), what, cookie, busy, listed, gone }
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed) || self.segment.strong_count() == 0
    }

    pub(crate) fn remove(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }

    /// Notes that something may have happened; true if it was not on the list.
    pub(crate) fn list(&self) -> bool {
        self.busy.store(true, Ordering::Relaxed);
        !self.listed.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn unlist(&self) {
        self.listed.store(false, Ordering::Relaxed);
    }
}

/// What a reader or a writer waits behind: nothing at first, then a descriptor of its own, or a
/// set.
#[derive(Debug, Default)]
pub(crate) struct Waiter {
    /// Whether there was ever a descriptor, of its own or of a set.
    used: AtomicBool,
    own: OnceLock<Descriptor>,
    /// Only calls in the process of the segment come here, so no forked child finds it locked.
    member: Mutex<Option<Arc<InSet>>>,
}

impl Waiter {
    fn member(&self) -> MutexGuard<'_, Option<Arc<InSet>>> {
        // The value is whole at every moment, so a panic cannot have corrupted it.
        self.member.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The descriptor of its own; made at the first call.
    pub(crate) fn descriptor(&self, segment: &Attachment, arm: Arm) -> Result<&Descriptor> {
        if let Some(made) = self.own.get() {
            return Ok(made);
        }
        let member = self.member();
        if member.as_ref().is_some_and(|member| !member.is_gone()) {
            return Err(Error::new(Code::Invalid)
                .about("it is in a set, whose descriptor is the one to wait for"));
        }
        let made = Descriptor::new(segment, arm)?;
        let made = self.own.get_or_init(|| made);
        // Release: a call that sees it sees the descriptor.
        self.used.store(true, Ordering::Release);
        Ok(made)
    }

    /// Puts it into a set.
    pub(crate) fn enter(&self, new: &Arc<InSet>) -> Result<()> {
        let mut member = self.member();
        if self.own.get().is_some() || member.as_ref().is_some_and(|member| !member.is_gone()) {
            return Err(Error::new(Code::Invalid).about(
                "it is in a set, or has a descriptor of its own, and can have one of them",
            ));
        }
        *member = Some(Arc::clone(new));
        self.used.store(true, Ordering::Release);
        Ok(())
    }

    /// Whether calls that find nothing arm something.
    pub(crate) fn arms_itself(&self) -> bool {
        match self.own.get() {
            Some(descriptor) => descriptor.arms_itself(),
            None => self.member().as_ref().is_some_and(|member| !member.is_gone()),
        }
    }

    /// Whether there was ever a descriptor, of its own or of a set.
    #[inline(always)]
    pub(crate) fn is_used(&self) -> bool {
        self.used.load(Ordering::Acquire)
    }

    /// For a call that has found nothing: arms what it waits behind, and then the call looks once
    /// more. What that finds missing from then on makes the descriptor readable. False: it waits
    /// behind nothing.
    pub(crate) fn arm_if_any(&self, segment: &Attachment, what: WaitFor) -> HotResult<bool> {
        let arms = self.is_used() && self.arms_itself();
        if arms {
            self.arm(segment, what)?;
        }
        Ok(arms)
    }

    /// The same for a call that asks for nothing else.
    pub(crate) fn arm(&self, segment: &Attachment, what: WaitFor) -> HotResult<()> {
        if let Some(own) = self.own.get() {
            let _whole = sys::Uncancelled::new();
            let (mut closed, mut changed) = (false, false);
            let drained = own.watch.drain(|told| {
                closed |= told.closed;
                changed |= told.changed;
            });
            drained.map_err(|error| error.code())?;
            notice_all(iter::once((segment, closed, changed)))?;
        } else if let Some(member) = self.member().as_ref().filter(|member| !member.is_gone()) {
            // What happens after this makes the set list it again.
            member.busy.store(false, Ordering::Relaxed);
        } else {
            return Err(Code::Invalid);
        }
        // As who sleeps on a futex: deaths of which nothing was told.
        segment.recover_each_slice()?;
        what.arm_descriptor(segment)
    }

    /// The look after it was armed has found something, of which nobody was told, and there may be
    /// more: the descriptor becomes readable, and the set goes on telling of it. A program that
    /// arms on request was told by that call.
    pub(crate) fn has_found(&self, segment: &Attachment) {
        if self.arms_itself() {
            self.look_again(segment);
        }
    }

    /// Makes the loop that sleeps behind the descriptor, or the set, look again.
    pub(crate) fn look_again(&self, segment: &Attachment) {
        if self.is_used() {
            if let Some(member) = &*self.member() {
                member.busy.store(true, Ordering::Relaxed);
            }
            segment.chime();
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let member = self.member.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(member) = member {
            member.remove();
        }
    }
}

/// As [`sleep_until`](crate::wait::sleep_until), for more segments than one call of a futex takes:
/// it sleeps behind a descriptor that watches all of their files.
pub(crate) fn sleep_until_told<T>(
    segments: &[&Attachment],
    what: WaitFor,
    deadline: Deadline,
    mut ready: impl FnMut() -> HotResult<Option<T>>,
    mut interrupted: impl FnMut(bool) -> bool,
) -> Result<T> {
    let _whole = sys::Uncancelled::new();
    let watch = FileWatch::new()?;
    // Several attachments may be of one file.
    let mut watched: BTreeMap<i32, Vec<&Attachment>> = BTreeMap::new();
    for segment in segments {
        let of_the_file = watched.entry(segment.watch_file(&watch)?).or_default();
        if !of_the_file.iter().any(|known| ptr::eq(*known, *segment)) {
            of_the_file.push(segment);
        }
    }
    watched.values().flatten().try_for_each(|segment| notice_the_past(segment))?;
    let (mut timed_out, mut signalled) = (false, false);
    loop {
        // After the descriptor was drained, and before the look: as for a descriptor of one.
        for segment in watched.values().flatten() {
            what.arm_descriptor(segment)?;
        }
        if let Some(answer) = ready()? {
            return Ok(answer);
        }
        if interrupted(signalled) {
            return Err(Code::Interrupted.into());
        }
        if timed_out {
            return Err(Code::Timeout.into());
        }
        signalled = watch.poll(deadline) == Polled::Signalled;
        // By the clock, whatever woke it, as in `sleep_until`.
        timed_out = deadline.is_some_and(|deadline| sys::monotonic_ns() >= deadline);
        let (mut noticed, mut overflow) = (BTreeMap::new(), false);
        watch.drain(|told| match told.watch {
            Some(number) => {
                let (closed, changed) = noticed.entry(number).or_insert((false, false));
                *closed |= told.closed;
                *changed |= told.changed;
            }
            None => overflow = true,
        })?;
        if overflow {
            noticed = watched.keys().map(|number| (*number, (true, true))).collect();
        }
        notice_all(noticed.iter().flat_map(|(number, (closed, changed))| {
            let of_the_file = watched.get(number).into_iter().flatten();
            of_the_file.map(|segment| (*segment, *closed, *changed))
        }))?;
    }
}

/// Acts on what happened before the file was watched, because that is never told.
pub(crate) fn notice_the_past(segment: &Attachment) -> HotResult<()> {
    notice(segment, true, true)?;
    Ok(())
}

/// The kernel tells of a close a moment before it releases the locks of the process. On some
/// kernels the process can be interrupted there; this is long enough to let it run again.
const UNTIL_UNLOCKED: Duration = Duration::from_micros(50);

/// Acts on what was told of several files, besides rings: for each, whether it was closed by a
/// process, and whether it has changed. It does so for all; then the first error counts.
pub(crate) fn notice_all<'s>(
    told: impl Iterator<Item = (&'s Attachment, bool, bool)> + Clone,
) -> HotResult<()> {
    let each = |told: (&Attachment, bool, bool)| notice(told.0, told.1, told.2);
    let first = told.clone().map(each).fold(Ok(false), either);
    if first != Ok(true) {
        return first.map(|_| ());
    }
    thread::sleep(UNTIL_UNLOCKED);
    told.map(|(segment, closed, _)| notice(segment, closed, false)).fold(Ok(false), either)?;
    Ok(())
}

fn either(one: HotResult<bool>, other: HotResult<bool>) -> HotResult<bool> {
    Ok(one? | other?)
}

/// Acts on what was told of one file. True: a process closed it, and none of those that are attached
/// seems to be dead yet.
fn notice(segment: &Attachment, closed: bool, changed: bool) -> HotResult<bool> {
    if changed {
        segment.look_at_name_soon();
    }
    if !segment.has_close_pending() && !closed {
        return Ok(false);
    }
    match segment.recover_closed().map_err(|error| error.code()) {
        Ok(dead) => Ok(dead == 0 && segment.has_peers()),
        // It must be said that nobody can be found dead any more.
        Err(Code::DescriptorLost) => Err(Code::DescriptorLost),
        // The system refused something, and may not do so at the next turn of the loop.
        Err(Code::Sys | Code::NoMemory) => {
            segment.keep_close_pending();
            segment.chime();
            Ok(false)
        }
        // The words are corrupt, which the call will find by itself.
        Err(_) => Ok(false),
    }
}
