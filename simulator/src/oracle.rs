//! The plain model: what was published, which readers are owed it, and which processes hold it. It
//! is outside of the shared words, and does not know how the protocol records these.
//!
//! Each check is one of the properties of `docs/protocol.md`: P1 one loan a slot, P2 no change
//! while held, P3 each sample once or counted, P4 rising sequences. P5, nothing is leaked, is in
//! `rest.rs`.
//!
//! Stores wait in the buffers of their processes, so each check has to choose its moment. What a
//! process says about *itself* (its commit begins, it gives a sample back, it leaves) holds from
//! its call on, because nothing that it did before can be seen later than what it does after. What
//! others can *see* (an entry, the bytes of a payload, a loan) happens when it reaches the memory:
//! the machine calls `publish`, `write` and `expel` then, and holds what a writer notes between its
//! stores until those before it have drained (`Noted`). So this model knows one order, that of the
//! memory.

use crate::protocol::shape::Shape;
use crate::protocol::words::{Entry, Place};
use crate::scheduler::SCHEDULED;
use crate::world::{MAX_ROWS, MAX_SLOTS};

/// A published sample.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) slot: u32,
    pub(crate) commit: Commit,
    /// The named readers that have not marked it.
    pub(crate) unread: u64,
    /// The step at which its commit had ended, if it has.
    ended: Option<u64>,
}

/// What a writer passes to its readers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Commit {
    pub(crate) process: usize,
    pub(crate) slot: u32,
    pub(crate) value: u64,
    pub(crate) place: Place,
    pub(crate) len: u64,
    /// The step at which the call began.
    pub(crate) begun: u64,
    pub(crate) named: u64,
}

/// A sample that a process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hold {
    process: usize,
    slot: u32,
    place: Place,
    sequence: u64,
}

/// A reader that is a member: from the end of its join to the beginning of its leave.
#[derive(Clone, Copy, Debug)]
struct Member {
    process: usize,
    /// The steps at which its join began, and at which it had joined.
    joining: u64,
    joined: u64,
    /// Whether it has read a sample.
    has_read: bool,
    /// It has read, or lost, everything before this.
    cursor: u64,
    /// Of its row.
    generation: u32,
}

/// What a look for the next sample did to a reader.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// Its place before and after.
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) since: u64,
    /// By how much its lost count has grown.
    pub(crate) lost: u64,
    pub(crate) found: Option<u64>,
    /// Samples that were published as the look began.
    pub(crate) published: u64,
}

#[derive(Default)]
pub(crate) struct Oracle {
    drop_oldest: bool,
    /// The sample of sequence s is at s - 1.
    samples: Vec<Sample>,
    /// By slot: the process that has it on loan; the last sequence in it.
    loans: Vec<Option<usize>>,
    last: Vec<Option<u64>>,
    /// What is being committed, in the order in which the commits began. Those of a batch begin
    /// together. A writer that owes nothing to anybody may fill a slot again while its publication is
    /// in its buffer, so a slot may occur twice.
    commits: Vec<Commit>,
    holds: Vec<Hold>,
    members: Vec<Option<Member>>,
    /// By row: the generation of its last reader that was expelled; 0 if none was.
    expelled: Vec<u32>,
    /// By process, while it reserves: the named readers that it waits for.
    waiting: [Option<u64>; SCHEDULED],
    /// By process: the readers that it has named for its next commit, and that nobody has
    /// disconnected since.
    naming: [u64; SCHEDULED],
    /// By process, while it disconnects: the named reader, as a bit.
    disconnecting: [u64; SCHEDULED],
}

type Checked = Result<(), String>;

