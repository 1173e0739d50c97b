//! Who is attached, and who of them is dead, by the kernel's word alone: never by time, never by a process number
//! that may belong to somebody else by now.
//!
//! Byte i behind the content of the file is locked by the open file of participant i. The kernel gives the lock back when
//! its process dies, in whatever way, and in whatever namespace. Only a child that was forked without exec shares the open
//! file and keeps the lock; so a process whose exit the kernel confirms is dead, too, lock or no lock.
#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::iter;
use std::mem::offset_of;
use std::os::fd::OwnedFd;

use crate::atomics::{AtomicU64, Ordering, fence};
use crate::error::{Code, Error, Result};
use crate::layout::{ANTEROOM_OFFSET, MAX_PARTICIPANTS, NEW_ROW, PARTICIPANT_ROW_SIZE, ParticipantRow};
use crate::protocol::dead::Dead;
use crate::segment::deaths::{self, Death};
use crate::sys::{self, Fate, KeptFd, Process};

/// Locked bytes stand for things, and lie behind every possible content of the file. Frozen for all layout versions: each
/// living participant keeps a write lock at or behind it, in whatever way.
pub(crate) const LOCK_BASE: u64 = 1 << 62;
/// Behind it descriptors have read locks that tell them from others of the file, each somewhere, in nobody's way.
pub(crate) const MARK_BASE: u64 = 1 << 61;
/// Bytes of one row: one for each state, so that who inherited the lock of a row's former owner is in nobody's way.
const ROW_LOCKS: u64 = 1 << 32;

/// Lowest bit of a row's state; the rest counts how often the row changed hands.
const TAKEN: u32 = 1;

fn lock_of(index: u32, state: u32) -> u64 {
    LOCK_BASE + u64::from(index) * ROW_LOCKS + u64::from(state)
}

/// The number of the row in the anteroom: no owner of anything has it.
const ANTEROOM: u32 = MAX_PARTICIPANTS;

/// How many participants are asked, at most, by a look that somebody did not ask for; and again as many that have readers.
const ROWS_PER_LOOK: u64 = 64;

/// Beyond so many participants not each is asked for its lock whose process is there, but every second, or third...: the
/// kernel walks all locks of the file for each.
const LOCKS_PER_LAP: u32 = 256;

/// Who cleans up after the participant of a row, and of which of the row's many: the next one may
/// have got the row, and died, before the one that cleaned up after the last has taken its name
/// away. 0: nobody.
///
/// Bits 0 to 11: the number of the recoverer's row. 12 to 31: the lowest bits of the state that the
/// dead one has left in its row. 32 to 63: the state of the recoverer's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Recoverer(u64);

impl Recoverer {
    const INDEX_BITS: u32 = 12;
    const OF_BITS: u32 = 20;

    fn new((index, state): (u32, u32), of: u32) -> Recoverer {
        let of = of & ((1 << Recoverer::OF_BITS) - 1);
        Recoverer(u64::from(state) << 32 | u64::from(of << Recoverer::INDEX_BITS | index))
    }

    /// Its row, and the state of that.
    fn participant(self) -> (u32, u32) {
        (self.0 as u32 & ((1 << Recoverer::INDEX_BITS) - 1), (self.0 >> 32) as u32)
    }

    /// Whether it cleans up after the participant that has left this state. One of half a million
    /// before looks the same, and is waited for as long as its recoverer is stopped.
    fn is_of(self, state: u32) -> bool {
        (self.0 as u32 >> Recoverer::INDEX_BITS) == state & ((1 << Recoverer::OF_BITS) - 1)
    }
}

const _: () = assert!(ANTEROOM < 1 << Recoverer::INDEX_BITS);

/// One look at a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Facts {
    state: u32,
    process: Process,
}

