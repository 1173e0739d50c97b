//! Boost.Interprocess' message queue. Payloads are copied in and out of it.

use std::ffi::{CString, c_char, c_void};
use std::hint::spin_loop;

use crate::harness::transport::{Receiver, Sender, Touch, Transport, check, fill};
use crate::traces;

unsafe extern "C" {
    fn boost_queue_create(name: *const c_char, count: usize, size: usize) -> *mut c_void;
    fn boost_queue_open(name: *const c_char) -> *mut c_void;
    fn boost_queue_try_send(queue: *mut c_void, bytes: *const u64, size: usize) -> bool;
    fn boost_queue_try_receive(queue: *mut c_void, bytes: *mut u64, size: usize) -> bool;
    fn boost_queue_receive(queue: *mut c_void, bytes: *mut u64, size: usize) -> bool;
    fn boost_queue_close(queue: *mut c_void);
    fn boost_queue_remove(name: *const c_char);
}

pub(crate) struct Queue {
    name: CString,
    created: *mut c_void,
}

impl Queue {
    pub(crate) fn new<const W: usize>() -> Queue {
        let name = CString::new(traces::name("boost")).expect("no NUL");
        let count = if W > 512 { 4 } else { 64 };
        // SAFETY: a live name.
        let created = unsafe { boost_queue_create(name.as_ptr(), count, 8 * W) };
        assert!(!created.is_null(), "a queue");
        Queue { name, created }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: closed once.
        unsafe {
            boost_queue_close(self.created);
            boost_queue_remove(self.name.as_ptr());
        }
    }
}

pub(crate) struct End<const W: usize> {
    queue: *mut c_void,
    payload: Box<[u64]>,
}

impl<const W: usize> End<W> {
    fn open(queue: &Queue) -> End<W> {
        // SAFETY: a live name.
        let queue = unsafe { boost_queue_open(queue.name.as_ptr()) };
        assert!(!queue.is_null(), "a queue");
        End { queue, payload: vec![0; W].into() }
    }
}

impl<const W: usize> Drop for End<W> {
    fn drop(&mut self) {
        // SAFETY: closed once.
        unsafe { boost_queue_close(self.queue) };
    }
}

impl<const W: usize> Transport<W> for Queue {
    type Sender = End<W>;
    type Receiver = End<W>;

    fn sender(&self) -> End<W> {
        End::open(self)
    }

    fn receiver(&self) -> End<W> {
        End::open(self)
    }
}

impl<const W: usize> Sender<W> for End<W> {
    fn send(&mut self, value: u64, touch: Touch) {
        // SAFETY: W words of its own, and a live queue.
        unsafe {
            fill::<W>(self.payload.as_mut_ptr(), value, touch);
            while !boost_queue_try_send(self.queue, self.payload.as_ptr(), 8 * W) {
                spin_loop();
            }
        }
    }
}

impl<const W: usize> Receiver<W> for End<W> {
    fn receive(&mut self, touch: Touch) -> Option<u64> {
        let payload = self.payload.as_mut_ptr();
        // SAFETY: W words of its own, and a live queue.
        unsafe {
            boost_queue_try_receive(self.queue, payload, 8 * W).then(|| check::<W>(payload, touch))
        }
    }

    fn sleep(&mut self) {
        unreachable!("a blocking receive sleeps");
    }

    fn receive_asleep(&mut self, touch: Touch) -> u64 {
        let payload = self.payload.as_mut_ptr();
        // SAFETY: W words of its own, and a live queue.
        unsafe {
            assert!(boost_queue_receive(self.queue, payload, 8 * W), "a message");
            check::<W>(payload, touch)
        }
    }
}
