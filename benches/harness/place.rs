//! Memory that the measuring process shares with its children: where they meet and leave their
//! figures.

use std::hint::spin_loop;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A word on a pair of cache lines of its own.
#[repr(C, align(128))]
pub(crate) struct Line(pub(crate) AtomicU64, [u64; 15]);

/// Most rounds of one sample whose times are kept.
pub(crate) const MOST_TURNS: usize = 1 << 18;

/// Of so many recorded rounds, one may be interrupted.
const ROUNDS_PER_INTERRUPTION: u64 = 8;

pub(crate) struct Place {
    /// How often each side has reached a meeting.
    pub(crate) arrived: [Line; 2],
    /// The two lines of a raw ping-pong.
    pub(crate) ping: Line,
    pub(crate) pong: Line,
    /// What one side tells the other while it is measured.
    pub(crate) said: [Line; 4],
    /// Nonzero while system calls are to be counted.
    pub(crate) counting: Line,
    /// A futex of its own line.
    pub(crate) futex: Line,
    /// How often the processors were taken away from those that are measured.
    interruptions: AtomicU64,
    /// Results: bits of floating numbers.
    results: [AtomicU64; 16],
    turn_count: AtomicU64,
    turns: [AtomicU32; MOST_TURNS],
}

/// Memory that parent and children share: zeros, already present. Unmapped when it is dropped.
pub(crate) struct SharedMemory {
    start: *mut u8,
    bytes: usize,
}

impl SharedMemory {
    pub(crate) fn new(bytes: usize) -> SharedMemory {
        // SAFETY: asks for new memory and touches nothing.
        let start = unsafe {
            libc::mmap(
                null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_POPULATE,
                -1,
                0,
            )
        };
        assert_ne!(start, libc::MAP_FAILED, "no memory");
        SharedMemory { start: start.cast(), bytes }
    }

    /// Its start, which is page-aligned.
    pub(crate) fn start(&self) -> *mut u8 {
        self.start
    }

    /// The first word of a pair of cache lines.
    pub(crate) fn word(&self, pair: usize) -> &AtomicU64 {
        assert!((pair + 1) * 128 <= self.bytes);
        // SAFETY: inside the mapping, aligned; zero is a valid atomic.
        unsafe { &*self.start.add(pair * 128).cast() }
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping of `new`; nothing borrows it any more.
        unsafe { libc::munmap(self.start.cast(), self.bytes) };
    }
}

impl Place {
    pub(crate) fn new() -> &'static Place {
        let memory = SharedMemory::new(size_of::<Place>());
        let place = memory.start().cast::<Place>();
        std::mem::forget(memory);
        // SAFETY: that much memory, aligned to a page, never unmapped; all fields are atomics or
        // padding.
        unsafe { &*place }
    }

    /// Resets it for the next sample.
    pub(crate) fn clear(&self) {
        let lines = [&self.ping, &self.pong, &self.counting, &self.futex];
        for line in lines.into_iter().chain(&self.arrived).chain(&self.said) {
            line.0.store(0, Ordering::Relaxed);
        }
        self.results.iter().for_each(|result| result.store(0, Ordering::Relaxed));
        self.interruptions.store(0, Ordering::Relaxed);
        self.turn_count.store(0, Ordering::Relaxed);
    }

    pub(crate) fn put(&self, index: usize, figure: f64) {
        self.results[index].store(figure.to_bits(), Ordering::Relaxed);
    }

    pub(crate) fn get(&self, index: usize) -> f64 {
        f64::from_bits(self.results[index].load(Ordering::Relaxed))
    }

    pub(crate) fn add_interruptions(&self, count: u64) {
        self.interruptions.fetch_add(count, Ordering::Relaxed);
    }

    /// Whether so many rounds were interrupted that the middle of them shows it, too; or no round
    /// was completed.
    pub(crate) fn is_interrupted(&self) -> bool {
        let rounds = self.turn_count.load(Ordering::Relaxed);
        let count = self.interruptions.load(Ordering::Relaxed);
        rounds == 0 || count * ROUNDS_PER_INTERRUPTION > rounds
    }

    /// Records how many ticks a round took, up to the capacity.
    pub(crate) fn note(&self, ticks: u64) {
        let at = self.turn_count.load(Ordering::Relaxed);
        if (at as usize) < MOST_TURNS {
            self.turns[at as usize].store(ticks.min(u64::from(u32::MAX)) as u32, Ordering::Relaxed);
            self.turn_count.store(at + 1, Ordering::Relaxed);
        }
    }

    pub(crate) fn noted(&self) -> Vec<u32> {
        let count = self.turn_count.load(Ordering::Relaxed) as usize;
        self.turns[..count].iter().map(|turn| turn.load(Ordering::Relaxed)).collect()
    }
}

pub(crate) fn await_value(word: &AtomicU64, value: u64) {
    while word.load(Ordering::Acquire) != value {
        spin_loop();
    }
}