impl Oracle {
    pub(crate) fn reset(&mut self, shape: &Shape) {
        self.drop_oldest = shape.drop_oldest;
        self.samples.clear();
        self.holds.clear();
        self.loans.clear();
        self.loans.resize(MAX_SLOTS as usize, None);
        self.commits.clear();
        self.last.clear();
        self.last.resize(MAX_SLOTS as usize, None);
        self.members.clear();
        self.members.resize(MAX_ROWS as usize, None);
        self.expelled.clear();
        self.expelled.resize(MAX_ROWS as usize, 0);
        self.waiting = [None; SCHEDULED];
        self.naming = [0; SCHEDULED];
        self.disconnecting = [0; SCHEDULED];
    }

    pub(crate) fn published(&self) -> u64 {
        self.samples.len() as u64
    }

    pub(crate) fn sample(&self, sequence: u64) -> Option<&Sample> {
        self.samples.get(sequence.checked_sub(1)? as usize)
    }

    pub(crate) fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// A slot was reserved; its readers and other writers are done with it. `waited_for` are the
    /// named readers whose marks it requires.
    ///
    /// This counts from the drain: the loan comes after the publication of what the same writer had
    /// committed in the slot before.
    pub(crate) fn reserve(&mut self, process: usize, slot: u32, waited_for: u64) -> Checked {
        let index = slot as usize;
        if let Some(other) = self.loans[index] {
            return Err(format!("P1: slot {slot} is on loan to process {other}"));
        }
        if let Some(hold) = self.holds.iter().find(|hold| hold.slot == slot) {
            return Err(format!("P2: reserved slot {slot}, {}", hold.tell()));
        }
        if let Some(sequence) = self.last[index] {
            let sample = &mut self.samples[sequence as usize - 1];
            let owed = sample.unread & waited_for;
            if owed != 0 {
                return Err(format!(
                    "P3: reserved slot {slot}, and readers {owed:#b} are named in {sequence}"
                ));
            }
            // The others have lost it: their caller does not count them any more.
            sample.unread = 0;
            let begun = sample.commit.begun;
            let owed = |member: &Member| begun > member.joined && member.cursor <= sequence;
            // An expelled one is owed nothing.
            let rows = (0..).zip(&self.members).zip(&self.expelled);
            let mut members = rows.filter_map(|((row, member), expelled)| {
                let member = (*member)?;
                (member.generation != *expelled).then_some((row, member))
            });
            match members.find(|(_, member)| owed(member)) {
                Some((row, _)) if !self.drop_oldest => {
                    return Err(format!(
                        "P3: reserved slot {slot}, and reader {row} is owed {sequence}"
                    ));
                }
                _ => {}
            }
        }
        self.loans[index] = Some(process);
        Ok(())
    }

    /// This counts from the drain, because the loan does.
    pub(crate) fn discard(&mut self, slot: u32) {
        self.loans[slot as usize] = None;
    }

    /// This counts from the call: a reader that has joined before is owed the sample, whenever it
    /// is published.
    pub(crate) fn begin_commit(&mut self, commit: Commit) {
        self.commits.push(commit);
    }

    /// A call that was to commit this has left it as it was. What a writer publishes after that, it
    /// does not commit.
    pub(crate) fn withdraw_commit(&mut self, value: u64) {
        self.commits.retain(|commit| commit.value != value);
    }

    /// Whether a process has begun a commit in this slot that is not published.
    pub(crate) fn is_committing(&self, process: usize, slot: u32) -> bool {
        self.commits.iter().any(|commit| (commit.process, commit.slot) == (process, slot))
    }

    /// An entry of the order was written, which is the publication. This counts from the drain: a
    /// commit that has returned may have its publication in the buffer of its process, and then no
    /// reader has to find it, and no writer to come after it.
    pub(crate) fn publish(&mut self, process: usize, entry: Entry) -> Checked {
        let (sequence, slot) = (entry.0 >> 24, entry.slot());
        if sequence != self.published() + 1 {
            return Err(format!("P4: {sequence} is published after {}", self.published()));
        }
        let this = |commit: &Commit| (commit.process, commit.slot) == (process, slot);
        let Some(index) = self.commits.iter().position(this) else {
            return Err(format!(
                "P1: slot {slot} is published as {sequence}, and its writer does not commit it"
            ));
        };
        let commit = self.commits.remove(index);
        let disconnecting = self.disconnecting.iter().fold(0, |all, one| all | one);
        self.samples.push(Sample {
            slot,
            commit,
            unread: commit.named & !disconnecting,
            ended: None,
        });
        self.last[slot as usize] = Some(sequence);
        self.loans[slot as usize] = None;
        Ok(())
    }

