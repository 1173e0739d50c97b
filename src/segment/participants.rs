//! The attached processes, and which of them are dead. Only the kernel's reports count: never a
//! timeout, and never a process number that may be reused by now.
//!
//! Each participant's open file has locked a byte beyond the contents of the file. The kernel
//! releases the lock when the process dies, for whatever reason and in whatever namespace. Only a
//! child that was forked without exec shares the open file and keeps the lock. So a process whose
//! exit the kernel confirms is dead, too, with or without the lock.
#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::iter;
use std::mem::offset_of;
use std::os::fd::OwnedFd;

use crate::atomics::{AtomicU64, Ordering, fence};
use crate::error::{Code, Error, Result};
use crate::layout::bits::Field;
use crate::layout::{
    ANTEROOM_OFFSET, MAX_PARTICIPANTS, NEW_ROW, PARTICIPANT_ROW_SIZE, ParticipantRow,
};
use crate::protocol::dead::Dead;
use crate::segment::deaths::{self, Death};
use crate::sys::{self, Fate, KeptFd, Process};

/// The locked bytes are beyond every possible content of the file. Frozen for all layout versions:
/// each living participant has a write lock at this byte or after it.
pub(crate) const LOCK_BASE: u64 = 1 << 62;
/// After this byte, descriptors have read locks that tell them from other descriptors of the file.
/// They conflict with nothing.
pub(crate) const MARK_BASE: u64 = 1 << 61;
/// Bytes of one row: one for each state, so that a process that inherited the lock of a former
/// owner does not conflict.
const ROW_LOCKS: u64 = 1 << 32;

/// Lowest bit of a row's state; the rest counts how often the row changed owner.
const TAKEN: u32 = 1;

fn lock_of(index: u32, state: u32) -> u64 {
    LOCK_BASE + u64::from(index) * ROW_LOCKS + u64::from(state)
}

/// The number of the row in the anteroom, which no owner of a slot has.
const ANTEROOM: u32 = MAX_PARTICIPANTS;

/// How many participants a look checks that the caller did not ask for, at most, besides those with
/// readers.
const ROWS_PER_LOOK: u64 = 64;

/// With more participants than this, a look checks only every second (or third, ...) lock of those
/// whose process exists, because the kernel walks all locks of the file for each.
const LOCKS_PER_LAP: u32 = 256;

/// The participant that recovers the dead participant of a row, and which of the row's participants
/// that is: the next one may have got the row, and died, before the recoverer of the last one has
/// removed its name. 0: nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Recoverer(u64);

impl Recoverer {
    /// The number of the recoverer's row.
    const INDEX: Field = Field::new(0, 12);
    /// The lowest bits of the state that the dead one has left in its row.
    const OF: Field = Field::new(12, 20);
    /// The state of the recoverer's row.
    const STATE: Field = Field::new(32, 32);

    fn new((index, state): (u32, u32), of: u32) -> Recoverer {
        let of = Recoverer::OF.put(Recoverer::OF.cut(of.into()));
        Recoverer(Recoverer::STATE.put(state.into()) | of | Recoverer::INDEX.put(index.into()))
    }

    /// The recoverer's row, and the state of that row.
    fn participant(self) -> (u32, u32) {
        (Recoverer::INDEX.get(self.0) as u32, Recoverer::STATE.get(self.0) as u32)
    }

    /// Whether it recovers the participant that left this state. One in half a million earlier ones
    /// looks alike, and is then waited for as long as its recoverer is stopped.
    fn is_of(self, state: u32) -> bool {
        Recoverer::OF.get(self.0) == Recoverer::OF.cut(state.into())
    }
}

const _: () = assert!(ANTEROOM as u64 <= Recoverer::INDEX.max());

/// The contents of a row at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Facts {
    state: u32,
    process: Process,
}

impl Facts {
    fn of(row: &ParticipantRow) -> Facts {
        // Acquire: pairs with the exchange in `take_row`; what is loaded next is not older than the
        // state.
        let state = row.state.load(Ordering::Acquire);
        let process = Process {
            // Acquire: pairs with the release in `take_row`; the other words are stored before the
            // number.
            pid: row.pid.load(Ordering::Acquire),
            pid_namespace: row.pid_namespace.load(Ordering::Relaxed),
            born: row.born.load(Ordering::Relaxed),
        };
        Facts { state, process }
    }

