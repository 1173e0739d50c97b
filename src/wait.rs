//! Shared by all waits: polling, sleeping while looking for the dead, and being interrupted.
#![forbid(unsafe_code)]

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::error::{Code, Error, HotResult, Result};
use crate::protocol::bell::{Armed, Bell};
use crate::protocol::table::Table;
use crate::segment::attachment::Attachment;
use crate::segment::{AttachOptions, SLICE, Segment, name};
use crate::sys::{self, Deadline};

/// Most polls between two checks of the clock, and the time that they may take together, in
/// nanoseconds. A poll may walk all slots of a large segment.
const POLLS_PER_LOOK: u32 = 16;
const TIME_PER_LOOK: u64 = 2_000;

/// Polls until `ready` has an answer or the time is over.
pub(crate) fn spin<T>(
    limit: Duration,
    mut ready: impl FnMut() -> HotResult<Option<T>>,
) -> HotResult<Option<T>> {
    if limit.is_zero() {
        return Ok(None);
    }
    let mut before = sys::monotonic_ns();
    let end = before.saturating_add(sys::nanoseconds(limit));
    let mut polls = 1;
    loop {
        for _ in 0..polls {
            if let Some(answer) = ready()? {
                return Ok(Some(answer));
            }
            std::hint::spin_loop();
        }
        let now = sys::monotonic_ns();
        if now >= end {
            return Ok(None);
        }
        polls = if now - before < TIME_PER_LOOK { POLLS_PER_LOOK.min(2 * polls) } else { 1 };
        before = now;
    }
}

/// Which of a segment's bells a wait sleeps on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitFor {
    /// A commit: readers.
    Data,
    /// A slot or region that is released, or a reader that joins: writers.
    Space,
    /// Any commit, discard or mark.
    Change,
}

impl WaitFor {
    fn bell<'t>(self, table: &Table<'t>) -> Bell<'t> {
        match self {
            WaitFor::Data => table.data_bell(),
            WaitFor::Space => table.space_bell(),
            WaitFor::Change => table.change_bell(),
        }
    }

    /// Arms the descriptors that wait for this. Their owner has drained them.
    pub(crate) fn arm_descriptor(self, segment: &Attachment) -> HotResult<()> {
        let table = segment.table()?;
        self.bell(table).arm_descriptor(table.attention());
        Ok(())
    }

    fn arm(self, segment: &Attachment) -> HotResult<(Bell<'_>, Armed)> {
        let table = segment.table()?;
        let bell = self.bell(table);
        Ok((bell, bell.arm(table.attention())))
    }
}

/// Sets the flag that a wait checks after it has armed its bell, and makes it check.
pub(crate) fn interrupt(segment: &Attachment, flag: &AtomicBool, what: WaitFor) -> HotResult<()> {
    let bell = what.bell(segment.table()?);
    flag.store(true, Ordering::Release);
    bell.ring_everybody();
    Ok(())
}

/// Ends waits of one reader or writer from any thread.
#[derive(Clone)]
pub struct Interrupter {
    segment: Arc<Attachment>,
    flag: Arc<AtomicBool>,
    what: WaitFor,
}

impl fmt::Debug for Interrupter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interrupter").field("what", &self.what).finish_non_exhaustive()
    }
}

impl Interrupter {
    pub(crate) fn new(
        segment: &Arc<Attachment>,
        flag: &Arc<AtomicBool>,
        what: WaitFor,
    ) -> Interrupter {
        Interrupter { segment: Arc::clone(segment), flag: Arc::clone(flag), what }
    }

    /// Ends one wait, the current one or the next that has to wait, with [`Code::Interrupted`]. It
    /// fails in a forked child only.
    pub fn interrupt(&self) -> Result<()> {
        Ok(interrupt(&self.segment, &self.flag, self.what)?)
    }
}

/// What ends a wait besides what it waits for, which always comes first.
///
/// A writer and a segment accept [`signal`](EndWaits::signal) and [`retired`](EndWaits::retired),
/// and refuse the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndWaits {
    /// No process has a writer open: [`Code::NoWriters`].
    pub no_writers: bool,
    /// An attached process died and was recovered: [`Code::PeerDead`], once for each time that this
    /// is noticed.
    pub peer_dead: bool,
    /// A signal handler has run in the sleeping thread: [`Code::Interrupted`]. A signal that
    /// arrives before the sleep is not noticed; a handler that must not be missed calls
    /// [`Interrupter::interrupt`].
    pub signal: bool,
    /// The segment has lost its name: [`Code::Retired`]. At once if a call has removed it; after up
    /// to 200 ms if it disappeared in another way, for example by `rm`.
    pub retired: bool,
}

impl EndWaits {
    /// The same, if it is what a writer or a segment accepts.
    pub(crate) fn not_of_readers(self) -> HotResult<EndWaits> {
        if self.no_writers || self.peer_dead { Err(Code::Invalid) } else { Ok(self) }
    }
}

/// The moment when a timeout ends.
pub(crate) fn deadline_of(timeout: Option<Duration>) -> Deadline {
    timeout.map(|timeout| sys::monotonic_ns().saturating_add(sys::nanoseconds(timeout)))
}

/// The code of a call that did not get what it wanted in time.
pub(crate) fn timeout_code(timeout: Option<Duration>) -> Code {
    if timeout == Some(Duration::ZERO) { Code::Again } else { Code::Timeout }
}

