//! The fields of the shared words. Pure values; there are no atomics here.

use core::cmp::Ordering;

use crate::error::Code;
use crate::layout::MARKS_PER_WORD;
use crate::layout::bits::{ctl, entry, extent, marks, owner, reader, token};

/// The phase of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Holds nothing: new, or given back without being published.
    Free,
    /// Holds a sample. The slot can be claimed when it has no marks.
    Published,
    /// A writer fills it.
    Loaned,
    /// Its writer has begun to commit it. The sequence and the marks are still those of the slot's
    /// last sample, or a mixture.
    Committing,
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

/// The writer that has a slot: a participant, and which of its writers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner(pub(crate) u32);

impl Owner {
    #[inline]
    pub(crate) fn new(participant: u32, writer: u32) -> Owner {
        let (participant, writer) = (u64::from(participant), u64::from(writer));
        let participant = owner::PARTICIPANT.put(owner::PARTICIPANT.cut(participant));
        Owner((participant | owner::WRITER.put(owner::WRITER.cut(writer))) as u32)
    }

    #[inline]
    pub(crate) fn participant(self) -> u32 {
        owner::PARTICIPANT.get(self.0.into()) as u32
    }
}

/// The claim word of a slot: phase, owner and generation. The generation grows with every loan, so
/// a token of an earlier loan never matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ctl(pub(crate) u64);

impl Ctl {
    #[inline]
    pub(crate) fn new(phase: Phase, owner: Owner, generation: u64) -> Ctl {
        let generation = ctl::GENERATION.put(ctl::GENERATION.cut(generation));
        Ctl(generation | ctl::OWNER.put(owner.0.into()) | ctl::PHASE.put(phase as u64))
    }

    #[inline]
    pub(crate) fn phase(self) -> Option<Phase> {
        match ctl::PHASE.get(self.0) {
            0 => Some(Phase::Free),
            1 => Some(Phase::Published),
            2 => Some(Phase::Loaned),
            3 => Some(Phase::Committing),
            4 => Some(Phase::Reclaiming),
            5 => Some(Phase::Publishing),
            6 => Some(Phase::Confirmed),
            _ => None,
        }
    }

    /// Whether the phase is Free or Published: the slot can be claimed if no mark is left.
    #[inline(always)]
    pub(crate) fn is_at_rest(self) -> bool {
        ctl::PHASE.get(self.0) <= Phase::Published as u64
    }

    /// The word of the next loan of this slot, by a writer whose `first` is as [`Ctl::first_of`].
    #[inline(always)]
    pub(crate) fn next_loan(self, first: Ctl) -> Ctl {
        // The highest field: what does not fit is cut off.
        let next = (self.0 & ctl::GENERATION.mask()).wrapping_add(ctl::GENERATION.put(1));
        Ctl(next | first.0)
    }

    /// The word of a loan of generation 0.
    pub(crate) fn first_of(owner: Owner) -> Ctl {
        Ctl::new(Phase::Loaned, owner, 0)
    }

    /// The same claim in another phase.
    #[inline(always)]
    pub(crate) fn with(self, phase: Phase) -> Ctl {
        Ctl(self.0 & !ctl::PHASE.mask() | ctl::PHASE.put(phase as u64))
    }

    #[inline]
    pub(crate) fn owner(self) -> Owner {
        Owner(ctl::OWNER.get(self.0) as u32)
    }

    #[inline]
    pub(crate) fn generation(self) -> u64 {
        ctl::GENERATION.get(self.0)
    }

    /// How many generations after this one another is, modulo all of them.
    #[inline]
    pub(crate) fn loans_before(self, generation: u64) -> u64 {
        ctl::GENERATION.cut(generation.wrapping_sub(self.generation()))
    }

    /// The generation of the next loan.
    #[inline]
    pub(crate) fn next_generation(self) -> u64 {
        ctl::GENERATION.cut(self.generation().wrapping_add(1))
    }
}

/// An entry of the order: slot and sequence. Zero is older than every sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry(pub(crate) u64);

impl Entry {
    #[inline]
    pub(crate) fn new(sequence: u64, slot: u32) -> Entry {
        Entry(entry::SEQUENCE.put(sequence) | entry::SLOT.cut(slot.into()))
    }

