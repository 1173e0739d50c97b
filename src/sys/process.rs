//! Which process a number means, and whether that process has ended.
#![allow(unsafe_code)] // `poll` as the kernel defines it.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{self, Mode};
use nix::sys::statfs;

use super::descriptor;
use super::file::read_at;
use super::fork;

/// The identity of a process. No other process of this machine has the same one, not even one that
/// gets its number later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its number in its own pid namespace.
    pub(crate) pid: u32,
    /// That namespace, by inode; 0 if unknown.
    pub(crate) pid_namespace: u64,
    /// Tells it from later processes with its number; 0 if unknown. From Linux 6.9 on it is the
    /// inode of its pidfd, which no other process ever gets. On older kernels all pidfds have one
    /// inode, and this is [`BY_START`] with the start time.
    pub(crate) born: u64,
}

/// In [`Process::born`]: the bits below are 31 bits of the time namespace whose clock was used, and
/// 32 of the start time.
const BY_START: u64 = 1 << 63;

/// What a process has found out about itself, which takes seven system calls. All zero, as the
/// kernel leaves it in a forked child, means nothing yet. It is stored once.
#[repr(C)]
pub(super) struct Known {
    /// Stored last; [`BEING_STORED`] before.
    pid: AtomicU32,
    pid_namespace: AtomicU64,
    born: AtomicU64,
}

/// No process has this number.
const BEING_STORED: u32 = u32::MAX;

impl Known {
    /// What is known of the process with this number.
    fn recall(&self, pid: u32) -> Option<Process> {
        // Acquire: pairs with the release in `keep`.
        (self.pid.load(Ordering::Acquire) == pid).then(|| Process {
            pid,
            pid_namespace: self.pid_namespace.load(Ordering::Relaxed),
            born: self.born.load(Ordering::Relaxed),
        })
    }

    fn keep(&self, process: Process) {
        // What could not be found out may be found out later.
        if process.pid_namespace == 0 || process.born == 0 {
            return;
        }
        // Relaxed: whoever is first stores all words, and nobody reads them before the number.
        if self.pid.compare_exchange(0, BEING_STORED, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.pid_namespace.store(process.pid_namespace, Ordering::Relaxed);
            self.born.store(process.born, Ordering::Relaxed);
            // Release: a thread that finds the number finds the other words.
            self.pid.store(process.pid, Ordering::Release);
        }
    }
}

/// What the kernel says about a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// None of its code will run again.
    Gone,
    /// It exists, or another process that cannot be told from it.
    Here,
    /// The kernel does not say: the process is in another pid namespace, or the caller must not
    /// ask.
    Untold,
}

impl Process {
    /// The calling process. None of this changes while it lives, so it is found out once.
    pub(crate) fn this() -> Process {
        // A child that was made by `vfork` shares the memory of its parent, and has its own number.
        let pid = std::process::id();
        let Ok(page) = fork::wiped() else { return Process::find(pid) };
        page.known.recall(pid).unwrap_or_else(|| {
            let found = Process::find(pid);
            page.known.keep(found);
            found
        })
    }

    fn find(pid: u32) -> Process {
        let pid_namespace = stat::stat("/proc/self/ns/pid").map_or(0, |facts| facts.st_ino);
        let born = open(pid).map_or(0, |pidfd| {
            if is_of_pidfs(&pidfd) { inode_of(&pidfd) } else { started(&pidfd, pid).unwrap_or(0) }
        });
        Process { pid, pid_namespace, born }
    }

    /// The state of the process, as far as the calling process, which is `this`, can tell.
    pub(crate) fn fate(&self, this: &Process) -> Fate {
        if this.pid_namespace == 0 || self.pid_namespace != this.pid_namespace {
            return Fate::Untold;
        }
        // It runs this code; nothing has to be asked.
        if self.born != 0 && self == this {
            return Fate::Here;
        }
        let pidfd = match open(self.pid) {
            Ok(pidfd) => pidfd,
            // Nobody has the number, or only a thread does; old and new kernels say this
            // differently. A process keeps its number, as a process, until it is waited for.
            Err(Errno::ESRCH | Errno::EINVAL | Errno::ENOENT) => return Fate::Gone,
            Err(_) => return Fate::Untold,
        };
        // A zombie has ended.
        if has_exited(&pidfd) || self.is_other(&pidfd) { Fate::Gone } else { Fate::Here }
    }

