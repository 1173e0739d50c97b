//! Runs a case: processes as coroutines of one thread, one step at a time, and their faults.

mod buffers;
mod running;

use std::cell::{Cell, RefCell};

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, Yielder};

use crate::case::{Case, Fault, MAX_PROCESSES};
use crate::oracle::Oracle;
use crate::process;
use crate::protocol::hold::{self, Cursor};
use crate::protocol::loan;
use crate::protocol::words::Bit;
use crate::rest;
use crate::scheduler::{DRAINS, SCHEDULED, Scheduler, Turn};
use crate::trace::Event;
use crate::world::World;

use buffers::Buffers;
pub(crate) use buffers::{Noted, Stored};

/// The process that recovers what nobody else recovered.
pub(crate) const UNDERTAKER: usize = MAX_PROCESSES;

/// More accesses than any call makes: a joining reader polls a commit that is not over 65536 times.
const ENDLESS: u32 = 1_000_000;

/// An access to a word in memory, or a load of a value that waits in the buffer of its process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    pub(crate) word: usize,
    pub(crate) before: u64,
    /// `None` if it was only a load.
    pub(crate) after: Option<u64>,
}

/// The parts of a run. Each process waits for the next part when it is done with its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Plans,
    Burial,
    /// Remaining loans are committed or discarded.
    EndOfLoans,
    /// Readers read what is left and mark everything.
    Drain,
    /// They leave.
    Leave,
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    /// It never existed, is done, or was recovered.
    Gone,
    Ready,
    /// Until so many samples are published.
    Stopped(u64),
    /// On the futex at this address.
    Asleep(usize),
    /// For this part of the run.
    Waits(Part),
    Dead,
}

/// What a process sleeps for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Awaited {
    Space,
    Sample(Bit, Cursor),
}

/// What is known of a process.
pub(crate) struct Control {
    status: Cell<Status>,
    next_operation: Cell<usize>,
    /// Accesses of its current operation, and the one at which it meets a fault.
    steps: Cell<u32>,
    alarm: Cell<u32>,
    fault: Cell<Option<Fault>>,
    /// The dead that it is recovering, as bits.
    sweeps: Cell<u32>,
    awaited: Cell<Awaited>,
    /// Samples that it has filled, over all of its lives.
    pub(crate) filled: Cell<u32>,
    yielder: Cell<*const Yielder<(), ()>>,
}

/// One thread's simulator, which makes one run after another.
pub(crate) struct Machine {
    pub(crate) world: World,
    pub(crate) oracle: RefCell<Oracle>,
    pub(crate) case: RefCell<Case>,
    controls: [Control; SCHEDULED],
    scheduler: RefCell<Scheduler>,
    buffers: Buffers,
    /// Processes that can make a step, as bits; killed ones that nobody has recovered; those to be
    /// started.
    ready: Cell<u32>,
    dead: Cell<u32>,
    starting: Cell<u32>,
    running: Cell<usize>,
    next: Cell<Option<usize>>,
    part: Cell<Part>,
    steps: Cell<u64>,
    failure: RefCell<Option<String>>,
    pub(crate) trace: RefCell<Option<Vec<Event>>>,
    stacks: RefCell<Vec<DefaultStack>>,
}

thread_local! {
    /// The machine whose process this thread runs at the moment.
    static RUNNING: Cell<Option<&'static Machine>> = const { Cell::new(None) };
}

/// The machine whose process runs.
#[inline(always)]
pub(crate) fn running() -> Option<&'static Machine> {
    RUNNING.get()
}

