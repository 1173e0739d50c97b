//! The reference operations where slots are scarce, and where marks come out of order.
#![allow(unsafe_code)] // Copies whose safety is the caller's.

use shmslot::{Code, CreateOptions, Segment};

const SLOTS: u32 = 16;

fn segment(slot_capacity: u64) -> Segment {
    let options = CreateOptions { slot_capacity, slot_count: SLOTS, ..CreateOptions::default() };
    Segment::create_anonymous(&options).expect("a segment")
}

/// Where all slots but one are taken, a caller of the reference operations finds that one, wherever
/// it is.
#[test]
fn the_one_free_slot_is_found_again_and_again() {
    for slot_capacity in [64, 64 << 10] {
        for free in [0, 7, SLOTS as usize - 1] {
            let segment = segment(slot_capacity);
            let slots = segment.reference().expect("the operations");
            let all: Vec<_> = (0..SLOTS).map(|_| slots.reserve(1).expect("a slot")).collect();
            let place = slots.data_ptr(all[free]).expect("a loan").0;
            slots.discard(all[free]).expect("a loan");
            for number in 0..100_u64 {
                let loan = slots.reserve(1).expect("a slot");
                assert_eq!(slots.data_ptr(loan).expect("a loan").0, place);
                assert_eq!(
                    slots.reserve(1).expect_err("no other is free").code(),
                    Code::NoFreeSlot
                );
                slots.commit_copy(loan, &number.to_ne_bytes()).expect("a commit");
                assert_eq!(slots.reserve(1).expect_err("it is unread").code(), Code::NoFreeSlot);
                let sample = slots.next_unread(0).expect("a look").expect("a sample");
                assert_eq!(
                    slots.next_unread(0).expect("a look"),
                    Some(sample),
                    "until it is marked"
                );
                let mut bytes = [0; 8];
                // SAFETY: there is one thread.
                unsafe { slots.read_copy(sample, &mut bytes) }.expect("a sample");
                assert_eq!(u64::from_ne_bytes(bytes), number);
                slots.mark_read(sample, 0).expect("a mark");
                assert_eq!(slots.mark_read(sample, 0).expect_err("once").code(), Code::Stale);
                assert_eq!(slots.next_unread(0).expect("a look"), None);
            }
        }
    }
}

/// The reader continues after what was marked, and forgets nothing that was not.
#[test]
fn samples_marked_out_of_order_leave_the_others_unread() {
    let slots_of = segment(64);
    let slots = slots_of.reference().expect("the operations");
    for round in 0..100_u64 {
        let samples: Vec<_> = (0..8_u64)
            .map(|number| {
                let loan = slots.reserve(1).expect("a slot");
                slots.commit_copy(loan, &number.to_ne_bytes()).expect("a commit");
                loan
            })
            .collect();
        assert_eq!(slots.next_unread(0).expect("a look"), Some(samples[0]), "round {round}");
        for (mark, next) in [(1, 0), (0, 2), (4, 2), (2, 3), (3, 5), (7, 5), (5, 6)] {
            slots.mark_read(samples[mark], 0).expect("a mark");
            assert_eq!(slots.next_unread(0).expect("a look"), Some(samples[next]), "after {mark}");
        }
        slots.mark_read(samples[6], 0).expect("a mark");
        assert_eq!(slots.next_unread(0).expect("a look"), None);
    }
}

const LARGE: usize = 100_000;

fn segment_with_regions() -> Segment {
    let options = CreateOptions {
        slot_capacity: 64,
        slot_count: SLOTS,
        max_payload: LARGE as u64,
        region_count: 2,
        user_header_size: 16,
        ..CreateOptions::default()
    };
    Segment::create_anonymous(&options).expect("a segment")
}