    /// The contents of a row that was read from a file.
    fn of_bytes(row: &RowBytes) -> Facts {
        let word = |at: usize| {
            let bytes = row.get(at..).and_then(|rest| rest.first_chunk());
            u32::from_le_bytes(*bytes.unwrap_or(&[0; 4]))
        };
        let wide = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        Facts {
            state: word(offset_of!(ParticipantRow, state)),
            process: Process {
                pid: word(offset_of!(ParticipantRow, pid)),
                pid_namespace: wide(offset_of!(ParticipantRow, pid_namespace)),
                born: wide(offset_of!(ParticipantRow, born)),
            },
        }
    }

    fn is_taken(self) -> bool {
        self.state & TAKEN != 0
    }
}

/// Whether nobody has locked a byte. Because this may prove a death, the descriptor is proved after
/// the answer, which then came from the right file. "Locked" proves nothing, whichever file it was.
fn is_free(kept: &KeptFd, byte: u64) -> Result<bool> {
    let locked = sys::is_locked(kept.unproved(), byte, 1);
    if locked == Ok(true) {
        return Ok(false);
    }
    kept.proved()?;
    Ok(!locked?)
}

/// Whether to check the lock of a participant whose process exists. The lock shows an exec, and
/// decides if the kernel says nothing about the process; a check costs the kernel a walk along all
/// locks of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AskLock {
    Always,
    /// Only if the kernel says nothing about the process.
    IfUntold,
}

impl AskLock {
    /// For one of so many participants, in a look at all of them: each lap checks others, and at
    /// most [`LOCKS_PER_LAP`] if there are no free rows between theirs.
    fn in_lap(lap: u64, index: u32, participants: u32) -> AskLock {
        let stride = u64::from(participants.div_ceil(LOCKS_PER_LAP).max(1));
        if lap.wrapping_add(u64::from(index)) % stride == 0 {
            AskLock::Always
        } else {
            AskLock::IfUntold
        }
    }
}

/// Whether the participant of a row is dead. The row is read again afterwards, so that a
/// participant that left or attached in between is not taken for the dead one.
fn is_dead(
    is_free: impl Fn(u64) -> Result<bool>,
    this: &Process,
    index: u32,
    ask_lock: AskLock,
    look: impl Fn() -> Result<Facts>,
) -> Result<bool> {
    let facts = look()?;
    if !facts.is_taken() {
        return Ok(false);
    }
    let dead = match facts.process.fate(this) {
        Fate::Gone => true,
        Fate::Here if ask_lock == AskLock::IfUntold => false,
        // It may have executed another program. If that is unknown, it counts as alive.
        Fate::Here => match is_free(lock_of(index, facts.state)) {
            Err(error) if error.code() == Code::DescriptorLost => false,
            free => free?,
        },
        Fate::Untold => is_free(lock_of(index, facts.state))?,
    };
    Ok(dead && look()? == facts)
}

/// Bytes of a participant row.
type RowBytes = [u8; PARTICIPANT_ROW_SIZE as usize];

/// The row of the anteroom, and behind it all others, of a file that need not be mapped.
fn read_rows(fd: &OwnedFd, count: u32) -> Result<Vec<RowBytes>> {
    // All rows may need more memory than this process has left.
    let mut rows: Vec<RowBytes> = Vec::new();
    let all = count as usize + 1;
    rows.try_reserve_exact(all).map_err(|_| {
        Error::new(Code::NoMemory).about(format_args!("no memory for a list of {all} participants"))
    })?;
    rows.resize(all, [0; PARTICIPANT_ROW_SIZE as usize]);
    sys::read_at(fd, ANTEROOM_OFFSET, rows.as_flattened_mut())?;
    Ok(rows)
}

/// Rows that are taken in a file that need not be mapped.
pub(crate) fn count_taken(fd: &OwnedFd, count: u32) -> Result<u32> {
    let rows = read_rows(fd, count)?;
    Ok(rows.iter().skip(1).filter(|row| Facts::of_bytes(row).is_taken()).count() as u32)
}

/// Whether a process is attached to a file of any layout version; or was, and a forked child has
/// its lock.
pub(crate) fn any_lock(fd: &OwnedFd) -> Result<bool> {
    sys::is_locked(fd, LOCK_BASE, 0)
}

