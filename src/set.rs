//! Wait sets: readers and writers of any number of segments behind one descriptor.
//!
//! A set has one inotify instance and watches each file once. What it costs depends on what is
//! ready: the kernel tells which files were accessed, and the set lists the members that wait
//! there. It goes on telling of a member until a call of that has found nothing, which arms the
//! bell (or it tells once, if that was asked for); a member that is armed costs nothing. So a set
//! tells that there *may be* something, as a descriptor does, and its members are used as ever.
//!
//! Triggers, and the interrupt, are flags of this process. They wake whoever waits by an access to
//! a file that only the set has.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Code, Error, HotResult, Result};
use crate::events::{self, InSet};
use crate::reader::{self, Reader};
use crate::segment::Segment;
use crate::segment::attachment::Attachment;
use crate::sys::{self, FileWatch, ForkGuard, KeptFd, Told};
use crate::wait::{WaitFor, deadline_of};
use crate::writer::{self, Writer};

/// What may have happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A reader may have a sample: read until there is nothing.
    Data,
    /// A writer may have a slot: reserve with a timeout of 0, until there is none.
    Space,
    /// A segment has changed.
    Change,
    /// A trigger was fired.
    Trigger,
}

/// One thing that a set tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The number with which it was added.
    pub cookie: u64,
    /// What may have happened.
    pub what: What,
}

/// How the descriptor of a set behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Readable {
    /// As long as a member that was told of has not found that nothing is there. Each wait that
    /// tells of something makes one system call more for that.
    #[default]
    Level,
    /// Only when something new happens, of which the set tells once: the loop waits on the set
    /// until it tells nothing, and each member is used until a call of it has found nothing.
    Edge,
}

/// What triggers, and threads that interrupt, have of a set.
struct Shared {
    /// A file that nobody else has.
    file: KeptFd,
    /// A trigger was fired since the last look at them.
    fired: AtomicBool,
    interrupted: AtomicBool,
    birth: ForkGuard,
}

impl Shared {
    fn check_process(&self) -> HotResult<()> {
        if self.birth.same_process() { Ok(()) } else { Err(Code::Forked) }
    }

    /// Makes the descriptor of the set readable.
    fn wake(&self) {
        // If the program has closed the file, nobody can be woken through it.
        let _ = sys::touch(self.file.number());
    }
}

/// Lets any thread make a set tell something.
#[derive(Clone)]
pub struct Trigger {
    shared: Arc<Shared>,
    flag: Arc<AtomicBool>,
}

impl fmt::Debug for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trigger").field("flag", &self.flag).finish_non_exhaustive()
    }
}

impl Trigger {
    /// The set tells of it once, however often this is called before. Any thread may call it, and a
    /// signal handler. In a forked child it does nothing.
    pub fn fire(&self) {
        // The only error is that this is a forked child.
        let _ = self.fire_here();
    }

    pub(crate) fn fire_here(&self) -> HotResult<()> {
        self.shared.check_process()?;
        // Release, and in this order: a set that sees `fired` finds the flag; pairs with
        // `Inner::tell_triggers`.
        if !self.flag.swap(true, Ordering::AcqRel) {
            self.shared.fired.store(true, Ordering::Release);
            self.shared.wake();
        }
        Ok(())
    }
}

/// Ends waits of a set from any thread.
#[derive(Clone)]
pub struct SetInterrupter(Arc<Shared>);

impl fmt::Debug for SetInterrupter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetInterrupter").finish_non_exhaustive()
    }
}

impl SetInterrupter {
    /// Ends one wait, the current one or the next, with [`Code::Interrupted`]. In a forked child it
    /// does nothing.
    pub fn interrupt(&self) {
        // The only error is that this is a forked child.
        let _ = self.interrupt_here();
    }

    fn interrupt_here(&self) -> HotResult<()> {
        self.0.check_process()?;
        // Release: pairs with the swap in `Set::wait_for`.
        self.0.interrupted.store(true, Ordering::Release);
        self.0.wake();
        Ok(())
    }
}

/// A member, and the number by which the kernel tells of its file.
struct Entry {
    watch: i32,
    member: Arc<InSet>,
}

#[derive(Default)]
struct Inner {
    /// By cookie.
    entries: BTreeMap<u64, Entry>,
    triggers: BTreeMap<u64, Arc<AtomicBool>>,
    /// By the number of a file: the cookies of those who wait there.
    places: BTreeMap<i32, Vec<u64>>,
    /// Members that may have something.
    ready: VecDeque<Arc<InSet>>,
    /// At so many entries, those of members that are gone are forgotten.
    most_entries: usize,
}