    /// Whether the process that now has its number is certainly another one.
    fn is_other(&self, pidfd: &OwnedFd) -> bool {
        let born = match self.born {
            0 => return false,
            born if born & BY_START == 0 => inode_of(pidfd),
            _ => started(pidfd, self.pid).unwrap_or(0),
        };
        let clock = |born: u64| born & BY_START != 0 && born >> 32 != self.born >> 32;
        born != 0 && born != self.born && !clock(born)
    }
}

/// A process in 60 bits: 32 of its namespace, 22 of its number, 6 of what tells it from later
/// processes.
pub(crate) const SHORT_BITS: u32 = 60;
const PID_BITS: u32 = 22;
const BORN_BITS: u32 = 6;

impl Process {
    /// The short form; 0 if the namespace is unknown.
    pub(crate) fn short(&self) -> u64 {
        let fits = self.pid_namespace >> 32 == 0 && self.pid >> PID_BITS == 0;
        if self.pid_namespace == 0 || !fits {
            return 0;
        }
        // A start time without its clock says nothing.
        let born = if self.born & BY_START == 0 { self.born & ((1 << BORN_BITS) - 1) } else { 0 };
        (self.pid_namespace << PID_BITS | u64::from(self.pid)) << BORN_BITS | born
    }

    /// The state of a process of which only the short form is known. One of 64 later processes with
    /// its number cannot be told from it.
    pub(crate) fn fate_of(short: u64, this: &Process) -> Fate {
        let known = Process {
            pid: (short >> BORN_BITS) as u32 & ((1 << PID_BITS) - 1),
            pid_namespace: short >> (BORN_BITS + PID_BITS),
            born: 0,
        };
        let fate = known.fate(this);
        let born = short & ((1 << BORN_BITS) - 1);
        if fate != Fate::Here || born == 0 {
            return fate;
        }
        let now = open(known.pid).map_or(0, |pidfd| inode_of(&pidfd));
        if now != 0 && now & ((1 << BORN_BITS) - 1) != born { Fate::Gone } else { Fate::Here }
    }
}

/// A descriptor of the process that has a number in this pid namespace; EPERM if it is not a valid
/// number.
fn open(pid: u32) -> nix::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0).ok_or(Errno::EPERM)?;
    descriptor::process(pid)
}