/// Whether a living process is attached to a file that need not be mapped.
pub(crate) fn anyone_alive(fd: &OwnedFd, count: u32) -> Result<bool> {
    if !sys::is_locked(fd, LOCK_BASE, u64::from(MAX_PARTICIPANTS + 1) * ROW_LOCKS)? {
        return Ok(false);
    }
    let this = Process::this();
    let rows = read_rows(fd, count)?;
    for ((index, row), offset) in iter::once(ANTEROOM)
        .chain(0..count)
        .zip(&rows)
        .zip((ANTEROOM_OFFSET..).step_by(PARTICIPANT_ROW_SIZE as usize))
    {
        let facts = Facts::of_bytes(row);
        // Locked, and the row was erased. If it was not erased, another process may be attaching,
        // or have died doing so; it finds that the segment is being replaced.
        if facts.state == 0 && sys::is_locked(fd, lock_of(index, 0), ROW_LOCKS)? {
            return Ok(true);
        }
        let look = || {
            let mut now = *row;
            sys::read_at(fd, offset, &mut now)?;
            Ok(Facts::of_bytes(&now))
        };
        let is_free = |byte| Ok(!sys::is_locked(fd, byte, 1)?);
        if facts.is_taken() && !is_dead(is_free, &this, index, AskLock::Always, look)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// One attached process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Participant {
    /// Its row: part of the number that its samples carry.
    pub index: u32,
    /// Its process number in its own pid namespace.
    pub pid: u32,
    /// Whether it is alive. A dead one is listed until it is recovered.
    pub alive: bool,
    /// Writers that it has open.
    pub writers: u32,
    /// Its readers, reader i as bit i: joined, or left with samples held.
    pub readers: u64,
}

/// The rows of a mapped segment.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'m> {
    pub(crate) anteroom: &'m ParticipantRow,
    pub(crate) participants: &'m [ParticipantRow],
}

impl<'m> Rows<'m> {
    fn get(self, index: u32) -> Option<&'m ParticipantRow> {
        if index == ANTEROOM { Some(self.anteroom) } else { self.participants.get(index as usize) }
    }

    /// Makes the rows of a new segment.
    pub(crate) fn begin(self) {
        for row in iter::once(self.anteroom).chain(self.participants) {
            // Relaxed: no other process uses them yet.
            row.state.store(NEW_ROW, Ordering::Relaxed);
        }
    }

    fn numbered(self) -> impl Iterator<Item = (u32, &'m ParticipantRow)> {
        (0u32..).zip(self.participants)
    }

    /// Whether any process has a writer open. A dead one counts until it is recovered.
    pub(crate) fn any_writers(self) -> bool {
        self.participants.iter().any(|row| {
            // Acquire: pairs with `set_writers` and `wipe`.
            row.state.load(Ordering::Acquire) & TAKEN != 0
                && row.writers.load(Ordering::Acquire) != 0
        })
    }

    /// How many are taken.
    pub(crate) fn count(self) -> u32 {
        self.participants.iter().filter(|row| Facts::of(row).is_taken()).count() as u32
    }

    /// The last death in each row, the latest first.
    pub(crate) fn deaths(self) -> Vec<Death> {
        let recorded = self.numbered().filter_map(|(index, row)| deaths::read(index, row));
        let mut deaths: Vec<Death> = recorded.collect();
        deaths.sort_unstable_by_key(|death| Reverse(death.noticed_ns));
        deaths
    }
}

/// How far a look for the dead goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// It checks all participants.
    Whole,
    /// It checks all of them, and the lock of each: a process closes its files, and so gives up its
    /// locks, a moment before its end shows in another way.
    AfterClose,
    /// It checks a limited number of them, so that its cost is bounded; the next look continues
    /// there.
    Bounded,
}

/// This process as a participant, and the file whose locks show who is alive.
pub(crate) struct Membership {
    /// `None`: private memory, where there is no other process.
    fd: Option<KeptFd>,
    this: Process,
    /// This process's row and its state; `None` for an observer.
    own: Option<(u32, u32)>,
    /// Lists that were made: the lap of the next one. It is not in the segment, which an observer
    /// may have mapped read-only.
    lists: AtomicU64,
}

impl Membership {
    pub(crate) fn new(fd: Option<KeptFd>) -> Membership {
        Membership { fd, this: Process::this(), own: None, lists: AtomicU64::new(0) }
    }

    pub(crate) fn fd(&self) -> Option<&KeptFd> {
        self.fd.as_ref()
    }

