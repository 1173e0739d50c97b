//! The use of a segment at this moment, counted from outside.
#![forbid(unsafe_code)]

use crate::atomics::Ordering;
use crate::error::{Code, Result};
use crate::protocol::rows::{self, Seat};
use crate::protocol::words::Owner;
use crate::protocol::{census, order, region};
use crate::segment::attachment::Attachment;
use crate::segment::handle::Segment;
use crate::segment::participants::Participant;

/// The use of a segment at one moment. Each slot is counted once: `free`, `loaned`, `unread`,
/// `held` and `retained` add up to the number of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// The sequence of the next sample; the difference of two calls is the number of samples
    /// between them.
    pub next_sequence: u64,
    /// Slots that are free.
    pub free: u32,
    /// Slots that a writer has: on loan, being committed, or being taken away from their readers.
    pub loaned: u32,
    /// Slots with a sample that some reader has not read, and that nobody holds.
    pub unread: u32,
    /// Slots with a sample that some reader holds.
    pub held: u32,
    /// Slots with a sample that only history keeps.
    pub retained: u32,
    /// Regions in use.
    pub regions: u32,
    /// Memory of all regions, in bytes.
    pub region_bytes: u64,
    /// Writers that are open.
    pub writers: u32,
    /// Readers that are joined.
    pub readers: u32,
    /// Attached processes, including those that died and are not recovered yet.
    pub participants: u32,
    /// How many of these are dead.
    pub dead: u32,
    /// Dead participants that were recovered so far.
    pub recovered: u32,
    /// Whether the segment is retired: nobody attaches to it by its name any more.
    pub retired: bool,
}

/// The use of a reader index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReaderKind {
    /// A reader that is joined.
    Joined,
    /// A reader that has left and still holds samples.
    Left,
    /// A number of callers of the reference operations.
    Named,
    /// A reader that was [expelled](Segment::expel) and has not left.
    Expelled,
}

/// The samples of one reader at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaderCounters {
    /// Its bit in masks of readers.
    pub index: u32,
    /// The use of the index.
    pub kind: ReaderKind,
    /// Its participant, and that participant's process number in its own pid namespace; 0 for a
    /// named reader.
    pub participant: u32,
    /// See `participant`.
    pub pid: u32,
    /// Whether its process is alive; true for a named reader.
    pub alive: bool,
    /// Tells it from earlier and later readers with its index; see [`Segment::expel`].
    pub generation: u32,
    /// The sequence that it reads next; 0 unless it is joined.
    pub next_sequence: u64,
    /// Samples from that one to the newest; 0 in the same cases.
    pub lag: u64,
    /// Samples that it has not read.
    pub unread: u32,
    /// Samples that it holds.
    pub held: u32,
    /// Samples that it has found to be lost. What was taken away since its last read or wait is in
    /// `lag`, and not in `unread`.
    pub lost: u64,
    /// The sequence of the oldest sample that it holds; 0 if it holds none.
    pub oldest_held: u64,
    /// When that was committed, in nanoseconds of the monotonic clock; 0 if the segment keeps no
    /// times. The time when the reader took it is not recorded.
    pub oldest_held_ns: u64,
}

/// A writer with loans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriterCounters {
    /// The [`Writer::id`](crate::Writer::id) of the writer.
    pub id: u32,
    /// Its participant.
    pub participant: u32,
    /// Its process number in its own pid namespace.
    pub pid: u32,
    /// Whether its process is alive.
    pub alive: bool,
    /// Slots that it has: on loan, being committed, or being taken away from their readers.
    pub loans: u32,
}

impl Segment {
    /// The use of the segment now. An [observer](crate::AttachOptions::observer) may call it; it
    /// disturbs no other process, and costs a walk over all slots. While others run, the numbers
    /// may be off by what these change meanwhile.
    pub fn counters(&self) -> Result<Counters> {
        self.inner().counters()
    }

    /// The samples of each reader now. As [`Segment::counters`].
    pub fn readers(&self) -> Result<Vec<ReaderCounters>> {
        self.inner().reader_counters()
    }

    /// The writers that have loans now. As [`Segment::counters`]. Writers without loans leave no
    /// trace in a segment: [`Participant::writers`] counts them.
    pub fn writers(&self) -> Result<Vec<WriterCounters>> {
        self.inner().writer_counters()
    }
}