/// A payload that exceeds a slot goes to a region, and behaves like all others otherwise.
#[test]
fn large_payloads_and_user_headers() {
    let segment = segment_with_regions();
    let (writes, reads) = (segment.reference().expect("them"), segment.reference().expect("them"));
    for (number, len) in (1_u8..).zip([0, 1, 64, 65, 4096, LARGE - 1, LARGE]) {
        let payload: Vec<u8> =
            (0..len).map(|at| number.wrapping_mul(31).wrapping_add(at as u8)).collect();
        let loan = writes.reserve_large(1, len).expect("a slot");
        assert_eq!(writes.data_ptr(loan).expect("a loan").1, len.max(64), "what was reserved");
        writes.write_user_header(loan, &[number; 16]).expect("it fits");
        let refused = writes.write_user_header(loan, &[number; 17]).expect_err("one too many");
        assert_eq!(refused.code(), Code::TooLarge);
        assert_eq!(reads.read_user_header(loan).expect_err("not yet").code(), Code::Stale);
        writes.commit_copy(loan, &payload).expect("a commit");
        assert_eq!(
            writes.write_user_header(loan, &[0]).expect_err("it is over").code(),
            Code::Stale
        );

        let sample = reads.next_unread(0).expect("a look").expect("a sample");
        let (mut bytes, mut header) = (vec![0; len], [0; 20]);
        // SAFETY: there is one thread.
        let copied = unsafe { reads.read_copy(sample, &mut bytes) };
        assert_eq!(copied.expect("a sample").len, len as u64);
        assert_eq!(bytes, payload);
        // SAFETY: there is one thread.
        assert_eq!(unsafe { reads.copy_user_header(sample, &mut header) }.expect("a sample"), 16);
        assert_eq!(header[..16], [number; 16]);
        // SAFETY: there is one thread.
        let cut = unsafe { reads.copy_user_header(sample, &mut header[..3]) };
        assert_eq!(cut.expect("a sample"), 3);
        assert_eq!(reads.read_user_header(sample).expect("a sample").1, 16);
        reads.mark_read(sample, 0).expect("a mark");
    }
}

/// As for a writer that does not wait: a region is in use until the last mark, and the error gives
/// the numbers.
#[test]
fn regions_that_are_in_use() {
    let segment = segment_with_regions();
    let slots = segment.reference().expect("the operations");
    let samples: Vec<_> = (0..2)
        .map(|_| {
            let loan = slots.reserve_large(0b11, LARGE).expect("a region");
            slots.commit_in_place(loan, LARGE).expect("a commit");
            loan
        })
        .collect();
    for reader in [0, 1] {
        let refused = slots.reserve_large(0b11, LARGE).expect_err("no region is free");
        assert_eq!(refused.code(), Code::NoFreeSlot);
        assert_eq!(refused.numbers(), [2, 0, 0b11]);
        let text = "2 of 16 slots are in use: 0 loaned by this writer, 0 by others, 2 unread, 0 held, \
                    0 kept as history; 2 of 2 regions are in use; readers 0 and 1 have not read or marked theirs; ";
        assert!(refused.to_string().starts_with(text), "{refused}");
        slots.mark_read(samples[1], reader).expect("a mark");
    }
    let loan = slots.reserve_large(0b11, LARGE).expect("the last mark has freed it");
    slots.discard(loan).expect("a loan");
    let refused = slots.reserve_large(1, LARGE + 1).expect_err("too large");
    assert_eq!(
        (refused.code(), refused.numbers()),
        (Code::TooLarge, [LARGE as u64 + 1, LARGE as u64, 0])
    );
}

#[test]
fn large_payloads_without_regions() {
    let segment = segment(64);
    let slots = segment.reference().expect("the operations");
    let refused = slots.reserve_large(1, 65).expect_err("no region is there");
    assert_eq!((refused.code(), refused.numbers()), (Code::TooLarge, [65, 64, 0]));
    let loan = slots.reserve_large(1, 64).expect("a slot");
    assert_eq!(slots.data_user_header(loan).expect("a loan"), (std::ptr::null_mut(), 0));
    slots.commit_copy(loan, b"x").expect("a commit");
    // SAFETY: there is one thread.
    assert_eq!(unsafe { slots.copy_user_header(loan, &mut [0; 4]) }.expect("a sample"), 0);
}
