//! Counters: how a segment is used, seen from outside.

use std::ffi::c_int;

use crate::ffi::arguments::from_c;
use crate::ffi::boundary;
use crate::ffi::library::SHMSLOT_OK;
use crate::ffi::plain::Plain;
use crate::ffi::segment::shmslot_segment;
use crate::segment::{Counters, Death, ReaderCounters, ReaderKind, WriterCounters};

/// shmslot_reader_counters.kind: a reader that is joined.
pub const SHMSLOT_READER_JOINED: u32 = 1;
/// shmslot_reader_counters.kind: a reader that has left and still holds samples.
pub const SHMSLOT_READER_LEFT: u32 = 2;
/// shmslot_reader_counters.kind: a number that callers of shmslot_ref_ calls use.
pub const SHMSLOT_READER_NAMED: u32 = 3;
/// shmslot_reader_counters.kind: a reader that was expelled, and has not left.
pub const SHMSLOT_READER_EXPELLED: u32 = 4;

/// What a segment is used for at one moment. Each slot is counted once: free, loaned, unread, held
/// and retained add up to the number of slots.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct shmslot_counters {
    /// The sequence that the next sample gets; the difference of two calls is the number of samples
    /// between them.
    pub next_sequence: u64,
    /// Memory of all regions.
    pub region_bytes: u64,
    /// Slots that are free.
    pub free: u32,
    /// Slots that a writer has: loaned, or just being committed or taken back from their readers.
    pub loaned: u32,
    /// Slots with a sample that some reader has not read, and that nobody holds.
    pub unread: u32,
    /// Slots with a sample that some reader holds.
    pub held: u32,
    /// Slots with a sample that only history keeps.
    pub retained: u32,
    /// Regions in use.
    pub regions: u32,
    /// Writers that are open.
    pub writers: u32,
    /// Readers that are joined.
    pub readers: u32,
    /// Attached processes, and those that died and have not been recovered.
    pub participants: u32,
    /// How many of these are dead.
    pub dead: u32,
    /// Dead participants that have been recovered, since the segment was created; it wraps.
    pub recovered: u32,
    /// 1 if the segment has been given up: nobody attaches to it by its name any more.
    pub retired: u32,
}

// SAFETY: integers only.
unsafe impl Plain for shmslot_counters {}

impl From<Counters> for shmslot_counters {
    fn from(counters: Counters) -> shmslot_counters {
        shmslot_counters {
            next_sequence: counters.next_sequence,
            region_bytes: counters.region_bytes,
            free: counters.free,
            loaned: counters.loaned,
            unread: counters.unread,
            held: counters.held,
            retained: counters.retained,
            regions: counters.regions,
            writers: counters.writers,
            readers: counters.readers,
            participants: counters.participants,
            dead: counters.dead,
            recovered: counters.recovered,
            retired: u32::from(counters.retired),
        }
    }
}

/// What one reader has at one moment.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct shmslot_reader_counters {
    /// Its bit in masks of readers.
    pub index: u32,
    /// SHMSLOT_READER_JOINED, SHMSLOT_READER_LEFT, SHMSLOT_READER_NAMED or SHMSLOT_READER_EXPELLED.
    pub kind: u32,
    /// The index of its participant; 0 for SHMSLOT_READER_NAMED, which belongs to nobody.
    pub participant: u32,
    /// Its process number, as its own pid namespace has it; 0 for SHMSLOT_READER_NAMED.
    pub pid: u32,
    /// 0 if its process is dead, else 1.
    pub alive: u32,
    /// Samples that it has not read.
    pub unread: u32,
    /// Samples that it holds.
    pub held: u32,
    /// Tells it from earlier and later readers with its index; shmslot_segment_expel wants it.
    pub generation: u32,
    /// The sequence that it reads next; 0 unless it is SHMSLOT_READER_JOINED, and while it joins.
    pub next_sequence: u64,
    /// Samples from there to the newest; 0 likewise.
    pub lag: u64,
    /// Samples that it has found to be lost. Those that were taken away since its last read or wait
    /// are in lag and not in unread.
    pub lost: u64,
    /// The sequence of the oldest sample that it holds; 0 if it holds none.
    pub oldest_held: u64,
    /// When that was committed, in monotonic nanoseconds; 0 without SHMSLOT_FLAG_TIMESTAMPS. It was
    /// read at this time or later: when, nobody notes.
    pub oldest_held_ns: u64,
}

// SAFETY: integers only.
unsafe impl Plain for shmslot_reader_counters {}

impl From<&ReaderCounters> for shmslot_reader_counters {
    fn from(reader: &ReaderCounters) -> shmslot_reader_counters {
        shmslot_reader_counters {
            index: reader.index,
            kind: match reader.kind {
                ReaderKind::Joined => SHMSLOT_READER_JOINED,
                ReaderKind::Left => SHMSLOT_READER_LEFT,
                ReaderKind::Named => SHMSLOT_READER_NAMED,
                ReaderKind::Expelled => SHMSLOT_READER_EXPELLED,
            },
            participant: reader.participant,
            pid: reader.pid,
            alive: u32::from(reader.alive),
            unread: reader.unread,
            held: reader.held,
            generation: reader.generation,
            next_sequence: reader.next_sequence,
            lag: reader.lag,
            lost: reader.lost,
            oldest_held: reader.oldest_held,
            oldest_held_ns: reader.oldest_held_ns,
        }
    }
}