    #[inline]
    pub(crate) fn slot(self) -> u32 {
        entry::SLOT.get(self.0) as u32
    }

    #[inline(always)]
    pub(crate) fn is_of(self, sequence: u64) -> bool {
        entry::SEQUENCE.get(self.0 ^ entry::SEQUENCE.put(sequence)) == 0
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

    /// The difference of the two sequences, in the upper bits of a signed number.
    #[inline(always)]
    fn difference(self, sequence: u64) -> i64 {
        (self.0 & entry::SEQUENCE.mask()).wrapping_sub(entry::SEQUENCE.put(sequence)) as i64
    }
}

/// The phase of a reader row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowPhase {
    Free,
    /// A reader has joined.
    Joined,
    /// The reader has left, but still holds samples.
    Draining,
    /// Callers of the reference operations use this number. No participant owns the row, so none is
    /// stored beside this phase.
    Named,
    /// Such a number is being given up, and the participant clears its marks.
    Parting,
    /// Samples are already owed to the reader, but it has not settled yet where it begins to read.
    Joining,
    /// Another process has ended the membership. What the reader holds is not known yet.
    Expelled,
    /// Expelled, and the reader holds nothing from `cut` on.
    Cut,
}

/// The state of a reader row: phase, participant and generation. The generation grows whenever the
/// row is taken, so a reader is never mistaken for a later one in its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowState(pub(crate) u64);

impl RowState {
    #[inline(always)]
    pub(crate) fn phase(self) -> Option<RowPhase> {
        match reader::PHASE.get(self.0) {
            0 => Some(RowPhase::Free),
            1 => Some(RowPhase::Joined),
            2 => Some(RowPhase::Draining),
            3 => Some(RowPhase::Named),
            4 => Some(RowPhase::Parting),
            5 => Some(RowPhase::Joining),
            6 => Some(RowPhase::Expelled),
            7 => Some(RowPhase::Cut),
            _ => None,
        }
    }

    /// Whether the row is in this phase; without a table of all phases.
    #[inline(always)]
    pub(crate) fn is(self, phase: RowPhase) -> bool {
        reader::PHASE.get(self.0) == phase as u64
    }

    #[inline]
    pub(crate) fn participant(self) -> u32 {
        reader::PARTICIPANT.get(self.0) as u32
    }

    #[inline]
    pub(crate) fn generation(self) -> u32 {
        reader::GENERATION.get(self.0) as u32
    }

    /// The state in another phase.
    #[inline]
    pub(crate) fn with(self, phase: RowPhase) -> RowState {
        RowState(self.0 & !reader::PHASE.mask() | reader::PHASE.put(phase as u64))
    }

    /// The state of the same generation with an owner; 0 if nobody owns the row.
    #[inline]
    pub(crate) fn owned_by(self, participant: u32, phase: RowPhase) -> RowState {
        let others = self.0 & reader::GENERATION.mask();
        let participant = reader::PARTICIPANT.cut(participant.into());
        RowState(others | reader::PARTICIPANT.put(participant) | reader::PHASE.put(phase as u64))
    }

    /// The first state of the next generation.
    #[inline]
    pub(crate) fn taken_by(self, participant: u32, phase: RowPhase) -> RowState {
        let next = RowState(self.0.wrapping_add(reader::GENERATION.put(1)));
        next.owned_by(participant, phase)
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
    pub(crate) const HISTORY: Bit =
        Bit { word: 0, owed: marks::OWED.put(1), held: marks::HELD.put(1) };

    #[inline]
    pub(crate) fn of_reader(index: u32) -> Bit {
        let place = (index & 63) + 1;
        let bit = 1 << (place % MARKS_PER_WORD);
        Bit {
            word: (place / MARKS_PER_WORD) as usize,
            owed: marks::OWED.put(bit),
            held: marks::HELD.put(bit),
        }
    }
}

/// One word of marks: held bits, owed bits and a tag. The tag is the low half of the sequence to
/// which the bits belong, so a late process cannot change the marks of a later sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marks(pub(crate) u64);

impl Marks {
    pub(crate) const OWED: u64 = marks::OWED.mask();
    pub(crate) const HELD: u64 = marks::HELD.mask();
    /// Changes a tag to one that no sample in the order can have: 2^31 away, and the order spans at
    /// most 2^25.
    pub(crate) const REVOKED: u64 = 1 << 63;

