//! This library as a transport, through Rust and through the C ABI.

use std::os::fd::AsRawFd;
use std::ptr::null_mut;
use std::time::Duration;

use shmslot::{AttachOptions, CreateOptions, Policy, Reader, Segment, Writer};

use super::transport::{Receiver, Sender, Touch, Transport, check, fill};

pub(crate) fn options<const W: usize>(
    single_writer: bool,
    policy: Policy,
    slots: u32,
) -> CreateOptions {
    CreateOptions {
        slot_count: slots,
        slot_capacity: 8 * W as u64,
        single_writer,
        policy: Some(policy),
        prefault: true,
        ..CreateOptions::default()
    }
}

/// For rows where nobody must sleep: waits poll longer than a sample takes.
pub(crate) fn never_asleep(options: CreateOptions) -> CreateOptions {
    CreateOptions { spin: Some(Duration::from_secs(1)), ..options }
}

/// For rows where every wait must sleep at once.
pub(crate) fn asleep_at_once(options: CreateOptions) -> CreateOptions {
    CreateOptions { spin: Some(Duration::ZERO), ..options }
}

/// A segment that the two processes attach to by its descriptor.
pub(crate) struct Shmslot {
    segment: Segment,
    options: CreateOptions,
}

impl Shmslot {
    pub(crate) fn new(options: CreateOptions) -> Shmslot {
        Shmslot { segment: Segment::create_anonymous(&options).expect("a segment"), options }
    }

    pub(crate) fn attach(&self) -> Segment {
        let options = AttachOptions {
            spin: self.options.spin,
            prefault: self.options.prefault,
            ..AttachOptions::default()
        };
        Segment::attach_fd(self.segment.fd().expect("anonymous"), &options).expect("attached")
    }

    pub(crate) fn attach_through_c(&self) -> *mut u8 {
        let mut segment = null_mut();
        let fd = self.segment.fd().expect("anonymous").as_raw_fd();
        // SAFETY: as the header declares it, with live arguments.
        let code =
            unsafe { c::shmslot_segment_attach_fd(fd, null_mut(), &mut segment, null_mut()) };
        assert_eq!(code, 0);
        segment
    }
}

impl<const W: usize> Transport<W> for Shmslot {
    type Sender = Writer;
    type Receiver = Reader;

    fn sender(&self) -> Writer {
        self.attach().writer().expect("a writer")
    }

    fn receiver(&self) -> Reader {
        self.attach().reader(0).expect("a reader")
    }
}

impl<const W: usize> Sender<W> for Writer {
    #[inline]
    fn send(&mut self, value: u64, touch: Touch) {
        let mut loan = self.reserve(8 * W, None).expect("a slot");
        // SAFETY: a loan of that many bytes.
        unsafe { fill::<W>(loan.as_mut_ptr().cast(), value, touch) };
        loan.commit(8 * W).expect("a commit");
    }

    fn keep(&mut self, count: usize) {
        for _ in 0..count {
            std::mem::forget(self.reserve(8 * W, None).expect("a slot"));
        }
    }
}

impl<const W: usize> Receiver<W> for Reader {
    #[inline]
    fn receive(&mut self, touch: Touch) -> Option<u64> {
        let sample = self.read().expect("a read")?;
        assert_eq!(sample.len(), 8 * W);
        // SAFETY: in hand, that many bytes long.
        Some(unsafe { check::<W>(sample.as_ptr().cast(), touch) })
    }

    fn sleep(&mut self) {
        self.wait(None).expect("a sample");
    }
}

/// The exported functions, as the header declares them.
pub(super) mod c {
    #[repr(C)]
    #[derive(Clone, Copy)]
    pub(in super::super) struct Loan {
        pub(in super::super) data: *mut u64,
        rest: [u64; 4],
    }

    #[repr(C)]
    #[derive(Clone, Copy)]
    pub(in super::super) struct Sample {
        pub(in super::super) data: *const u64,
        pub(in super::super) len: u64,
        rest: [u64; 6],
    }

    pub(in super::super) const NO_LOAN: Loan = Loan { data: std::ptr::null_mut(), rest: [0; 4] };
    pub(in super::super) const NO_SAMPLE: Sample =
        Sample { data: std::ptr::null(), len: 0, rest: [0; 6] };
    pub(in super::super) const AGAIN: i32 = -11;

