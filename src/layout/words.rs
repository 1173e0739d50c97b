//! The words that change, and their offsets.
#![forbid(unsafe_code)]

use super::limits::MARK_WORDS;
#[cfg(loom)]
use super::receipts::Receipts;
use crate::atomics::{AtomicU32, AtomicU64, FutexWord};

/// Where the words begin that all participants change.
pub const HOT_OFFSET: u64 = 0x200;
/// Where the reader rows begin.
pub const READERS_OFFSET: u64 = 0x800;
/// Where the row of the anteroom is. A process that attaches and finds all rows taken has it while
/// it recovers dead participants to get one.
pub const ANTEROOM_OFFSET: u64 = PARTICIPANTS_OFFSET - PARTICIPANT_ROW_SIZE;
/// Where the participant rows begin.
pub const PARTICIPANTS_OFFSET: u64 = 0x1800;
/// The smallest page of any supported system. The control part ends on a multiple of it, so that
/// the rest can be mapped read-only.
pub const PAGE: u64 = 4096;

/// State of the participant rows of a new segment.
pub const NEW_ROW: u32 = 2;

/// A value with two cache lines of its own, because prefetchers load adjacent lines in pairs.
#[repr(C, align(128))]
pub(crate) struct CachePadded<T>(pub(crate) T);

/// The words that all participants change, each on lines of its own.
#[repr(C)]
pub(crate) struct HotWords {
    /// The sequence that the next commit tries first; it may lag behind the order.
    pub(crate) tail: CachePadded<AtomicU64>,
    /// Bit i: reader i is joined, new samples are owed to it.
    pub(crate) active: CachePadded<AtomicU64>,
    /// Which processes sleep, and for what.
    pub(crate) bells: CachePadded<Bells>,
    /// No sample below this sequence is owed to anybody (drop-oldest only).
    pub(crate) horizon: CachePadded<AtomicU64>,
    /// Rare changes of state.
    pub(crate) lifecycle: CachePadded<Lifecycle>,
    /// Whether commits and marks must look for others, and how often that or the membership has
    /// changed.
    pub(crate) attention: CachePadded<AtomicU64>,
}

/// The three bells of a segment, in one line: they are read far more often than written.
#[repr(C)]
pub(crate) struct Bells {
    /// Rung by a commit; readers sleep here.
    pub(crate) data: FutexWord,
    /// Rung when a slot becomes free or a reader joins; writers sleep here.
    pub(crate) space: FutexWord,
    /// Rung by every commit, discard and mark; `wait_for_change` sleeps here.
    pub(crate) change: FutexWord,
}

/// `lifecycle.retired`: a process is about to take the name from a segment that nobody is attached
/// to. If it dies in between, this value stays, and the next process that attaches sets it back to
/// 0.
pub const BEING_TAKEN: u32 = 1;
/// `lifecycle.retired`: the file has lost its last name; a file never gets one back.
pub const RETIRED: u32 = 2;

/// Rare changes of state.
#[repr(C)]
pub(crate) struct Lifecycle {
    /// Whether the segment has its name: 0, [`BEING_TAKEN`] or [`RETIRED`]. Attach succeeds at 0
    /// only.
    pub(crate) retired: AtomicU32,
    /// The writer of a single-writer segment: owner + 1, or 0.
    pub(crate) writer: AtomicU32,
    /// Dead participants that were recovered so far.
    pub(crate) deaths: AtomicU32,
    /// How often a writer was opened, or an attempt was made, so far.
    pub(crate) opened: AtomicU32,
    /// When a waiting participant last looked for the dead, in nanoseconds of the monotonic clock.
    pub(crate) looked: AtomicU64,
    /// How many participant rows the looks for the dead have passed so far; the next look continues
    /// at this number modulo all rows.
    pub(crate) asked: AtomicU64,
}

/// The line of a slot that readers poll. It has two purposes.
///
/// As a place in the order, its `entry` words name the slots of the two sequences that have their
/// home here. As a slot, its other words describe the sample in this slot. A writer prefers the
/// home slot, because then a reader needs only one line.
#[repr(C, align(64))]
pub(crate) struct SlotLine {
    /// Sequence and slot of a published sample. Two laps, so that a new entry never overwrites an
    /// unread one.
    pub(crate) entry: [AtomicU64; 2],
    /// Tag of the sequence, owed bits and held bits of 16 readers each.
    pub(crate) marks: [AtomicU64; MARK_WORDS],
    /// Sequence of the sample in this slot.
    pub(crate) sequence: AtomicU64,
    /// Length of the sample, its region, and its writer.
    pub(crate) extent: AtomicU64,
    /// In a model these have their own memory.
    #[cfg(loom)]
    pub(crate) receipts: Receipts,
}

