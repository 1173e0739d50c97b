//! No byte of shared memory, whatever its value, makes a call panic, loop for ever, or touch memory
//! outside the mapping.
//!
//! The drivers are in `hostile/`, shared with the fuzzers in `fuzz/`. Here they get bytes from
//! seeds, the same ones in each run. `SHMSLOT_HOSTILE_ROUNDS` sets how many each test tries, and
//! `SHMSLOT_HOSTILE_SEED` selects one, which a failure prints.
#![allow(unsafe_code)]

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

mod hostile;

use hostile::attach::{attach, file_of_this_process};
use hostile::calls::{World, peer_moves};
use hostile::choices::Choices;

const ROUNDS: &str = "SHMSLOT_HOSTILE_ROUNDS";
const SEED: &str = "SHMSLOT_HOSTILE_SEED";
/// Tells a child that it is one, and what it must do wrong.
const MISDEED: &str = "SHMSLOT_HOSTILE_MISDEED";

const USUAL_ROUNDS: u64 = 4_000;
/// A round takes milliseconds. After this many seconds it counts as hanging.
const PATIENCE: u32 = 120;

/// The seed of the current round, for the handler that ends this process.
static RUNNING: AtomicU64 = AtomicU64::new(0);

/// One round at a time: there is one alarm clock and one seed to report.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        for signal in [libc::SIGALRM, libc::SIGSEGV, libc::SIGBUS] {
            // SAFETY: all-zero is a valid sigaction, a plain struct; the handler does only what
            // handlers may do.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                let handler: extern "C" fn(libc::c_int) = report;
                action.sa_sigaction = handler as usize;
                action.sa_flags = libc::SA_RESETHAND | libc::SA_NODEFER | libc::SA_ONSTACK;
                assert_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0, "sigaction");
            }
        }
    });
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Prints the seed; the signal does the rest.
extern "C" fn report(signal: libc::c_int) {
    let mut line = *b"\nsignal in round SHMSLOT_HOSTILE_SEED=0x0000000000000000\n";
    let digits = line.iter_mut().rev().skip(1);
    for (place, digit) in digits.take(16).enumerate() {
        *digit =
            b"0123456789abcdef"[(RUNNING.load(Ordering::Relaxed) >> (4 * place) & 15) as usize];
    }
    // SAFETY: calls that signal handlers may make, with a buffer of this length and a C string that
    // lives for ever.
    unsafe {
        libc::write(2, line.as_ptr().cast(), line.len());
        libc::unlink(file_of_this_process().as_ptr());
        libc::raise(signal);
    }
}

/// One round: while it lives, a hang, a fault and a panic are reported with the seed.
struct Round(u64);

impl Round {
    fn begin(seed: u64) -> Round {
        RUNNING.store(seed, Ordering::Relaxed);
        // SAFETY: a call with a number.
        unsafe { libc::alarm(PATIENCE) };
        Round(seed)
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { libc::alarm(0) };
        if std::thread::panicking() {
            eprintln!("panic in round {SEED}={:#018x}", self.0);
        }
    }
}

/// A stream of numbers from a seed.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    /// Up to `most` bytes.
    fn bytes(&mut self, most: u64) -> Vec<u8> {
        let len = self.next() % most;
        (0..len).map(|_| self.next() as u8).collect()
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    Some(number.unwrap_or_else(|_| panic!("{variable} is a number")))
}

/// Runs a driver with each seed, or with every `slowness`th one.
fn each_round(slowness: u64, driver: impl Fn(u64)) {
    let _turn = turn();
    let _ = file_of_this_process();
    let seeds = match number(SEED) {
        Some(seed) => seed..seed + 1,
        None => 0..number(ROUNDS).unwrap_or(USUAL_ROUNDS).div_ceil(slowness),
    };
    for seed in seeds {
        let _round = Round::begin(seed);
        driver(seed);
    }
}

#[test]
fn attach_takes_any_file() {
    each_round(1, |seed| attach(&Noise(seed).bytes(600)));
}

#[test]
fn calls_take_any_move_of_a_peer() {
    each_round(1, |seed| peer_moves(&Noise(seed).bytes(1500)));
}

/// As above, but the peer does not wait for its turn. A seed does not determine which of the two is
/// faster.
#[test]
fn calls_take_a_peer_that_moves_at_the_same_time() {
    each_round(20, |seed| {
        let mut noise = Noise(seed);
        let bytes = noise.bytes(1500);
        let mut c = Choices::new(&bytes);
        let world = World::create(&mut c);
        let (peer, over) = (Arc::clone(&world.peer), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    peer.quarrel(&mut Choices::new(&noise.bytes(64)));
                }
            });
            let ends = Ends(&over);
            world.live(&mut c);
            drop(ends);
        });
    });
}

