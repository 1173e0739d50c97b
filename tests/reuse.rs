//! Which slots writers get: small payloads go round, large ones go where the last one was, and many
//! large ones stay in few slots.

use std::collections::HashSet;

use shmslot::{CreateOptions, Policy, Reader, Segment, Writer};

const LARGE: u64 = 64 << 10;
/// So many bytes in each slot exceed any cache.
const MANY: u64 = 1 << 20;
const SLOTS: u32 = 16;

fn segment(slot_capacity: u64, options: CreateOptions) -> Segment {
    let options = CreateOptions { slot_capacity, slot_count: SLOTS, ..options };
    Segment::create_anonymous(&options).expect("a segment")
}

/// Writes a number, and returns its address.
fn write(writer: &Writer, number: u64) -> usize {
    let mut loan = writer.reserve(8, None).expect("a slot");
    let at = loan.as_mut_ptr() as usize;
    loan.copy_from(&number.to_ne_bytes()).expect("room");
    loan.commit(8).expect("a commit");
    at
}

fn read(reader: &Reader) -> u64 {
    let mut bytes = [0; 8];
    assert_eq!(reader.read().expect("a read").expect("a sample").copy_to(&mut bytes), 8);
    u64::from_ne_bytes(bytes)
}

/// The addresses of payloads, with a reader that is so many behind.
fn places(segment: &Segment, behind: u64) -> HashSet<usize> {
    let (writer, reader) =
        (segment.writer().expect("a writer"), segment.reader(0).expect("a reader"));
    let mut places = HashSet::new();
    for number in 0..1000 {
        places.insert(write(&writer, number));
        if number >= behind {
            assert_eq!(read(&reader), number - behind, "in order, wherever they are");
        }
    }
    places
}

/// How many slots are used with readers that are 0, 1, 3 and 9 behind.
fn used(slot_capacity: u64, single_writer: bool) -> [usize; 4] {
    [0, 1, 3, 9].map(|behind| {
        places(
            &segment(slot_capacity, CreateOptions { single_writer, ..CreateOptions::default() }),
            behind,
        )
        .len()
    })
}

#[test]
fn small_payloads_go_round() {
    for single_writer in [true, false] {
        assert_eq!(used(LARGE - 64, single_writer), [SLOTS as usize; 4]);
    }
}

#[test]
fn a_large_payload_goes_where_the_last_one_was() {
    for single_writer in [true, false] {
        let [caught_up, behind @ ..] = used(LARGE, single_writer);
        assert_eq!((caught_up, behind), (1, [SLOTS as usize; 3]));
    }
}

#[test]
fn many_large_payloads_stay_in_few_slots() {
    for single_writer in [true, false] {
        assert_eq!(used(MANY, single_writer), [1, 2, 4, 10]);
    }
}

/// Each writer continues where it was, and does not compete for the other's slots.
#[test]
fn two_writers_of_large_payloads_use_different_slots() {
    let segment = segment(MANY, CreateOptions::default());
    let [first, second] = [(); 2].map(|()| segment.writer().expect("a writer"));
    let reader = segment.reader(0).expect("a reader");
    let mut used = [HashSet::new(), HashSet::new()];
    for number in 0..1000 {
        for (writer, places) in [&first, &second].into_iter().zip(&mut used) {
            places.insert(write(writer, number));
        }
        for _ in 0..2 {
            assert_eq!(read(&reader), number);
        }
    }
    let [first, second] = used;
    assert_eq!((first.len(), second.len()), (1, 1));
    assert!(first.is_disjoint(&second));
}

/// A held sample keeps its slot and its bytes; the others continue beside it, even where samples
/// are taken away.
#[test]
fn a_sample_in_hand_stays_while_others_are_reused() {
    for (slot_capacity, policy) in [LARGE, MANY]
        .into_iter()
        .flat_map(|size| [Policy::Fail, Policy::DropOldest].map(|policy| (size, policy)))
    {
        let segment = segment(
            slot_capacity,
            CreateOptions { policy: Some(policy), ..CreateOptions::default() },
        );
        let writer = segment.writer().expect("a writer");
        let [slow, fast] = [(); 2].map(|()| segment.reader(0).expect("a reader"));
        let kept_at = write(&writer, 0);
        let kept = slow.read().expect("a read").expect("a sample");
        assert_eq!(read(&fast), 0);
        for number in 1..1000 {
            assert_ne!(write(&writer, number), kept_at);
            assert_eq!(read(&fast), number);
            if policy == Policy::Fail {
                assert_eq!(read(&slow), number);
            }
        }
        let mut bytes = [1; 8];
        assert_eq!(kept.copy_to(&mut bytes), 8);
        assert_eq!(u64::from_ne_bytes(bytes), 0, "{policy:?}");
    }
}