/// A writer that has loans out.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct shmslot_writer_counters {
    /// The number that its samples carry.
    pub writer_id: u32,
    /// The index of its participant.
    pub participant: u32,
    /// Its process number, as its own pid namespace has it.
    pub pid: u32,
    /// 0 if its process is dead, else 1.
    pub alive: u32,
    /// Slots that it has: loaned, or just being committed or taken back from their readers.
    pub loans: u32,
}

// SAFETY: integers only.
unsafe impl Plain for shmslot_writer_counters {}

impl From<&WriterCounters> for shmslot_writer_counters {
    fn from(writer: &WriterCounters) -> shmslot_writer_counters {
        shmslot_writer_counters {
            writer_id: writer.id,
            participant: writer.participant,
            pid: writer.pid,
            alive: u32::from(writer.alive),
            loans: writer.loans,
        }
    }
}

/// What the segment is used for now. Works on an attachment with SHMSLOT_FLAG_OBSERVER, too, and
/// disturbs nobody.
///
/// It walks all slots, reading 80 bytes of each, and asks for each participant whether it is alive,
/// which makes a few system calls. In a segment at rest the numbers are exact; while others run,
/// each is as exact as a count of moving things can be, and the slots still add up. docs/guide.md
/// says what it costs. counters_size: sizeof(shmslot_counters); fields that an older library does
/// not know are 0. Threads: any. Errors: INVALID, NO_MEMORY, SYS. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_segment_counters(
    segment: *const shmslot_segment,
    ret_counters: *mut shmslot_counters,
    counters_size: usize,
) -> c_int {
    from_c!(segment: HandleRef, ret_counters[counters_size]: OutSized);
    boundary::with_system(&segment, |segment| {
        ret_counters.give(&segment.segment.counters()?.into())?;
        Ok(SHMSLOT_OK)
    })
}

/// What each reader has now: joined and expelled ones, those that left and still hold samples, and
/// the numbers that shmslot_ref_ calls use. Works on observers, too, and costs as much as
/// shmslot_segment_counters. array, element_size, capacity, ret_count: as in
/// shmslot_segment_participants; there are 63 readers at most. Threads: any. Errors: INVALID,
/// NO_MEMORY, SYS. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_segment_readers(
    segment: *const shmslot_segment,
    array: *mut shmslot_reader_counters,
    element_size: usize,
    capacity: usize,
    ret_count: *mut usize,
) -> c_int {
    from_c!(segment: HandleRef, array[element_size, capacity]: OutArray, ret_count: Out);
    boundary::with_system(&segment, |segment| {
        Ok(array.give_list(&ret_count, || segment.segment.readers())?)
    })
}

/// The writers that have loans out now. One without loans leaves no trace in a segment;
/// shmslot_participant.writers counts all that a process has open. Works on observers, too, and
/// costs as much as shmslot_segment_counters. array, element_size, capacity, ret_count: as in
/// shmslot_segment_participants. Threads: any. Errors: INVALID, NO_MEMORY, SYS. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_segment_writers(
    segment: *const shmslot_segment,
    array: *mut shmslot_writer_counters,
    element_size: usize,
    capacity: usize,
    ret_count: *mut usize,
) -> c_int {
    from_c!(segment: HandleRef, array[element_size, capacity]: OutArray, ret_count: Out);
    boundary::with_system(&segment, |segment| {
        Ok(array.give_list(&ret_count, || segment.segment.writers())?)
    })
}

/// A process that died while it was attached, and has been recovered.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct shmslot_death {
    /// The index of its participant. Another one may have it by now.
    pub participant: u32,
    /// Its process number, as its own pid namespace had it.
    pub pid: u32,
    /// Writers that it had open.
    pub writers: u32,
    /// 0.
    pub reserved: u32,
    /// The readers that it had, reader i as bit i.
    pub readers: u64,
    /// When its death was noticed, in monotonic nanoseconds.
    pub noticed_ns: u64,
}

// SAFETY: integers only.
unsafe impl Plain for shmslot_death {}

impl From<&Death> for shmslot_death {
    fn from(death: &Death) -> shmslot_death {
        shmslot_death {
            participant: death.participant,
            pid: death.pid,
            writers: death.writers,
            reserved: 0,
            readers: death.readers,
            noticed_ns: death.noticed_ns,
        }
    }
}

/// The participants that died while attached: for each index its last death, the latest of all
/// first. After SHMSLOT_E_PEER_DEAD the dead participant is listed. A death is recorded when
/// somebody recovers it; until then shmslot_segment_participants lists it as dead. Also for an
/// observer. array, element_size, capacity, ret_count: as in shmslot_segment_participants. Threads:
/// any. Errors: INVALID. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_segment_deaths(
    segment: *const shmslot_segment,
    array: *mut shmslot_death,
    element_size: usize,
    capacity: usize,
    ret_count: *mut usize,
) -> c_int {
    from_c!(segment: HandleRef, array[element_size, capacity]: OutArray, ret_count: Out);
    boundary::with(
        &segment,
        |segment| Ok(array.give_list(&ret_count, || segment.segment.deaths())?),
    )
}
