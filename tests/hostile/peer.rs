//! The hostile peer: it has the segment mapped, and writes whatever it likes.

use std::ffi::c_void;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use shmslot::Segment;
use shmslot::layout::{
    CLAIM_SIZE, Geometry, HOT_OFFSET, Offsets, PARTICIPANT_ROW_SIZE, PARTICIPANTS_OFFSET,
    READER_ROW_SIZE, READERS_OFFSET, SLOT_LINE_SIZE, word_offsets,
};

use super::choices::Choices;

/// The words of one kind of row, from its start, and which of them have 32 bits.
struct Words {
    hot: Vec<(u64, bool)>,
    reader: Vec<(u64, bool)>,
    participant: Vec<(u64, bool)>,
}

/// Taken from the layout itself, so that a new word is a target at once.
fn words() -> &'static Words {
    static WORDS: OnceLock<Words> = OnceLock::new();
    WORDS.get_or_init(|| {
        let all: Vec<_> =
            word_offsets().into_iter().map(|(name, offset)| (name, offset as u64)).collect();
        let of = |row: &str| {
            let row = all.iter().filter(|(name, _)| name.starts_with(row));
            row.map(|(name, offset)| (*offset, name.starts_with("participant."))).collect()
        };
        let hot = all.iter().filter(|(_, offset)| *offset >= HOT_OFFSET);
        let narrow = |name: &str| name.starts_with("bells.") || name.starts_with("life.");
        Words {
            hot: hot.map(|(name, offset)| (*offset, narrow(name))).collect(),
            reader: of("reader."),
            participant: of("participant."),
        }
    })
}

/// What a word is for: values that nearly make sense there do the most harm.
#[derive(Clone, Copy)]
enum Kind {
    Sequence,
    Entry,
    Marks,
    Extent,
    Ctl,
    Row,
    Bits,
}

const KINDS: [Kind; 7] =
    [Kind::Sequence, Kind::Entry, Kind::Marks, Kind::Extent, Kind::Ctl, Kind::Row, Kind::Bits];

/// Farther than any search goes.
const FAR: u64 = 1 << 40;

/// A word of the segment.
#[derive(Clone, Copy)]
struct Target {
    offset: u64,
    narrow: bool,
    kind: Kind,
}

pub(crate) struct Peer {
    base: *mut u8,
    geometry: Geometry,
    offsets: Offsets,
    /// Keeps `base` mapped if it is not a mapping of its own.
    segment: Option<Segment>,
}

// SAFETY: a peer accesses its mapping with atomics only.
unsafe impl Send for Peer {}
// SAFETY: as above.
unsafe impl Sync for Peer {}

impl Peer {
    /// A peer with its own mapping of the segment's file; or, if there is no file, in the mapping
    /// that begins at `start`.
    pub(crate) fn new(segment: &Segment, fd: Option<BorrowedFd<'_>>, start: usize) -> Peer {
        let geometry = super::calls::geometry_of(segment);
        let offsets = geometry.offsets().expect("a segment has a geometry that fits");
        let Some(fd) = fd else {
            let base = ptr::with_exposed_provenance_mut(start);
            return Peer { base, geometry, offsets, segment: Some(segment.clone()) };
        };
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let size = offsets.control_size as usize;
        // SAFETY: a new mapping at an address that the kernel chooses replaces nothing.
        let base = unsafe {
            libc::mmap(ptr::null_mut(), size, access, libc::MAP_SHARED, fd.as_raw_fd(), 0)
        };
        assert_ne!(base, libc::MAP_FAILED, "the control part can be mapped again");
        Peer { base: base.cast(), geometry, offsets, segment: None }
    }

    fn slot(&self, c: &mut Choices<'_>) -> u64 {
        c.below(self.geometry.slot_count as usize) as u64
    }

