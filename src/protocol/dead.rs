//! The participants that are dead.

use crate::layout::MAX_PARTICIPANTS;

/// Dead participants that this thread recovers.
#[derive(Default)]
pub(crate) struct Dead {
    bits: Vec<u64>,
    numbers: Vec<u32>,
}

impl Dead {
    pub(crate) fn insert(&mut self, participant: u32) {
        self.bits.resize(MAX_PARTICIPANTS.div_ceil(64) as usize, 0);
        if let Some(word) = self.bits.get_mut(participant as usize / 64) {
            *word |= 1 << (participant % 64);
        }
        self.numbers.push(participant);
    }

    pub(crate) fn contains(&self, participant: u32) -> bool {
        self.bits
            .get(participant as usize / 64)
            .is_some_and(|word| word >> (participant % 64) & 1 != 0)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.numbers.iter().copied()
    }

    pub(crate) fn count(&self) -> u32 {
        self.numbers.len() as u32
    }
}
