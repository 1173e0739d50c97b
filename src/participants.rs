//! Who is attached, and who of them is dead, by the kernel's word alone: never by time, never by a process number
//! that may belong to somebody else by now.
//!
//! Byte i behind the content of the file is locked by the open file of participant i. The kernel gives the lock back when
//! its process dies, in whatever way, and in whatever namespace. Only a child that was forked without exec shares the open
//! file and keeps the lock; so a process whose exit the kernel confirms is dead, too, lock or no lock.
#![forbid(unsafe_code)]

use std::mem::offset_of;
use std::os::fd::{AsFd, OwnedFd};

use crate::atomics::{Ordering, fence};
use crate::error::{Code, Error, Result};
use crate::layout::{MAX_PARTICIPANTS, PARTICIPANT_ROW_SIZE, PARTICIPANTS_OFFSET, ParticipantRow};
use crate::protocol::recovery::Dead;
use crate::sys::{self, Fate, KeptFd, Process};

/// Locked bytes stand for things, and lie behind every possible content of the file. Frozen for all layout versions, as is the
/// next: each living participant keeps a lock at or behind it, in whatever way.
pub(crate) const LOCK_BASE: u64 = 1 << 62;
/// Locked by whoever takes the name from the file.
pub(crate) const REPLACER_LOCK: u64 = LOCK_BASE - 1;
/// Bytes from here are locked by whoever cleans up after a participant.
const RECOVERY_LOCK_BASE: u64 = LOCK_BASE + (1 << 45);
/// Behind it descriptors have read locks that tell them from others of the file, each somewhere, in nobody's way.
pub(crate) const MARK_BASE: u64 = 1 << 61;
/// Bytes of one row: one for each state, so that who inherited the lock of a row's former owner is in nobody's way.
const ROW_LOCKS: u64 = 1 << 32;

/// Lowest bit of a row's state; the rest counts how often the row changed hands.
const TAKEN: u32 = 1;

fn lock_of(index: u32, state: u32) -> u64 {
    LOCK_BASE + u64::from(index) * ROW_LOCKS + u64::from(state)
}

fn recovery_lock_of(index: u32, state: u32) -> u64 {
    RECOVERY_LOCK_BASE + u64::from(index) * ROW_LOCKS + u64::from(state)
}

/// One look at a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Facts {
    state: u32,
    process: Process,
}

impl Facts {
    fn of(row: &ParticipantRow) -> Facts {
        // Acquire: pairs with the release in `take`; what follows is not older than the state.
        let state = row.state.load(Ordering::Acquire);
        let process = Process {
            pid: row.pid.load(Ordering::Relaxed),
            pid_namespace: row.pid_namespace.load(Ordering::Relaxed),
            born: row.born.load(Ordering::Relaxed),
        };
        Facts { state, process }
    }

