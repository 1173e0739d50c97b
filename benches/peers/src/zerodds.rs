//! zerodds-flatdata: slots in a POSIX segment. It hands samples out by slot, not in the order of
//! their commits.

use std::hint::spin_loop;
use std::path::PathBuf;
use std::time::Duration;

use zerodds_flatdata::{PosixSlotAllocator, SlotBackend, SlotHandle};

use crate::harness::transport::{Receiver, Sender, Touch, Transport, check, fill};
use crate::traces;

/// Reader 0 is the only one.
const READER: u8 = 0;
const ACTIVE: u32 = 1;

pub(crate) struct Slots {
    path: PathBuf,
    _owner: PosixSlotAllocator,
}

impl Slots {
    pub(crate) fn new<const W: usize>(slots: usize) -> Slots {
        let path = traces::directory().join(traces::name("zerodds"));
        let owner = PosixSlotAllocator::create(&path, slots, 8 * W).expect("a segment");
        Slots { path, _owner: owner }
    }

    pub(crate) fn attach(&self) -> PosixSlotAllocator {
        PosixSlotAllocator::attach(&self.path).expect("attached")
    }
}

pub(crate) struct End {
    slots: PosixSlotAllocator,
    /// On loan as long as this process lives.
    kept: Vec<SlotHandle>,
}

impl End {
    fn attach(slots: &Slots) -> End {
        End { slots: slots.attach(), kept: Vec::new() }
    }
}

impl<const W: usize> Transport<W> for Slots {
    type Sender = End;
    type Receiver = End;

    fn sender(&self) -> End {
        End::attach(self)
    }

    fn receiver(&self) -> End {
        End::attach(self)
    }
}

impl<const W: usize> Sender<W> for End {
    fn send(&mut self, value: u64, touch: Touch) {
        let loan = loop {
            match self.slots.reserve_slot(ACTIVE) {
                Ok(loan) => break loan,
                Err(_) => spin_loop(),
            }
        };
        let (start, room) = self.slots.slot_data_ptr(loan).expect("a loan");
        assert!(room >= 8 * W);
        // SAFETY: a loan with that much room.
        unsafe { fill::<W>(start.cast(), value, touch) };
        self.slots.commit_in_place(loan, 8 * W).expect("a commit");
    }

    fn keep(&mut self, count: usize) {
        let slots = &self.slots;
        self.kept.extend((0..count).map(|_| slots.reserve_slot(ACTIVE).expect("a slot")));
    }
}

impl<const W: usize> Receiver<W> for End {
    fn receive(&mut self, touch: Touch) -> Option<u64> {
        let slot = self.slots.next_unread_slot(READER).expect("a read")?;
        let (start, size) = self.slots.slot_read_ptr(slot).expect("a sample");
        assert_eq!(size, 8 * W);
        // SAFETY: unread, so nobody writes to it.
        let value = unsafe { check::<W>(start.cast(), touch) };
        self.slots.mark_read(slot, READER).expect("a mark");
        Some(value)
    }

    fn sleep(&mut self) {
        unreachable!("it sleeps from a generation on that was asked for before");
    }

    fn receive_asleep(&mut self, touch: Touch) -> u64 {
        loop {
            let generation = self.slots.notify_generation();
            if let Some(value) = Receiver::<W>::receive(self, touch) {
                return value;
            }
            self.slots.wait_for_change(generation, Duration::from_secs(10));
        }
    }
}
