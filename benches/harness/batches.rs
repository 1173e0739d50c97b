//! This library as a transport that sends and receives up to [`BATCH`] payloads at once, as many as
//! there is room for, and as many as are there.

use std::ptr::{null, null_mut};

use shmslot::{Loan, Reader, Sample, Writer};

use super::shmslot::{CReader, CWriter, Shmslot, ThroughC, c};
use super::transport::{Receiver, Sender, Touch, Transport, check, fill};

pub(crate) const BATCH: usize = 32;

/// A transport in batches.
pub(crate) struct Batches<T>(pub(crate) T);

pub(crate) struct Loans {
    writer: &'static Writer,
    reserved: Vec<Loan<&'static Writer>>,
    filled: usize,
}

pub(crate) struct Samples {
    reader: &'static Reader,
    taken: Vec<Sample<'static>>,
    checked: usize,
}

impl<const W: usize> Transport<W> for Batches<Shmslot> {
    type Sender = Loans;
    type Receiver = Samples;

    // The process ends soon after it has closed its end.
    fn sender(&self) -> Loans {
        let writer = Box::leak(Box::new(self.0.attach().writer().expect("a writer")));
        Loans { writer, reserved: Vec::with_capacity(BATCH), filled: 0 }
    }

    fn receiver(&self) -> Samples {
        let reader = Box::leak(Box::new(self.0.attach().reader(0).expect("a reader")));
        Samples { reader, taken: Vec::with_capacity(BATCH), checked: 0 }
    }
}

impl<const W: usize> Sender<W> for Loans {
    #[inline]
    fn send(&mut self, value: u64, touch: Touch) {
        if self.reserved.is_empty() {
            self.writer.reserve_many(8 * W, None, BATCH, &mut self.reserved).expect("slots");
        }
        let loan = &mut self.reserved[self.filled];
        // SAFETY: a loan of that many bytes.
        unsafe { fill::<W>(loan.as_mut_ptr().cast(), value, touch) };
        self.filled += 1;
        if self.reserved.len() == self.filled {
            Sender::<W>::flush(self);
        }
    }

    fn flush(&mut self) {
        let lens = &[8 * W; BATCH][..self.filled];
        let done = self.writer.commit_many(&mut self.reserved, lens, |_| {});
        assert_eq!(done.expect("a commit"), self.filled);
        self.filled = 0;
    }
}

impl<const W: usize> Receiver<W> for Samples {
    #[inline]
    fn receive(&mut self, touch: Touch) -> Option<u64> {
        if self.checked == self.taken.len() {
            self.reader.mark_many(&mut self.taken);
            self.checked = 0;
            if self.reader.read_many(BATCH, &mut self.taken).expect("a read") == 0 {
                return None;
            }
        }
        let sample = &self.taken[self.checked];
        self.checked += 1;
        assert_eq!(sample.len(), 8 * W);
        // SAFETY: in hand, that many bytes long.
        Some(unsafe { check::<W>(sample.as_ptr().cast(), touch) })
    }

    fn sleep(&mut self) {
        self.reader.wait(None).expect("a sample");
    }
}

pub(crate) struct CLoans {
    writer: CWriter,
    reserved: [c::Loan; BATCH],
    count: usize,
    filled: usize,
}

pub(crate) struct CSamples {
    reader: CReader,
    taken: [c::Sample; BATCH],
    count: usize,
    checked: usize,
}

impl<const W: usize> Transport<W> for Batches<ThroughC> {
    type Sender = CLoans;
    type Receiver = CSamples;

    fn sender(&self) -> CLoans {
        let writer = Transport::<W>::sender(&self.0);
        CLoans { writer, reserved: [c::NO_LOAN; BATCH], count: 0, filled: 0 }
    }

    fn receiver(&self) -> CSamples {
        let reader = Transport::<W>::receiver(&self.0);
        CSamples { reader, taken: [c::NO_SAMPLE; BATCH], count: 0, checked: 0 }
    }
}

/// The result of a call that cannot fail here.
fn succeeded(count: i32) -> usize {
    usize::try_from(count).expect("a number")
}

impl<const W: usize> Sender<W> for CLoans {
    #[inline]
    fn send(&mut self, value: u64, touch: Touch) {
        if self.count == 0 {
            let to = self.reserved.as_mut_ptr();
            // SAFETY: a live writer, and room for a batch.
            let count =
                unsafe { c::shmslot_slot_reserve_many(self.writer.0, 8 * W, -1, to, BATCH) };
            self.count = succeeded(count);
        }
        // SAFETY: a loan of that many bytes.
        unsafe { fill::<W>(self.reserved[self.filled].data, value, touch) };
        self.filled += 1;
        if self.count == self.filled {
            Sender::<W>::flush(self);
        }
    }

    fn flush(&mut self) {
        let (loans, lens) = (self.reserved.as_ptr(), null());
        // SAFETY: a live writer and its loans, each as long as it was reserved.
        let done = unsafe {
            c::shmslot_slot_commit_many(self.writer.0, loans, lens, self.filled, null_mut())
        };
        assert_eq!(succeeded(done), self.filled);
        (self.count, self.filled) = (0, 0);
    }
}

impl<const W: usize> Receiver<W> for CSamples {
    #[inline]
    fn receive(&mut self, touch: Touch) -> Option<u64> {
        if self.checked == self.count {
            // SAFETY: a live reader, its samples, and room for a batch.
            let count = unsafe {
                let marked =
                    c::shmslot_slot_mark_many(self.reader.0, self.taken.as_ptr(), self.count);
                assert_eq!(succeeded(marked), self.count);
                c::shmslot_slot_read_many(self.reader.0, self.taken.as_mut_ptr(), BATCH)
            };
            let none = count == c::AGAIN;
            (self.count, self.checked) = (if none { 0 } else { succeeded(count) }, 0);
            if none {
                return None;
            }
        }
        let sample = &self.taken[self.checked];
        self.checked += 1;
        assert_eq!(sample.len, 8 * W as u64);
        // SAFETY: in hand, that many bytes long.
        Some(unsafe { check::<W>(sample.data, touch) })
    }

    fn sleep(&mut self) {
        Receiver::<W>::sleep(&mut self.reader);
    }
}