    /// Word `word` of the marks that owe `sequence` to each bit of `audience`.
    #[inline]
    pub(crate) fn owing(sequence: u64, audience: Audience, word: usize) -> Marks {
        Marks(marks::TAG.put(sequence) | marks::OWED.put(audience.word(word)))
    }

    #[inline]
    pub(crate) fn is_of(self, sequence: u64) -> bool {
        marks::TAG.get(self.0) == marks::TAG.cut(sequence)
    }

    /// These marks without bits, and with a tag that says that they were revoked.
    #[inline]
    pub(crate) fn revoked(self) -> Marks {
        Marks((self.0 & !(Marks::OWED | Marks::HELD)) ^ Marks::REVOKED)
    }

    /// Whether the marks belonged to `sequence` until a writer revoked them.
    #[inline]
    pub(crate) fn is_revoked_of(self, sequence: u64) -> bool {
        Marks(self.0 ^ Marks::REVOKED).is_of(sequence)
    }

    #[inline]
    pub(crate) fn is_clear(self) -> bool {
        self.bits() == 0
    }

    /// The owed and held bits.
    #[inline(always)]
    pub(crate) fn bits(self) -> u32 {
        const {
            assert!(Marks::OWED | Marks::HELD == u32::MAX as u64);
        }
        self.0 as u32
    }

    /// Owed bits as an audience of word `word`.
    #[inline]
    pub(crate) fn owed(self, word: usize) -> Audience {
        Audience::of_word(marks::OWED.get(self.0), word)
    }

    /// Held bits as an audience of word `word`.
    #[inline]
    pub(crate) fn held(self, word: usize) -> Audience {
        Audience::of_word(marks::HELD.get(self.0), word)
    }

    /// Without the owed bits of these readers, in the first word.
    #[inline(always)]
    pub(crate) fn without_owed(self, readers: Audience) -> Marks {
        Marks(self.0 & !marks::OWED.put(readers.word(0)))
    }

    /// Owed and held bits as an audience of word `word`.
    #[inline]
    pub(crate) fn readers(self, word: usize) -> Audience {
        Audience(self.owed(word).0 | self.held(word).0)
    }

    /// Whether the sample of the marks comes before `sequence`; right within 2^31.
    #[inline]
    pub(crate) fn is_before(self, sequence: u64) -> bool {
        ((marks::TAG.get(self.0) as u32).wrapping_sub(sequence as u32) as i32) < 0
    }
}

/// A set of readers, with history as its lowest bit: reader i is bit i + 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Audience(pub(crate) u64);

impl Audience {
    #[inline]
    pub(crate) fn of_readers(readers: u64, history: bool) -> Audience {
        Audience(readers << 1 | u64::from(history))
    }

    /// Every reader and history.
    pub(crate) const EVERYBODY: Audience = Audience(u64::MAX);

    /// As many of them as one word of marks has, in its lowest bits.
    #[inline]
    pub(crate) fn word(self, word: usize) -> u64 {
        self.0 >> (MARKS_PER_WORD as usize * word) & marks::OWED.max()
    }

    /// Of the bits of one word of marks.
    #[inline]
    fn of_word(bits: u64, word: usize) -> Audience {
        Audience(bits << (MARKS_PER_WORD as usize * word))
    }

    /// The readers alone, reader i as bit i.
    #[inline]
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

/// What a loan was reserved for, in the word beside its claim: its length and its region, in the
/// bits that they have in an [`Extent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reserved(pub(crate) u64);

impl Reserved {
    /// `len` is at most the largest possible payload, 2^32.
    #[inline]
    pub(crate) fn new(len: u64, place: Place) -> Reserved {
        Reserved(region_bits(place) | len)
    }

    #[inline]
    pub(crate) fn len(self) -> u64 {
        extent::LENGTH.get(self.0)
    }

    #[inline]
    pub(crate) fn place(self, slot: u32) -> Place {
        place_of(self.0, slot)
    }

