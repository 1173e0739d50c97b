//! The bit fields of words that have several. Whoever packs a word, whoever unpacks it, and the
//! test that reads the page use the same declaration.
#![forbid(unsafe_code)]

/// A bit field: where its lowest bit is, and how many bits it has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    low: u32,
    bits: u32,
}

impl Field {
    pub(crate) const fn new(low: u32, bits: u32) -> Field {
        Field { low, bits }
    }

    /// Its lowest bit.
    #[inline(always)]
    pub(crate) const fn low(self) -> u32 {
        self.low
    }

    /// The largest value.
    #[inline(always)]
    pub(crate) const fn max(self) -> u64 {
        u64::MAX >> (64 - self.bits)
    }

    /// The field's bits in its word.
    #[inline(always)]
    pub(crate) const fn mask(self) -> u64 {
        self.max() << self.low
    }

    /// The lowest bits of a value, as many as the field has.
    #[inline(always)]
    pub(crate) const fn cut(self, value: u64) -> u64 {
        value & self.max()
    }

    /// A word with this value in the field, and 0 elsewhere. The value fits; in the highest field
    /// of a word, what does not fit is cut off.
    #[inline(always)]
    pub(crate) const fn put(self, value: u64) -> u64 {
        value << self.low
    }

    /// Whether a word has no bit from this field on.
    #[inline(always)]
    pub(crate) const fn is_above(self, word: u64) -> bool {
        word >> self.low == 0
    }

    /// The value in a word. Masking before the shift costs fewer instructions than after it,
    /// because callers compare or keep the masked bits too.
    #[inline(always)]
    pub(crate) const fn get(self, word: u64) -> u64 {
        (word & self.mask()) >> self.low
    }
}

/// Declares the fields of words: each with its lowest bit and its number of bits.
macro_rules! fields {
    ($($word:ident $table:literal of $size:literal {
        $($field:ident $name:literal $low:literal $bits:literal;)+
    })+) => {
        $(
            pub(crate) mod $word {
                use super::Field;
                $(pub(crate) const $field: Field = Field::new($low, $bits);)+
            }

            // From bit 0 on, none overlap and none is left out.
            const _: () = {
                let mut next = 0;
                $(
                    assert!($word::$field.low == next);
                    next += $word::$field.bits;
                )+
                assert!(next == $size);
            };
        )+

        /// All of them: the word, the field, its lowest bit and its number of bits, by the names of
        /// `docs/segment-layout.md`.
        pub const BIT_FIELDS: &[(&str, &str, u32, u32)] = &[$($(($table, $name, $low, $bits)),+),+];
    };
}

fields! {
    owner "owner" of 24 {
        WRITER "writer" 0 12;
        PARTICIPANT "participant" 12 12;
    }
    ctl "claim.ctl" of 64 {
        PHASE "phase" 0 4;
        OWNER "owner" 4 24;
        GENERATION "generation" 28 36;
    }
    token "token" of 60 {
        SLOT "slot" 0 24;
        GENERATION "generation" 24 36;
    }
    entry "line.entry" of 64 {
        SLOT "slot" 0 24;
        SEQUENCE "sequence" 24 40;
    }
    marks "line.marks" of 64 {
        HELD "held" 0 16;
        OWED "owed" 16 16;
        TAG "tag" 32 32;
    }
    extent "line.extent" of 64 {
        LENGTH "length" 0 33;
        NAMED "named" 33 1;
        REGION "region" 34 6;
        WRITER "writer" 40 24;
    }
    lease "region.lease" of 64 {
        STATE "state" 0 4;
        NUMBER "number" 4 24;
        GENERATION "generation" 28 36;
    }
    attention "attention" of 64 {
        STATE "state" 0 3;
        COUNT "count" 3 61;
    }
    reader "reader.state" of 64 {
        PHASE "phase" 0 8;
        PARTICIPANT "participant" 8 24;
        GENERATION "generation" 32 32;
    }
    bell "bells" of 32 {
        ARMED "armed" 0 1;
        WATCHED "watched" 1 1;
        WAKING "waking" 2 1;
        FD_ARMED "fd_armed" 3 1;
        FD_WAKING "fd_waking" 4 1;
        COUNT "count" 5 27;
    }
}
