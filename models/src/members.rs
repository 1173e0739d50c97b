//! Readers that join and leave while samples are committed.

use std::rc::Rc;

use loom::thread;

use crate::atomics::Ordering;
use crate::protocol::commit::Owed;
use crate::protocol::loan;
use crate::protocol::reference;
use crate::protocol::rows;
use crate::protocol::shape::Shape;
use crate::protocol::words::{Audience, Wanted};
use crate::world::{Consumer, ONE_SLOT, PLAIN, Producer, ROWS, World, end, explore, sound};

/// A reader joins between commits: it sees the samples from some sequence on, and misses none that
/// was committed after that.
fn join(name: &str, preemptions: usize, shape: Shape, samples: u64) {
    explore(name, preemptions, move || {
        let world = World::new(shape, ROWS);
        let writer = world.producer(1);
        let writing = thread::spawn(move || {
            for value in 1..=samples {
                writer.try_write(value);
            }
            writer
        });
        let mut reader = world.join(0);
        reader.take();
        let writer = writing.join().expect("the writer is done");
        reader.take_all_and_one_more(&writer);
        if shape.drop_oldest {
            let after = world
                .committed()
                .into_iter()
                .filter(|(sequence, _)| *sequence >= reader.cursor.since);
            assert!(reader.seen.len() as u64 + reader.cursor.lost <= after.count() as u64);
        } else {
            reader.check_end();
        }
        world.check_at_rest();
    });
}

#[test]
fn join_during_commits() {
    join("join_during_commits", 3, PLAIN, 2);
}

#[test]
fn join_a_single_writer() {
    join("join_a_single_writer", 3, Shape { single_writer: true, ..PLAIN }, 2);
}

#[test]
fn join_during_commits_drop_oldest() {
    join("join_during_commits_drop_oldest", 3, Shape { drop_oldest: true, ..ONE_SLOT }, 2);
}

#[test]
fn join_during_two_commits() {
    explore("join_during_two_commits", 2, || {
        let world = World::new(PLAIN, ROWS);
        let writing = [1, 2].map(|number| {
            let writer = world.producer(number);
            thread::spawn(move || {
                writer.try_write(number.into()).expect("a slot is free");
                writer
            })
        });
        let mut reader = world.join(0);
        let [writer, _] = writing.map(|writing| writing.join().expect("the writer is done"));
        reader.take_all_and_one_more(&writer);
        world.check_at_rest();
    });
}

/// A reader leaves between commits, with or without a held sample: nothing stays owed to it.
fn leave(name: &str, preemptions: usize, shape: Shape, holds: bool) {
    explore(name, preemptions, move || {
        let world = World::new(shape, ROWS);
        let mut reader = world.join(0);
        let writer = world.producer(1);
        writer.try_write(1);
        let writing = thread::spawn(move || {
            writer.try_write(2);
            writer.try_write(3);
        });
        let in_hand = holds.then(|| reader.read()).flatten();
        reader.leave();
        if let Some(sample) = in_hand {
            reader.mark(sample);
        }
        reader.give_row_back();
        writing.join().expect("the writer is done");
        world.check_at_rest();
    });
}

#[test]
fn leave_during_commits() {
    leave("leave_during_commits", 3, PLAIN, false);
}

#[test]
fn leave_with_a_sample_in_hand() {
    leave("leave_with_a_sample_in_hand", 3, PLAIN, true);
}

#[test]
fn leave_a_single_writer() {
    leave("leave_a_single_writer", 3, Shape { single_writer: true, ..PLAIN }, false);
}

#[test]
fn leave_during_commits_drop_oldest() {
    leave("leave_during_commits_drop_oldest", 3, Shape { drop_oldest: true, ..PLAIN }, true);
}