/// Readers, writers, segments and triggers to wait for together.
///
/// One thread at a time uses the set and its members; triggers and interrupters are for any thread.
/// A member stays a member until it is removed or dropped, and it may be dropped at any time.
pub struct Set {
    watch: FileWatch,
    shared: Arc<Shared>,
    readable: Readable,
    /// Not locked while a thread sleeps. Only calls in the process of the set come here.
    inner: Mutex<Inner>,
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Set").field("readable", &self.readable).finish_non_exhaustive()
    }
}

impl AsFd for Set {
    /// A descriptor for an event loop, which belongs to the set: readable when
    /// [`wait`](Set::wait) may tell something.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }
}

impl Set {
    /// One without members.
    pub fn new(readable: Readable) -> Result<Set> {
        let birth = ForkGuard::of_this_process()?;
        let watch = FileWatch::new()?;
        let made = sys::anonymous_file(c"shmslot-set")?.opened_again()?;
        // One byte to read, because a read that gets nothing is not told.
        sys::set_size(&made.fd, 0, 1)?;
        let file = KeptFd::known(made.fd, made.identity, "of a set");
        watch.add(file.proved()?)?;
        let [fired, interrupted] = [(); 2].map(|()| AtomicBool::new(false));
        let shared = Arc::new(Shared { file, fired, interrupted, birth });
        shared.wake();
        if !watch.is_readable() {
            return Err(events::not_told());
        }
        Ok(Set { watch, shared, readable, inner: Mutex::default() })
    }

