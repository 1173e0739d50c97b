//! Sleeping and waking: a lost wake is a deadlock, which loom reports.

use std::rc::Rc;

use loom::thread;

use crate::atomics::{AtomicU64, Ordering};
use crate::protocol::rows;
use crate::protocol::shape::Shape;
use crate::world::{ONE_SLOT, Producer, ROWS, ROWS_OF_TWO_WORDS, World, explore};

const TWO_WORDS: Shape = Shape { mark_words: 2, ..ONE_SLOT };

/// A reader sleeps until there is a sample, a writer until there is a slot.
fn turns(name: &str, preemptions: usize, shape: Shape, samples: u64) {
    explore(name, preemptions, move || {
        let world = World::new(shape, ROWS);
        let mut reader = world.join(0);
        let writer = world.producer(1);
        let writing = thread::spawn(move || {
            for value in 1..=samples {
                writer.write(value);
            }
        });
        for _ in 0..samples {
            reader.take_waiting();
        }
        writing.join().expect("the writer is done");
        reader.check_books();
        world.check_at_rest();
    });
}

#[test]
fn reader_sleeps() {
    turns("reader_sleeps", 3, ONE_SLOT, 1);
}

#[test]
fn writer_sleeps() {
    turns("writer_sleeps", 3, ONE_SLOT, 2);
}

#[test]
fn reader_of_a_single_writer_sleeps() {
    turns("reader_of_a_single_writer_sleeps", 3, Shape { single_writer: true, ..ONE_SLOT }, 1);
}

#[test]
fn single_writer_sleeps() {
    turns("single_writer_sleeps", 3, Shape { single_writer: true, ..ONE_SLOT }, 2);
}

/// Two writers sleep over one slot. The ring wakes both; the one that comes second sleeps on, until
/// the first gives the slot back.
#[test]
fn two_writers_sleep() {
    explore("two_writers_sleep", 2, || {
        let world = World::new(ONE_SLOT, ROWS);
        let mut reader = world.join(0);
        world.producer(1).try_write(1);
        let sample = reader.read().expect("it was committed");
        let waiting = [2, 3].map(|number| {
            let writer = world.producer(number);
            thread::spawn(move || {
                let loan = writer.wait(Producer::try_reserve);
                writer.discard(loan);
            })
        });
        reader.mark(sample);
        for waiting in waiting {
            waiting.join().expect("the writer is done");
        }
        reader.check_books();
        world.check_at_rest();
    });
}

/// A slot is marked while its writer is still committing it, and another writer sleeps over it: the
/// mark frees nothing yet, so the commit must.
#[test]
fn writer_sleeps_over_a_commit() {
    explore("writer_sleeps_over_a_commit", 3, || {
        let world = World::new(ONE_SLOT, ROWS);
        let mut reader = world.join(0);
        let [one, two] = [world.producer(1), world.producer(2)];
        let loan = one.try_reserve().expect("it is free");
        let waiting = thread::spawn(move || two.wait(Producer::try_reserve));
        let committing = thread::spawn(move || one.commit(loan, 1));
        reader.take();
        committing.join().expect("the writer is done");
        reader.take_all();
        world.producer(2).discard(waiting.join().expect("the writer is done"));
        reader.check_books();
        world.check_at_rest();
    });
}

/// A writer sleeps over a slot that two readers mark at once, in two words.
#[test]
fn writer_sleeps_over_two_words() {
    explore("writer_sleeps_over_two_words", 2, || {
        let world = World::new(TWO_WORDS, ROWS_OF_TWO_WORDS);
        let readers = [world.join(0), world.join(0)];
        let writer = world.producer(1);
        writer.write(1);
        let reading = readers.map(|mut reader| {
            thread::spawn(move || {
                reader.take();
                reader
            })
        });
        writer.write(2);
        for reading in reading {
            let mut reader = reading.join().expect("the reader is done");
            reader.take_all();
            reader.check_books();
        }
        world.check_at_rest();
    });
}

