//! Makes the four hot calls many times, so that `benches/instructions` can count their
//! instructions.
//!
//! `calls MODE TURNS` reserves, commits, reads and marks `TURNS` times and prints nothing; also in
//! batches, and by the reference operations.

#![allow(unsafe_code)] // Half of the calls go through the C ABI.

use std::hint::black_box;
use std::os::fd::AsRawFd;
use std::ptr::null_mut;

use shmslot::{CreateOptions, Policy, Segment};

const PAYLOAD: usize = 64;
/// Samples of a batch; a turn is one sample.
const BATCH: usize = 32;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let Some(mode) = arguments.next() else { return }; // `cargo bench` runs everything
    let turns = arguments.next().and_then(|turns| turns.parse().ok()).unwrap_or(0);
    let (language, shape) = mode.split_once('-').unwrap_or_default();
    let plain = CreateOptions { slot_capacity: PAYLOAD as u64, ..CreateOptions::default() };
    let options = match shape {
        "single" => CreateOptions { single_writer: true, ..plain },
        "many" => plain,
        "dropping" => CreateOptions { policy: Some(Policy::DropOldest), ..plain },
        "unusual" => CreateOptions { slot_count: 65, history: 1, ..plain },
        _ => panic!("unknown shape: {shape}"),
    };
    let segment = Segment::create_anonymous(&options).expect("a segment");
    match language {
        "rust" => by_rust(&segment, turns),
        "c" => by_c(&segment, turns),
        "batch" => by_batches(&segment, turns),
        "batch_c" => by_batches_in_c(&segment, turns),
        "reference" => by_reference(&segment, turns),
        "reference_c" => by_reference_c(&segment, turns),
        _ => panic!("unknown language: {language}"),
    }
}

fn by_rust(segment: &Segment, turns: u64) {
    let reader = segment.reader(0).expect("a reader");
    let writer = segment.writer().expect("a writer");
    for _ in 0..turns {
        let mut loan = writer.reserve(PAYLOAD, None).expect("a slot");
        black_box(loan.as_mut_ptr());
        loan.commit(PAYLOAD).expect("a commit");
        black_box(reader.read().expect("a read").expect("a sample").as_ptr());
    }
}

fn by_batches(segment: &Segment, turns: u64) {
    let reader = segment.reader(0).expect("a reader");
    let writer = segment.writer().expect("a writer");
    let (mut loans, mut samples) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
    for _ in 0..turns / BATCH as u64 {
        let count = writer.reserve_many(PAYLOAD, None, BATCH, &mut loans).expect("slots");
        loans.iter_mut().for_each(|loan| _ = black_box(loan.as_mut_ptr()));
        let done = writer.commit_many(&mut loans, &[PAYLOAD; BATCH], |_| {});
        assert_eq!((count, done.expect("commits")), (BATCH, BATCH));
        assert_eq!(reader.read_many(BATCH, &mut samples).expect("a read"), BATCH);
        samples.iter().for_each(|sample| _ = black_box(sample.as_ptr()));
        reader.mark_many(&mut samples);
    }
}

