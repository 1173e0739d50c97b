//! The numbers of the writers of one participant.
#![forbid(unsafe_code)]

/// Most writers of one participant: an owner gives a writer 12 bits.
const MAX_WRITERS: u32 = 4096;

/// Numbers in use, one bit each; and whether payloads may be written.
#[derive(Default)]
pub(super) struct Writers {
    taken: Vec<u64>,
    pub(super) payload_writable: bool,
}

impl Writers {
    pub(super) fn count(&self) -> u32 {
        self.taken.iter().map(|word| word.count_ones()).sum()
    }

    /// The lowest free number, which is taken now; `None` if there is none.
    pub(super) fn take(&mut self) -> Option<u32> {
        let number = (0..MAX_WRITERS).find(|n| {
            self.taken.get(*n as usize / 64).is_none_or(|word| word & 1 << (n % 64) == 0)
        })?;
        let word = number as usize / 64;
        if self.taken.len() <= word {
            self.taken.resize(word + 1, 0);
        }
        if let Some(word) = self.taken.get_mut(word) {
            *word |= 1 << (number % 64);
        }
        Some(number)
    }

    pub(super) fn free(&mut self, number: u32) {
        if let Some(word) = self.taken.get_mut(number as usize / 64) {
            *word &= !(1 << (number % 64));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_WRITERS, Writers};

    #[test]
    fn each_number_is_given_once_and_the_lowest_first() {
        let mut writers = Writers::default();
        for number in 0..MAX_WRITERS {
            assert_eq!(writers.take(), Some(number));
        }
        assert_eq!((writers.take(), writers.count()), (None, MAX_WRITERS));
        writers.free(4095);
        writers.free(64);
        assert_eq!((writers.take(), writers.take(), writers.take()), (Some(64), Some(4095), None));
    }
}