impl Facts {
    fn of(row: &ParticipantRow) -> Facts {
        // Acquire: pairs with the exchange in `take_row`; what follows is not older than the state.
        let state = row.state.load(Ordering::Acquire);
        let process = Process {
            // Acquire: pairs with the release in `take_row`; with the number comes the rest.
            pid: row.pid.load(Ordering::Acquire),
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

/// Whether a participant is dead whose process is there still. The lock says so after an exec, and if the process is one
/// that cannot be asked about; it costs the kernel a walk along all locks of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AskLock {
    Always,
    /// Only if the process cannot be asked about.
    IfUntold,
}

impl AskLock {
    /// Of one of so many participants, in a look at all of them: each lap asks others, and no more
    /// than [`LOCKS_PER_LAP`] where no rows between theirs are free.
    fn in_lap(lap: u64, index: u32, participants: u32) -> AskLock {
        let stride = u64::from(participants.div_ceil(LOCKS_PER_LAP).max(1));
        if lap.wrapping_add(u64::from(index)) % stride == 0 { AskLock::Always } else { AskLock::IfUntold }
    }
}

/// Whether the participant of a row is dead. The row is looked at again afterwards, so that nobody who left in between, or
/// came, is taken for the dead one.
fn is_dead(
    is_free: impl Fn(u64) -> Result<bool>,
    namespace: u64,
    index: u32,
    ask_lock: AskLock,
    look: impl Fn() -> Result<Facts>,
) -> Result<bool> {
    let facts = look()?;
    if !facts.is_taken() {
        return Ok(false);
    }
    let dead = match facts.process.fate(namespace) {
        Fate::Gone => true,
        Fate::Here if ask_lock == AskLock::IfUntold => false,
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
    if !sys::is_locked(fd, LOCK_BASE, u64::from(MAX_PARTICIPANTS + 1) * ROW_LOCKS)? {
        return Ok(false);
    }
    let namespace = Process::this().pid_namespace;
    // All rows may be much for a process that has little left.
    let mut rows: Vec<[u8; PARTICIPANT_ROW_SIZE as usize]> = Vec::new();
    let all = count as usize + 1;
    rows.try_reserve_exact(all).map_err(|_| {
        Error::new(Code::NoMemory).about(format_args!("no memory for a list of {all} participants"))
    })?;
    rows.resize(all, [0; PARTICIPANT_ROW_SIZE as usize]);
    sys::read_at(fd, ANTEROOM_OFFSET, rows.as_flattened_mut())?;
    for ((index, row), offset) in iter::once(ANTEROOM)
        .chain(0..count)
        .zip(&rows)
        .zip((ANTEROOM_OFFSET..).step_by(PARTICIPANT_ROW_SIZE as usize))
    {
        let facts = Facts::of_bytes(row);
        // Locked, and the row was wiped. Where it was not, somebody may be just attaching, or have died doing so; who does
        // finds that the segment is being replaced.
        if facts.state == 0 && sys::is_locked(fd, lock_of(index, 0), ROW_LOCKS)? {
            return Ok(true);
        }
        let look = || {
            let mut now = *row;
            sys::read_at(fd, offset, &mut now)?;
            Ok(Facts::of_bytes(&now))
        };
        let is_free = |byte| Ok(!sys::is_locked(fd, byte, 1)?);
        if facts.is_taken() && !is_dead(is_free, namespace, index, AskLock::Always, look)? {
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
    /// Its readers, reader i as bit i: joined, or left and still holding samples.
    pub readers: u64,
}

/// The rows of a mapped segment.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    pub(crate) anteroom: &'static ParticipantRow,
    pub(crate) participants: &'static [ParticipantRow],
}

impl Rows {
    fn get(&self, index: u32) -> Option<&'static ParticipantRow> {
        if index == ANTEROOM { Some(self.anteroom) } else { self.participants.get(index as usize) }
    }

    /// Makes the rows of a new segment.
    pub(crate) fn begin(&self) {
        for row in iter::once(self.anteroom).chain(self.participants) {
            // Relaxed: nobody else is there yet.
            row.state.store(NEW_ROW, Ordering::Relaxed);
        }
    }

    fn numbered(&self) -> impl Iterator<Item = (u32, &'static ParticipantRow)> + use<> {
        (0u32..).zip(self.participants)
    }
}

/// How far a look for the dead goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// All are asked.
    Whole,
    /// A number of them with a limit, so that it costs nobody much, how many there may be; the next look goes on there.
    Bounded,
}

/// The participant rows of a mapped segment, and the file whose locks prove who lives.
pub(crate) struct Participants {
    rows: Rows,
    /// `None`: private memory, where nobody else is.
    fd: Option<KeptFd>,
    this: Process,
    /// This process's row and its state; `None` if it only looks.
    own: Option<(u32, u32)>,
    /// Lists that were made: the next one's lap. Not in the segment, which may be mapped to look at
    /// only.
    lists: AtomicU64,
}

impl Participants {
    pub(crate) fn new(rows: Rows, fd: Option<KeptFd>) -> Participants {
        Participants { rows, fd, this: Process::this(), own: None, lists: AtomicU64::new(0) }
    }

    pub(crate) fn fd(&self) -> Option<&KeptFd> {
        self.fd.as_ref()
    }

    /// This process's row, if it has one.
    pub(crate) fn own(&self) -> Option<u32> {
        self.own.map(|(index, _)| index)
    }

    fn row(&self, index: u32) -> Result<&'static ParticipantRow> {
        Ok(self.rows.get(index).ok_or(Code::Corrupt)?)
    }

    /// Takes a free row for this process.
    pub(crate) fn take(&mut self) -> Result<()> {
        for (index, row) in self.rows.numbered() {
            if self.take_row(index, row)? {
                return Ok(());
            }
        }
        for (index, row) in self.rows.numbered() {
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
            if !sys::lock(kept.proved()?, lock_of(index, taken), 1)? {
                return Ok(false);
            }
        }
        // AcqRel: who sees the row taken does not see its former owner in it, who has wiped himself out.
        if row.state.compare_exchange(free, taken, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            // Somebody else had it in between.
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
        // Release: pairs with `Facts::of`. Until the number is there, the lock alone tells.
        row.pid.store(self.this.pid, Ordering::Release);
        // Between the state and the look at whether the segment is being replaced; pairs with the fence in
        // `name::replace`.
        fence(Ordering::SeqCst);
        self.own = Some((index, taken));
        Ok(true)
    }

    /// Takes the row in the anteroom: who cleans up has a row, by which others tell whether it lives.
    pub(crate) fn enter_anteroom(&mut self) -> Result<()> {
        let row = self.rows.anteroom;
        // Acquire: as in `take_row`.
        let state = row.state.load(Ordering::Acquire);
        if let (Some(kept), true) = (&self.fd, state & TAKEN != 0 && self.is_dead(ANTEROOM, AskLock::Always)?)
        {
            // It has nothing to be cleaned up. Of several that find it dead, this lock says who wipes it out.
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

    /// Gives this process's row back. The lock goes after this, with the file.
    pub(crate) fn give_back(&mut self) {
        let Some((index, taken)) = self.own.take() else { return };
        if let Some(row) = self.rows.get(index) {
            wipe(row, taken);
        }
    }

    /// Notes how many writers this process has.
    pub(crate) fn set_writers(&self, count: u32) {
        if let Some(row) = self.own().and_then(|index| self.rows.get(index)) {
            // Release: who finds none any more sees all that they committed, and whom they handed over to.
            row.writers.store(count, Ordering::Release);
        }
    }

    /// Whether any process has a writer open. A dead one counts until it was cleaned up after.
    pub(crate) fn any_writers(&self) -> bool {
        self.rows.participants.iter().any(|row| {
            // Acquire: pairs with `set_writers` and `wipe`.
            row.state.load(Ordering::Acquire) & TAKEN != 0 && row.writers.load(Ordering::Acquire) != 0
        })
    }

    /// Rows that are taken.
    pub(crate) fn count(&self) -> u32 {
        self.rows.participants.iter().filter(|row| Facts::of(row).is_taken()).count() as u32
    }

    /// Every process that is attached, or was and died. `readers_of` knows the readers of a participant.
    pub(crate) fn list(&self, readers_of: impl Fn(u32) -> u64) -> Result<Vec<Participant>> {
        // Relaxed: two lists of one lap do no harm.
        let lap = self.lists.fetch_add(1, Ordering::Relaxed);
        let taken = self.count();
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

    /// The last death in each row, the latest first.
    pub(crate) fn deaths(&self) -> Vec<Death> {
        let recorded = self.rows.numbered().filter_map(|(index, row)| deaths::read(index, row));
        let mut deaths: Vec<Death> = recorded.collect();
        deaths.sort_unstable_by_key(|death| Reverse(death.noticed_ns));
        deaths
    }

    fn is_dead(&self, index: u32, ask_lock: AskLock) -> Result<bool> {
        let row = self.row(index)?;
        match &self.fd {
            Some(kept) if self.own() != Some(index) => is_dead(
                |byte| is_free(kept, byte),
                self.this.pid_namespace,
                index,
                ask_lock,
                || Ok(Facts::of(row)),
            ),
            _ => Ok(false),
        }
    }

    /// The dead, for this thread alone to clean up after as long as the value lives. A bounded look asks those who have
    /// readers, whom others wait for, and of all others some. `asked` is the word that says whose turn it is.
    pub(crate) fn claim_dead(
        &self,
        look: Look,
        asked: &AtomicU64,
        with_readers: impl Iterator<Item = u32>,
    ) -> Result<Claimed<'_>> {
        let mut claimed = Claimed { participants: self, dead: Dead::default() };
        let (Some(_), Some(own)) = (&self.fd, self.own) else { return Ok(claimed) };
        let rows = self.rows.participants.len() as u64;
        let taken = self.count();
        let limit = if look == Look::Whole { rows } else { ROWS_PER_LOOK };
        // Relaxed: who asks somebody again, or leaves somebody to the next lap, does no harm.
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
            claimed.look_at(index, own, AskLock::in_lap(turn / rows, index, taken))?;
        }
        asked.store(from.wrapping_add(passed), Ordering::Relaxed);
        Ok(claimed)
    }

    /// Whether the participant that is said to clean up after another does so, or may go on with it.
    fn is_at_work(&self, recoverer: Recoverer) -> Result<bool> {
        let (index, state) = recoverer.participant();
        match self.rows.get(index) {
            // Acquire: whoever has given its row back, or lost it, is done with what it had begun.
            Some(row) if row.state.load(Ordering::Acquire) == state && state & TAKEN != 0 => {
                Ok(!self.is_dead(index, AskLock::Always)?)
            }
            _ => Ok(false),
        }
    }

    /// Makes this process the one that cleans up after a dead one; false if that is not dead, or another is at it. No lock,
    /// which a forked child would keep: the word in the row names a participant, and whether that lives is asked as of all.
    fn claim(&self, index: u32, own: (u32, u32), ask_lock: AskLock) -> Result<bool> {
        let row = self.row(index)?;
        // Acquire: as in `take_row`.
        let state = row.state.load(Ordering::Acquire);
        if !self.is_dead(index, ask_lock)? {
            return Ok(false);
        }
        // Who has lost its descriptor could not tell this of others; so that it says so always, and not now and then.
        if let Some(kept) = &self.fd {
            kept.proved()?;
        }
        // Acquire: pairs with the releases here and in `abandon`; and the state below is not older
        // than the one that whoever is named here has seen.
        let seen = Recoverer(row.recoverer.load(Ordering::Acquire));
        if row.state.load(Ordering::Acquire) != state {
            return Ok(false);
        }
        // Who is named for a former participant of the row has freed it, or finds below that it
        // came too late. Of this process another thread is named, or nobody: threads keep each
        // other away.
        if seen.is_of(state) && seen.participant() != own && self.is_at_work(seen)? {
            return Ok(false);
        }
        let named = Recoverer::new(own, state);
        // AcqRel: of two that have seen the same, one gets it; and it sees what those before have done.
        if row.recoverer.compare_exchange(seen.0, named.0, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return Ok(false);
        }
        // Somebody else may have cleaned up in between, and the row have a new owner. From here on it has not.
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

/// Takes the name of this process away from a row, if it stands there. Of its threads only the one
/// that wrote it does so.
fn abandon(row: &ParticipantRow, own: (u32, u32)) {
    // Relaxed: what this thread has stored itself, or another's.
    let seen = row.recoverer.load(Ordering::Relaxed);
    if Recoverer(seen).participant() == own {
        // Release: pairs with the load in `claim`.
        let _ = row.recoverer.compare_exchange(seen, 0, Ordering::Release, Ordering::Relaxed);
    }
}

/// Moves a free row on to another state, which has another lock; false if it is taken. For a free row whose lock is held:
/// somebody is just taking it, or died doing so, and a forked child has the lock. Who is just taking it finds the row changed,
/// and looks for another.
fn skip_state(row: &ParticipantRow) -> bool {
    let free = row.state.load(Ordering::Relaxed);
    let next = free.wrapping_add(2);
    // AcqRel: as in `Participants::take_row`.
    free & TAKEN == 0 && row.state.compare_exchange(free, next, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// Frees a row that has this state. Nobody else does so at the same time.
fn wipe(row: &ParticipantRow, taken: u32) {
    // Release, and the number before the state: a process that dies in between is told by its lock alone.
    row.pid.store(0, Ordering::Release);
    // Release: as in `set_writers`.
    row.writers.store(0, Ordering::Release);
    // Release: who takes the row sees everything done before. A row that was taken has one who may free it.
    let _ = row.state.compare_exchange(taken, taken.wrapping_add(1), Ordering::Release, Ordering::Relaxed);
}

/// Participants that are dead, and left to this thread.
pub(crate) struct Claimed<'p> {
    participants: &'p Participants,
    pub(crate) dead: Dead,
}

impl Claimed<'_> {
    fn look_at(&mut self, index: u32, own: (u32, u32), ask_lock: AskLock) -> Result<()> {
        if !self.dead.contains(index) && self.participants.claim(index, own, ask_lock)? {
            self.dead.insert(index);
        }
        Ok(())
    }

    /// Records the deaths, for who asks who died. `readers_of` knows the readers of a participant.
    pub(crate) fn record(&self, readers_of: impl Fn(u32) -> u64) {
        let now = sys::monotonic_ns();
        for index in self.dead.iter() {
            if let Some(row) = self.participants.rows.get(index) {
                deaths::record(row, readers_of(index), now);
            }
        }
    }

    /// Frees the rows of the dead, whose remains are gone.
    pub(crate) fn free_rows(&self) {
        for row in self.dead.iter().filter_map(|index| self.participants.rows.get(index)) {
            // Relaxed: nobody else changes it as long as this process is named in the row.
            wipe(row, row.state.load(Ordering::Relaxed));
        }
    }
}

impl Drop for Claimed<'_> {
    /// Leaves what is not buried to whoever comes next. After the burial: who is named then finds the row changed.
    fn drop(&mut self) {
        let Some(own) = self.participants.own else { return };
        for row in self.dead.iter().filter_map(|index| self.participants.rows.get(index)) {
            abandon(row, own);
        }
    }
}