/// A writer sleeps over a slot that its only reader leaves, or over one that another writer gives
/// back.
#[test]
fn writer_sleeps_until_leave() {
    explore("writer_sleeps_until_leave", 3, || {
        let world = World::new(ONE_SLOT, ROWS);
        let reader = world.join(0);
        let writer = world.producer(1);
        let writing = thread::spawn(move || {
            writer.write(1);
            writer.write(2);
        });
        reader.leave();
        writing.join().expect("the writer is done");
        world.check_at_rest();
    });
}

#[test]
fn writer_sleeps_until_discard() {
    explore("writer_sleeps_until_discard", 3, || {
        let world = World::new(ONE_SLOT, ROWS);
        let [one, two] = [world.producer(1), world.producer(2)];
        let loan = one.try_reserve().expect("it is free");
        let writing = thread::spawn(move || two.write(1));
        one.discard(loan);
        writing.join().expect("the writer is done");
        world.check_at_rest();
    });
}

/// Two writers that may drop. One is stopped by a sample that was just taken, and the other meets
/// the first at it. The sample is marked at once, and another reader never reads it: it can be
/// taken, so no writer may sleep over it.
#[test]
fn writer_sleeps_behind_a_reclaim() {
    explore("writer_sleeps_behind_a_reclaim", 2, || {
        let world = World::new(Shape { drop_oldest: true, ..ONE_SLOT }, ROWS);
        let mut reader = world.join(0);
        let _idle = world.join(0);
        let [one, two] = [world.producer(1), world.producer(2)];
        one.try_write(1);
        let trying = thread::spawn(move || {
            if let Some(loan) = one.try_reclaim() {
                one.commit(loan, 2);
            }
        });
        let waiting = thread::spawn(move || two.wait(Producer::try_reclaim));
        reader.take();
        trying.join().expect("the writer is done");
        waiting.join().expect("the writer is done");
    });
}

/// A process sleeps until anything changes.
#[test]
fn change_is_told() {
    explore("change_is_told", 3, || {
        let world = World::new(ONE_SLOT, ROWS);
        let mut reader = world.join(0);
        let bell = world.table().change_bell();
        let mut last = bell.watch(world.table().attention());
        let writer = world.producer(1);
        let writing = thread::spawn(move || writer.try_write(1));
        let mut sleep_until_change = || loop {
            let armed = bell.arm(world.table().attention());
            if armed.count() != last {
                last = armed.count();
                return;
            }
            bell.sleep(armed, None);
        };
        sleep_until_change();
        let sample = reader.read().expect("that is what changed");
        let marking = thread::spawn(move || reader.mark(sample));
        sleep_until_change();
        marking.join().expect("the reader is done");
        writing.join().expect("the writer is done");
        world.check_at_rest();
    });
}

/// A sleeper that another thread wakes.
#[test]
fn interrupt_is_heard() {
    explore("interrupt_is_heard", 3, || {
        let world = World::new(ONE_SLOT, 0);
        let called = Rc::new(AtomicU64::new(0));
        let sleeping = thread::spawn({
            let (world, called) = (Rc::clone(&world), Rc::clone(&called));
            move || {
                let bell = world.table().data_bell();
                loop {
                    let armed = bell.arm(world.table().attention());
                    if called.swap(0, Ordering::Acquire) == 1 {
                        return;
                    }
                    bell.sleep(armed, None);
                }
            }
        });
        called.store(1, Ordering::Release);
        world.table().data_bell().ring_everybody();
        sleeping.join().expect("the sleeper is done");
    });
}

/// A writer sleeps until a reader has joined; then that reader reads the first sample.
#[test]
fn joining_is_told() {
    explore("joining_is_told", 3, || {
        let world = World::new(ONE_SLOT, ROWS);
        let writer = world.producer(1);
        let joining = thread::spawn({
            let world = Rc::clone(&world);
            move || world.join(0)
        });
        let bell = world.table().space_bell();
        loop {
            let armed = bell.arm(world.table().attention());
            if rows::joined(&world.table()) == 1 {
                break;
            }
            bell.sleep(armed, None);
        }
        writer.try_write(1).expect("the slot is free");
        let mut reader = joining.join().expect("the reader is done");
        let sample = reader.read().expect("it was committed after the wait");
        reader.mark(sample);
        world.check_at_rest();
    });
}