    /// A commit has ended, and told its caller this sequence. This counts from the drain: until
    /// then others see a commit under way.
    pub(crate) fn end_commit(&mut self, sequence: u64, value: u64, ended: u64) -> Checked {
        let sample = sequence.checked_sub(1).and_then(|at| self.samples.get_mut(at as usize));
        match sample.filter(|sample| sample.commit.value == value) {
            Some(sample) => {
                sample.ended = Some(ended);
                Ok(())
            }
            None => Err(format!("P4: its commit was told to be {sequence}")),
        }
    }

    /// A process writes to a payload: no process may hold it. This counts from the drain, when the
    /// bytes change.
    pub(crate) fn write(&self, place: Place) -> Checked {
        match self.holds.iter().find(|hold| hold.place == place) {
            Some(hold) => Err(format!("P2: wrote to {place:?}, {}", hold.tell())),
            None => Ok(()),
        }
    }

    /// A reader has taken a sample. This counts from the call, whose loads have seen the sample.
    /// The hold ends when the call of the mark begins, as the reader has read the bytes by then.
    pub(crate) fn hold(
        &mut self,
        process: usize,
        slot: u32,
        place: Place,
        sequence: u64,
    ) -> Checked {
        let Some(sample) = self.sample(sequence) else {
            return Err(format!("P3: got {sequence}, which was never published"));
        };
        if sample.slot != slot || sample.commit.place != place {
            let right = sample.commit.place;
            return Err(format!(
                "P3: got {sequence} at {place:?}, and it was published at {right:?}"
            ));
        }
        if let Some(writer) = self.loans[slot as usize] {
            return Err(format!(
                "P2: got {sequence} from slot {slot}, which process {writer} has on loan"
            ));
        }
        self.holds.push(Hold { process, slot, place, sequence });
        Ok(())
    }

    pub(crate) fn release(&mut self, process: usize, slot: u32, sequence: u64) {
        let this =
            |hold: &Hold| (hold.process, hold.slot, hold.sequence) == (process, slot, sequence);
        if let Some(index) = self.holds.iter().position(this) {
            self.holds.swap_remove(index);
        }
    }

    pub(crate) fn join(
        &mut self,
        process: usize,
        row: u32,
        generation: u32,
        [joining, joined]: [u64; 2],
        cursor: u64,
    ) -> Checked {
        let member = Member { process, joining, joined, has_read: false, cursor, generation };
        match self.members[row as usize].replace(member) {
            Some(other) => Err(format!("row {row} belongs to process {}", other.process)),
            None => Ok(()),
        }
    }

    pub(crate) fn leave(&mut self, row: u32) {
        self.members[row as usize] = None;
    }

    /// The state of a row says that its reader is expelled.
    pub(crate) fn expel(&mut self, row: u32, generation: u32) {
        self.expelled[row as usize] = generation;
    }

