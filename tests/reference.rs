//! The reference operations where slots are scarce, and where marks come out of order.

use shmslot::{Code, Options, Segment};

const SLOTS: u32 = 16;

fn segment(slot_capacity: u64) -> Segment {
    let options = Options { slot_capacity, slot_count: SLOTS, ..Options::default() };
    Segment::create_anonymous(&options).expect("a segment")
}

/// Where all but one are taken, a caller of the reference operations finds that one, wherever it is.
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
                assert_eq!(slots.reserve(1).expect_err("no other is free").code(), Code::NoFreeSlot);
                slots.commit_copy(loan, &number.to_ne_bytes()).expect("a commit");
                assert_eq!(slots.reserve(1).expect_err("it is unread").code(), Code::NoFreeSlot);
                let sample = slots.next_unread(0).expect("a look").expect("a sample");
                assert_eq!(slots.next_unread(0).expect("a look"), Some(sample), "until it is marked");
                let mut bytes = [0; 8];
                slots.read_copy(sample, &mut bytes).expect("a sample");
                assert_eq!(u64::from_ne_bytes(bytes), number);
                slots.mark_read(sample, 0).expect("a mark");
                assert_eq!(slots.mark_read(sample, 0).expect_err("once").code(), Code::Stale);
                assert_eq!(slots.next_unread(0).expect("a look"), None);
            }
        }
    }
}

/// The reader goes on behind what was marked, and forgets nothing that was not.
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
