//! The calls of the running process: each access is a step, before which others may run and the
//! process may meet a fault.

use std::fmt::Display;

use super::{Access, Awaited, Control, ENDLESS, Machine, Part, SCHEDULED, Status};
use crate::case::{Fault, Planned};
use crate::protocol::words::{Entry, Place, RowPhase, RowState};
use crate::trace::Event;

impl Machine {
    /// Before an access: counts it, applies the faults due here, and lets others run.
    #[inline(always)]
    pub(crate) fn step(&'static self) {
        let running = self.running.get();
        self.steps.set(self.steps.get() + 1);
        let control = &self.controls[running];
        let steps = control.steps.get() + 1;
        control.steps.set(steps);
        if steps > control.alarm.get() {
            self.alarm(running);
        }
        self.yield_to_chosen(running);
    }

    #[inline(always)]
    fn yield_to_chosen(&self, running: usize) {
        let ready = self.ready.get();
        if ready == 0 {
            return self.suspend(running);
        }
        let chosen = self.scheduler.borrow_mut().choose(ready, running);
        if chosen != running {
            self.next.set(Some(chosen));
            self.suspend(running);
        }
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "the words have no reference to the process that touches them")]
    fn suspend(&self, running: usize) {
        // SAFETY: the process has set this pointer at its start, to an object that lives as long as
        // it runs; and it runs now.
        unsafe { (*self.controls[running].yielder.get()).suspend(()) };
    }

    /// After an access.
    #[inline(always)]
    pub(crate) fn made(&'static self, access: Access) {
        if let Some(trace) = &mut *self.trace.borrow_mut() {
            trace.push(Event::Accessed(self.running.get(), access));
        }
        if let Some(entry) = access.after.filter(|_| self.world.is_entry(access.word)) {
            self.published(Entry(entry));
        }
        if let (Some(state), Some(row)) = (access.after, self.world.row_of_state(access.word)) {
            let state = RowState(state);
            if state.is(RowPhase::Expelled) {
                self.oracle.borrow_mut().expel(row, state.generation());
            }
        }
    }

    #[inline(never)]
    fn published(&'static self, entry: Entry) {
        self.hold_true(self.oracle.borrow_mut().publish(entry));
        let count = self.oracle.borrow().published();
        for index in 0..SCHEDULED {
            if matches!(self.controls[index].status.get(), Status::Stopped(until) if until <= count)
            {
                self.note(Event::Continued(index));
                self.set_status(index, Status::Ready);
            }
        }
    }

    /// A look that leads to nothing until another process makes a step.
    pub(crate) fn relax(&'static self) {
        let running = self.running.get();
        let ready = self.ready.get();
        let chosen = self.scheduler.borrow_mut().choose_another(ready, running);
        if chosen != running {
            self.next.set(Some(chosen));
            self.suspend(running);
        }
    }

    pub(crate) fn sleep(&'static self, word: usize) {
        let running = self.running.get();
        self.note(Event::Slept(running));
        self.set_status(running, Status::Asleep(word));
        self.yield_to_chosen(running);
    }

    pub(crate) fn wake(&'static self, word: usize) {
        self.step();
        for index in
            (0..SCHEDULED).filter(|i| self.controls[*i].status.get() == Status::Asleep(word))
        {
            self.note(Event::Woken(index));
            self.set_status(index, Status::Ready);
        }
    }

    /// What the running process sleeps for from now on.
    pub(crate) fn awaits(&self, awaited: Awaited) {
        self.controls[self.running.get()].awaited.set(awaited);
    }

    #[cold]
    fn alarm(&'static self, running: usize) {
        let control = &self.controls[running];
        if control.steps.get() > ENDLESS {
            self.fail("this call does not end");
        }
        control.alarm.set(ENDLESS);
        match control.fault.take() {
            None => {}
            Some(Fault::Stop(samples)) => {
                self.note(Event::Stopped(running));
                let until = self.oracle.borrow().published() + u64::from(samples);
                self.set_status(running, Status::Stopped(until));
            }
            Some(Fault::Kill) => {
                self.note(Event::Killed(running));
                self.dead.set(self.dead.get() | 1 << running);
                control.sweeps.set(0);
                self.oracle.borrow_mut().die(running);
                self.set_status(running, Status::Dead);
            }
        }
    }

    /// The next operation of a process, which begins now.
    pub(crate) fn next_operation(&'static self, process: usize) -> Option<Planned> {
        let control = &self.controls[process];
        self.befall_now(process);
        let next = control.next_operation.get();
        let planned = *self.case.borrow().plans.get(process)?.get(next)?;
        control.next_operation.set(next + 1);
        control.steps.set(0);
        let (alarm, fault) =
            planned.fault.map_or((ENDLESS, None), |(step, fault)| (step, Some(fault)));
        control.alarm.set(alarm);
        control.fault.set(fault);
        self.note(Event::Began(process, planned));
        Some(planned)
    }

    /// The fault of an operation that has ended earlier.
    fn befall_now(&'static self, process: usize) {
        if self.controls[process].fault.get().is_some() {
            self.alarm(process);
            self.yield_to_chosen(process);
        }
    }

    /// Waits for the others to reach this part of the run.
    pub(crate) fn wait_for(&'static self, part: Part) {
        let running = self.running.get();
        if self.part.get() < part {
            self.set_status(running, Status::Waits(part));
            self.yield_to_chosen(running);
        }
        let control = &self.controls[running];
        control.steps.set(0);
        control.alarm.set(ENDLESS);
        control.fault.set(None);
    }

    /// The dead that nobody recovers yet. From here on the running process does, until it is done
    /// or dead.
    pub(crate) fn claim_dead(&'static self, which: impl FnOnce(u32) -> u32) -> u32 {
        let claimed = self.controls.iter().fold(0, |all, control| all | control.sweeps.get());
        let mine = which(self.dead.get() & !claimed);
        self.controls[self.running.get()].sweeps.set(mine);
        mine
    }

    /// Their recovery is complete. Those with operations left come back.
    pub(crate) fn free_rows(&'static self, buried: u32) {
        self.controls[self.running.get()].sweeps.set(0);
        self.dead.set(self.dead.get() & !buried);
        for index in (0..SCHEDULED).filter(|index| buried >> index & 1 != 0) {
            self.note(Event::Buried(index));
            self.set_status(index, Status::Gone);
        }
        if self.part.get() == Part::Plans {
            self.starting.set(self.starting.get() | buried);
        }
    }

    pub(crate) fn control(&self, process: usize) -> &Control {
        &self.controls[process]
    }

    /// A step on one of the two cells of a payload, which is checked against the oracle if it is a
    /// write.
    pub(crate) fn touch<T>(
        &'static self,
        place: Place,
        writes: bool,
        touched: impl FnOnce() -> T,
    ) -> T {
        self.step();
        self.note(Event::Touched(self.running.get(), place, writes));
        if writes {
            self.hold_true(self.oracle.borrow().write(place));
        }
        touched()
    }

    /// Ends the run if a property is broken.
    pub(crate) fn hold_true<T>(&'static self, result: Result<T, impl Display>) -> T {
        match result {
            Ok(value) => value,
            Err(broken) => self.fail(broken),
        }
    }

    /// Ends the run: its processes are not scheduled any more.
    #[cold]
    pub(crate) fn fail(&'static self, broken: impl Display) -> ! {
        let running = self.running.get();
        let at = format!("process {running}: {broken}");
        self.note(Event::Failed(at.clone()));
        self.failure.borrow_mut().get_or_insert(at);
        self.ready.set(0);
        self.suspend(running);
        unreachable!("a run that failed goes on")
    }
}