    /// A member looked for its next sample.
    pub(crate) fn look(&mut self, row: u32, look: Look) -> Checked {
        let Some(member) = self.members[row as usize] else {
            return Err(format!("row {row} has no member"));
        };
        let passed = look.from..look.found.unwrap_or(look.to);
        if look.to < look.from || look.found.is_some_and(|found| found < look.from) {
            return Err(format!("P4: went back from {} to {}", look.from, look.to));
        }
        if passed.end > self.published() + 1 {
            return Err(format!("P3: went to {}, which is not published", passed.end));
        }
        if look.found.is_none() && look.to <= look.published {
            return Err(format!(
                "P3: found nothing at {}, and {} was published",
                look.to, look.published
            ));
        }
        // Samples that were owed for certain, and those that may have been: commits under way as it
        // joined.
        let is_owed =
            |sequence: &u64| self.samples[*sequence as usize - 1].commit.begun > member.joined;
        let owed = passed.clone().filter(is_owed).count() as u64;
        let may_be = passed.end.saturating_sub(passed.start.max(look.since));
        if !self.drop_oldest && owed > 0 {
            return Err(format!("P3: passed over {passed:?}, of which it is owed {owed}"));
        }
        // What a reader gets from history has no hole, except where a commit was under way as it
        // joined.
        let before_it = |sample: &&Sample| sample.ended.is_some_and(|ended| ended < member.joining);
        let holes = passed.clone().filter(|sequence| *sequence < look.since);
        let holes = holes.filter_map(|sequence| self.samples.get(sequence as usize - 1));
        if !self.drop_oldest && member.has_read && holes.filter(before_it).count() > 0 {
            return Err(format!("P3: passed over {passed:?} of history, after older ones"));
        }
        let most = if self.drop_oldest { may_be } else { 0 };
        if look.lost < owed || look.lost > most {
            let lost = look.lost;
            return Err(format!(
                "P3: passed over {passed:?}, owed {owed} to {may_be}, and counted {lost} lost"
            ));
        }
        self.members[row as usize] = Some(Member {
            cursor: look.to,
            has_read: member.has_read || look.found.is_some(),
            ..member
        });
        Ok(())
    }

    /// A process begins or ends a search for a slot that it may take from every named reader except
    /// these.
    pub(crate) fn wait_for(&mut self, process: usize, named: Option<u64>) {
        self.waiting[process] = named;
    }

    /// A process has named readers.
    pub(crate) fn name(&mut self, process: usize, readers: u64) {
        self.naming[process] = readers;
    }

    /// Those of them for which it commits.
    pub(crate) fn named_by(&self, process: usize) -> u64 {
        self.naming[process]
    }

    /// A named reader marks the sample in a slot. This counts from the drain, because the reader
    /// may have written the sample itself.
    pub(crate) fn mark_named(&mut self, reader: u32, slot: u32) {
        if let Some(sequence) = self.last[slot as usize] {
            self.samples[sequence as usize - 1].unread &= !(1 << reader);
        }
    }

    /// A process begins or ends to mark everything for this named reader. What is committed
    /// meanwhile may or may not be marked.
    pub(crate) fn disconnect(&mut self, process: usize, reader: Option<u32>) {
        let gone = reader.map_or(self.disconnecting[process], |reader| 1 << reader);
        self.disconnecting[process] = if reader.is_some() { gone } else { 0 };
        self.samples.iter_mut().for_each(|sample| sample.unread &= !gone);
        self.commits.iter_mut().for_each(|commit| commit.named &= !gone);
        self.naming.iter_mut().for_each(|readers| *readers &= !gone);
    }

    /// A process was killed, and its buffer has drained. It reads nothing any more, and what it has
    /// not published never will be; its loans stay its own until it is recovered.
    pub(crate) fn die(&mut self, process: usize) {
        self.commits.retain(|commit| commit.process != process);
        self.holds.retain(|hold| hold.process != process);
        for member in &mut self.members {
            member.take_if(|member| member.process == process);
        }
        self.disconnect(process, None);
        // It may have taken a sample away from readers that it did not wait for, and no more.
        if let Some(named) = self.waiting[process].take() {
            self.samples.iter_mut().for_each(|sample| sample.unread &= named);
        }
    }

    /// A process begins to recover the dead.
    pub(crate) fn sweep(&mut self, dead: u32) {
        for loan in &mut self.loans {
            loan.take_if(|process| dead >> *process & 1 != 0);
        }
    }
}

impl Hold {
    fn tell(&self) -> String {
        let Hold { process, sequence, place, .. } = self;
        format!("which process {process} has in hand: {sequence} at {place:?}")
    }
}