/// The words of a slot that only writers touch, away from the line that readers poll.
#[repr(C, align(16))]
pub(crate) struct Claim {
    /// Phase, owner and generation.
    pub(crate) ctl: AtomicU64,
    /// While loaned the reserved length and the region, once published the time of the commit.
    pub(crate) aux: AtomicU64,
}

/// A region: room for a payload that is too large for its slot.
#[repr(C, align(64))]
pub(crate) struct RegionRow {
    /// The slot, and its generation, to which the region is leased.
    pub(crate) lease: AtomicU64,
    /// Bytes from its start that have memory.
    pub(crate) allocated: AtomicU64,
}

/// A joined reader.
#[repr(C, align(64))]
pub(crate) struct ReaderRow {
    /// Phase, participant and generation.
    pub(crate) state: AtomicU64,
    /// The sequence that it reads next, 0 if there is no reader. After it has left, it holds only
    /// samples before this.
    pub(crate) cursor: AtomicU64,
    /// Samples it lost; a hint for tools.
    pub(crate) lost: AtomicU64,
    /// The sequence from which on an expelled reader holds nothing.
    pub(crate) cut: AtomicU64,
    /// The participant that is expelling the reader, + 1; or 0. Nobody takes the row meanwhile.
    pub(crate) expeller: AtomicU64,
}

/// An attached process.
#[repr(C, align(64))]
pub(crate) struct ParticipantRow {
    /// Grows when the row is taken and when it is given back: an odd value means taken. It begins
    /// at [`NEW_ROW`]: 0 means that the row was erased.
    pub(crate) state: AtomicU32,
    /// Its process number in its own namespace.
    pub(crate) pid: AtomicU32,
    /// Its pid namespace, by inode; 0 if unknown.
    pub(crate) pid_namespace: AtomicU64,
    /// Writers that it has open.
    pub(crate) writers: AtomicU32,
    /// Tells it from later processes with its number; 0 if unknown.
    pub(crate) born: AtomicU64,
    /// The participant that recovers this dead one, as a `Recoverer` of `participants`; or 0.
    pub(crate) recoverer: AtomicU64,
    /// When the last death of a participant in this row was noticed, in nanoseconds of the
    /// monotonic clock; 0 if none was.
    pub(crate) died: AtomicU64,
    /// The readers of the dead participant.
    pub(crate) dead_readers: AtomicU64,
    /// Its process number.
    pub(crate) dead_pid: AtomicU32,
    /// How many writers it had open, and above that the lowest bits of the state that it left.
    pub(crate) dead_of: AtomicU32,
}

/// Size of a `SlotLine`.
pub const SLOT_LINE_SIZE: u64 = 64;
/// Size of a `Claim`.
pub const CLAIM_SIZE: u64 = 16;
/// Size of a `ReaderRow`.
pub const READER_ROW_SIZE: u64 = 64;
/// Size of a `ParticipantRow`.
pub const PARTICIPANT_ROW_SIZE: u64 = 64;
/// Size of a `RegionRow`.
pub const REGION_ROW_SIZE: u64 = 64;

#[cfg(not(loom))]
const _: () = {
    use core::mem::{align_of, offset_of, size_of};
    assert!(size_of::<SlotLine>() == SLOT_LINE_SIZE as usize && align_of::<SlotLine>() == 64);
    assert!(size_of::<Claim>() == CLAIM_SIZE as usize);
    assert!(size_of::<ReaderRow>() == READER_ROW_SIZE as usize);
    assert!(size_of::<ParticipantRow>() == PARTICIPANT_ROW_SIZE as usize);
    assert!(size_of::<RegionRow>() == REGION_ROW_SIZE as usize);
    assert!(HOT_OFFSET as usize + size_of::<HotWords>() <= READERS_OFFSET as usize);
    assert!(
        READERS_OFFSET + super::limits::MAX_READERS as u64 * READER_ROW_SIZE <= ANTEROOM_OFFSET
    );
    assert!(HOT_OFFSET % 128 == 0);
    assert!(offset_of!(HotWords, active) == 0x80 && offset_of!(HotWords, bells) == 0x100);
    assert!(offset_of!(HotWords, horizon) == 0x180 && offset_of!(HotWords, lifecycle) == 0x200);
    assert!(offset_of!(SlotLine, marks) == 16 && offset_of!(SlotLine, sequence) == 48);
    assert!(offset_of!(HotWords, attention) == 0x280);
    assert!(offset_of!(SlotLine, extent) == 56 && offset_of!(Claim, aux) == 8);
    assert!(size_of::<FutexWord>() == 4 && size_of::<Bells>() == 12);
};