/// A reader leaves with the sample whose commit is not over, and the commit clears its mark or leaves
/// it, as the reader holds it or not. The writer then takes `more` slots.
pub(crate) fn leave_with_its_sample(
    name: &str,
    preemptions: usize,
    world: impl Fn() -> Rc<World> + Send + Sync + 'static,
    writer: fn(&Rc<World>, u32) -> Producer,
    more: u32,
) {
    explore(name, preemptions, move || {
        let world = world();
        let mut reader = world.join(0);
        let writer = writer(&world, 1);
        let writing = thread::spawn(move || {
            writer.try_write(1);
            for _ in 0..more {
                writer.try_fill();
            }
        });
        let in_hand = reader.read();
        reader.leave();
        if let Some(sample) = in_hand {
            reader.mark(sample);
        }
        reader.give_row_back();
        end(writing);
        world.check_members(&[]);
        world.check_at_rest();
        world.check_newcomer();
    });
}

#[test]
fn leave_with_the_sample_of_a_commit_under_way() {
    let (name, world) = ("leave_with_the_sample_of_a_commit_under_way", || World::new(PLAIN, ROWS));
    leave_with_its_sample(name, 3, world, World::producer, 2);
}

/// A reader leaves, and another joins in its row, while a commit that knew the first is under way.
fn rejoin(name: &str, preemptions: usize, shape: Shape) {
    explore(name, preemptions, move || {
        let world = World::new(shape, 1);
        let first = world.join(0);
        let writer = world.producer(1);
        let writing = thread::spawn(move || {
            writer.try_write(1);
            writer.try_write(2);
            writer
        });
        first.leave();
        first.give_row_back();
        let mut second: Consumer = world.join(0);
        assert_eq!(first.member.index, second.member.index);
        second.take();
        let writer = writing.join().expect("the writer is done");
        second.take_all_and_one_more(&writer);
        second.check_end();
        world.check_at_rest();
    });
}

#[test]
fn rejoin_during_commits() {
    rejoin("rejoin_during_commits", 3, PLAIN);
}

#[test]
fn rejoin_during_commits_drop_oldest() {
    rejoin("rejoin_during_commits_drop_oldest", 3, Shape { drop_oldest: true, ..PLAIN });
}

/// A sample leaves history that is unread only by a reader that its caller tracks and that nobody
/// waits for. A writer takes its slot while another reader joins and may have taken that sample.
#[test]
fn slot_of_an_inactive_reader() {
    explore("slot_of_an_inactive_reader", 3, || {
        let world = World::new(Shape { history: 1, ..PLAIN }, ROWS);
        let writer = world.producer(1);
        let loan = writer.try_reserve().expect("it is free");
        sound(rows::name(&world.table(), 0));
        writer.commit_to(loan, 1, Owed::External(1));
        let writing = thread::spawn({
            let world = Rc::clone(&world);
            move || {
                writer.try_write(2);
                let joined = world.hot.active.0.load(Ordering::Relaxed);
                let waited_for = Audience::of_readers(joined, true);
                if let Some(loan) = sound(loan::claim_ignoring(
                    &world.table(),
                    writer.owner,
                    Wanted::AnySlot,
                    waited_for,
                )) {
                    writer.discard(loan);
                }
            }
        });
        let mut reader = world.join(1);
        reader.take();
        writing.join().expect("the writer is done");
        reader.take_all();
        sound(reference::disconnect(&world.table(), 0, 0));
        world.check_at_rest();
    });
}

/// A reader is given up while a commit for it is under way, and another joins under its number:
/// nothing of the first is left, and the second loses nothing.
#[test]
fn named_reader_goes_during_commits() {
    explore("named_reader_goes_during_commits", 3, || {
        let world = World::new(PLAIN, 1);
        let writer = world.producer(1);
        let loan = writer.try_reserve().expect("it is free");
        sound(rows::name(&world.table(), 0));
        let writing = thread::spawn(move || {
            writer.commit_to(loan, 1, Owed::External(1));
            writer.try_write(2);
            writer
        });
        assert!(sound(reference::disconnect(&world.table(), 0, 0)), "nobody else is at it");
        let mut reader = world.join(0);
        reader.take();
        let writer = writing.join().expect("the writer is done");
        reader.take_all_and_one_more(&writer);
        reader.check_end();
        world.check_at_rest();
    });
}
