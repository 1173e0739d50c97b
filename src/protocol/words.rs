//! The fields of the shared words. Pure values; there are no atomics here.

use core::cmp::Ordering;

/// The phase of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Holds nothing: new, or given back without being published.
    Free,
    /// A writer fills it.
    Loaned,
    /// Its writer has begun to commit it. The sequence and the marks are still those of the slot's
    /// last sample, or a mixture.
    Committing,
    /// Holds a sample. The slot can be claimed when it has no marks.
    Published,
    /// A writer is taking an unread sample away from its readers.
    Reclaiming,
    /// Its writer has stored the sequence and the marks, and is publishing. The sample is published
    /// if the entry of its sequence names this slot.
    Publishing,
    /// The sample is published, and its writer has not finished the commit. Another writer recorded
    /// this before it overwrote the entry, which was the only proof.
    Confirmed,
}

impl Phase {
    /// Whether the slot's writer has begun its commit and not ended it.
    pub(crate) fn is_committing(self) -> bool {
        matches!(self, Phase::Committing | Phase::Publishing | Phase::Confirmed)
    }
}

/// The writer that has a slot: 12 bits of participant, 12 bits of that participant's writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner(pub(crate) u32);

impl Owner {
    pub(crate) const BITS: u32 = 24;

    pub(crate) fn new(participant: u32, writer: u32) -> Owner {
        Owner((participant & 0xfff) << 12 | writer & 0xfff)
    }

    pub(crate) fn participant(self) -> u32 {
        self.0 >> 12 & 0xfff
    }
}

/// The claim word of a slot: generation 36 | owner 24 | phase 4. The generation grows with every
/// loan, so a token of an earlier loan never matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ctl(pub(crate) u64);

impl Ctl {
    pub(crate) const GENERATION_MASK: u64 = (1 << 36) - 1;

    pub(crate) fn new(phase: Phase, owner: Owner, generation: u64) -> Ctl {
        Ctl((generation & Ctl::GENERATION_MASK) << 28 | u64::from(owner.0) << 4 | phase as u64)
    }

    pub(crate) fn phase(self) -> Option<Phase> {
        match self.0 & 0xf {
            0 => Some(Phase::Free),
            1 => Some(Phase::Loaned),
            2 => Some(Phase::Committing),
            3 => Some(Phase::Published),
            4 => Some(Phase::Reclaiming),
            5 => Some(Phase::Publishing),
            6 => Some(Phase::Confirmed),
            _ => None,
        }
    }

    pub(crate) fn owner(self) -> Owner {
        Owner((self.0 >> 4) as u32 & ((1 << Owner::BITS) - 1))
    }

    pub(crate) fn generation(self) -> u64 {
        self.0 >> 28
    }
}

/// An entry of the order: sequence 40 | slot 24. Zero is older than every sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry(pub(crate) u64);

impl Entry {
    pub(crate) fn new(sequence: u64, slot: u32) -> Entry {
        Entry(sequence << 24 | u64::from(slot & 0xff_ffff))
    }

    pub(crate) fn slot(self) -> u32 {
        self.0 as u32 & 0xff_ffff
    }

    #[inline(always)]
    pub(crate) fn is_of(self, sequence: u64) -> bool {
        (self.0 ^ sequence << 24) >> 24 == 0
    }

    /// Whether the entry is older than `sequence`; right as in [`Entry::compare`].
    #[inline(always)]
    pub(crate) fn is_before(self, sequence: u64) -> bool {
        self.difference(sequence) < 0
    }

    /// Whether the entry is older than `sequence`, equal to it, or newer; right while the two are
    /// less than 2^39 apart.
    #[inline]
    pub(crate) fn compare(self, sequence: u64) -> Ordering {
        self.difference(sequence).cmp(&0)
    }

    /// The difference of the upper 40 bits, as a signed number.
    #[inline(always)]
    fn difference(self, sequence: u64) -> i64 {
        (self.0 & !0xff_ffff).wrapping_sub(sequence << 24) as i64
    }
}

/// One reader's bits in one word of marks, or history's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bit {
    pub(crate) word: usize,
    pub(crate) owed: u64,
    pub(crate) held: u64,
}

impl Bit {
    /// Retained samples: they are owed to no particular reader.
    pub(crate) const HISTORY: Bit = Bit { word: 0, owed: 1 << 16, held: 1 };

    pub(crate) fn of_reader(index: u32) -> Bit {
        let place = (index & 63) + 1;
        let held = 1 << (place % 16);
        Bit { word: (place / 16) as usize, owed: held << 16, held }
    }
}

/// One word of marks: tag 32 | owed 16 | held 16. The tag is the low half of the sequence to which
/// the bits belong, so a late process cannot change the marks of a later sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marks(pub(crate) u64);

impl Marks {
    pub(crate) const OWED: u64 = 0xffff << 16;
    pub(crate) const HELD: u64 = 0xffff;
    /// Changes a tag to one that no sample in the order can have: 2^31 away, and the order spans at
    /// most 2^25.
    pub(crate) const REVOKED: u64 = 1 << 63;

    /// Word `word` of the marks that owe `sequence` to each bit of `audience`.
    pub(crate) fn owing(sequence: u64, audience: Audience, word: usize) -> Marks {
        Marks(sequence << 32 | (audience.0 >> (16 * word) & 0xffff) << 16)
    }