fn has_exited(pidfd: &OwnedFd) -> bool {
    let mut exit = libc::pollfd { fd: pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one live pollfd; does not wait.
    unsafe { libc::poll(&mut exit, 1, 0) == 1 && exit.revents & libc::POLLIN != 0 }
}

/// Whether each pidfd has an inode of its own.
fn is_of_pidfs(pidfd: &OwnedFd) -> bool {
    const PIDFS: u64 = 0x5049_4446;
    statfs::fstatfs(pidfd).is_ok_and(|facts| facts.filesystem_type().0 as u64 == PIDFS)
}

fn inode_of(pidfd: &OwnedFd) -> u64 {
    stat::fstat(pidfd).map_or(0, |facts| facts.st_ino & !BY_START)
}

/// When the process started, in the form of [`Process::born`], if /proc shows it.
fn started(pidfd: &OwnedFd, pid: u32) -> Option<u64> {
    // /proc may belong to another pid namespace, where the number means another process.
    let known_as = text_of(&format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
    let known_as = known_as.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    if known_as.trim().parse() != Ok(pid) {
        return None;
    }
    // The kernel shows the time by the clock of the reading process, which a time namespace may
    // have shifted.
    let clock = match stat::stat("/proc/self/ns/time") {
        Ok(facts) => facts.st_ino,
        Err(Errno::ENOENT) => 0,
        Err(_) => return None,
    };
    let text = text_of(&format!("/proc/{pid}/stat"))?;
    // Field 22; the second field is a name in parentheses, which may contain anything.
    let (_, fields) = text.rsplit_once(") ")?;
    let ticks: u64 = fields.split(' ').nth(19)?.parse().ok()?;
    // The process existed the whole time, so the text does not describe a successor.
    (!has_exited(pidfd)).then_some(BY_START | (clock & 0x7fff_ffff) << 32 | ticks & 0xffff_ffff)
}

/// The beginning of a file of /proc, which is all that matters here.
fn text_of(path: &str) -> Option<String> {
    let file = descriptor::open(path, OFlag::O_RDONLY, Mode::empty()).ok()?;
    let mut text = [0; 1024];
    let length = read_at(&file, 0, &mut text).ok()?;
    Some(String::from_utf8_lossy(text.get(..length)?).into_owned())
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails so")]
mod tests {
    use std::process::{Child, Command, Stdio};
    use std::time::Duration;

    use super::*;

    /// A process that lives until its input is closed.
    fn other() -> Child {
        Command::new("cat").stdin(Stdio::piped()).spawn().expect("cat")
    }

    fn start_of(pid: u32) -> u64 {
        started(&open(pid).expect("it lives"), pid).expect("/proc tells")
    }

    #[test]
    fn a_process_is_known_by_more_than_its_number() {
        let this = Process::this();
        assert_eq!(this, Process::find(std::process::id()));
        let elsewhere = Process { pid_namespace: this.pid_namespace ^ 1, ..this };
        let nowhere = Process { pid_namespace: 0, ..this };
        assert_eq!(this.fate(&Process::this()), Fate::Here);
        assert_eq!(this.fate(&elsewhere), Fate::Untold);
        assert_eq!(this.fate(&nowhere), Fate::Untold);
        assert_eq!(Process { born: 0, ..this }.fate(&this), Fate::Here);
        assert_eq!(Process { born: this.born ^ 1, ..this }.fate(&this), Fate::Gone);
        assert_eq!(Process { pid: 0, ..this }.fate(&this), Fate::Untold);
        assert_eq!(Process { pid: u32::MAX, ..this }.fate(&this), Fate::Untold);
    }

    /// What a process knows of itself is not true of its child.
    #[test]
    fn a_forked_child_is_another_process() {
        let this = Process::this();
        // SAFETY: the child makes system calls only, and ends without running any destructor.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        if child == 0 {
            let own = Process::this();
            let right = own == Process::find(std::process::id()) && own == Process::this();
            let other = own.pid != this.pid;
            // SAFETY: as above.
            unsafe { libc::_exit(if right && other { 0 } else { 1 }) };
        }
        let mut status = -1;
        // SAFETY: a child that nobody has waited for, and a local that lives.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0);
        assert_eq!(this, Process::this());
    }

    #[test]
    fn a_short_form_means_the_same_process() {
        let this = Process::this();
        let elsewhere = Process { pid_namespace: this.pid_namespace ^ 1, ..this };
        assert_eq!(this.short() >> SHORT_BITS, 0);
        assert_eq!(Process::fate_of(this.short(), &this), Fate::Here);
        assert_eq!(Process::fate_of(this.short(), &elsewhere), Fate::Untold);
        assert_eq!(Process::fate_of(0, &this), Fate::Untold);
        assert_eq!(Process::fate_of((1 << SHORT_BITS) - 1, &this), Fate::Untold);
        let mut child = other();
        let former = Process { pid: child.id(), ..this };
        // Its inode differs; whether it also differs in these bits is a matter of chance.
        let chance = (1..1 << BORN_BITS).map(|born| Process { born, ..former }.short());
        let gone = chance.filter(|short| Process::fate_of(*short, &this) == Fate::Gone).count();
        let pidfs = this.born & BY_START == 0;
        assert!(gone >= if pidfs { (1 << BORN_BITS) - 2 } else { 0 }, "{gone}");
        drop(child.stdin.take());
        child.wait().expect("it ends");
        assert_eq!(Process::fate_of(former.short(), &this), Fate::Gone);
        assert_eq!(Process { pid_namespace: 1 << 32, ..this }.short(), 0);
    }

    #[test]
    fn a_thread_is_no_process() {
        let this = Process::this();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let (end, ended) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || {
                // SAFETY: takes nothing, returns a number.
                tell.send(unsafe { libc::syscall(libc::SYS_gettid) }).expect("somebody listens");
                let _ = ended.recv();
            });
            let thread = u32::try_from(told.recv().expect("a number")).expect("positive");
            assert_eq!(Process { pid: thread, ..this }.fate(&this), Fate::Gone);
            drop(end);
        });
    }

    /// As it must be told on kernels before 6.9.
    #[test]
    fn a_process_is_known_by_its_start() {
        let this = Process { born: start_of(std::process::id()), ..Process::this() };
        assert_eq!(this.fate(&Process::this()), Fate::Here);
        // Start times have a resolution of ten milliseconds.
        std::thread::sleep(Duration::from_millis(50));
        let mut child = other();
        let successor = Process { born: start_of(child.id()), pid: child.id(), ..this };
        assert_eq!(successor.fate(&this), Fate::Here);
        assert_eq!(Process { born: this.born, ..successor }.fate(&this), Fate::Gone);
        let moved_clock = this.born ^ 1 << 32;
        assert_eq!(Process { born: moved_clock, ..successor }.fate(&this), Fate::Here);
        drop(child.stdin.take());
        child.wait().expect("it ends");
        assert_eq!(successor.fate(&this), Fate::Gone);
    }
}