impl Attachment {
    fn counters(&self) -> Result<Counters> {
        let table = self.table()?;
        let participants = self.list_participants()?;
        let slots = census::slots(table);
        Ok(Counters {
            next_sequence: order::next_sequence(table),
            free: slots.free,
            loaned: slots.loaned,
            unread: slots.unread,
            held: slots.held,
            retained: slots.retained,
            regions: region::in_use(table),
            region_bytes: self.region_bytes(),
            writers: participants.iter().fold(0, |sum, one| sum.saturating_add(one.writers)),
            readers: rows::joined(table),
            participants: participants.len() as u32,
            dead: participants.iter().filter(|one| !one.alive).count() as u32,
            // Relaxed, here and below: these are only shown.
            recovered: table.hot.lifecycle.0.deaths.load(Ordering::Relaxed),
            retired: self.is_retired(),
        })
    }

    fn reader_counters(&self) -> Result<Vec<ReaderCounters>> {
        let table = self.table()?;
        let participants = self.list_participants()?;
        let tallies = census::readers(table);
        let tail = order::next_sequence(table);
        let rows = (0u32..).zip(table.readers).zip(tallies);
        let seen = rows.filter_map(|((index, row), tally)| {
            let seen = rows::look(row)?;
            let kind = match seen.seat {
                Seat::Joined => ReaderKind::Joined,
                Seat::Left => ReaderKind::Left,
                Seat::Named => ReaderKind::Named,
                Seat::Expelled => ReaderKind::Expelled,
            };
            let process = Process::of(&participants, seen.participant);
            let cursor = seen.cursor.filter(|_| seen.seat == Seat::Joined).unwrap_or(0);
            let (oldest_held, slot) = tally.oldest_held.unwrap_or((0, 0));
            let noted = tally.oldest_held.is_some() && table.shape.timestamps;
            let claim = table.claim(slot).ok().filter(|_| noted);
            Some(ReaderCounters {
                index,
                kind,
                participant: seen.participant.unwrap_or(0),
                pid: process.pid,
                alive: process.alive,
                generation: seen.generation,
                next_sequence: cursor,
                lag: if cursor == 0 { 0 } else { tail.saturating_sub(cursor) },
                unread: tally.unread,
                held: tally.held,
                lost: seen.lost,
                oldest_held,
                oldest_held_ns: claim.map_or(0, |claim| claim.aux.load(Ordering::Relaxed)),
            })
        });
        Ok(seen.collect())
    }

    fn writer_counters(&self) -> Result<Vec<WriterCounters>> {
        let table = self.table()?;
        let participants = self.list_participants()?;
        let mut owners = Vec::new();
        // A segment may have 2^24 slots, each with a writer of its own.
        let mut room = Ok(());
        census::loans(table, |owner| {
            if room.is_ok() {
                room = owners.try_reserve(1);
            }
            if room.is_ok() {
                owners.push(owner.0);
            }
        });
        room.map_err(|_| Code::NoMemory)?;
        owners.sort_unstable();
        let counted = owners.chunk_by(|one, next| one == next).filter_map(|loans| {
            let owner = Owner(*loans.first()?);
            let process = Process::of(&participants, Some(owner.participant()));
            Some(WriterCounters {
                id: owner.0,
                participant: owner.participant(),
                pid: process.pid,
                alive: process.alive,
                loans: loans.len() as u32,
            })
        });
        let mut writers = Vec::new();
        for writer in counted {
            writers.try_reserve(1).map_err(|_| Code::NoMemory)?;
            writers.push(writer);
        }
        Ok(writers)
    }
}

/// What is shown about the process of a reader or writer.
struct Process {
    pid: u32,
    alive: bool,
}

impl Process {
    /// Nothing is known of a participant that is not listed any more. It cannot be dead, because
    /// recovery would have released its readers and loans.
    ///
    /// `participants` are in the order of their indexes.
    fn of(participants: &[Participant], index: Option<u32>) -> Process {
        let found =
            index.and_then(|index| participants.binary_search_by_key(&index, |one| one.index).ok());
        let listed = found.and_then(|at| participants.get(at));
        listed.map_or(Process { pid: 0, alive: true }, |one| Process {
            pid: one.pid,
            alive: one.alive,
        })
    }
}
