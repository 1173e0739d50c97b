//! One region, leased to one generation of a slot after another. Its payload is a cell, so a write
//! while another thread may still read is reported.

use std::rc::Rc;

use loom::cell::Cell;
use loom::thread;

use crate::atomics::{AtomicU64, Ordering};
use crate::error::Code;
use crate::protocol::loan;
use crate::protocol::reference::{self, Life};
use crate::protocol::region;
use crate::protocol::rows;
use crate::protocol::shape::Shape;
use crate::protocol::words::{Audience, Loan, Place, Wanted};
use crate::world::{PLAIN, Producer, ROWS, ROWS_OF_TWO_WORDS, World, explore, sound};

/// Fills and commits a slot with the region; false if the region is in use.
fn try_write(writer: &Producer, memory: &Cell<u64>, value: u64) -> bool {
    let table = writer.table();
    let Some(loan) = writer.try_reserve() else { return false };
    let leased = sound(region::lease(&table, loan, 1)).is_some();
    if leased {
        memory.set(value);
        writer.commit(loan, value);
    } else {
        writer.discard(loan);
    }
    leased
}

/// A reader looks at a sample in the region and marks it, while its writer wants the region for the
/// next sample.
fn reuse(name: &str, preemptions: usize, shape: Shape, rows: usize) {
    explore(name, preemptions, move || {
        let world = World::new(shape, rows);
        let memory = Rc::new(Cell::new(0));
        let writer = world.producer(1);
        let mut reader = world.join(0);
        assert!(try_write(&writer, &memory, 1), "nobody had the region");
        let reading = thread::spawn({
            let memory = Rc::clone(&memory);
            move || {
                let sample = reader.read().expect("it was committed");
                assert_eq!(memory.get(), sample.value);
                reader.mark(sample);
                reader
            }
        });
        let again = try_write(&writer, &memory, 2);
        let mut reader = reading.join().expect("the reader is done");
        if again {
            let sample = reader.read().expect("it was committed");
            assert_eq!(memory.get(), 2);
            reader.mark(sample);
        }
        assert!(try_write(&writer, &memory, 3), "nobody has the region any more");
        reader.take_all();
        world.check_at_rest();
    });
}

#[test]
fn region_is_used_again() {
    reuse("region_is_used_again", 3, PLAIN, ROWS);
}

#[test]
fn region_is_used_again_two_words() {
    reuse("region_is_used_again_two_words", 3, Shape { mark_words: 2, ..PLAIN }, ROWS_OF_TWO_WORDS);
}

#[test]
fn region_is_used_again_drop_oldest() {
    reuse("region_is_used_again_drop_oldest", 3, Shape { drop_oldest: true, ..PLAIN }, ROWS);
}

#[test]
fn region_is_used_again_single_writer() {
    reuse("region_is_used_again_single_writer", 3, Shape { single_writer: true, ..PLAIN }, ROWS);
}

/// A caller that reserves by a mask looks at a sample that a reader took from history after the
/// mask was made, and must leave it. Meanwhile nobody gets its region.
#[test]
fn region_of_a_sample_that_is_needed_after_all() {
    explore("region_of_a_sample_that_is_needed_after_all", 3, || {
        let world = World::new(Shape { history: 1, ..PLAIN }, ROWS);
        let memory = Rc::new(Cell::new(0));
        let writer = world.producer(1);
        assert!(try_write(&writer, &memory, 1), "nobody had the region");
        let mask = Audience::of_readers(rows::taken_rows(&world.table()), true);
        let mut reader = world.join(1);
        // This pushes the first sample out of history; the reader is owed both.
        writer.try_write(2).expect("there is a slot");
        let looking = thread::spawn({
            let writer = world.producer(2);
            move || {
                assert!(
                    sound(loan::claim_ignoring(
                        &writer.table(),
                        writer.owner,
                        Wanted::AnySlot,
                        mask
                    ))
                    .is_none()
                )
            }
        });
        let found = sound(region::any_free(&world.table()));
        let sample = reader.read().expect("it is retained for it");
        assert_eq!((sample.value, memory.get()), (1, 1));
        looking.join().expect("it is done");
        assert!(!found, "the region is in use");
        reader.mark(sample);
        reader.take_all();
        world.check_at_rest();
    });
}

/// Two writers want the region at once, and give it back.
#[test]
fn region_of_two_writers() {
    explore("region_of_two_writers", 3, || {
        let world = World::new(PLAIN, ROWS);
        let memory = Rc::new(Cell::new(0));
        let writing = [1, 2].map(|number| {
            let (writer, memory) = (world.producer(number), Rc::clone(&memory));
            thread::spawn(move || {
                let loan = writer.try_reserve().expect("there is a slot for each");
                if sound(region::lease(&writer.table(), loan, 1)).is_some() {
                    memory.set(u64::from(number));
                }
                writer.discard(loan);
            })
        });
        for writing in writing {
            writing.join().expect("the writer is done");
        }
        assert!(try_write(&world.producer(3), &memory, 3), "nobody has the region any more");
        world.check_at_rest();
    });
}

/// A caller without a mark looks at the contents of the region, while a writer wants it for the
/// next sample.
#[test]
fn region_that_nobody_keeps() {
    explore("region_that_nobody_keeps", 3, || {
        let world = World::new(PLAIN, ROWS);
        // Here others may write while it is read; what was read is then discarded.
        let memory = Rc::new(AtomicU64::new(0));
        let write = |writer: &Producer, memory: &AtomicU64, value| {
            let loan = writer.try_reserve().expect("there is a slot for each");
            assert!(
                sound(region::lease(&writer.table(), loan, 1)).is_some(),
                "nobody is owed a sample"
            );
            memory.store(value, Ordering::Relaxed);
            writer.commit(loan, value);
            loan
        };
        let writer = world.producer(1);
        let Loan { slot, generation, .. } = write(&writer, &memory, 1);
        let writing = thread::spawn({
            let memory = Rc::clone(&memory);
            move || write(&writer, &memory, 2)
        });
        let seen = memory.load(Ordering::Relaxed);
        let life = Life { slot, generation };
        match reference::check_payload_still(&world.table(), life, Place::Region(0)) {
            Ok(()) => assert_eq!(seen, 1, "of another sample"),
            Err(code) => assert_eq!(code, Code::Stale),
        }
        writing.join().expect("the writer is done");
        world.check_at_rest();
    });
}
