//! The meaning of a seed: a segment, its processes, what each of them does, and the faults that it
//! meets.

use crate::protocol::shape::Shape;
use crate::random::Random;
use crate::scheduler::Pace;

pub(crate) const MAX_PROCESSES: usize = 8;
/// Readers of reference operations, which have no rows: these numbers are left free for them.
pub(crate) const NAMED_READERS: u32 = 2;
const MAX_WRITERS: u32 = 3;
/// Processes that read. Each may have two rows: one that is joined, and one that has left with
/// samples held.
const MAX_READERS: u32 = 3;

/// One call of a process. Each takes its parameters from the number beside it; an impossible call
/// does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Write,
    WriteWaiting,
    Reserve,
    Commit,
    /// Several slots.
    ReserveMany,
    /// All loans, as one batch.
    CommitMany,
    /// Reserves several, and commits all.
    WriteMany,
    Discard,
    CloseWriter,
    Trim,
    Join,
    Leave,
    Read,
    ReadWaiting,
    Take,
    Mark,
    /// Several samples, with one move of the cursor.
    ReadMany,
    /// All that it holds, as one batch.
    MarkMany,
    /// Reads several, and marks all.
    TakeMany,
    Peek,
    Recover,
    /// Ends the membership of a reader.
    Expel,
    /// Reserves and commits for readers that are named.
    NamedWrite,
    /// Looks for the oldest sample that a named reader has not marked.
    NamedLook,
    /// Looks for it, and marks it.
    NamedTake,
    /// Looks for what is published in each slot.
    Scan,
    Disconnect,
}

use Operation::*;

/// A fault that a process meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Kill,
    /// Until so many samples were published meanwhile, or nothing else can continue.
    Stop(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) operation: Operation,
    pub(crate) number: u32,
    /// The access of this operation that it precedes.
    pub(crate) fault: Option<(u32, Fault)>,
}

/// A run without the order of its steps.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) seed: u64,
    pub(crate) shape: Shape,
    pub(crate) rows: u32,
    pub(crate) regions: u32,
    /// Whether some processes track named readers.
    pub(crate) named: bool,
    /// Whether writers wait when nothing is free.
    pub(crate) waits: bool,
    /// Whether a segment that could be calm never is: some process has no heavy fence.
    pub(crate) pinned: bool,
    /// After so many commits that are not calm, a writer tries to make the segment calm.
    pub(crate) patience: u32,
    pub(crate) pace: Pace,
    /// The logarithm of the most steps for which a store waits in the buffer of its process; at 0
    /// there are no buffers.
    pub(crate) longest_delay: u32,
    pub(crate) plans: Vec<Vec<Planned>>,
}

/// What a process does: its operations, and how often it does each.
type Role = &'static [(Operation, u32)];

const WRITER: Role = &[
    (Write, 30),
    (WriteWaiting, 8),
    (Reserve, 10),
    (Commit, 12),
    (Discard, 4),
    (ReserveMany, 6),
    (CommitMany, 8),
    (WriteMany, 12),
    (CloseWriter, 1),
    (Trim, 2),
    (Recover, 2),
    (Expel, 1),
];
const READER: Role = &[
    (Join, 2),
    (Leave, 2),
    (Read, 14),
    (ReadWaiting, 5),
    (Take, 12),
    (Mark, 12),
    (ReadMany, 6),
    (MarkMany, 6),
    (TakeMany, 8),
    (Peek, 4),
    (Recover, 2),
    (Expel, 1),
];
const KEEPER: Role = &[
    (NamedWrite, 20),
    (NamedLook, 4),
    (NamedTake, 10),
    (Disconnect, 2),
    (Write, 4),
    (Recover, 2),
    (Scan, 3),
];

impl Case {
    pub(crate) fn empty() -> Case {
        let shape = Shape {
            slots: 1,
            capacity: CAPACITY,
            max_payload: 0,
            mark_words: 1,
            history: 0,
            single_writer: false,
            drop_oldest: false,
            timestamps: false,
            shift: None,
            log2: 0,
            receipts: false,
        };
        let plans = vec![Vec::new(); MAX_PROCESSES];
        Case {
            seed: 0,
            shape,
            rows: 1,
            regions: 0,
            named: false,
            waits: false,
            pinned: false,
            patience: 1,
            pace: Pace::Uniform(1),
            longest_delay: 0,
            plans,
        }
    }