    pub(crate) fn is_of(self, sequence: u64) -> bool {
        self.0 >> 32 == sequence & 0xffff_ffff
    }

    /// These marks without bits, and with a tag that says that they were revoked.
    pub(crate) fn revoked(self) -> Marks {
        Marks((self.0 & !(Marks::OWED | Marks::HELD)) ^ Marks::REVOKED)
    }

    /// Whether the marks belonged to `sequence` until a writer revoked them.
    pub(crate) fn is_revoked_of(self, sequence: u64) -> bool {
        Marks(self.0 ^ Marks::REVOKED).is_of(sequence)
    }

    pub(crate) fn is_clear(self) -> bool {
        self.0 & (Marks::OWED | Marks::HELD) == 0
    }

    /// Owed bits as an audience of word `word`.
    pub(crate) fn owed(self, word: usize) -> Audience {
        Audience((self.0 >> 16 & 0xffff) << (16 * word))
    }

    /// Held bits as an audience of word `word`.
    pub(crate) fn held(self, word: usize) -> Audience {
        Audience((self.0 & 0xffff) << (16 * word))
    }

    /// Owed and held bits as an audience of word `word`.
    pub(crate) fn readers(self, word: usize) -> Audience {
        Audience(self.owed(word).0 | self.held(word).0)
    }

    /// Whether the sample of the marks comes before `sequence`; right within 2^31.
    pub(crate) fn is_before(self, sequence: u64) -> bool {
        (((self.0 >> 32) as u32).wrapping_sub(sequence as u32) as i32) < 0
    }
}

/// A set of readers, with history as its lowest bit: reader i is bit i + 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Audience(pub(crate) u64);

impl Audience {
    pub(crate) fn of_readers(readers: u64, history: bool) -> Audience {
        Audience(readers << 1 | u64::from(history))
    }

    /// Every reader and history.
    pub(crate) const EVERYBODY: Audience = Audience(u64::MAX);

    /// The readers alone, reader i as bit i.
    pub(crate) fn readers(self) -> u64 {
        self.0 >> 1
    }
}

/// Where a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the slot with this number.
    Slot(u32),
    /// In the region with this number.
    Region(u32),
}

/// What a loan was reserved for, in the word beside its claim: region + 1 6 | unused 1 | length 33.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reserved(pub(crate) u64);

impl Reserved {
    /// `len` is at most the largest possible payload, 2^32.
    pub(crate) fn new(len: u64, place: Place) -> Reserved {
        Reserved(region_bits(place) | len)
    }

    pub(crate) fn len(self) -> u64 {
        self.0 & ((1 << 33) - 1)
    }

    pub(crate) fn place(self, slot: u32) -> Place {
        place_of(self.0, slot)
    }

    /// Whether the payload is in the slot itself, and no unused bit above is set.
    #[inline(always)]
    pub(crate) fn is_in_slot(self) -> bool {
        self.0 >> REGION_SHIFT == 0
    }
}

const REGION_SHIFT: u32 = 34;
const REGION_BITS: u64 = 0x3f << REGION_SHIFT;

/// 6 bits from bit 34: region + 1, or 0 for the slot itself.
fn region_bits(place: Place) -> u64 {
    match place {
        Place::Slot(_) => 0,
        Place::Region(region) => (u64::from(region) + 1) << REGION_SHIFT & REGION_BITS,
    }
}

fn place_of(word: u64, slot: u32) -> Place {
    match ((word & REGION_BITS) >> REGION_SHIFT) as u32 {
        0 => Place::Slot(slot),
        region => Place::Region(region - 1),
    }
}

/// The extent word of a sample: writer 24 | region + 1 6 | named 1 | length 33.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent(pub(crate) u64);

impl Extent {
    /// Flag: the sample is also owed to readers without a row, which callers track themselves.
    const NAMED: u64 = 1 << 33;

    /// The extent of a sample at the place that its loan reserved: both words have the region in
    /// the same bits.
    #[inline(always)]
    pub(crate) fn of_reserved(len: u64, owner: Owner, reserved: Reserved, named: bool) -> Extent {
        let region = reserved.0 & REGION_BITS;
        Extent(u64::from(owner.0) << 40 | region | u64::from(named) << 33 | len & ((1 << 33) - 1))
    }

    pub(crate) fn place(self, slot: u32) -> Place {
        place_of(self.0, slot)
    }

    pub(crate) fn is_named(self) -> bool {
        self.0 & Extent::NAMED != 0
    }

    pub(crate) fn len(self) -> u64 {
        self.0 & ((1 << 33) - 1)
    }

    pub(crate) fn writer(self) -> u32 {
        (self.0 >> 40) as u32
    }
}

/// A loan as its token describes it: the slot, its generation and its writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loan {
    pub(crate) slot: u32,
    pub(crate) generation: u64,
    pub(crate) owner: Owner,
}

impl Loan {
    pub(crate) fn ctl(self, phase: Phase) -> Ctl {
        Ctl::new(phase, self.owner, self.generation)
    }
}

/// Which slots a search may take although they hold samples of readers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    AnySlot,
    /// A slot whose sample has a region.
    Region,
}