    /// This process's row, if it has one.
    pub(crate) fn own(&self) -> Option<u32> {
        self.own.map(|(index, _)| index)
    }

    /// Takes a free row for this process, whose descriptor has just been made or proved.
    pub(crate) fn take(&mut self, rows: Rows<'_>) -> Result<()> {
        for (index, row) in rows.numbered() {
            if self.take_row(index, row)? {
                return Ok(());
            }
        }
        for (index, row) in rows.numbered() {
            if skip_state(row) && self.take_row(index, row)? {
                return Ok(());
            }
        }
        Err(Code::NoParticipantSlot.into())
    }

    /// Takes this row if it is free.
    fn take_row(&mut self, index: u32, row: &ParticipantRow) -> Result<bool> {
        // Acquire: pairs with the releases in `give_back` and `free_rows`.
        let free = row.state.load(Ordering::Acquire);
        if free & TAKEN != 0 {
            return Ok(false);
        }
        let taken = free.wrapping_add(1);
        if let Some(kept) = &self.fd {
            if !sys::lock(kept.unproved(), lock_of(index, taken), 1)? {
                return Ok(false);
            }
        }
        // AcqRel: a process that sees the row taken does not see the words of the former owner,
        // which erased them.
        if row.state.compare_exchange(free, taken, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            // Another process had it in between.
            if let Some(kept) = &self.fd {
                sys::unlock(kept.proved()?, lock_of(index, taken), 1);
            }
            return Ok(false);
        }
        if let Some(kept) = &mut self.fd {
            kept.know_by(lock_of(index, taken));
        }
        row.pid_namespace.store(self.this.pid_namespace, Ordering::Relaxed);
        row.born.store(self.this.born, Ordering::Relaxed);
        // Release: pairs with `Facts::of`. Until the number is stored, only the lock shows that
        // this process is alive.
        row.pid.store(self.this.pid, Ordering::Release);
        // Orders the state before the load that shows whether the segment is being replaced; pairs
        // with the fence in `Right::take_from_dead`.
        fence(Ordering::SeqCst);
        self.own = Some((index, taken));
        Ok(true)
    }

    /// Takes the row in the anteroom, so that this process, which recovers others, has a row by
    /// which they see that it is alive.
    pub(crate) fn enter_anteroom(&mut self, rows: Rows<'_>) -> Result<()> {
        let row = rows.anteroom;
        // Acquire: as in `take_row`.
        let state = row.state.load(Ordering::Acquire);
        if let (Some(kept), true) = (
            &self.fd,
            state & TAKEN != 0
                && Participants::new(rows, self).is_dead(ANTEROOM, AskLock::Always)?,
        ) {
            // It has nothing to be recovered. This lock decides which of several processes that
            // find it dead erases it.
            let alone = sys::lock(kept.proved()?, lock_of(ANTEROOM, state.wrapping_add(2)), 1)?;
            if alone && row.state.load(Ordering::Acquire) == state {
                wipe(row, state);
            }
        }
        if self.take_row(ANTEROOM, row)? || skip_state(row) && self.take_row(ANTEROOM, row)? {
            return Ok(());
        }
        Err(Code::NoParticipantSlot.into())
    }

    /// Gives this process's row back. The lock is released after this, with the file.
    pub(crate) fn give_back(&mut self, rows: Rows<'_>) {
        let Some((index, taken)) = self.own.take() else { return };
        if let Some(row) = rows.get(index) {
            wipe(row, taken);
        }
    }
}

/// The participants of a mapped segment, as this process sees them.
#[derive(Clone, Copy)]
pub(crate) struct Participants<'m> {
    rows: Rows<'m>,
    this: &'m Membership,
}