    fn inner(&self) -> HotResult<MutexGuard<'_, Inner>> {
        self.shared.check_process()?;
        // Each change of it is one step, so a panic cannot have corrupted it.
        Ok(self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds a reader, which has no descriptor of its own. From now on each of its reads that finds
    /// nothing arms it, and returns the ends of [`Reader::end_waits`], too.
    pub fn add_reader(&self, reader: &Reader, cookie: u64) -> Result<()> {
        self.add_reader_core(reader.core(), cookie)
    }

    pub(crate) fn add_reader_core(&self, core: &reader::Core, cookie: u64) -> Result<()> {
        self.add(core.segment(), WaitFor::Data, cookie, |member| core.enter(member))
    }

    /// Adds a writer, which has no descriptor of its own. From now on each of its reserves with a
    /// timeout of 0 that finds nothing arms it.
    pub fn add_writer<Threads>(&self, writer: &Writer<Threads>, cookie: u64) -> Result<()> {
        self.add_writer_core(writer.core(), cookie)
    }

    pub(crate) fn add_writer_core(&self, core: &writer::Core, cookie: u64) -> Result<()> {
        self.add(core.segment(), WaitFor::Space, cookie, |member| core.enter(member))
    }

    /// Adds a segment: it is told when anything has changed since it was told last.
    pub fn add_segment(&self, segment: &Segment, cookie: u64) -> Result<()> {
        self.add(segment.inner(), WaitFor::Change, cookie, |_| Ok(()))
    }

    fn add(
        &self,
        segment: &Arc<Attachment>,
        what: WaitFor,
        cookie: u64,
        enter: impl FnOnce(&Arc<InSet>) -> Result<()>,
    ) -> Result<()> {
        segment.writable()?;
        let mut inner = self.inner()?;
        inner.check_new(&self.watch, cookie)?;
        let watch = segment.watch_file(&self.watch)?;
        let member = Arc::new(InSet::new(segment, what, cookie));
        let entered = events::notice_the_past(segment).map_err(Error::from);
        if let Err(error) = entered.and_then(|()| enter(&member)) {
            inner.unwatch_if_unused(&self.watch, watch);
            return Err(error);
        }
        inner.places.entry(watch).or_default().push(cookie);
        // It is told of once in any case: what is there already rings no more.
        if member.list() {
            inner.ready.push_back(Arc::clone(&member));
        }
        inner.entries.insert(cookie, Entry { watch, member });
        self.shared.wake();
        Ok(())
    }

    /// Adds a trigger.
    pub fn add_trigger(&self, cookie: u64) -> Result<Trigger> {
        let mut inner = self.inner()?;
        inner.check_new(&self.watch, cookie)?;
        let flag = Arc::<AtomicBool>::default();
        inner.triggers.insert(cookie, Arc::clone(&flag));
        Ok(Trigger { shared: Arc::clone(&self.shared), flag })
    }

    /// Removes what was added with this number; [`Code::NotFound`] if nothing was. It can then have
    /// a descriptor of its own, or enter another set.
    pub fn remove(&self, cookie: u64) -> Result<()> {
        let mut inner = self.inner()?;
        if inner.triggers.remove(&cookie).is_some() {
            return Ok(());
        }
        if inner.forget(&self.watch, cookie) {
            return Ok(());
        }
        Err(Error::new(Code::NotFound)
            .about(format_args!("nothing in the set has the number {cookie}"))
            .with_numbers([cookie, 0, 0]))
    }

    /// A handle that ends waits of this set from another thread.
    pub fn interrupter(&self) -> SetInterrupter {
        SetInterrupter(Arc::clone(&self.shared))
    }

    pub(crate) fn interrupt(&self) -> HotResult<()> {
        self.interrupter().interrupt_here()
    }

    /// Appends up to `most` events; returns how many. It sleeps until there is one or `timeout` is
    /// over; `None` waits without limit. 0 also means that the descriptor is armed: it becomes
    /// readable when there is more to tell.
    pub fn wait(
        &self,
        events: &mut Vec<Event>,
        most: usize,
        timeout: Option<Duration>,
    ) -> Result<usize> {
        Ok(self.wait_for(events, most, timeout)?)
    }

    pub(crate) fn wait_for(
        &self,
        events: &mut Vec<Event>,
        most: usize,
        timeout: Option<Duration>,
    ) -> HotResult<usize> {
        if most == 0 {
            return Err(Code::Invalid);
        }
        let _whole = sys::Uncancelled::new();
        let before = events.len();
        let deadline = deadline_of(timeout);
        loop {
            self.collect(events, before.saturating_add(most))?;
            let found = events.len().saturating_sub(before);
            // Acquire: pairs with the store in `interrupt`.
            if found == 0 && self.shared.interrupted.swap(false, Ordering::Acquire) {
                return Err(Code::Interrupted);
            }
            let is_over = || deadline.is_some_and(|deadline| sys::monotonic_ns() >= deadline);
            if found > 0 || timeout == Some(Duration::ZERO) || is_over() {
                return Ok(found);
            }
            self.watch.poll(deadline);
        }
    }

    /// Appends what can be told now, up to so many in all.
    fn collect(&self, events: &mut Vec<Event>, most: usize) -> HotResult<()> {
        let before = events.len();
        let mut inner = self.inner()?;
        let told = inner.drain(&self.watch)?;
        events::notice_all(
            told.iter().map(|(segment, closed, changed)| (&**segment, *closed, *changed)),
        )?;
        inner.tell_triggers(&self.shared, events, most);
        inner.tell_members(events, most, self.readable)?;
        let more_to_come = !inner.ready.is_empty() || self.shared.fired.load(Ordering::Acquire);
        if more_to_come && self.readable == Readable::Level && events.len() > before {
            // The descriptor stays readable.
            self.shared.wake();
        }
        Ok(())
    }
}

impl Drop for Set {
    /// Lets its members go: they can enter another set, or have a descriptor.
    fn drop(&mut self) {
        let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        inner.entries.values().for_each(|entry| entry.member.remove());
    }
}

impl Inner {
    /// Forgets members that were dropped: seldom enough to cost each new member a constant time, and
    /// often enough that at most half of the entries are theirs, or a few.
    fn forget_the_gone(&mut self, watch: &FileWatch) {
        const FEW: usize = 16;
        if self.entries.len() < self.most_entries.max(FEW) {
            return;
        }
        let is_gone = |(cookie, entry): (&u64, &Entry)| entry.member.is_gone().then_some(*cookie);
        let gone: Vec<u64> = self.entries.iter().filter_map(is_gone).collect();
        for cookie in gone {
            self.forget(watch, cookie);
        }
        self.most_entries = 2 * self.entries.len();
    }

    fn check_new(&mut self, watch: &FileWatch, cookie: u64) -> Result<()> {
        self.forget_the_gone(watch);
        if self.entries.get(&cookie).is_some_and(|entry| entry.member.is_gone()) {
            self.forget(watch, cookie);
        }
        if self.entries.contains_key(&cookie) || self.triggers.contains_key(&cookie) {
            return Err(Error::new(Code::Exists)
                .about(format_args!("the number {cookie} is in the set already"))
                .advice("give each member a number of its own")
                .with_numbers([cookie, 0, 0]));
        }
        Ok(())
    }

