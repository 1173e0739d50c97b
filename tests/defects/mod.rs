//! Shared by the tests of known defects: directories, other processes, and access behind the API.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use shmslot::layout::{Geometry, HEADER_FIELDS, HEADER_SIZE, Offsets, word_offsets};
use shmslot::{Code, CreateOptions, Error};

pub(crate) const NOW: Option<Duration> = Some(Duration::ZERO);

/// Slots of 64 bytes.
pub(crate) fn slots(slot_count: u32) -> CreateOptions {
    CreateOptions { slot_count, slot_capacity: 64, ..CreateOptions::default() }
}

#[track_caller]
pub(crate) fn code<T>(result: Result<T, Error>) -> Code {
    match result {
        Ok(_) => panic!("that should have failed"),
        Err(error) => error.code(),
    }
}

/// A directory for one test, which disappears with the value, even if the test fails.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Directory {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path =
            PathBuf::from(format!("/dev/shm/shmslot-defect-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).expect("a directory");
        Directory(path)
    }

    pub(crate) fn name(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a path of ASCII").to_owned()
    }

    /// How many files there are.
    pub(crate) fn files(&self) -> usize {
        std::fs::read_dir(&self.0).expect("it can be read").count()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

// ---- the bytes of a segment's file, for writing what no honest process writes ----

pub(crate) fn open(path: &str) -> File {
    OpenOptions::new().read(true).write(true).open(path).expect("the file of the segment")
}

pub(crate) fn header(file: &File) -> [u8; HEADER_SIZE] {
    let mut bytes = [0; HEADER_SIZE];
    file.read_exact_at(&mut bytes, 0).expect("a header");
    bytes
}

pub(crate) fn geometry(file: &File) -> (Geometry, Offsets) {
    Geometry::decode(&header(file)).expect("a sound header")
}

/// The offset and size of a header field.
fn field(name: &str) -> (usize, usize) {
    let found = HEADER_FIELDS.iter().find(|(field, ..)| *field == name);
    found.map(|(_, offset, size)| (*offset, *size)).expect("the header has this field")
}

/// Overwrites a header field and corrects the checksum, so that only the field itself is wrong.
pub(crate) fn forge(file: &File, name: &str, value: u64) {
    let mut bytes = header(file);
    let (offset, size) = field(name);
    bytes[offset..][..size].copy_from_slice(&value.to_le_bytes()[..size]);
    let (checksum, _) = field("checksum");
    let fnv1a = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    let sum = bytes[..checksum].iter().fold(0xcbf2_9ce4_8422_2325, fnv1a);
    bytes[checksum..].copy_from_slice(&sum.to_le_bytes());
    poke(file, 0, &bytes);
}

pub(crate) fn word(name: &str) -> u64 {
    let words = word_offsets();
    let (_, offset) =
        words.iter().find(|(word, _)| *word == name).expect("the layout has this word");
    *offset as u64
}

pub(crate) fn poke(file: &File, offset: u64, value: &[u8]) {
    file.write_all_at(value, offset).expect("the file can be written");
}

pub(crate) fn peek(file: &File, offset: u64) -> u64 {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, offset).expect("the file can be read");
    u64::from_le_bytes(bytes)
}

// ---- threads ----

/// The kernel's files about the calling thread.
pub(crate) fn this_thread() -> PathBuf {
    PathBuf::from("/proc")
        .join(std::fs::read_link("/proc/thread-self").expect("the kernel names it"))
}

/// Returns when the kernel shows that thread as sleeping.
pub(crate) fn until_asleep(thread: &std::path::Path) {
    loop {
        let stat = std::fs::read_to_string(thread.join("stat")).expect("the thread lives");
        if stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('S')) {
            return;
        }
        std::thread::yield_now();
    }
}

/// Page faults of this thread so far.
pub(crate) fn page_faults() -> i64 {
    // SAFETY: all fields are integers, for which zero is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: a live struct, which the call fills.
    assert_eq!(unsafe { libc::getrusage(libc::RUSAGE_THREAD, &mut usage) }, 0);
    usage.ru_minflt + usage.ru_majflt
}

// ---- other processes: this program again, running the test `peer` alone ----

const ROLE: &str = "SHMSLOT_DEFECT_ROLE";
const NAME: &str = "SHMSLOT_DEFECT_NAME";

/// The role of this process as a peer, and its segment; `None` in the test run itself.
pub(crate) fn role() -> Option<(String, String)> {
    let role = std::env::var(ROLE).ok()?;
    // SAFETY: an option of this process, given by an integer; it changes no memory.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    Some((role, std::env::var(NAME).expect("both are given")))
}

/// Sends a line to the parent.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "\n> {line}").and_then(|()| out.flush()).expect("the parent listens");
}

/// Returns when the parent has said go.
pub(crate) fn await_go() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("the parent speaks");
    assert_eq!(line, "go\n");
}

pub(crate) struct Peer {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Peer {
    pub(crate) fn start(role: &str, name: &str) -> Peer {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "peer", "--nocapture"])
            .env(ROLE, role)
            .env(NAME, name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child");
        let to = child.stdin.take().expect("a pipe");
        let from = BufReader::new(child.stdout.take().expect("a pipe"));
        Peer { child, to, from }
    }

    /// As `start`, and returns when the peer is ready.
    pub(crate) fn ready(role: &str, name: &str) -> Peer {
        let mut peer = Peer::start(role, name);
        assert_eq!(peer.hear(), "ready");
        peer
    }

    /// The next line from the peer, without those of the test framework.
    pub(crate) fn hear(&mut self) -> String {
        let mut line = String::new();
        while self.from.read_line(&mut line).expect("the peer speaks") > 0 {
            if let Some(said) = line.strip_prefix("> ") {
                return said.trim().to_owned();
            }
            line.clear();
        }
        panic!("the peer ended: {:?}", self.child.wait());
    }

    pub(crate) fn go(&mut self) {
        self.to.write_all(b"go\n").expect("the peer listens");
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: libc::c_int) {
        // SAFETY: a child that was not waited for, so its number is not reused.
        assert_eq!(unsafe { libc::kill(self.pid() as libc::pid_t, signal) }, 0);
    }

    /// Returns when the kernel shows the peer in this state.
    pub(crate) fn until_state(&self, state: char) {
        let path = format!("/proc/{}/stat", self.pid());
        while !std::fs::read_to_string(&path)
            .expect("it was not waited for")
            .rsplit(") ")
            .next()
            .is_some_and(|rest| rest.starts_with(state))
        {
            std::thread::yield_now();
        }
    }

    /// Kills the peer wherever it is.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    /// Returns when the peer has ended successfully.
    pub(crate) fn finish(mut self) {
        assert!(self.child.wait().expect("it ends").success());
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