    fn target(&self, c: &mut Choices<'_>) -> Target {
        let wide = |offset, kind| Target { offset, narrow: false, kind };
        match c.below(16) {
            0..4 => {
                let (offset, narrow) = c.pick(&words().hot);
                Target { offset, narrow, kind: if narrow { Kind::Bits } else { Kind::Sequence } }
            }
            4..8 => {
                let word = c.below(8) as u64;
                let kind = match word {
                    0..2 => Kind::Entry,
                    2..6 => Kind::Marks,
                    6 => Kind::Sequence,
                    _ => Kind::Extent,
                };
                wide(self.offsets.lines + self.slot(c) * SLOT_LINE_SIZE + word * 8, kind)
            }
            8..11 => {
                let (word, kind) = c.pick(&[(0, Kind::Ctl), (0, Kind::Ctl), (8, Kind::Sequence)]);
                wide(self.offsets.claims + self.slot(c) * CLAIM_SIZE + word, kind)
            }
            11 => {
                let words = (self.offsets.control_size - self.offsets.vacancy) / 8;
                wide(self.offsets.vacancy + c.below(words as usize) as u64 * 8, Kind::Bits)
            }
            12..14 => {
                // From the top, because rows are given out from there.
                let row = u64::from(self.geometry.max_readers) - 1;
                let row = row - c.below(self.geometry.max_readers as usize) as u64 % 4 % (row + 1);
                let (word, _) = c.pick(&words().reader);
                let kind = if word == 0 { Kind::Row } else { Kind::Sequence };
                wide(READERS_OFFSET + row * READER_ROW_SIZE + word, kind)
            }
            14 => {
                let row = c.below(self.geometry.max_participants as usize) as u64;
                let (word, narrow) = c.pick(&words().participant);
                let offset = PARTICIPANTS_OFFSET + row * PARTICIPANT_ROW_SIZE + word;
                Target { offset, narrow, kind: Kind::Bits }
            }
            _ => {
                let words = self.offsets.control_size as usize / 8;
                wide(c.below(words) as u64 * 8, c.pick(&KINDS))
            }
        }
    }

    fn load(&self, offset: u64) -> u64 {
        assert!(
            offset % 8 == 0 && offset < self.offsets.control_size,
            "a word of the control part"
        );
        // SAFETY: aligned and inside this peer's mapping, where every access is atomic.
        let word = unsafe { AtomicU64::from_ptr(self.base.add(offset as usize).cast()) };
        word.load(Ordering::Relaxed)
    }

    fn store(&self, Target { offset, narrow, .. }: Target, value: u64) {
        assert!(
            offset % 4 == 0 && offset < self.offsets.control_size,
            "a word of the control part"
        );
        let word = self.base.wrapping_add(offset as usize);
        if narrow {
            // SAFETY: as in `load`.
            unsafe { AtomicU32::from_ptr(word.cast()) }.store(value as u32, Ordering::Release);
        } else {
            // SAFETY: as in `load`.
            unsafe { AtomicU64::from_ptr(word.cast()) }.store(value, Ordering::Release);
        }
    }

    /// A sequence near the tail, or as far from it as some field is wide.
    fn sequence(&self, c: &mut Choices<'_>) -> u64 {
        let slots = u64::from(self.geometry.slot_count);
        let jumps = [0, slots, 2 * slots, 1 << 31, 1 << 32, 1 << 39, 1 << 40, 1 << 63];
        let jump = if c.byte() < 192 { 0 } else { c.pick(&jumps) };
        let near = self.load(HOT_OFFSET).wrapping_add_signed(i64::from(c.byte() as i8 >> 4));
        if c.flag() { near.wrapping_add(jump) } else { near.wrapping_sub(jump) }
    }

