//! Counts the system calls of other processes, by ptrace.

use std::collections::HashSet;
use std::ptr::null_mut;
use std::sync::atomic::Ordering;

use super::place::Place;

/// The child stops here until its parent counts.
pub(crate) fn await_tracer() {
    // SAFETY: stops this process.
    unsafe { libc::raise(libc::SIGSTOP) };
}

fn resume(process: libc::pid_t, signal: i32) {
    // SAFETY: it is stopped, and traced by this process.
    unsafe { libc::ptrace(libc::PTRACE_SYSCALL, process, null_mut::<u8>(), signal as usize) };
}

fn attach(child: libc::pid_t) {
    let mut status = 0;
    let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_EXITKILL;
    // SAFETY: a child of this process, that stops by itself.
    unsafe {
        assert_eq!(libc::waitpid(child, &mut status, libc::WUNTRACED), child);
        assert!(libc::WIFSTOPPED(status), "it stops first");
        let done = libc::ptrace(libc::PTRACE_SEIZE, child, null_mut::<u8>(), options as usize);
        assert_eq!(done, 0, "tracing: {}", std::io::Error::last_os_error());
        libc::kill(child, libc::SIGCONT);
    }
}

/// Whether a stop at a system call is its entry.
fn enters(process: libc::pid_t) -> bool {
    // SAFETY: a local that lives, and its size.
    unsafe {
        let mut info: libc::ptrace_syscall_info = std::mem::zeroed();
        libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, process, size_of_val(&info), &mut info);
        info.op == libc::PTRACE_SYSCALL_INFO_ENTRY
    }
}

/// How many calls began while `place.counting` was set.
#[derive(Clone, Copy, Default)]
pub(crate) struct Calls {
    /// Those of the first child, without those of its threads.
    pub(crate) first: u64,
    pub(crate) all: u64,
}

/// Lets stopped children run to their ends; their calls, if all ended well.
pub(crate) fn count(place: &Place, children: &[libc::pid_t]) -> Option<Calls> {
    children.iter().for_each(|&child| attach(child));
    let mut left: HashSet<_> = children.iter().copied().collect();
    let (mut calls, mut well) = (Calls::default(), true);
    while !left.is_empty() {
        let mut status = 0;
        // SAFETY: writes to a local that lives.
        let process = unsafe { libc::waitpid(-1, &mut status, libc::__WALL) };
        assert!(process > 0, "children are there");
        if libc::WIFSTOPPED(status) {
            let signal = libc::WSTOPSIG(status);
            if signal == libc::SIGTRAP | 0x80 {
                let counts = place.counting.0.load(Ordering::Acquire) != 0;
                let one = u64::from(counts && enters(process));
                calls.all += one;
                calls.first += if process == children[0] { one } else { 0 };
                resume(process, 0);
            } else if status >> 16 != 0 || signal == libc::SIGSTOP || signal == libc::SIGCONT {
                resume(process, 0); // a stop of the tracer's own, or the one it began with
            } else {
                resume(process, signal);
            }
        } else if left.remove(&process) && status != 0 {
            well = false;
            // SAFETY: children that nobody has waited for.
            left.iter()
                .for_each(|&child| assert_eq!(unsafe { libc::kill(child, libc::SIGKILL) }, 0));
        }
    }
    well.then_some(calls)
}