    unsafe extern "C" {
        pub(super) fn shmslot_segment_attach_fd(
            fd: i32,
            o: *const u8,
            ret: *mut *mut u8,
            err: *mut u8,
        ) -> i32;
        pub(super) fn shmslot_segment_close(segment: *mut u8);
        pub(super) fn shmslot_writer_open(segment: *mut u8, ret: *mut *mut u8, err: *mut u8)
        -> i32;
        pub(super) fn shmslot_writer_close(writer: *mut u8);
        pub(super) fn shmslot_reader_join(
            segment: *mut u8,
            history: u32,
            ret: *mut *mut u8,
            err: *mut u8,
        ) -> i32;
        pub(super) fn shmslot_reader_leave(reader: *mut u8);
        pub(super) fn shmslot_slot_reserve(
            writer: *mut u8,
            len: usize,
            timeout: i64,
            loan: *mut Loan,
        ) -> i32;
        pub(super) fn shmslot_slot_commit(
            writer: *mut u8,
            loan: *const Loan,
            len: usize,
            seq: *mut u64,
        ) -> i32;
        pub(in super::super) fn shmslot_slot_reserve_many(
            writer: *mut u8,
            len: usize,
            timeout: i64,
            loans: *mut Loan,
            most: usize,
        ) -> i32;
        pub(in super::super) fn shmslot_slot_commit_many(
            writer: *mut u8,
            loans: *const Loan,
            lens: *const usize,
            count: usize,
            sequences: *mut u64,
        ) -> i32;
        pub(in super::super) fn shmslot_slot_read_many(
            reader: *mut u8,
            samples: *mut Sample,
            most: usize,
        ) -> i32;
        pub(in super::super) fn shmslot_slot_mark_many(
            reader: *mut u8,
            samples: *const Sample,
            count: usize,
        ) -> i32;
        pub(super) fn shmslot_slot_read(reader: *mut u8, sample: *mut Sample) -> i32;
        pub(super) fn shmslot_slot_mark(reader: *mut u8, sample: *const Sample) -> i32;
        pub(super) fn shmslot_wait(reader: *mut u8, timeout: i64) -> i32;
    }
}

/// The same segment, used through the C ABI.
pub(crate) struct ThroughC(pub(crate) Shmslot);

pub(crate) struct CWriter(pub(super) *mut u8);
pub(crate) struct CReader(pub(super) *mut u8);

impl<const W: usize> Transport<W> for ThroughC {
    type Sender = CWriter;
    type Receiver = CReader;

    fn sender(&self) -> CWriter {
        let (segment, mut writer) = (self.0.attach_through_c(), null_mut());
        // SAFETY: a live segment; the writer keeps the mapping.
        unsafe {
            assert_eq!(c::shmslot_writer_open(segment, &mut writer, null_mut()), 0);
            c::shmslot_segment_close(segment);
        }
        CWriter(writer)
    }

    fn receiver(&self) -> CReader {
        let (segment, mut reader) = (self.0.attach_through_c(), null_mut());
        // SAFETY: a live segment; the reader keeps the mapping.
        unsafe {
            assert_eq!(c::shmslot_reader_join(segment, 0, &mut reader, null_mut()), 0);
            c::shmslot_segment_close(segment);
        }
        CReader(reader)
    }
}

impl<const W: usize> Sender<W> for CWriter {
    #[inline]
    fn send(&mut self, value: u64, touch: Touch) {
        let mut loan = c::NO_LOAN;
        // SAFETY: a live writer, and a loan of that many bytes.
        unsafe {
            assert_eq!(c::shmslot_slot_reserve(self.0, 8 * W, -1, &mut loan), 0);
            fill::<W>(loan.data, value, touch);
            assert_eq!(c::shmslot_slot_commit(self.0, &loan, 8 * W, null_mut()), 0);
        }
    }

    fn keep(&mut self, count: usize) {
        for _ in 0..count {
            let mut loan = c::NO_LOAN;
            // SAFETY: a live writer; it gives the loans back when it is closed.
            assert_eq!(unsafe { c::shmslot_slot_reserve(self.0, 8 * W, -1, &mut loan) }, 0);
        }
    }
}

impl<const W: usize> Receiver<W> for CReader {
    #[inline]
    fn receive(&mut self, touch: Touch) -> Option<u64> {
        let mut sample = c::NO_SAMPLE;
        // SAFETY: a live reader; a sample in hand of that many bytes.
        unsafe {
            let code = c::shmslot_slot_read(self.0, &mut sample);
            if code == c::AGAIN {
                return None;
            }
            assert_eq!((code, sample.len), (0, 8 * W as u64));
            let value = check::<W>(sample.data, touch);
            assert_eq!(c::shmslot_slot_mark(self.0, &sample), 0);
            Some(value)
        }
    }

    fn sleep(&mut self) {
        // SAFETY: a live reader.
        assert_eq!(unsafe { c::shmslot_wait(self.0, -1) }, 0);
    }
}

impl Drop for CWriter {
    fn drop(&mut self) {
        // SAFETY: closed once.
        unsafe { c::shmslot_writer_close(self.0) };
    }
}

impl Drop for CReader {
    fn drop(&mut self) {
        // SAFETY: closed once, with no sample in hand.
        unsafe { c::shmslot_reader_leave(self.0) };
    }
}