impl<'m> Participants<'m> {
    pub(crate) fn new(rows: Rows<'m>, this: &'m Membership) -> Participants<'m> {
        Participants { rows, this }
    }

    fn row(self, index: u32) -> Result<&'m ParticipantRow> {
        Ok(self.rows.get(index).ok_or(Code::Corrupt)?)
    }

    /// Stores how many writers this process has. An observer can have none.
    pub(crate) fn set_writers(self, count: u32) -> Result<()> {
        let own = self.this.own().ok_or(Code::NotSupported)?;
        // Release: a process that finds no writers left sees everything that they committed, and
        // the writers that took over from them.
        self.row(own)?.writers.store(count, Ordering::Release);
        Ok(())
    }

    /// Every process that is attached, or that died and is not recovered. `readers_of` returns the
    /// readers of a participant.
    pub(crate) fn list(self, readers_of: impl Fn(u32) -> u64) -> Result<Vec<Participant>> {
        // Relaxed: two lists of one lap do no harm.
        let lap = self.this.lists.fetch_add(1, Ordering::Relaxed);
        let taken = self.rows.count();
        let mut list = Vec::new();
        for (index, row) in self.rows.numbered() {
            let facts = Facts::of(row);
            if facts.is_taken() {
                list.push(Participant {
                    index,
                    pid: facts.process.pid,
                    alive: !self.is_dead(index, AskLock::in_lap(lap, index, taken))?,
                    writers: row.writers.load(Ordering::Relaxed),
                    readers: readers_of(index),
                });
            }
        }
        Ok(list)
    }

    fn is_dead(self, index: u32, ask_lock: AskLock) -> Result<bool> {
        let row = self.row(index)?;
        match &self.this.fd {
            Some(kept) if self.this.own() != Some(index) => is_dead(
                |byte| is_free(kept, byte),
                &self.this.this,
                index,
                ask_lock,
                || Ok(Facts::of(row)),
            ),
            _ => Ok(false),
        }
    }

    /// The dead participants that this thread alone recovers, as long as the value lives. A bounded
    /// look checks those with readers, because others wait for them, and some of the others.
    /// `asked` is the word that says where to continue.
    pub(crate) fn claim_dead(
        self,
        look: Look,
        asked: &AtomicU64,
        with_readers: impl Iterator<Item = u32>,
    ) -> Result<Claimed<'m>> {
        let mut claimed = Claimed { participants: self, dead: Dead::default() };
        let (Some(_), Some(own)) = (&self.this.fd, self.this.own) else { return Ok(claimed) };
        let rows = self.rows.participants.len() as u64;
        let taken = self.rows.count();
        let limit = if look == Look::Bounded { ROWS_PER_LOOK } else { rows };
        // Relaxed: checking a participant twice, or leaving one to the next lap, does no harm.
        let from = asked.load(Ordering::Relaxed);
        let (mut passed, mut left) = (0, limit);
        if u64::from(taken) > limit {
            for index in with_readers {
                claimed.look_at(index, own, AskLock::IfUntold)?;
            }
        }
        while passed < rows && left > 0 {
            let turn = from.wrapping_add(passed);
            let index = (turn % rows) as u32;
            passed += 1;
            if self.row(index)?.state.load(Ordering::Relaxed) & TAKEN == 0 {
                continue;
            }
            left -= 1;
            let ask_lock = match look {
                Look::AfterClose => AskLock::Always,
                Look::Whole | Look::Bounded => AskLock::in_lap(turn / rows, index, taken),
            };
            claimed.look_at(index, own, ask_lock)?;
        }
        asked.store(from.wrapping_add(passed), Ordering::Relaxed);
        Ok(claimed)
    }

    /// How many there are, this one among them.
    pub(crate) fn count(self) -> u32 {
        self.rows.count()
    }

    /// Whether the named recoverer is at work, or may continue.
    fn is_at_work(self, recoverer: Recoverer) -> Result<bool> {
        let (index, state) = recoverer.participant();
        match self.rows.get(index) {
            // Acquire: a recoverer that has given its row back, or lost it, is done with what it
            // had begun.
            Some(row) if row.state.load(Ordering::Acquire) == state && state & TAKEN != 0 => {
                Ok(!self.is_dead(index, AskLock::Always)?)
            }
            _ => Ok(false),
        }
    }

    /// Makes this process the recoverer of a dead participant; false if that is not dead, or has
    /// another recoverer. There is no lock, because a forked child would keep it: the word in the
    /// row names a participant, and whether that is alive is checked in the usual way.
    fn claim(self, index: u32, own: (u32, u32), ask_lock: AskLock) -> Result<bool> {
        let row = self.row(index)?;
        // Acquire: as in `take_row`.
        let state = row.state.load(Ordering::Acquire);
        if !self.is_dead(index, ask_lock)? {
            return Ok(false);
        }
        // A process that lost its descriptor cannot prove that others are dead. It must say so
        // always, and not only now and then.
        if let Some(kept) = &self.this.fd {
            kept.proved()?;
        }
        // Acquire: pairs with the releases here and in `abandon`; and the state loaded below is not
        // older than the one that the named recoverer has seen.
        let seen = Recoverer(row.recoverer.load(Ordering::Acquire));
        if row.state.load(Ordering::Acquire) != state {
            return Ok(false);
        }
        // A recoverer that is named for a former participant of the row has already freed the row,
        // or finds below that it came too late. If this process is named, that is another of its
        // threads, and threads exclude each other.
        if seen.is_of(state) && seen.participant() != own && self.is_at_work(seen)? {
            return Ok(false);
        }
        let named = Recoverer::new(own, state);
        // AcqRel: only one of two that have seen one value succeeds, and it sees what the earlier
        // ones have done.
        if row
            .recoverer
            .compare_exchange(seen.0, named.0, Ordering::AcqRel, Ordering::Relaxed)
            .is_err()
        {
            return Ok(false);
        }
        // Another process may have recovered it in between, and the row may have a new owner. From
        // here on that cannot happen.
        let still = if row.state.load(Ordering::Acquire) == state {
            self.is_dead(index, ask_lock)
        } else {
            Ok(false)
        };
        if !matches!(still, Ok(true)) {
            abandon(row, own);
        }
        still
    }
}

