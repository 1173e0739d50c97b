//! shmem-ipc: a ring in a memory file, and two eventfds for those who sleep.

use std::hint::spin_loop;

use shmem_ipc::sharedring;
use zerocopy::{AsBytes, FromBytes};

use crate::harness::transport::{self, Touch, Transport, check, fill};

/// A payload as this library wants it: plain bytes.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Payload<const W: usize>([u64; W]);

// SAFETY: words have no padding. The derive has no constant parameters.
unsafe impl<const W: usize> AsBytes for Payload<W> {
    fn only_derive_is_allowed_to_implement_this_trait() {}
}

// SAFETY: any bytes are words.
unsafe impl<const W: usize> FromBytes for Payload<W> {
    fn only_derive_is_allowed_to_implement_this_trait() {}
}

pub(crate) struct Ring<const W: usize> {
    sender: sharedring::Sender<Payload<W>>,
    capacity: usize,
    /// Whether the other side is told by an eventfd.
    waking: bool,
}

impl<const W: usize> Ring<W> {
    pub(crate) fn new(waking: bool) -> Ring<W> {
        let capacity = if W > 512 { 4 } else { 64 };
        Ring { sender: sharedring::Sender::new(capacity).expect("a ring"), capacity, waking }
    }

    fn files(&self) -> [std::fs::File; 3] {
        let sender = &self.sender;
        [sender.memfd().as_file(), sender.empty_signal(), sender.full_signal()]
            .map(|file| file.try_clone().expect("a descriptor"))
    }
}

pub(crate) struct Sending<const W: usize>(sharedring::Sender<Payload<W>>, bool);
pub(crate) struct Receiving<const W: usize>(sharedring::Receiver<Payload<W>>, bool);

impl<const W: usize> Transport<W> for Ring<W> {
    type Sender = Sending<W>;
    type Receiver = Receiving<W>;

    fn sender(&self) -> Sending<W> {
        let [memory, empty, full] = self.files();
        Sending(
            sharedring::Sender::open(self.capacity, memory, empty, full).expect("opened"),
            self.waking,
        )
    }

    fn receiver(&self) -> Receiving<W> {
        let [memory, empty, full] = self.files();
        Receiving(
            sharedring::Receiver::open(self.capacity, memory, empty, full).expect("opened"),
            self.waking,
        )
    }
}

impl<const W: usize> transport::Sender<W> for Sending<W> {
    fn send(&mut self, value: u64, touch: Touch) {
        let mut sent = false;
        while !sent {
            let one = |start: *mut Payload<W>, _| {
                // SAFETY: room for one payload at least.
                unsafe { fill::<W>(start.cast(), value, touch) };
                sent = true;
                1
            };
            if self.1 {
                self.0.send_raw(one).expect("a ring");
            } else {
                self.0.sender_mut().send(one).expect("a ring");
            }
            if !sent {
                spin_loop();
            }
        }
    }
}

impl<const W: usize> transport::Receiver<W> for Receiving<W> {
    fn receive(&mut self, touch: Touch) -> Option<u64> {
        let mut value = None;
        let one = |start: *const Payload<W>, _| {
            // SAFETY: one payload at least.
            value = Some(unsafe { check::<W>(start.cast(), touch) });
            1
        };
        if self.1 {
            self.0.receive_raw(one).expect("a ring");
        } else if self.0.receiver_mut().read_count().expect("a ring") > 0 {
            // An atomic operation that changes nothing would cost the sender its line.
            self.0.receiver_mut().recv(one).expect("a ring");
        }
        value
    }

    fn sleep(&mut self) {
        self.0.block_until_readable().expect("a ring");
    }
}