    /// Becomes the run of `seed`, and reuses the memory.
    pub(crate) fn become_seed(&mut self, seed: u64) {
        let random = &mut Random::new(seed);
        self.seed = seed;
        // Half of the runs are of segments that can be calm; of the others, some are, too.
        let plain = random.one_in(2);
        let slots = match (plain, random.below(32)) {
            (true, below @ 0..24) => 1 << (below % 3),
            (true, 24..29) => 8,
            (true, 29..31) => 16,
            (true, _) => 64,
            (false, 0..26) => random.within(1, 4),
            (false, 26..31) => 8,
            (false, _) => 65,
        };
        let history = if !plain && random.one_in(3) { random.below(slots.min(4)) } else { 0 };
        let two_words = !plain && random.one_in(4);
        let drop_oldest = !plain && random.one_in(2);
        self.named = !drop_oldest && random.one_in(3);
        self.rows = match (two_words, self.named) {
            (true, _) => random.within(15, 17),
            // So many that no reader gets the number of a named one, even if each process is still
            // expelling the last reader of another row.
            (false, true) => NAMED_READERS + 2 * MAX_READERS + MAX_WRITERS + MAX_READERS,
            (false, false) => random.within(1, 4),
        };
        self.regions = if random.one_in(3) { random.within(history + 1, 4) } else { 0 };
        // Sleepers are what a calm segment must notice.
        self.waits = if plain { !random.one_in(4) } else { random.one_in(2) };
        self.shape = Shape {
            slots,
            capacity: CAPACITY,
            max_payload: if self.regions > 0 { 2 * CAPACITY } else { 0 },
            mark_words: (self.rows + 1).div_ceil(16) as usize,
            history,
            single_writer: random.one_in(4),
            drop_oldest,
            timestamps: !plain && random.one_in(8),
            shift: slots.is_power_of_two().then(|| slots.trailing_zeros()),
            log2: 0,
            receipts: false,
        }
        .completed();
        self.pinned = random.one_in(8);
        self.patience = random.within(1, 8);
        let length = match random.below(1024) {
            0 => 1500,
            1..24 => 150,
            24..512 => random.within(4, 12),
            _ => random.within(12, 30),
        };
        self.plans.iter_mut().for_each(Vec::clear);
        let (writers, readers) = (random.within(1, MAX_WRITERS), random.within(1, MAX_READERS));
        let keepers = if self.named { random.within(1, 2) } else { 0 };
        let mut plans = self.plans.iter_mut();
        for (role, count) in [(WRITER, writers), (READER, readers), (KEEPER, keepers)] {
            for plan in plans.by_ref().take(count as usize) {
                let busy = random.within(length / 2, length * 3 / 2) as usize;
                make_plan(random, role, busy, plan);
            }
        }
        let steps = u64::from(length) * u64::from(writers + readers) * 20;
        self.pace = match random.below(8) {
            0..4 => Pace::Uniform(1 << random.below(5)),
            _ => Pace::Priorities { changes: random.within(1, 5), among: steps as u32 },
        };
        self.longest_delay = random.below(11);
        for _ in 0..random.below(3) * (1 + length / 50) {
            self.befall(random, Fault::Kill);
        }
        for _ in 0..random.below(4) * (1 + length / 50) {
            let laps = if random.one_in(4) { u32::MAX } else { random.below(4 * slots + 2) };
            self.befall(random, Fault::Stop(laps));
        }
    }

    fn befall(&mut self, random: &mut Random, fault: Fault) {
        let plan = random.below(MAX_PROCESSES as u32) as usize;
        let plan = &mut self.plans[plan];
        if plan.is_empty() {
            return;
        }
        let at = random.below(plan.len() as u32) as usize;
        // Most operations take so many accesses; walks over all slots and batches take more.
        let accesses = match random.below(8) {
            0 => 400,
            1..3 => 120,
            _ => 30,
        };
        plan[at].fault = Some((random.below(accesses), fault));
    }
}

/// Bytes of a slot.
pub(crate) const CAPACITY: u64 = 8;

fn make_plan(random: &mut Random, role: Role, length: usize, plan: &mut Vec<Planned>) {
    // Some operations are left out in each process, so that the others coincide more often.
    let chosen = random.next() as u32;
    let weight = |(index, (_, weight)): (usize, &(Operation, u32))| match chosen >> (2 * index) & 3
    {
        0 => 0,
        1 => 4 * weight,
        _ => *weight,
    };
    let weights = role.iter().enumerate().map(weight);
    if weights.clone().sum::<u32>() == 0 {
        return;
    }
    for _ in 0..length {
        let (operation, _) = role[random.weighted(weights.clone())];
        plan.push(Planned { operation, number: random.next() as u32, fault: None });
    }
}