/// Acts on the machine if a process runs; what happens between runs is no step of a process.
#[inline(always)]
pub(crate) fn with(act: impl FnOnce(&'static Machine)) {
    if let Some(machine) = running() {
        act(machine);
    }
}

impl Machine {
    /// Lives as long as the program: its processes refer to it from their own stacks.
    pub(crate) fn new() -> &'static Machine {
        let control = |_| Control {
            status: Cell::new(Status::Gone),
            next_operation: Cell::new(0),
            steps: Cell::new(0),
            alarm: Cell::new(0),
            fault: Cell::new(None),
            sweeps: Cell::new(0),
            awaited: Cell::new(Awaited::Space),
            filled: Cell::new(0),
            yielder: Cell::new(std::ptr::null()),
        };
        Box::leak(Box::new(Machine {
            world: World::new(),
            oracle: RefCell::default(),
            case: RefCell::new(Case::empty()),
            controls: std::array::from_fn(control),
            scheduler: RefCell::new(Scheduler::repeating(Vec::new())),
            buffers: Buffers::default(),
            ready: Cell::new(0),
            dead: Cell::new(0),
            starting: Cell::new(0),
            running: Cell::new(0),
            next: Cell::new(None),
            part: Cell::new(Part::Plans),
            steps: Cell::new(0),
            failure: RefCell::new(None),
            trace: RefCell::new(None),
            stacks: RefCell::default(),
        }))
    }

    /// Runs its case in the order that `scheduler` chooses; returns what was broken.
    pub(crate) fn run(&'static self, scheduler: Scheduler) -> Option<String> {
        *self.scheduler.borrow_mut() = scheduler;
        self.reset();
        let mut coroutines = [const { None }; SCHEDULED];
        while self.failure.borrow().is_none() {
            self.start(&mut coroutines);
            if self.ready.get() == 0 {
                if self.part.get() == Part::Over {
                    break;
                }
                self.unstick();
                continue;
            }
            let chosen = match self.next.take().map_or_else(|| self.choose(), Ok) {
                Ok(chosen) => chosen,
                Err(broken) => {
                    self.fail_at_rest(broken);
                    break;
                }
            };
            self.running.set(chosen);
            let Some(coroutine) = &mut coroutines[chosen] else {
                unreachable!("a ready process has started")
            };
            RUNNING.set(Some(self));
            let result = coroutine.resume(());
            RUNNING.set(None);
            if result.as_return().is_some() {
                self.set_status(chosen, Status::Gone);
            }
            if matches!(self.controls[chosen].status.get(), Status::Gone | Status::Dead) {
                self.end(&mut coroutines[chosen]);
            }
        }
        coroutines.iter_mut().for_each(|coroutine| self.end(coroutine));
        self.failure.take().or_else(|| rest::check(self).err())
    }

    fn reset(&self) {
        let case = self.case.borrow();
        self.world.reset(&case);
        self.buffers.reset(case.longest_delay);
        self.oracle.borrow_mut().reset(&case.shape);
        for control in &self.controls {
            control.status.set(Status::Gone);
            control.next_operation.set(0);
            control.sweeps.set(0);
            control.filled.set(0);
        }
        let plans = case.plans.iter().enumerate();
        let busy = plans
            .filter(|(_, plan)| !plan.is_empty())
            .fold(0, |busy, (index, _)| busy | 1 << index);
        self.ready.set(0);
        self.dead.set(0);
        self.starting.set(busy);
        self.running.set(0);
        self.next.set(None);
        self.part.set(Part::Plans);
        self.steps.set(0);
    }

    /// Starts the processes that are to be started.
    fn start(&'static self, coroutines: &mut [Option<Process>; SCHEDULED]) {
        let starting = self.starting.take();
        if starting == 0 {
            return;
        }
        for (index, coroutine) in coroutines.iter_mut().enumerate() {
            if starting >> index & 1 != 0 {
                let stack = self.stacks.borrow_mut().pop().unwrap_or_default();
                self.set_status(index, Status::Ready);
                *coroutine =
                    Some(Coroutine::with_stack(stack, move |yielder: &Yielder<(), ()>, ()| {
                        self.controls[index].yielder.set(yielder);
                        process::live(self, index);
                        self.drain_own();
                    }));
            }
        }
    }

    /// Ends a process wherever it is. Nothing shared changes: the protocol has no destructors.
    fn end(&self, coroutine: &mut Option<Process>) {
        if let Some(mut coroutine) = coroutine.take() {
            coroutine.force_unwind();
            self.stacks.borrow_mut().push(coroutine.into_stack());
        }
    }

    /// No process can make a step: continues stopped ones, ends sleeps, or goes to the next part.
    /// All buffers are empty, because each of these begins with a drain.
    fn unstick(&self) {
        debug_assert!(self.buffers.are_empty(), "a process waits with stores in its buffer");
        let status = |index: usize| self.controls[index].status.get();
        let of_stop = |index: &usize| match status(*index) {
            Status::Stopped(until) => Some(until),
            _ => None,
        };
        if let Some(stopped) =
            (0..SCHEDULED).filter(|index| of_stop(index).is_some()).min_by_key(of_stop)
        {
            self.note(Event::Continued(stopped));
            return self.set_status(stopped, Status::Ready);
        }
        let asleep = |index: &usize| matches!(status(*index), Status::Asleep(_));
        if (0..SCHEDULED).any(|index| asleep(&index)) {
            for index in (0..SCHEDULED).filter(asleep) {
                if self.dead.get() == 0 && self.has_come(self.controls[index].awaited.get()) {
                    return self
                        .fail_at_rest(format!("process {index} sleeps over what it waits for"));
                }
            }
            for index in (0..SCHEDULED).filter(asleep) {
                self.note(Event::TimedOut(index));
                self.set_status(index, Status::Ready);
            }
            return;
        }
        let part = match self.part.get() {
            Part::Plans => {
                if self.dead.get() != 0 {
                    self.starting.set(1 << UNDERTAKER);
                }
                Part::Burial
            }
            Part::Burial => {
                let checked = rest::check_free_rows(self).and_then(|()| rest::check_hints(self));
                if let Err(broken) = checked {
                    return self.fail_at_rest(broken);
                }
                Part::EndOfLoans
            }
            Part::EndOfLoans => Part::Drain,
            Part::Drain => {
                let checked = rest::check_marks(self).and_then(|_| rest::check_hints(self));
                if let Err(broken) = checked {
                    return self.fail_at_rest(broken);
                }
                Part::Leave
            }
            Part::Leave | Part::Over => Part::Over,
        };
        self.part.set(part);
        for index in (0..SCHEDULED).filter(|index| status(*index) == Status::Waits(part)) {
            self.set_status(index, Status::Ready);
        }
    }

    fn has_come(&self, awaited: Awaited) -> bool {
        let table = self.world.table();
        match awaited {
            Awaited::Space => loan::has_space(&table),
            Awaited::Sample(bit, mut cursor) => {
                hold::seek(&table, bit, &mut cursor).is_ok_and(|found| found.is_some())
            }
        }
    }

    fn set_status(&self, index: usize, status: Status) {
        self.controls[index].status.set(status);
        let others = self.ready.get() & !(1 << index);
        self.ready.set(others | u32::from(status == Status::Ready) << index);
    }

    /// Called when no process runs.
    fn choose(&self) -> Result<usize, String> {
        loop {
            let chosen = self.scheduler.borrow_mut().choose(self.able(), self.running.get());
            if chosen < SCHEDULED {
                return Ok(chosen);
            }
            self.drain_one(chosen - DRAINS)?;
        }
    }

    /// What may happen next, as bits: the steps of processes and the drains of buffers.
    #[inline(always)]
    fn able(&self) -> u32 {
        self.ready.get() | self.buffers.filled() << DRAINS
    }

    fn fail_at_rest(&self, broken: String) {
        self.failure.borrow_mut().get_or_insert(broken);
    }

    /// The order of a run that records it.
    pub(crate) fn taken(&self) -> Vec<Turn> {
        self.scheduler.borrow_mut().taken.take().unwrap_or_default()
    }

    pub(crate) fn note(&self, event: Event) {
        if let Some(trace) = &mut *self.trace.borrow_mut() {
            trace.push(event);
        }
    }

    pub(crate) fn steps(&self) -> u64 {
        self.steps.get()
    }
}

type Process = Coroutine<(), (), (), DefaultStack>;