    /// Whether the payload is in the slot itself, and no unused bit above is set.
    #[inline(always)]
    pub(crate) fn is_in_slot(self) -> bool {
        extent::REGION.is_above(self.0)
    }
}

/// The region's number + 1, or 0 for the slot itself.
fn region_bits(place: Place) -> u64 {
    match place {
        Place::Slot(_) => 0,
        Place::Region(region) => extent::REGION.put(extent::REGION.cut(u64::from(region) + 1)),
    }
}

fn place_of(word: u64, slot: u32) -> Place {
    match extent::REGION.get(word) as u32 {
        0 => Place::Slot(slot),
        region => Place::Region(region - 1),
    }
}

/// The extent word of a sample: its length, its region and its writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent(pub(crate) u64);

impl Extent {
    /// Flag: the sample is also owed to readers without a row, which callers track themselves.
    const NAMED: u64 = extent::NAMED.mask();

    /// The extent of a sample at the place that its loan reserved: both words have the region in
    /// the same bits.
    #[inline(always)]
    pub(crate) fn of_reserved(len: u64, owner: Owner, reserved: Reserved, named: bool) -> Extent {
        let region = reserved.0 & extent::REGION.mask();
        let named = extent::NAMED.put(named.into());
        Extent(extent::WRITER.put(owner.0.into()) | region | named | extent::LENGTH.cut(len))
    }

    /// The extent of a sample of `len` bytes in its slot, but for the length: see [`Extent::with`].
    pub(crate) fn in_slot(owner: Owner) -> Extent {
        Extent(extent::WRITER.put(owner.0.into()))
    }

    /// Whether the payload is in its slot and fits the capacity, and no flag is set.
    #[inline(always)]
    pub(crate) fn is_plain(self, capacity: u64) -> bool {
        self.0 & !extent::WRITER.mask() <= capacity
    }

    /// With this length instead of 0.
    #[inline(always)]
    pub(crate) fn with(self, len: u64) -> Extent {
        Extent(self.0 | len)
    }

    #[inline]
    pub(crate) fn place(self, slot: u32) -> Place {
        place_of(self.0, slot)
    }

    #[inline]
    pub(crate) fn is_named(self) -> bool {
        self.0 & Extent::NAMED != 0
    }

    #[inline]
    pub(crate) fn len(self) -> u64 {
        extent::LENGTH.get(self.0)
    }

    #[inline]
    pub(crate) fn writer(self) -> u32 {
        extent::WRITER.get(self.0) as u32
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

/// A loan in one number: generation 36 | slot 24. Its owner is the writer with which it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Token(u64);

impl Token {
    #[inline(always)]
    pub(crate) fn new(slot: u32, generation: u64) -> Token {
        Token(token::GENERATION.put(generation) | token::SLOT.put(slot.into()))
    }

    /// The form in which a caller keeps it.
    #[inline(always)]
    pub(crate) fn number(self) -> u64 {
        self.0
    }

    /// A token as a caller passes it back; stale if no loan can have this number.
    #[inline(always)]
    pub(crate) fn from_number(number: u64) -> Result<Token, Code> {
        if number >> 60 == 0 { Ok(Token(number)) } else { Err(Code::Stale) }
    }

    #[inline(always)]
    pub(crate) fn slot(self) -> u32 {
        token::SLOT.get(self.0) as u32
    }

    #[inline(always)]
    pub(crate) fn generation(self) -> u64 {
        token::GENERATION.get(self.0)
    }

    /// The claim word of this loan, of a writer whose `first` is as [`Ctl::first_of`].
    #[inline(always)]
    pub(crate) fn ctl(self, first: Ctl) -> Ctl {
        let generation = self.0 & token::GENERATION.mask();
        Ctl(generation << (ctl::GENERATION.low() - token::GENERATION.low()) | first.0)
    }

    /// The loan of a claim word.
    #[inline(always)]
    pub(crate) fn of(slot: u32, ctl: Ctl) -> Token {
        let generation = ctl.0 & ctl::GENERATION.mask();
        let generation = generation >> (ctl::GENERATION.low() - token::GENERATION.low());
        Token(generation | token::SLOT.put(slot.into()))
    }
}

/// Which slots a search may take although they hold samples of readers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    AnySlot,
    /// A slot whose sample has a region.
    Region,
}