/// Removes the name of this process from a row, if it is there. Of this process's threads, only the
/// one that stored it does so.
fn abandon(row: &ParticipantRow, own: (u32, u32)) {
    // Relaxed: the value is this thread's own, or another process's.
    let seen = row.recoverer.load(Ordering::Relaxed);
    if Recoverer(seen).participant() == own {
        // Release: pairs with the load in `claim`.
        let _ = row.recoverer.compare_exchange(seen, 0, Ordering::Release, Ordering::Relaxed);
    }
}

/// Moves a free row to another state, which has another lock byte; false if it is taken. This is
/// for a free row whose byte is locked: a process is just taking it, or died doing so and a forked
/// child has the lock. A process that is just taking it finds the row changed, and tries another.
fn skip_state(row: &ParticipantRow) -> bool {
    let free = row.state.load(Ordering::Relaxed);
    let next = free.wrapping_add(2);
    // AcqRel: as in `Participants::take_row`.
    free & TAKEN == 0
        && row.state.compare_exchange(free, next, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// Frees a row that has this state. No other process does so at the same time.
fn wipe(row: &ParticipantRow, taken: u32) {
    // Release, and the number before the state: for a process that dies in between, only the lock
    // shows that it is dead.
    row.pid.store(0, Ordering::Release);
    // Release: as in `set_writers`.
    row.writers.store(0, Ordering::Release);
    // Release: a process that takes the row sees everything done before. Only one process may free
    // a row that is taken.
    let _ = row.state.compare_exchange(
        taken,
        taken.wrapping_add(1),
        Ordering::Release,
        Ordering::Relaxed,
    );
}

/// Dead participants that this thread recovers.
pub(crate) struct Claimed<'p> {
    participants: Participants<'p>,
    pub(crate) dead: Dead,
}

impl Claimed<'_> {
    fn look_at(&mut self, index: u32, own: (u32, u32), ask_lock: AskLock) -> Result<()> {
        if !self.dead.contains(index) && self.participants.claim(index, own, ask_lock)? {
            self.dead.insert(index);
        }
        Ok(())
    }

    /// Records the deaths. `readers_of` returns the readers of a participant.
    pub(crate) fn record(&self, readers_of: impl Fn(u32) -> u64) -> Result<()> {
        let now = sys::monotonic_ns();
        for index in self.dead.iter() {
            deaths::record(self.participants.row(index)?, readers_of(index), now);
        }
        Ok(())
    }

    /// Frees the rows of the dead, when their recovery is complete.
    pub(crate) fn free_rows(&self) -> Result<()> {
        for index in self.dead.iter() {
            let row = self.participants.row(index)?;
            // Relaxed: nobody else changes it while this process is named in the row.
            wipe(row, row.state.load(Ordering::Relaxed));
        }
        Ok(())
    }
}

impl Drop for Claimed<'_> {
    /// Leaves what is not recovered to the next process. After a complete recovery this only
    /// removes the name: a process that finds the name then finds the row changed.
    fn drop(&mut self) {
        let Some(own) = self.participants.this.own else { return };
        for row in self.dead.iter().filter_map(|index| self.participants.rows.get(index)) {
            abandon(row, own);
        }
    }
}
