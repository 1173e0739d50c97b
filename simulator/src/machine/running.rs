//! The calls of the running process: each access is a step, before which others may run and the
//! process may meet a fault.

use std::cell::Cell;
use std::fmt::Display;

use super::{Access, Awaited, Control, DRAINS, ENDLESS, Machine, Part, SCHEDULED, Status, Stored};
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
        if self.steps.get() >= self.buffers.next_due() {
            self.drain_due();
        }
        self.yield_to_chosen(running);
    }

    #[inline(always)]
    fn yield_to_chosen(&self, running: usize) {
        if self.ready.get() == 0 {
            return self.suspend(running);
        }
        let chosen = self.scheduler.borrow_mut().choose(self.able(), running);
        if chosen != running {
            self.yield_to(chosen, running);
        }
    }

    /// Lets another process run, or drains the buffer of one and chooses again.
    fn yield_to(&self, mut chosen: usize, running: usize) {
        while chosen >= DRAINS {
            if let Err(broken) = self.drain_one(chosen - DRAINS) {
                self.fail_with(broken);
            }
            chosen = self.scheduler.borrow_mut().choose(self.able(), running);
        }
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

    /// After a load; the value may be one that waits in the buffer.
    #[inline(always)]
    pub(crate) fn loaded(&self, word: Stored, value: u64) {
        if self.trace.borrow().is_some() {
            let access = Access { word: word.address(), before: value, after: None };
            self.note(Event::Accessed(self.running.get(), access));
        }
    }

    /// After a change of memory.
    #[inline(always)]
    pub(crate) fn changed(&self, word: Stored, before: u64, after: u64) {
        let access = Access { word: word.address(), before, after: Some(after) };
        let running = self.running.get();
        if self.trace.borrow().is_some() {
            self.note(Event::Accessed(running, access));
        }
        if let Err(broken) = self.appeared(running, access) {
            self.fail(broken);
        }
    }

    /// A new value in memory, which other processes see from now on.
    #[inline(always)]
    pub(super) fn appeared(&self, process: usize, access: Access) -> Result<(), String> {
        let Some(after) = access.after else { return Ok(()) };
        if self.world.is_entry(access.word) {
            self.published(process, Entry(after))?;
        }
        if let Some(row) = self.world.row_of_state(access.word) {
            let state = RowState(after);
            if state.is(RowPhase::Expelled) {
                self.oracle.borrow_mut().expel(row, state.generation());
            }
        }
        Ok(())
    }

    #[inline(never)]
    fn published(&self, process: usize, entry: Entry) -> Result<(), String> {
        self.oracle.borrow_mut().publish(process, entry)?;
        let count = self.oracle.borrow().published();
        for index in 0..SCHEDULED {
            if matches!(self.controls[index].status.get(), Status::Stopped(until) if until <= count)
            {
                self.note(Event::Continued(index));
                self.set_status(index, Status::Ready);
            }
        }
        Ok(())
    }

    /// A look that leads to nothing until another process makes a step.
    pub(crate) fn relax(&'static self) {
        let running = self.running.get();
        let chosen = self.scheduler.borrow_mut().choose_another(self.able(), running);
        self.yield_to(chosen, running);
    }

    pub(crate) fn sleep(&'static self, word: usize) {
        let running = self.running.get();
        self.note(Event::Slept(running));
        self.set_status(running, Status::Asleep(word));
        self.yield_to_chosen(running);
    }

    pub(crate) fn wake(&'static self, word: usize) {
        self.step();
        self.drain_own();
        self.rouse(word);
    }

    /// Wakes those who sleep on this, in the system call of another process or at its end.
    pub(crate) fn rouse(&self, word: usize) {
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
                // It gives its processor away, which is a barrier.
                self.drain_own();
                let until = self.oracle.borrow().published() + u64::from(samples);
                self.set_status(running, Status::Stopped(until));
            }
            Some(Fault::Kill) => {
                self.note(Event::Killed(running));
                // Its finished stores reach the memory, whatever becomes of the process.
                self.drain_own();
                self.dead.set(self.dead.get() | 1 << running);
                control.sweeps.set(0);
                self.oracle.borrow_mut().die(running);
                self.set_status(running, Status::Dead);
                // The kernel closes its files.
                self.world.chime.tell(self);
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
        self.drain_own();
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

    /// A step that reads one of the two cells of a payload.
    pub(crate) fn read(&'static self, place: Place, cell: &Cell<u64>) -> u64 {
        self.step();
        self.note(Event::Read(self.running.get(), place));
        self.own(Stored::U64(cell)).unwrap_or(cell.get())
    }

    /// A step that writes to one of them: a plain store as any other, which must not come before
    /// those that the process has made earlier.
    pub(crate) fn write(&'static self, place: Place, cell: &Cell<u64>, value: u64) {
        self.step();
        self.note(Event::Wrote(self.running.get(), place));
        if !self.buffer_payload(place, cell, value) {
            self.hold_true(self.oracle.borrow().write(place));
            cell.set(value);
        }
    }

    /// A step that gives the memory of one of them back, which is a system call.
    pub(crate) fn erase(&'static self, place: Place, cell: &Cell<u64>) {
        self.step();
        self.drain_own();
        self.note(Event::Wrote(self.running.get(), place));
        self.hold_true(self.oracle.borrow().write(place));
        cell.set(0);
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
    pub(crate) fn fail(&self, broken: impl Display) -> ! {
        self.fail_with(format!("process {}: {broken}", self.running.get()))
    }

    #[cold]
    pub(super) fn fail_with(&self, broken: String) -> ! {
        self.note(Event::Failed(broken.clone()));
        self.failure.borrow_mut().get_or_insert(broken);
        self.ready.set(0);
        self.suspend(self.running.get());
        unreachable!("a run that failed goes on")
    }
}