#[test]
fn a_length_is_looked_at_once() {
    let _turn = turn();
    let _round = Round::begin(0);
    let mut world = World::create(&mut Choices::new(&[]));
    let (peer, over) = (Arc::clone(&world.peer), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                peer.quarrel_over_length(0);
            }
        });
        let _ends = Ends(&over);
        (0..1_000_000).for_each(|_| world.exchange());
    });
}

/// A writer that takes the oldest sample finds all of them held, and searches again as far as the
/// order has grown.
#[test]
fn a_search_is_bounded_by_the_slots() {
    let _turn = turn();
    let _round = Round::begin(0);
    // two slots, drop-oldest
    let mut world = World::create(&mut Choices::new(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 2]));
    world.hold_all();
    let (peer, over) = (Arc::clone(&world.peer), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                peer.quarrel_over_tail();
            }
        });
        let _ends = Ends(&over);
        (0..100_000).for_each(|_| world.send());
    });
}

/// No call counts beyond the last sequence that a word can hold.
#[test]
fn sequences_may_come_to_their_end() {
    let _turn = turn();
    let _round = Round::begin(0);
    for left in 0..8 {
        // eight slots
        let mut world = World::create(&mut Choices::new(&[7]));
        world.exchange_many();
        world.peer.near_the_end_of_the_order(left);
        world.exchange_many();
        world.exchange();
        world.exchange_many();
    }
}

/// Ends a thread even if this one panics.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Findings of the fuzzers.
#[test]
fn seeds_of_the_fuzzers_pass() {
    let _turn = turn();
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    type Driver = fn(&[u8]);
    for (target, driver) in [("attach", attach as Driver), ("peer_moves", peer_moves)] {
        let mut files = 0;
        for file in std::fs::read_dir(seeds.join(target)).expect("the seeds are in the repository")
        {
            let path = file.expect("a readable folder").path();
            eprintln!("{}", path.display());
            let _round = Round::begin(0);
            driver(&std::fs::read(&path).expect("a readable file"));
            files += 1;
        }
        assert!(files > 0, "there are seeds for {target}");
    }
}

/// Runs one test of this file in a process of its own, which must do something wrong.
fn child(test: &str, misdeed: &str) -> Output {
    let mut command = Command::new(std::env::current_exe().expect("this test runs"));
    command.args(["--exact", test, "--nocapture"]).env(MISDEED, misdeed);
    // Files that a fault would leave are useless, because the fault is expected.
    command.env_remove(ROUNDS).env_remove(SEED);
    command.output().expect("it starts again")
}

/// Fails unless the child ended by `signal` and reported the round.
fn ended_by(output: &Output, signal: libc::c_int) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(signal), "{}\n{said}", output.status);
    assert!(
        said.contains("SHMSLOT_HOSTILE_SEED=0x00000000c0ffee42"),
        "the seed is reported, not {said}"
    );
}

/// Without this, the tests above would prove less than they claim.
#[test]
fn an_overrun_of_one_byte_is_caught() {
    let Ok(misdeed) = std::env::var(MISDEED) else {
        for misdeed in
            ["before", "after", "nothing", "behind an attachment", "behind a local segment"]
        {
            let output = child("an_overrun_of_one_byte_is_caught", misdeed);
            match misdeed {
                "nothing" => {
                    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr))
                }
                _ => ended_by(&output, libc::SIGSEGV),
            }
        }
        return;
    };
    let _turn = turn();
    let _round = Round::begin(0xc0ff_ee42);
    let local = misdeed == "behind a local segment";
    let mut world = World::create(&mut Choices::new(&[
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        1,
        0,
        0,
        0,
        0,
        0,
        u8::from(local),
    ]));
    let attached = world.attach_again();
    let place = if misdeed == "behind an attachment" {
        attached.expect("it has a file")
    } else {
        world.place()
    };
    let wrong = match misdeed.as_str() {
        "before" => place.start - 1,
        "nothing" => place.start,
        _ => place.end,
    };
    // SAFETY: none, which is the purpose; the first byte of the segment is at `start`.
    unsafe { std::ptr::with_exposed_provenance::<u8>(wrong).read_volatile() };
}

#[test]
fn a_hang_is_reported() {
    if std::env::var(MISDEED).is_err() {
        return ended_by(&child("a_hang_is_reported", "hang"), libc::SIGALRM);
    }
    let _turn = turn();
    let _round = Round::begin(0xc0ff_ee42);
    // SAFETY: a call with a number; this process must not wait longer.
    unsafe { libc::alarm(1) };
    loop {
        std::thread::park();
    }
}
