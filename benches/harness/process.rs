//! Pairs of pinned processes, forked from one that has never used what is measured.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

use super::clock::ticks;
use super::place::{Place, await_value};
use super::rows::middle;
use super::syscalls;

pub(crate) fn pin(processor: usize) {
    // SAFETY: an all-zero set is valid; the calls only read it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(processor, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set);
    }
}

/// Seconds after which a child counts as stuck, and the kernel kills it.
const STUCK: u32 = 60;

/// A child on a processor; its end is 0, or something else if the body panicked.
pub(crate) fn fork(processor: usize, body: impl FnOnce()) -> libc::pid_t {
    // SAFETY: this program has one thread.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork");
    if child == 0 {
        // SAFETY: they take numbers only. The child ends with its parent, and when it is stuck.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            libc::alarm(STUCK);
        }
        pin(processor);
        let end = i32::from(catch_unwind(AssertUnwindSafe(body)).is_err());
        // SAFETY: ends the child without running the parent's destructors.
        unsafe { libc::_exit(end) };
    }
    child
}

/// Waits for children; if one fails, the others are killed. Returns whether all ended successfully.
pub(crate) fn join(children: &[libc::pid_t]) -> bool {
    let (mut well, mut left) = (true, children.to_vec());
    while !left.is_empty() {
        let mut status = 0;
        // SAFETY: writes to a local that lives.
        let ended = unsafe { libc::waitpid(-1, &mut status, 0) };
        assert!(ended > 0, "children are there");
        let Some(at) = left.iter().position(|&child| child == ended) else { continue };
        left.swap_remove(at);
        if status != 0 && well {
            well = false;
            // SAFETY: children that nobody has waited for.
            left.iter()
                .for_each(|&child| assert_eq!(unsafe { libc::kill(child, libc::SIGKILL) }, 0));
        }
    }
    well
}

pub(crate) fn kill(child: libc::pid_t) {
    // SAFETY: a child that nobody has waited for.
    unsafe { libc::kill(child, libc::SIGKILL) };
    join(&[child]);
}

/// One thread in a process of its own, on the first processor.
pub(crate) fn alone(place: &Place, body: impl FnOnce()) -> bool {
    place.clear();
    join(&[fork(0, body)])
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The one that measures, on the first processor.
    Here,
    There,
}

/// One of two processes, in touch with the other.
pub(crate) struct Meeting<'a> {
    pub(crate) side: Side,
    pub(crate) place: &'a Place,
    /// Interruptions of this process that do not count.
    before: Cell<u64>,
}

impl<'a> Meeting<'a> {
    fn new(side: Side, place: &'a Place) -> Meeting<'a> {
        Meeting { side, place, before: Cell::new(interruptions()) }
    }

    /// Interruptions count from here on, because setting up took long.
    pub(crate) fn begin(&self) {
        self.before.set(interruptions());
    }

    /// Returns when both have reached this point.
    pub(crate) fn meet(&self) {
        let [mine, other] = match self.side {
            Side::Here => [0, 1],
            Side::There => [1, 0],
        };
        let times = self.place.arrived[mine].0.load(Ordering::Relaxed) + 1;
        self.place.arrived[mine].0.store(times, Ordering::Release);
        while self.place.arrived[other].0.load(Ordering::Acquire) < times {
            std::hint::spin_loop();
        }
    }

    /// The raw hop: one way of a ping-pong on two lines, in nanoseconds, the middle of many; 0 on
    /// the other side.
    pub(crate) fn probe(&self) -> f64 {
        const TURNS: u64 = 8192;
        self.meet();
        let (ping, pong) = (&self.place.ping.0, &self.place.pong.0);
        let first = ping.load(Ordering::Relaxed) + 1;
        self.meet();
        if self.side == Side::There {
            for turn in first..first + TURNS {
                await_value(ping, turn);
                pong.store(turn, Ordering::Release);
            }
            return 0.0;
        }
        let mut times = [0_u32; TURNS as usize];
        let mut last = ticks();
        for (turn, time) in (first..first + TURNS).zip(&mut times) {
            ping.store(turn, Ordering::Release);
            await_value(pong, turn);
            let now = ticks();
            *time = (now - last).min(u64::from(u32::MAX)) as u32;
            last = now;
        }
        times.sort_unstable();
        middle(&times) / 2.0
    }
}

/// How often the processor was taken away from this process.
fn interruptions() -> u64 {
    // SAFETY: writes to a local that lives.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage.ru_nivcsw as u64
    }
}

/// Two processes on the two processors. Returns whether both ended successfully.
pub(crate) fn pair(place: &Place, body: impl Fn(&Meeting<'_>)) -> bool {
    place.clear();
    let child = |processor, side| {
        fork(processor, || {
            let meeting = Meeting::new(side, place);
            body(&meeting);
            place.add_interruptions(interruptions() - meeting.before.get());
        })
    };
    join(&[child(0, Side::Here), child(1, Side::There)])
}

/// The raw hop at this moment.
pub(crate) fn hop(place: &Place) -> f64 {
    let well = pair(place, |meeting| {
        let hop = meeting.probe();
        if meeting.side == Side::Here {
            place.put(0, hop);
        }
    });
    assert!(well, "a probe");
    place.get(0)
}

/// Whether a process sleeps, by the kernel's word.
pub(crate) fn is_asleep(process: libc::pid_t) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("it lives");
    text.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'))
}

/// As [`pair`], and counts the system calls that both and their threads make while `place.counting`
/// is set.
pub(crate) fn counted_pair(place: &Place, body: impl Fn(&Meeting<'_>)) -> Option<u64> {
    place.clear();
    let child = |processor, side| {
        fork(processor, || {
            syscalls::await_tracer();
            body(&Meeting::new(side, place));
        })
    };
    syscalls::count(place, &[child(0, Side::Here), child(1, Side::There)]).map(|calls| calls.all)
}