/// Sleeps on a bell of each segment until `ready` has an answer, the wait is interrupted or its
/// deadline has passed, in this order. `interrupted` is told whether a signal handler ran in the
/// last sleep. The caller has already checked and wants to wait: only a thread that is about to
/// sleep may arm a bell.
pub(crate) fn sleep_until<T>(
    segments: &[&Attachment],
    what: WaitFor,
    deadline: Deadline,
    mut ready: impl FnMut() -> HotResult<Option<T>>,
    mut interrupted: impl FnMut(bool) -> bool,
) -> HotResult<T> {
    // Few waits are for several segments; for one, no memory is allocated here.
    let (mut one, mut several);
    let armed: &mut [_] = match segments {
        [segment] => {
            one = [what.arm(segment)?];
            &mut one
        }
        _ => {
            several =
                segments.iter().map(|segment| what.arm(segment)).collect::<HotResult<Vec<_>>>()?;
            &mut several
        }
    };
    let (mut timed_out, mut signalled) = (false, false);
    // A moment that never comes, if there is no deadline.
    let end = deadline.unwrap_or(u64::MAX);
    loop {
        // After the bells were armed: a process that changes what is waited for from now on rings
        // them.
        if let Some(answer) = ready()? {
            return Ok(answer);
        }
        if interrupted(signalled) {
            return Err(Code::Interrupted);
        }
        if timed_out {
            return Err(Code::Timeout);
        }
        let until = Some(sys::monotonic_ns().saturating_add(SLICE).min(end));
        signalled = match &*armed {
            [(bell, armed)] => bell.sleep(*armed, until),
            several => Bell::sleep_any(several, until),
        };
        // A dead process may have what is waited for. This is checked even after a wake, because
        // others may ring all the time, and never for what this thread waits for.
        segments.iter().try_for_each(|segment| segment.recover_each_slice())?;
        // By the clock, whatever woke it: a bell that rings all the time must not delay the
        // deadline.
        timed_out = sys::monotonic_ns() >= end;
        for (armed, segment) in armed.iter_mut().zip(segments) {
            *armed = what.arm(segment)?;
        }
    }
}

impl Segment {
    /// Attaches to the segment with this name as soon as there is one; `None` waits without limit.
    pub fn attach_wait(
        name: &str,
        options: &AttachOptions,
        timeout: Option<Duration>,
    ) -> Result<Segment> {
        let deadline = deadline_of(timeout);
        match Segment::attach(name, options) {
            Err(error) if error.code() == Code::NotFound => {}
            attached => return attached,
        }
        let path = name::path_of(name)?;
        let mut watch = sys::Watch::new(path.parent().unwrap_or(Path::new("/")))?;
        loop {
            watch.arm()?;
            // After the watch was armed: a process that gives the name to a segment from now on
            // ends the sleep.
            match Segment::attach(name, options) {
                Err(error) if error.code() == Code::NotFound => {}
                Err(error) if watch.gives_way_to(&error) => continue,
                attached => return attached,
            }
            if deadline.is_some_and(|deadline| sys::monotonic_ns() >= deadline) {
                return Err(Error::new(timeout_code(timeout))
                    .about("no segment has this name yet")
                    .at(&path));
            }
            watch.sleep(deadline);
        }
    }

    /// A number that changes with the next commit, discard or mark after this call.
    pub fn generation(&self) -> Result<u32> {
        self.inner().writable()?;
        let table = self.inner().table()?;
        Ok(WaitFor::Change.bell(table).watch(table.attention()))
    }

    /// What also ends [`Segment::wait_for_change`] on any clone of this segment, from now on.
    pub fn end_waits(&self, when: EndWaits) -> Result<()> {
        self.inner().table()?;
        let when = when.not_of_readers()?;
        self.inner().end_waits(when.signal, when.retired);
        Ok(())
    }

    /// Sleeps until the [generation](Segment::generation) differs from `last`, and returns it.
    /// `None` waits without limit.
    pub fn wait_for_change(&self, last: u32, timeout: Option<Duration>) -> Result<u32> {
        let inner: &Attachment = self.inner();
        inner.writable()?;
        let table = inner.table()?;
        let bell = WaitFor::Change.bell(table);
        // The number that is returned is watched, as that of `generation`: the next change must
        // differ from it even if nobody sleeps then.
        let changed = || {
            if bell.count() != last {
                return Ok(Some(bell.watch(table.attention())));
            }
            if inner.ends_at_retirement() && inner.lost_its_name() {
                return Err(Code::Retired);
            }
            Ok(None)
        };
        if let Some(generation) = changed()? {
            return Ok(generation);
        }
        if timeout == Some(Duration::ZERO) {
            return Err(Code::Again.into());
        }
        Ok(sleep_until(&[inner], WaitFor::Change, deadline_of(timeout), changed, |signalled| {
            signalled && inner.ends_at_signals()
        })?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_poll_is_not_repeated_beyond_the_time() {
        let mut polls = 0;
        let found = spin(Duration::from_millis(1), || -> HotResult<Option<()>> {
            polls += 1;
            std::thread::sleep(Duration::from_millis(2));
            Ok(None)
        });
        assert_eq!((found, polls), (Ok(None), 1));
    }
}