/// The offset of each word that changes, by the names of `docs/segment-layout.md`: from the start
/// of the segment for the hot words, from the start of its row for the rest.
#[cfg(not(loom))]
pub fn word_offsets() -> Vec<(&'static str, usize)> {
    use core::mem::offset_of;
    let hot = HOT_OFFSET as usize;
    vec![
        ("tail", hot + offset_of!(HotWords, tail)),
        ("active", hot + offset_of!(HotWords, active)),
        ("bells.data", hot + offset_of!(HotWords, bells) + offset_of!(Bells, data)),
        ("bells.space", hot + offset_of!(HotWords, bells) + offset_of!(Bells, space)),
        ("bells.change", hot + offset_of!(HotWords, bells) + offset_of!(Bells, change)),
        ("horizon", hot + offset_of!(HotWords, horizon)),
        (
            "lifecycle.retired",
            hot + offset_of!(HotWords, lifecycle) + offset_of!(Lifecycle, retired),
        ),
        ("lifecycle.writer", hot + offset_of!(HotWords, lifecycle) + offset_of!(Lifecycle, writer)),
        ("lifecycle.deaths", hot + offset_of!(HotWords, lifecycle) + offset_of!(Lifecycle, deaths)),
        ("lifecycle.opened", hot + offset_of!(HotWords, lifecycle) + offset_of!(Lifecycle, opened)),
        ("lifecycle.looked", hot + offset_of!(HotWords, lifecycle) + offset_of!(Lifecycle, looked)),
        ("lifecycle.asked", hot + offset_of!(HotWords, lifecycle) + offset_of!(Lifecycle, asked)),
        ("attention", hot + offset_of!(HotWords, attention)),
        ("line.entry", offset_of!(SlotLine, entry)),
        ("line.marks", offset_of!(SlotLine, marks)),
        ("line.receipts", offset_of!(SlotLine, marks) + 8),
        (
            "line.turn",
            offset_of!(SlotLine, marks) + 8 + offset_of!(super::receipts::Receipts, turn),
        ),
        ("line.sequence", offset_of!(SlotLine, sequence)),
        ("line.extent", offset_of!(SlotLine, extent)),
        ("claim.ctl", offset_of!(Claim, ctl)),
        ("claim.aux", offset_of!(Claim, aux)),
        ("region.lease", offset_of!(RegionRow, lease)),
        ("region.allocated", offset_of!(RegionRow, allocated)),
        ("reader.state", offset_of!(ReaderRow, state)),
        ("reader.cursor", offset_of!(ReaderRow, cursor)),
        ("reader.lost", offset_of!(ReaderRow, lost)),
        ("reader.cut", offset_of!(ReaderRow, cut)),
        ("reader.expeller", offset_of!(ReaderRow, expeller)),
        ("participant.state", offset_of!(ParticipantRow, state)),
        ("participant.pid", offset_of!(ParticipantRow, pid)),
        ("participant.pid_namespace", offset_of!(ParticipantRow, pid_namespace)),
        ("participant.writers", offset_of!(ParticipantRow, writers)),
        ("participant.born", offset_of!(ParticipantRow, born)),
        ("participant.recoverer", offset_of!(ParticipantRow, recoverer)),
        ("participant.died", offset_of!(ParticipantRow, died)),
        ("participant.dead_readers", offset_of!(ParticipantRow, dead_readers)),
        ("participant.dead_pid", offset_of!(ParticipantRow, dead_pid)),
        ("participant.dead_of", offset_of!(ParticipantRow, dead_of)),
    ]
}