    /// The same of a row that was read from a file.
    fn of_bytes(row: &[u8; PARTICIPANT_ROW_SIZE as usize]) -> Facts {
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

/// Whether nobody has locked a byte. That would be a verdict, so the descriptor is proved after the answer, which came from
/// the right file then. "Locked" is none, whatever file it was.
fn is_free(kept: &KeptFd, byte: u64) -> Result<bool> {
    let locked = sys::is_locked(kept.unproved(), byte, 1);
    if locked == Ok(true) {
        return Ok(false);
    }
    kept.proved()?;
    Ok(!locked?)
}

/// Whether the participant of a row is dead. The row is looked at again afterwards, so that nobody who left in between, or
/// came, is taken for the dead one.
fn is_dead(
    is_free: impl Fn(u64) -> Result<bool>,
    namespace: u64,
    index: u32,
    look: impl Fn() -> Result<Facts>,
) -> Result<bool> {
    let facts = look()?;
    if !facts.is_taken() {
        return Ok(false);
    }
    let dead = match facts.process.fate(namespace) {
        Fate::Gone => true,
        // It may have executed another program. If that cannot be told, it lives.
        Fate::Here => match is_free(lock_of(index, facts.state)) {
            Err(error) if error.code() == Code::DescriptorLost => false,
            free => free?,
        },
        Fate::Untold => is_free(lock_of(index, facts.state))?,
    };
    Ok(dead && look()? == facts)
}

/// Whether a living process is attached to a file that need not be mapped.
pub(crate) fn anyone_alive(fd: &OwnedFd, count: u32) -> Result<bool> {
    if !sys::is_locked(fd, LOCK_BASE, u64::from(count) * ROW_LOCKS)? {
        return Ok(false);
    }
    let namespace = Process::this().pid_namespace;
    // All rows may be much for a process that has little left.
    let mut rows: Vec<[u8; PARTICIPANT_ROW_SIZE as usize]> = Vec::new();
    rows.try_reserve_exact(count as usize)
        .map_err(|_| Error::about(Code::NoMemory, "a list of participants"))?;
    rows.resize(count as usize, [0; PARTICIPANT_ROW_SIZE as usize]);
    sys::read_at(fd, PARTICIPANTS_OFFSET, rows.as_flattened_mut())?;
    for (index, row) in (0u32..).zip(&rows) {
        let facts = Facts::of_bytes(row);
        // Locked, and no trace of anybody: somebody is just attaching, or the rows were wiped.
        if facts.state == 0 && sys::is_locked(fd, lock_of(index, 0), ROW_LOCKS)? {
            return Ok(true);
        }
        let look = || {
            let mut now = *row;
            sys::read_at(fd, PARTICIPANTS_OFFSET + u64::from(index) * PARTICIPANT_ROW_SIZE, &mut now)?;
            Ok(Facts::of_bytes(&now))
        };
        if facts.is_taken() && !is_dead(|byte| Ok(!sys::is_locked(fd, byte, 1)?), namespace, index, look)? {
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
    /// Its process number, as its own pid namespace has it.
    pub pid: u32,
    /// Whether it lives. A dead one is listed until somebody has cleaned up after it.
    pub alive: bool,
    /// Writers that it has open.
    pub writers: u32,
    /// Its readers, reader i as bit i: joined, or left with samples in hand.
    pub readers: u64,
}

/// The participant rows of a mapped segment, and the file whose locks prove who lives.
pub(crate) struct Participants {
    rows: &'static [ParticipantRow],
    /// `None`: private memory, where nobody else is.
    fd: Option<KeptFd>,
    this: Process,
    /// This process's row and its state; `None` as long as it only looks.
    own: Option<(u32, u32)>,
}

impl Participants {
    pub(crate) fn new(rows: &'static [ParticipantRow], fd: Option<KeptFd>) -> Participants {
        Participants { rows, fd, this: Process::this(), own: None }
    }

    pub(crate) fn fd(&self) -> Option<&KeptFd> {
        self.fd.as_ref()
    }

    /// This process's row, if it has one.
    pub(crate) fn own(&self) -> Option<u32> {
        self.own.map(|(index, _)| index)
    }

    fn row(&self, index: u32) -> Result<&'static ParticipantRow> {
        Ok(self.rows.get(index as usize).ok_or(Code::Corrupt)?)
    }

    /// Takes a free row for this process.
    pub(crate) fn take(&mut self) -> Result<()> {
        for (index, row) in (0u32..).zip(self.rows) {
            let free = row.state.load(Ordering::Acquire);
            if free & TAKEN != 0 {
                continue;
            }
            let taken = free.wrapping_add(1);
            if let Some(kept) = &mut self.fd {
                let fd = kept.proved()?;
                if !sys::lock(fd, lock_of(index, taken), 1)? {
                    continue;
                }
                if row.state.load(Ordering::Acquire) != free {
                    // Somebody else had it in between.
                    sys::unlock(fd, lock_of(index, taken), 1);
                    continue;
                }
                kept.know_by(lock_of(index, taken));
            }
            row.pid.store(self.this.pid, Ordering::Relaxed);
            row.pid_namespace.store(self.this.pid_namespace, Ordering::Relaxed);
            row.born.store(self.this.born, Ordering::Relaxed);
            // Release: as in `set_writers`.
            row.writers.store(0, Ordering::Release);
            // Release: pairs with `Facts::of`.
            row.state.store(taken, Ordering::Release);
            // Between the state and the look at whether the segment is being replaced; pairs with the fence in
            // `segment::retire`.
            fence(Ordering::SeqCst);
            self.own = Some((index, taken));
            return Ok(());
        }
        Err(Code::NoParticipantSlot.into())
    }

    /// Gives this process's row back. The lock goes after this, with the file.
    pub(crate) fn give_back(&mut self) {
        let Some((index, taken)) = self.own.take() else { return };
        if let Ok(row) = self.row(index) {
            // Release: who takes the row sees everything done before.
            row.state.store(taken.wrapping_add(1), Ordering::Release);
        }
    }

    /// Notes how many writers this process has.
    pub(crate) fn set_writers(&self, count: u32) {
        if let Some(row) = self.own().and_then(|index| self.rows.get(index as usize)) {
            // Release: who finds none any more sees all that they committed, and whom they handed over to.
            row.writers.store(count, Ordering::Release);
        }
    }

    /// Whether any process has a writer open. A dead one counts until it was cleaned up after.
    pub(crate) fn any_writers(&self) -> bool {
        self.rows.iter().any(|row| {
            // Acquire: pairs with `set_writers`, `give_back`, `take` and `bury`.
            row.state.load(Ordering::Acquire) & TAKEN != 0 && row.writers.load(Ordering::Acquire) != 0
        })
    }

    /// Rows that are taken.
    pub(crate) fn count(&self) -> u32 {
        self.rows.iter().filter(|row| Facts::of(row).is_taken()).count() as u32
    }

    /// Every process that is attached, or was and died. `readers_of` knows the readers of a participant.
    pub(crate) fn list(&self, readers_of: impl Fn(u32) -> u64) -> Result<Vec<Participant>> {
        let mut list = Vec::new();
        for (index, row) in (0u32..).zip(self.rows) {
            let facts = Facts::of(row);
            if facts.is_taken() {
                list.push(Participant {
                    index,
                    pid: facts.process.pid,
                    alive: !self.is_dead(index)?,
                    writers: row.writers.load(Ordering::Relaxed),
                    readers: readers_of(index),
                });
            }
        }
        Ok(list)
    }

    fn is_dead(&self, index: u32) -> Result<bool> {
        let row = self.row(index)?;
        match &self.fd {
            Some(kept) if self.own() != Some(index) => {
                is_dead(|byte| is_free(kept, byte), self.this.pid_namespace, index, || Ok(Facts::of(row)))
            }
            _ => Ok(false),
        }
    }

    /// The dead, for this thread alone to clean up after as long as the value lives.
    pub(crate) fn claim_dead(&self) -> Result<Claimed<'_>> {
        let mut claimed = Claimed { participants: self, dead: Dead::default(), locks: None };
        let Some(kept) = &self.fd else { return Ok(claimed) };
        for (index, row) in (0u32..).zip(self.rows) {
            if !self.is_dead(index)? {
                continue;
            }
            // A file of its own, so that no child of this process inherits these locks with the other; and threads of this
            // process keep each other away. Without a descriptor to spare the other will do.
            if claimed.locks.is_none() {
                claimed.locks = sys::reopen(kept.proved()?.as_fd(), true).ok();
            }
            let state = row.state.load(Ordering::Acquire);
            let locks = match &claimed.locks {
                Some(locks) => locks,
                None => kept.proved()?,
            };
            if !sys::lock(locks, recovery_lock_of(index, state), 1)? {
                continue;
            }
            // Somebody else may have cleaned up in between, and the row have a new owner. From here on it has not.
            if self.is_dead(index)? && row.state.load(Ordering::Acquire) == state {
                claimed.dead.insert(index);
            } else {
                sys::unlock(locks, recovery_lock_of(index, state), 1);
            }
        }
        Ok(claimed)
    }
}

/// Participants that are dead, and left to this thread.
pub(crate) struct Claimed<'p> {
    participants: &'p Participants,
    pub(crate) dead: Dead,
    locks: Option<OwnedFd>,
}

impl Claimed<'_> {
    /// Frees the rows of the dead, whose remains are gone.
    pub(crate) fn bury(&self) {
        for index in self.dead.iter() {
            if let Some(row) = self.participants.rows.get(index as usize) {
                // Release: as in `set_writers`.
                row.writers.store(0, Ordering::Release);
                // Release: who takes the row sees it cleaned up. Only who holds the lock of this recovery gets here.
                let taken = row.state.load(Ordering::Relaxed);
                row.state.store(taken.wrapping_add(1), Ordering::Release);
            }
        }
    }
}

impl Drop for Claimed<'_> {
    /// Leaves what is not buried to whoever comes next.
    fn drop(&mut self) {
        // By name, not only by closing: a child that was forked meanwhile may have the file, too.
        let own = || self.participants.fd.as_ref().and_then(|kept| kept.proved().ok());
        if let Some(locks) = self.locks.as_ref().or_else(own) {
            sys::unlock(locks, RECOVERY_LOCK_BASE, u64::from(MAX_PARTICIPANTS + 1) * ROW_LOCKS);
        }
    }
}