    /// A value that such a word could have.
    fn plausible(&self, kind: Kind, old: u64, c: &mut Choices<'_>) -> u64 {
        match kind {
            Kind::Sequence => self.sequence(c),
            Kind::Entry => {
                let slots = u64::from(self.geometry.slot_count);
                let slot = if c.byte() < 192 {
                    self.slot(c)
                } else {
                    c.pick(&[slots, slots + 1, 0xff_ffff])
                };
                self.sequence(c) << 24 | slot
            }
            Kind::Marks => {
                let bits = match c.below(4) {
                    0 => 0,
                    1 => 0xffff_ffff,
                    2 => u64::from(c.byte()) << 16 | u64::from(c.byte()),
                    _ => c.word() & 0xffff_ffff,
                };
                self.sequence(c) << 32 | bits
            }
            Kind::Extent => {
                let capacity = self.geometry.slot_capacity;
                c.pick(&[0, 1, capacity, capacity + 1, (1 << 33) - 1]) | u64::from(c.byte()) << 40
            }
            Kind::Ctl => {
                let generation = (old >> 28).wrapping_add_signed(i64::from(c.byte() as i8 >> 5));
                let owner = c.below(4) << 12 | c.below(4);
                generation << 28 | (owner as u64) << 4 | c.below(16) as u64
            }
            Kind::Row => {
                let pins = if c.byte() < 250 { 0 } else { c.word() << 32 };
                pins | (c.below(4) as u64) << 8 | c.below(4) as u64
            }
            Kind::Bits => old ^ 1 << c.below(64),
        }
    }

    /// Writes one word.
    pub(crate) fn strike(&self, c: &mut Choices<'_>) {
        let (target, _, value) = self.move_of(c);
        self.store(target, value);
    }

    /// Writes two values to one word in turn, so that a process that loads it twice sees both.
    pub(crate) fn quarrel(&self, c: &mut Choices<'_>) {
        let (target, old, value) = self.move_of(c);
        for _ in 0..64 {
            self.store(target, value);
            self.store(target, old);
        }
        if c.flag() {
            self.store(target, value);
        }
    }

    /// Does this with the length of one slot's sample: a length that is checked and then loaded
    /// again leads far outside.
    pub(crate) fn quarrel_over_length(&self, slot: u64) {
        let offset = self.offsets.lines + slot * SLOT_LINE_SIZE + 56;
        let target = Target { offset, narrow: false, kind: Kind::Extent };
        for _ in 0..64 {
            self.store(target, self.geometry.slot_capacity);
            self.store(target, (1 << 33) - 1);
        }
    }

    /// Does this with the end of the order: a process that loads twice how far to search is sent
    /// through a trillion sequences.
    pub(crate) fn quarrel_over_tail(&self) {
        let target = Target { offset: HOT_OFFSET, narrow: false, kind: Kind::Sequence };
        let end = self.load(target.offset) % FAR;
        for _ in 0..64 {
            self.store(target, end + FAR);
            self.store(target, end);
        }
    }

    /// Says that so many sequences are left of all that there are.
    pub(crate) fn near_the_end_of_the_order(&self, left: u64) {
        let target = Target { offset: HOT_OFFSET, narrow: false, kind: Kind::Sequence };
        self.store(target, u64::MAX - left);
    }

    /// A word, its value, and a value that it could have.
    fn move_of(&self, c: &mut Choices<'_>) -> (Target, u64, u64) {
        let target = self.target(c);
        let offset = target.offset & !7;
        let old = self.load(offset);
        let value = match c.below(16) {
            0..8 => self.plausible(target.kind, old, c),
            8 => old ^ 1 << c.below(64),
            9 => old.wrapping_add_signed(i64::from(c.byte() as i8 >> 5)),
            10 => {
                let other = self.target(c);
                self.load(other.offset & !7)
            }
            11 => {
                let kind = c.pick(&KINDS);
                self.plausible(kind, old, c)
            }
            12 => u64::MAX,
            13 => 0,
            _ => c.word(),
        };
        // The upper half of a pair of narrow words lies where the lower half is stored from.
        let old = if target.narrow && target.offset != offset { old >> 32 } else { old };
        (target, old, value)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if self.segment.is_none() {
            // SAFETY: made in `new`, of this size, and nothing else has a pointer into it.
            let result = unsafe {
                libc::munmap(self.base.cast::<c_void>(), self.offsets.control_size as usize)
            };
            assert_eq!(result, 0, "munmap");
        }
    }
}
