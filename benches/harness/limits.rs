//! The raw limits of the machine: plain shared memory, a stream of lines, and a futex.

use std::hint::{black_box, spin_loop};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::clock::{in_ticks, nanoseconds, ticks};
use super::place::SharedMemory;
use super::process::{Meeting, Side};
use super::rows::median;
use super::transport::{Receiver, Sender, Touch, Transport, check, fill};

/// A ring of plain buffers between one sender and one receiver; each shows its progress on a
/// separate line.
#[derive(Clone)]
pub(crate) struct Memory {
    memory: Rc<SharedMemory>,
    count: u64,
    done: u64,
}

impl Memory {
    /// Bytes before the buffers: a page.
    const WORDS: usize = 4096;

    pub(crate) fn new<const W: usize>() -> Memory {
        let count = if W > 512 { 4 } else { 64 };
        Memory {
            memory: Rc::new(SharedMemory::new(Self::WORDS + count * W * 8)),
            count: count as u64,
            done: 0,
        }
    }

    fn head(&self) -> &AtomicU64 {
        self.memory.word(0)
    }

    fn tail(&self) -> &AtomicU64 {
        self.memory.word(1)
    }

    fn buffer<const W: usize>(&self) -> *mut u64 {
        let at = Self::WORDS + (self.done % self.count) as usize * W * 8;
        // SAFETY: inside the ring.
        unsafe { self.memory.start().add(at).cast() }
    }
}

impl<const W: usize> Transport<W> for Memory {
    type Sender = Memory;
    type Receiver = Memory;

    fn sender(&self) -> Memory {
        self.clone()
    }

    fn receiver(&self) -> Memory {
        self.clone()
    }
}

impl<const W: usize> Sender<W> for Memory {
    fn send(&mut self, value: u64, touch: Touch) {
        while self.done >= self.tail().load(Ordering::Acquire) + self.count {
            spin_loop();
        }
        // SAFETY: a buffer that the receiver is done with.
        unsafe { fill::<W>(self.buffer::<W>(), value, touch) };
        self.done += 1;
        self.head().store(self.done, Ordering::Release);
    }
}

impl<const W: usize> Receiver<W> for Memory {
    fn receive(&mut self, touch: Touch) -> Option<u64> {
        if self.head().load(Ordering::Acquire) == self.done {
            return None;
        }
        // SAFETY: a buffer that the sender has published.
        let value = unsafe { check::<W>(self.buffer::<W>(), touch) };
        self.done += 1;
        self.tail().store(self.done, Ordering::Release);
        Some(value)
    }

    fn sleep(&mut self) {
        unreachable!("plain memory wakes nobody");
    }
}

/// Lines of 64 bytes that are written, published 64 at a time, and read: the raw line stream.
pub(crate) struct LineStream(SharedMemory);

impl LineStream {
    const RING: u64 = 1024;
    const STEP: u64 = 64;
    /// Bytes before the lines: a page.
    const WORDS: usize = 4096;

    pub(crate) fn new() -> LineStream {
        LineStream(SharedMemory::new(Self::WORDS + Self::RING as usize * 64))
    }

    fn line(&self, line: u64) -> &[AtomicU64; 8] {
        let at = Self::WORDS + (line % Self::RING) as usize * 64;
        // SAFETY: inside the ring, aligned; any bytes are atomics.
        unsafe { &*self.0.start().add(at).cast() }
    }

    /// Nanoseconds per line on this side, the median of blocks of two rings; nothing on the other
    /// side.
    pub(crate) fn run(&self, meeting: &Meeting<'_>, time: Duration) -> f64 {
        let [head, tail, end] = [0, 1, 2].map(|pair| self.0.word(pair));
        meeting.meet();
        let mut step = 0;
        if meeting.side == Side::There {
            let mut sum = 0_u64;
            loop {
                while head.load(Ordering::Acquire) <= step {
                    if step > 0 && end.load(Ordering::Acquire) == step {
                        black_box(sum);
                        return 0.0;
                    }
                    spin_loop();
                }
                for line in step * Self::STEP..(step + 1) * Self::STEP {
                    for word in self.line(line) {
                        sum = sum.wrapping_add(word.load(Ordering::Relaxed));
                    }
                }
                step += 1;
                tail.store(step, Ordering::Release);
            }
        }
        const STEPS: u64 = 2 * LineStream::RING / LineStream::STEP;
        let mut last = ticks();
        let finish = last + in_ticks(time);
        let mut blocks = Vec::new();
        while last < finish || blocks.is_empty() {
            for _ in 0..STEPS {
                while step >= tail.load(Ordering::Acquire) + Self::RING / Self::STEP {
                    spin_loop();
                }
                for line in step * Self::STEP..(step + 1) * Self::STEP {
                    for (at, word) in self.line(line).iter().enumerate() {
                        word.store(line + at as u64, Ordering::Relaxed);
                    }
                }
                step += 1;
                head.store(step, Ordering::Release);
            }
            let now = ticks();
            blocks.push(nanoseconds(now - last) / (STEPS * Self::STEP) as f64);
            last = now;
        }
        end.store(step, Ordering::Release);
        median(blocks)
    }
}

/// A value beside a futex: a store and a FUTEX_WAKE for each, and a FUTEX_WAIT.
#[derive(Clone)]
pub(crate) struct Futex {
    memory: Rc<SharedMemory>,
    seen: u32,
}

impl Futex {
    pub(crate) fn new() -> Futex {
        Futex { memory: Rc::new(SharedMemory::new(4096)), seen: 0 }
    }

    fn word(&self) -> &AtomicU32 {
        // SAFETY: a part of a shared word, which is used as nothing else.
        unsafe { AtomicU32::from_ptr(self.memory.word(0).as_ptr().cast()) }
    }

    fn value(&self) -> &AtomicU64 {
        self.memory.word(1)
    }

    fn call(&self, operation: i32, value: u32) {
        let nowhere = std::ptr::null::<libc::timespec>();
        // SAFETY: a word that is mapped; no time limit.
        unsafe { libc::syscall(libc::SYS_futex, self.word().as_ptr(), operation, value, nowhere) };
    }
}

impl<const W: usize> Transport<W> for Futex {
    type Sender = Futex;
    type Receiver = Futex;

    fn sender(&self) -> Futex {
        self.clone()
    }

    fn receiver(&self) -> Futex {
        self.clone()
    }
}

impl<const W: usize> Sender<W> for Futex {
    fn send(&mut self, value: u64, _: Touch) {
        self.value().store(value, Ordering::Relaxed);
        self.word().fetch_add(1, Ordering::Release);
        self.call(libc::FUTEX_WAKE, i32::MAX as u32);
    }
}

impl<const W: usize> Receiver<W> for Futex {
    fn receive(&mut self, _: Touch) -> Option<u64> {
        let now = self.word().load(Ordering::Acquire);
        (now != self.seen).then(|| {
            self.seen = now;
            self.value().load(Ordering::Relaxed)
        })
    }

    fn sleep(&mut self) {
        self.call(libc::FUTEX_WAIT, self.seen);
    }
}