    /// Lists the members of each file that was told of. Returns the segments of which more was told
    /// than a ring: whether a process closed its file, and whether the file has changed.
    fn drain(&mut self, watch: &FileWatch) -> HotResult<Vec<(Arc<Attachment>, bool, bool)>> {
        let Inner { entries, places, ready, .. } = self;
        let mut notices: Vec<(Arc<Attachment>, bool, bool)> = Vec::new();
        let mut gone: Vec<u64> = Vec::new();
        let mut note = |cookies: &[u64], told: &Told| {
            for member in cookies.iter().filter_map(|cookie| entries.get(cookie)) {
                let member = &member.member;
                let Some(segment) = member.segment.upgrade().filter(|_| !member.is_gone()) else {
                    gone.push(member.cookie);
                    continue;
                };
                if member.list() {
                    ready.push_back(Arc::clone(member));
                }
                if !told.closed && !told.changed {
                    continue;
                }
                match notices.iter_mut().find(|(known, ..)| Arc::ptr_eq(known, &segment)) {
                    Some((_, closed, changed)) => {
                        *closed |= told.closed;
                        *changed |= told.changed;
                    }
                    None => notices.push((segment, told.closed, told.changed)),
                }
            }
        };
        watch
            .drain(|told| match told.watch {
                Some(number) => {
                    // Other numbers: the file of the set, and files that it does not watch any
                    // more.
                    if let Some(cookies) = places.get(&number) {
                        note(cookies, &told);
                    }
                }
                None => places.values().for_each(|cookies| note(cookies, &told)),
            })
            .map_err(|error| error.code())?;
        for cookie in gone {
            self.forget(watch, cookie);
        }
        Ok(notices)
    }

    /// Forgets a member; false if there is none.
    fn forget(&mut self, watch: &FileWatch, cookie: u64) -> bool {
        let Some(Entry { watch: number, member }) = self.entries.remove(&cookie) else {
            return false;
        };
        member.remove();
        self.ready.retain(|ready| !Arc::ptr_eq(ready, &member));
        if let Some(cookies) = self.places.get_mut(&number) {
            cookies.retain(|other| *other != cookie);
        }
        self.unwatch_if_unused(watch, number);
        true
    }

    fn unwatch_if_unused(&mut self, watch: &FileWatch, number: i32) {
        if self.places.get(&number).is_none_or(Vec::is_empty) {
            self.places.remove(&number);
            watch.remove(number);
        }
    }

    fn tell_triggers(&self, shared: &Shared, events: &mut Vec<Event>, most: usize) {
        // Acquire: pairs with `Trigger::fire`.
        if !shared.fired.swap(false, Ordering::Acquire) {
            return;
        }
        for (cookie, flag) in &self.triggers {
            if events.len() >= most {
                // There may be more of them.
                shared.fired.store(true, Ordering::Release);
                return;
            }
            if flag.swap(false, Ordering::AcqRel) {
                events.push(Event { cookie: *cookie, what: What::Trigger });
            }
        }
    }

    /// Tells of members in turn. Those that have found nothing since they were told of are armed,
    /// and leave the list.
    fn tell_members(
        &mut self,
        events: &mut Vec<Event>,
        most: usize,
        readable: Readable,
    ) -> HotResult<()> {
        for _ in 0..self.ready.len() {
            if events.len() >= most {
                break;
            }
            let Some(member) = self.ready.pop_front() else { break };
            let Some(segment) = member.segment.upgrade().filter(|_| !member.is_gone()) else {
                continue;
            };
            let what = match member.what {
                WaitFor::Data => What::Data,
                WaitFor::Space => What::Space,
                WaitFor::Change => What::Change,
            };
            if member.what == WaitFor::Change {
                // Armed before the program looks, so that it is told of each later change.
                member.unlist();
                member.what.arm_descriptor(&segment)?;
            } else if member.is_busy() {
                match readable {
                    Readable::Level => self.ready.push_back(Arc::clone(&member)),
                    Readable::Edge => member.unlist(),
                }
            } else {
                member.unlist();
                continue;
            }
            events.push(Event { cookie: member.cookie, what });
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::expect_used)] // A failure is a panic.
mod tests {
    use super::*;
    use crate::segment::CreateOptions;

    #[test]
    fn members_that_are_gone_are_forgotten() {
        let segment = Segment::create_anonymous(&CreateOptions::default()).expect("made");
        let set = Set::new(Readable::default()).expect("made");
        let stays = segment.reader(0).expect("joined");
        set.add_reader(&stays, u64::MAX).expect("added");
        for cookie in 0..200 {
            let reader = segment.reader(0).expect("joined");
            set.add_reader(&reader, cookie).expect("added");
            assert!(set.inner().expect("not forked").entries.len() <= 17);
        }
        set.remove(u64::MAX).expect("it is still there");
    }
}
