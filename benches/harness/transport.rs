//! What carries payloads from one process to another, and how payloads are written and checked.

/// What is done to a payload on its way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Touch {
    /// Its first word is written and read, which is how each one is checked.
    First,
    /// Every word is written by the sender and read by the receiver, in place where the library
    /// allows it.
    Whole,
}

/// Writes a payload of `W` words, each one more than the last.
///
/// # Safety
/// `W` words from `at` may be written.
#[inline(always)]
pub(crate) unsafe fn fill<const W: usize>(at: *mut u64, value: u64, touch: Touch) {
    // SAFETY: the caller's promise.
    unsafe {
        at.write_unaligned(value);
        if touch == Touch::Whole {
            for word in 1..W {
                at.add(word).write_unaligned(value.wrapping_add(word as u64));
            }
        }
    }
}

/// The value with which a payload was filled; panics if its words do not add up.
///
/// # Safety
/// `W` words from `at` may be read.
#[inline(always)]
pub(crate) unsafe fn check<const W: usize>(at: *const u64, touch: Touch) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        let value = at.read_unaligned();
        if touch == Touch::Whole {
            let sum = (0..W).map(|word| at.add(word).read_unaligned()).fold(0, u64::wrapping_add);
            let count = W as u64;
            assert_eq!(
                sum,
                value.wrapping_mul(count).wrapping_add(count * (count - 1) / 2),
                "a torn payload"
            );
        }
        value
    }
}

pub(crate) trait Sender<const W: usize> {
    /// Sends a payload of `W` words; polls while there is no room.
    fn send(&mut self, value: u64, touch: Touch);

    /// Sends what is left of a batch.
    fn flush(&mut self) {}

    /// Takes room for so many payloads and keeps it.
    fn keep(&mut self, count: usize) {
        let _ = count;
        unreachable!("nothing to be kept");
    }
}

pub(crate) trait Receiver<const W: usize> {
    /// Polls once.
    fn receive(&mut self, touch: Touch) -> Option<u64>;

    /// Sleeps until there may be something.
    fn sleep(&mut self);

    fn receive_asleep(&mut self, touch: Touch) -> u64 {
        loop {
            if let Some(value) = self.receive(touch) {
                return value;
            }
            self.sleep();
        }
    }
}

/// One direction, prepared before the processes separate: names, and descriptors that can be
/// inherited.
pub(crate) trait Transport<const W: usize> {
    type Sender: Sender<W>;
    type Receiver: Receiver<W>;

    /// Opens the sending end, in the process that uses it. Called first.
    fn sender(&self) -> Self::Sender;
    fn receiver(&self) -> Self::Receiver;
}
