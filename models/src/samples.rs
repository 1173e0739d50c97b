//! The way of a sample from its writer to its readers, and the way back of its slot.

use loom::thread;

use crate::protocol::reference;
use crate::protocol::shape::Shape;
use crate::world::{ONE_SLOT, PLAIN, ROWS, ROWS_OF_TWO_WORDS, World, explore, sound};

const DROPPING: Shape = Shape { drop_oldest: true, ..PLAIN };
const ONE_DROPPING: Shape = Shape { drop_oldest: true, ..ONE_SLOT };
const TWO_WORDS: Shape = Shape { mark_words: 2, ..ONE_SLOT };

/// One writer, one reader: each sample arrives once, in order, with its payload unchanged while
/// held; its slot is freed.
fn stream(name: &str, preemptions: usize, shape: Shape, samples: u64) {
    explore(name, preemptions, move || {
        let world = World::new(shape, ROWS);
        let mut reader = world.join(0);
        let writer = world.producer(1);
        let writing = thread::spawn(move || {
            for value in 1..=samples {
                writer.try_write(value);
            }
        });
        reader.take();
        reader.take();
        writing.join().expect("the writer is done");
        reader.take_all();
        reader.check_books();
        world.check_at_rest();
    });
}

#[test]
fn stream_through_one_slot() {
    stream("stream_through_one_slot", 3, ONE_SLOT, 3);
}

#[test]
fn stream_through_two_slots() {
    stream("stream_through_two_slots", 3, PLAIN, 4);
}

#[test]
fn stream_of_a_single_writer() {
    stream("stream_of_a_single_writer", 3, Shape { single_writer: true, ..ONE_SLOT }, 3);
}

#[test]
fn drop_oldest_through_one_slot() {
    stream("drop_oldest_through_one_slot", 3, ONE_DROPPING, 3);
}

#[test]
fn drop_oldest_through_two_slots() {
    stream("drop_oldest_through_two_slots", 3, DROPPING, 4);
}

#[test]
fn drop_oldest_of_a_single_writer() {
    stream("drop_oldest_of_a_single_writer", 3, Shape { single_writer: true, ..ONE_DROPPING }, 3);
}

/// Two writers at once, one reader: no gap, no sample twice, and the tail is right whoever moved
/// it.
fn two_writers(name: &str, preemptions: usize, shape: Shape, samples: u64) {
    explore(name, preemptions, move || {
        let world = World::new(shape, ROWS);
        let mut reader = world.join(0);
        let writing = [1, 2].map(|number| {
            let writer = world.producer(number);
            thread::spawn(move || {
                for value in 1..=samples {
                    writer.try_write(10 * u64::from(number) + value);
                }
            })
        });
        reader.take();
        for writing in writing {
            writing.join().expect("the writer is done");
        }
        reader.take_all();
        reader.check_books();
        world.check_at_rest();
    });
}

#[test]
fn two_writers_two_slots() {
    two_writers("two_writers_two_slots", 2, PLAIN, 1);
}

#[test]
fn two_writers_one_slot() {
    two_writers("two_writers_one_slot", 2, ONE_SLOT, 1);
}

#[test]
fn two_writers_drop_oldest() {
    two_writers("two_writers_drop_oldest", 2, ONE_DROPPING, 1);
}

/// A writer may take any sample, so it never finds nothing, although the other takes what it has
/// just looked at.
#[test]
fn there_is_always_one_to_drop() {
    explore("there_is_always_one_to_drop", 1, || {
        let world = World::new(DROPPING, ROWS);
        let mut reader = world.join(0);
        let [one, other] = [1, 2].map(|number| world.producer(number));
        for value in 1..3 {
            one.try_write(value).expect("a slot is free");
        }
        let writing = thread::spawn(move || {
            for value in 3..5 {
                let loan = other.try_reclaim().expect("the other writer has one slot at most");
                other.commit(loan, value);
            }
        });
        let loan = one.try_reclaim().expect("the other writer has one slot at most");
        one.commit(loan, 9);
        writing.join().expect("the writer is done");
        reader.take_all();
        reader.check_books();
        world.check_at_rest();
    });
}

/// A caller that tracks its readers itself looks at a slot that is owed to nobody, as `Reference`
/// does, while a writer claims it. What it read belongs to one generation, or it learns that this
/// generation is over.
fn look_at_what_nobody_keeps(name: &str, shape: Shape) {
    explore(name, 3, move || {
        let world = World::new(shape, ROWS);
        let writer = world.producer(1);
        let first = writer.try_write(1).expect("the slot is free");
        let table = world.table();
        let of_first = sound(reference::published_in(&table, 0)).expect("it is published");
        let writing = thread::spawn(move || writer.try_write(2));
        if let Some(life) = sound(reference::published_in(&table, 0)) {
            if let Ok(known) = reference::look(&table, life) {
                let right = if life == of_first { first } else { first + 1 };
                assert_eq!(known.sequence, right, "of another life");
            }
        }
        writing.join().expect("the writer is done");
        world.check_at_rest();
    });
}

#[test]
fn look_at_what_nobody_keeps_many_writers() {
    look_at_what_nobody_keeps("look_at_what_nobody_keeps_many_writers", ONE_SLOT);
}

#[test]
fn look_at_what_nobody_keeps_single_writer() {
    let shape = Shape { single_writer: true, ..ONE_SLOT };
    look_at_what_nobody_keeps("look_at_what_nobody_keeps_single_writer", shape);
}

/// Two readers whose marks are in two words, and one writer that wants their slot.
fn two_words(name: &str, preemptions: usize, shape: Shape) {
    explore(name, preemptions, move || {
        let world = World::new(shape, ROWS_OF_TWO_WORDS);
        let readers = [world.join(0), world.join(0)];
        assert_ne!(readers[0].member.bit.word, readers[1].member.bit.word);
        let writer = world.producer(1);
        writer.try_write(1);
        let reading = readers.map(|mut reader| {
            thread::spawn(move || {
                reader.take();
                reader
            })
        });
        writer.try_write(2);
        for reading in reading {
            let mut reader = reading.join().expect("the reader is done");
            reader.take_all();
            reader.check_books();
        }
        world.check_at_rest();
    });
}

#[test]
fn marks_in_two_words() {
    two_words("marks_in_two_words", 2, TWO_WORDS);
}

#[test]
fn drop_oldest_from_two_words() {
    two_words("drop_oldest_from_two_words", 2, Shape { drop_oldest: true, ..TWO_WORDS });
}

/// One reader holds the oldest sample for two laps of the order. Another, which is owed it, too,
/// comes to read just as its entry is overwritten: it has lost that sample, and counts it.
#[test]
fn overwritten_while_held() {
    explore("overwritten_while_held", 3, || {
        let world = World::new(DROPPING, ROWS);
        let [mut holding, mut late] = [world.join(0), world.join(0)];
        let writer = world.producer(1);
        writer.try_write(1);
        let held = holding.read().expect("it was committed");
        for value in 2..5 {
            writer.try_write(value).expect("the other slot can be taken");
        }
        let writing = thread::spawn(move || writer.try_write(5));
        late.take();
        writing.join().expect("the writer is done");
        late.take_all();
        holding.mark(held);
        holding.take_all();
        holding.check_books();
        late.check_books();
        world.check_at_rest();
    });
}