fn by_reference(segment: &Segment, turns: u64) {
    let slots = segment.reference().expect("the operations");
    for _ in 0..turns {
        let loan = slots.reserve(1).expect("a slot");
        black_box(slots.data_ptr(loan).expect("a loan"));
        slots.commit_in_place(loan, PAYLOAD).expect("a commit");
        let sample = slots.next_unread(0).expect("a look").expect("a sample");
        black_box(slots.read_ptr(sample).expect("a sample"));
        slots.mark_read(sample, 0).expect("a mark");
    }
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Loan([u64; 5]);
#[repr(C)]
#[derive(Clone, Copy)]
struct Sample([u64; 8]);
#[repr(C)]
struct Reference([u64; 2]);

unsafe extern "C" {
    fn shmslot_segment_attach_fd(fd: i32, o: *const u8, ret: *mut *mut u8, err: *mut u8) -> i32;
    fn shmslot_segment_close(segment: *mut u8);
    fn shmslot_writer_open(segment: *mut u8, ret: *mut *mut u8, err: *mut u8) -> i32;
    fn shmslot_writer_close(writer: *mut u8);
    fn shmslot_reader_join(segment: *mut u8, history: u32, ret: *mut *mut u8, err: *mut u8) -> i32;
    fn shmslot_reader_leave(reader: *mut u8);
    fn shmslot_slot_reserve(writer: *mut u8, len: usize, timeout: i64, loan: *mut Loan) -> i32;
    fn shmslot_slot_commit(
        writer: *mut u8,
        loan: *const Loan,
        len: usize,
        sequence: *mut u64,
    ) -> i32;
    fn shmslot_slot_read(reader: *mut u8, sample: *mut Sample) -> i32;
    fn shmslot_slot_mark(reader: *mut u8, sample: *const Sample) -> i32;
    fn shmslot_slot_reserve_many(
        writer: *mut u8,
        len: usize,
        timeout: i64,
        loans: *mut Loan,
        most: usize,
    ) -> i32;
    fn shmslot_slot_commit_many(
        writer: *mut u8,
        loans: *const Loan,
        lens: *const usize,
        count: usize,
        sequences: *mut u64,
    ) -> i32;
    fn shmslot_slot_read_many(reader: *mut u8, samples: *mut Sample, most: usize) -> i32;
    fn shmslot_slot_mark_many(reader: *mut u8, samples: *const Sample, count: usize) -> i32;
    fn shmslot_ref_reserve(segment: *mut u8, active: u64, ret: *mut Reference) -> i32;
    fn shmslot_ref_data_ptr(
        s: *mut u8,
        slot: *const Reference,
        ret: *mut *mut u8,
        room: *mut usize,
    ) -> i32;
    fn shmslot_ref_commit_in_place(
        s: *mut u8,
        slot: *const Reference,
        len: usize,
        seq: *mut u64,
    ) -> i32;
    fn shmslot_ref_next_unread(segment: *mut u8, reader: u32, ret: *mut Reference) -> i32;
    fn shmslot_ref_read_ptr(
        s: *mut u8,
        slot: *const Reference,
        ret: *mut *const u8,
        len: *mut usize,
    ) -> i32;
    fn shmslot_ref_mark_read(segment: *mut u8, slot: *const Reference, reader: u32) -> i32;
}

fn by_c(owner: &Segment, turns: u64) {
    let (mut segment, mut writer, mut reader) = (null_mut(), null_mut(), null_mut());
    let (mut loan, mut sample) = (Loan([0; 5]), Sample([0; 8]));
    // SAFETY: the calls as the header declares them, with live arguments.
    unsafe {
        let fd = owner.fd().expect("anonymous").as_raw_fd();
        assert_eq!(shmslot_segment_attach_fd(fd, null_mut(), &mut segment, null_mut()), 0);
        assert_eq!(shmslot_writer_open(segment, &mut writer, null_mut()), 0);
        assert_eq!(shmslot_reader_join(segment, 0, &mut reader, null_mut()), 0);
        for _ in 0..turns {
            let mut bad = shmslot_slot_reserve(writer, PAYLOAD, 0, &mut loan);
            bad |= shmslot_slot_commit(writer, &loan, PAYLOAD, null_mut());
            bad |= shmslot_slot_read(reader, &mut sample);
            bad |= shmslot_slot_mark(reader, &sample);
            assert_eq!(bad, 0);
        }
        shmslot_reader_leave(reader);
        shmslot_writer_close(writer);
        shmslot_segment_close(segment);
    }
}

fn by_batches_in_c(owner: &Segment, turns: u64) {
    let (mut segment, mut writer, mut reader) = (null_mut(), null_mut(), null_mut());
    let (mut loans, mut samples) = ([Loan([0; 5]); BATCH], [Sample([0; 8]); BATCH]);
    let (loans, samples) = (loans.as_mut_ptr(), samples.as_mut_ptr());
    // SAFETY: as above, and with room for a batch.
    unsafe {
        let fd = owner.fd().expect("anonymous").as_raw_fd();
        assert_eq!(shmslot_segment_attach_fd(fd, null_mut(), &mut segment, null_mut()), 0);
        assert_eq!(shmslot_writer_open(segment, &mut writer, null_mut()), 0);
        assert_eq!(shmslot_reader_join(segment, 0, &mut reader, null_mut()), 0);
        for _ in 0..turns / BATCH as u64 {
            let mut least = shmslot_slot_reserve_many(writer, PAYLOAD, 0, loans, BATCH);
            let done = shmslot_slot_commit_many(writer, loans, null_mut(), BATCH, null_mut());
            least = least.min(done);
            least = least.min(shmslot_slot_read_many(reader, samples, BATCH));
            least = least.min(shmslot_slot_mark_many(reader, samples, BATCH));
            assert_eq!(least, BATCH as i32);
        }
        shmslot_reader_leave(reader);
        shmslot_writer_close(writer);
        shmslot_segment_close(segment);
    }
}

fn by_reference_c(owner: &Segment, turns: u64) {
    let (mut segment, mut slot) = (null_mut(), Reference([0; 2]));
    let (mut start, mut written, mut len) = (std::ptr::null(), null_mut(), 0);
    // SAFETY: as above.
    unsafe {
        let fd = owner.fd().expect("anonymous").as_raw_fd();
        assert_eq!(shmslot_segment_attach_fd(fd, null_mut(), &mut segment, null_mut()), 0);
        for _ in 0..turns {
            let mut bad = shmslot_ref_reserve(segment, 1, &mut slot);
            bad |= shmslot_ref_data_ptr(segment, &slot, &mut written, &mut len);
            bad |= shmslot_ref_commit_in_place(segment, &slot, PAYLOAD, null_mut());
            bad |= shmslot_ref_next_unread(segment, 0, &mut slot);
            bad |= shmslot_ref_read_ptr(segment, &slot, &mut start, &mut len);
            bad |= shmslot_ref_mark_read(segment, &slot, 0);
            assert_eq!(bad, 0);
        }
        shmslot_segment_close(segment);
    }
}
