//! Many loans at once, in the order in which `Writer` calls the protocol.

use crate::machine::Noted;
use crate::protocol::batch::{self, RUN};
use crate::protocol::calm::Right;
use crate::protocol::commit::Owed;
use crate::protocol::shape::KindOf;
use crate::protocol::words::Token;

use super::{Filled, Producer, token_of};

impl Producer {
    /// As [`Producer::try_fill`], for a call that has reserved `count` loans already.
    pub(crate) fn try_fill_next(&self, count: usize, len: u64) -> Option<Filled> {
        if count == 0 || !self.claims_quickly(len) {
            return self.try_fill(len);
        }
        let in_order = self.try_claim_in_order(&self.machine.world.table(), count as u64, len);
        in_order.map(|loan| self.fill_slot(loan, len)).or_else(|| self.try_fill(len))
    }

    /// Commits loans, as many at once as it can, and the others singly.
    pub(crate) fn commit_many(&self, loans: &[Filled], right: Right) {
        let mut left = loans;
        while !left.is_empty() {
            let run = left.len().min(RUN);
            let done = self.commit_at_once(&left[..run], right);
            left = &left[done..];
            if done == run {
                continue;
            }
            if let Some((first, others)) = left.split_first() {
                self.commit(*first, Owed::Members, right);
                left = others;
            }
        }
    }

    /// Commits the first of the loans with one look at what others do; returns how many.
    fn commit_at_once(&self, run: &[Filled], right: Right) -> usize {
        let table = &self.machine.world.table();
        let commit = match self.kind {
            KindOf::CalmAlone => batch::commit::<true>,
            KindOf::CalmAmong => batch::commit::<false>,
            KindOf::Dropping | KindOf::Any => return 0,
        };
        run.iter().for_each(|filled| self.begin_commit(*filled, Owed::Members));

        let memory = &self.calm.memory;
        if table.attention().look() != memory.known().outlook {
            memory.learn(table);
        }
        let (known, guess) = (memory.known(), self.calm.guess());
        let loans: Vec<(Token, u64)> =
            run.iter().map(|filled| (token_of(filled.loan), filled.len)).collect();
        let done = commit(table, &self.hand, known, &loans, right, guess);

        let sequences = done.sequences();
        let count = sequences.len();
        self.tell_commits(run, sequences);
        let Some(&last) = sequences.last() else { return 0 };
        if self.kind == KindOf::CalmAmong {
            self.calm.note(table, last, count as u64);
        }
        if table.attention().look() != known.outlook {
            self.calm.settle(table, count as u32);
        }
        count
    }

    /// Records the sequences that a call has told for the first loans. With the others it has done
    /// nothing.
    fn tell_commits(&self, run: &[Filled], sequences: &[u64]) {
        for (Filled { value, .. }, &sequence) in run.iter().zip(sequences) {
            self.machine.note_in_order(Noted::Committed { sequence, value: *value });
        }
        let mut oracle = self.machine.oracle.borrow_mut();
        for Filled { value, .. } in &run[sequences.len()..] {
            oracle.withdraw_commit(*value);
        }
    }
}
