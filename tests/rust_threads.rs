//! Which handles threads may share and pass on: shown by types, and under load.
#![allow(unsafe_code)] // The calls of the reference operations that leave a race to their caller.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use shmslot::{
    Code, CreateOptions, Loan, Reader, Reference, Sample, Segment, SharedReference, SharedWriter,
    Writer,
};

const NOW: Option<Duration> = Some(Duration::ZERO);

/// `true` if the type has the trait: an inherent constant goes before one of a trait.
macro_rules! has {
    ($type:ty: $trait:path) => {{
        #[allow(dead_code, reason = "one of the two constants is not used")]
        trait Otherwise {
            const HAS: bool = false;
        }
        impl<T: ?Sized> Otherwise for T {}
        struct Probe<T: ?Sized>(std::marker::PhantomData<T>);
        #[allow(dead_code, reason = "as above")]
        impl<T: ?Sized + $trait> Probe<T> {
            const HAS: bool = true;
        }
        <Probe<$type>>::HAS
    }};
}

// Handles for one thread can move, and are not shared.
const _: () = {
    assert!(has!(Writer: Send) && !has!(Writer: Sync));
    assert!(has!(Reader: Send) && !has!(Reader: Sync));
    assert!(has!(Reference: Send) && !has!(Reference: Sync));
    assert!(!has!(Loan<&'static Writer>: Send));
    assert!(!has!(Loan<Arc<Writer>>: Send) && !has!(Loan<Arc<Writer>>: Sync));
};

// Handles for any thread are shared, and their loans move.
const _: () = {
    assert!(has!(SharedWriter: Send) && has!(SharedWriter: Sync));
    assert!(has!(SharedReference: Send) && has!(SharedReference: Sync));
    assert!(has!(Loan<&'static SharedWriter>: Send) && has!(Loan<Arc<SharedWriter>>: Send));
    assert!(has!(Sample<'static>: Send) && has!(Segment: Sync));
};

fn code<T>(result: shmslot::Result<T>) -> Code {
    result.err().expect("that should have failed").code()
}

#[test]
#[allow(clippy::arc_with_non_send_sync, reason = "the loans of one thread share their writer")]
fn a_loan_keeps_the_writer_of_a_single_writer_segment() {
    let options = CreateOptions { single_writer: true, slot_count: 2, ..CreateOptions::default() };
    let segment = Segment::create_local(&options).expect("create");
    let reader = segment.reader(0).expect("reader");
    let writer = Arc::new(segment.writer().expect("writer"));
    let mut first = writer.reserve_owned(4, NOW).expect("a slot");
    let second = writer.reserve_owned(4, NOW).expect("a slot");
    drop(writer);
    assert_eq!(code(segment.writer()), Code::WriterExists);

    first.copy_from(b"kept").expect("it fits");
    assert_eq!(first.commit(4).expect("commit"), 1);
    drop(second);
    assert_eq!(reader.read().expect("read").expect("a sample").to_vec(), b"kept");
    assert_eq!(segment.counters().expect("counters").free, 2);
    segment.writer().expect("its place is free");
}

#[test]
fn a_single_writer_segment_has_nothing_to_share() {
    let options = CreateOptions { single_writer: true, ..CreateOptions::default() };
    let segment = Segment::create_local(&options).expect("create");
    assert_eq!(code(segment.shared_writer()), Code::NotSupported);
    assert_eq!(code(segment.shared_reference()), Code::NotSupported);
    // The refusal took no writer's place.
    segment.writer().expect("its writer");
}

/// Threads reserve and commit by one writer, through loans that borrow it and loans that another
/// thread fills: each sample is complete, and each sequence and each number occurs once.
#[test]
fn threads_share_one_writer() {
    const THREADS: u64 = 4;
    const EACH: u64 = 2_000;
    let options = CreateOptions { slot_count: 8, slot_capacity: 256, ..CreateOptions::default() };
    let segment = Segment::create_local(&options).expect("create");
    let reader = segment.reader(0).expect("reader");
    let writer = Arc::new(segment.shared_writer().expect("writer"));
    std::thread::scope(|scope| {
        let (give, take) = std::sync::mpsc::channel::<(Loan<Arc<SharedWriter>>, u64)>();
        scope.spawn(move || {
            for (mut loan, number) in take {
                loan.copy_from(&number.to_le_bytes().repeat(32)).expect("it fits");
                loan.commit(256).expect("commit");
            }
        });
        for thread in 0..THREADS {
            let (writer, give) = (Arc::clone(&writer), give.clone());
            scope.spawn(move || {
                for count in 0..EACH {
                    let number = thread * EACH + count;
                    if number % 3 == 0 {
                        let loan = writer.reserve_owned(256, None).expect("a slot");
                        give.send((loan, number)).expect("it takes all");
                    } else {
                        writer.write(&number.to_le_bytes().repeat(32), None).expect("write");
                    }
                }
            });
        }
        drop(give);
        let mut numbers = BTreeSet::new();
        for sequence in 1..=THREADS * EACH {
            reader.wait(None).expect("a sample");
            let sample = reader.read().expect("read").expect("a sample");
            assert_eq!(sample.sequence(), sequence);
            let bytes = sample.to_vec();
            let number = bytes.first_chunk().copied().map(u64::from_le_bytes).expect("8 bytes");
            assert_eq!(bytes, number.to_le_bytes().repeat(32));
            assert!(numbers.insert(number), "{number} came twice");
        }
        assert_eq!(numbers.last(), Some(&(THREADS * EACH - 1)));
    });
}

/// A loan outlives the owner of its writer, and can end on another thread.
#[test]
fn an_owned_loan_keeps_its_writer() {
    let options = CreateOptions { slot_count: 1, slot_capacity: 8, ..CreateOptions::default() };
    let segment = Segment::create_local(&options).expect("create");
    let reader = segment.reader(0).expect("reader");
    let writer = Arc::new(segment.shared_writer().expect("writer"));
    let discarded = writer.reserve_owned(8, NOW).expect("a slot");
    std::thread::spawn(move || drop(discarded)).join().expect("no panic");
    let mut loan = writer.reserve_owned(8, NOW).expect("the slot came back");
    drop(writer);
    let sequence = std::thread::spawn(move || {
        loan.copy_from(b"kept").expect("it fits");
        loan.commit(4)
    });
    assert_eq!(sequence.join().expect("no panic").expect("commit"), 1);
    assert_eq!(reader.read().expect("read").expect("a sample").to_vec(), b"kept");
    segment.writer().expect("a place").write(b"next", NOW).expect("the slot is free");
}

/// Threads reserve, commit and mark by one handle of reference operations.
#[test]
fn threads_share_the_reference_operations() {
    const EACH: u64 = 2_000;
    let options = CreateOptions { slot_count: 4, slot_capacity: 64, ..CreateOptions::default() };
    let segment = Segment::create_local(&options).expect("create");
    let slots = segment.shared_reference().expect("reference operations");
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let slots = &slots;
            scope.spawn(move || {
                for count in 0..EACH {
                    let number = thread * EACH + count;
                    let loan = loop {
                        match slots.reserve(1) {
                            Ok(loan) => break loan,
                            Err(error) => assert_eq!(error.code(), Code::NoFreeSlot),
                        }
                        std::thread::yield_now();
                    };
                    // SAFETY: no other thread uses the loan.
                    unsafe { slots.commit_copy(loan, &number.to_le_bytes().repeat(8)) }
                        .expect("commit");
                }
            });
        }
        let mut numbers = BTreeSet::new();
        while numbers.len() < 2 * EACH as usize {
            let Some(sample) = slots.next_unread(0).expect("an answer") else {
                std::thread::yield_now();
                continue;
            };
            let mut bytes = [0; 64];
            // SAFETY: reader 0 is in the mask of every reserve, and has not marked it.
            unsafe { slots.read_copy(sample, &mut bytes) }.expect("a sample");
            let number = bytes.first_chunk().copied().map(u64::from_le_bytes).expect("8 bytes");
            assert_eq!(bytes.to_vec(), number.to_le_bytes().repeat(8));
            assert!(numbers.insert(number), "{number} came twice");
            slots.mark_read(sample, 0).expect("mark");
        }
    });
}
