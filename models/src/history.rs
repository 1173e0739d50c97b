//! Samples kept for readers that join later, and the newest sample.

use loom::thread;

use crate::protocol::shape::Shape;
use crate::world::{PLAIN, ROWS, ROWS_OF_TWO_WORDS, World, explore};

const KEEPING: Shape = Shape { history: 1, ..PLAIN };
/// History's bit is in the first word; the reader of the last of many rows uses the second.
const APART: Shape = Shape { mark_words: 2, ..KEEPING };

/// A reader takes a retained sample while a writer ends its retention and wants its slot.
fn join(name: &str, preemptions: usize, shape: Shape, rows: usize) {
    explore(name, preemptions, move || {
        let world = World::new(shape, rows);
        let writer = world.producer(1);
        writer.try_write(1);
        let writing = thread::spawn(move || {
            writer.try_write(2);
            writer.try_fill();
            writer
        });
        let mut reader = world.join(1);
        assert_eq!(reader.member.bit.word, shape.mark_words - 1);
        reader.take();
        let writer = writing.join().expect("the writer is done");
        reader.take_all_and_one_more(&writer);
        let committed = world.committed();
        assert!(reader.seen.iter().all(|sample| committed.contains(sample)));
        world.check_at_rest();
    });
}

#[test]
fn join_with_history() {
    join("join_with_history", 3, KEEPING, ROWS);
}

#[test]
fn join_with_history_in_another_word() {
    join("join_with_history_in_another_word", 3, APART, ROWS_OF_TWO_WORDS);
}

#[test]
fn join_with_history_drop_oldest() {
    join(
        "join_with_history_drop_oldest",
        2,
        Shape { drop_oldest: true, ..APART },
        ROWS_OF_TWO_WORDS,
    );
}

/// A reader joins while the last sample is committed: it stays retained, so the reader gets it,
/// whatever its writer knew.
fn join_during_the_last_commit(name: &str, preemptions: usize, samples_before: u64) {
    explore(name, preemptions, move || {
        let world = World::new(APART, ROWS_OF_TWO_WORDS);
        let writer = world.producer(1);
        for value in 0..samples_before {
            writer.try_write(value);
        }
        let writing = thread::spawn(move || writer.try_write(9));
        let mut reader = world.join(1);
        let last = writing.join().expect("the writer is done").expect("a slot is free");
        reader.take_all();
        assert_eq!(reader.seen.last(), Some(&(last, 9)));
        world.check_at_rest();
    });
}

#[test]
fn join_during_the_only_commit() {
    join_during_the_last_commit("join_during_the_only_commit", 3, 0);
}

#[test]
fn join_during_the_second_commit() {
    join_during_the_last_commit("join_during_the_second_commit", 3, 1);
}

/// A reader joins in the row of one that left, while a commit that knew the first is under way: its
/// writer must not clear what the new reader has taken from history.
fn rejoin(name: &str, preemptions: usize, shape: Shape) {
    explore(name, preemptions, move || {
        let world = World::new(shape, 1);
        let first = world.join(0);
        let writer = world.producer(1);
        let writing = thread::spawn(move || writer.try_write(1));
        first.leave();
        first.give_row_back();
        let mut second = world.join(1);
        second.take();
        writing.join().expect("the writer is done");
        second.take_all();
        world.check_at_rest();
    });
}

#[test]
fn rejoin_with_history() {
    rejoin("rejoin_with_history", 3, KEEPING);
}

/// A reader holds the newest sample while a writer commits newer ones and wants the slot.
fn peek(name: &str, preemptions: usize, shape: Shape, rows: usize, member: bool) {
    explore(name, preemptions, move || {
        let world = World::new(shape, rows);
        let writer = world.producer(1);
        let mut reader = world.join(0);
        if !member {
            reader.leave();
        }
        writer.try_write(1);
        let writing = thread::spawn(move || {
            writer.try_write(2);
            writer.try_write(3);
        });
        let latest = reader.peek();
        if let Some(sample) = latest {
            reader.mark(sample);
        }
        assert!(
            latest.is_some() || shape.drop_oldest || shape.history == 0,
            "history had one at every moment"
        );
        writing.join().expect("the writer is done");
        reader.seen.clear();
        reader.take_all();
        world.check_at_rest();
    });
}

#[test]
fn peek_at_history() {
    peek("peek_at_history", 3, KEEPING, ROWS, false);
}

#[test]
fn peek_at_history_in_another_word() {
    peek("peek_at_history_in_another_word", 3, APART, ROWS_OF_TWO_WORDS, false);
}

#[test]
fn peek_at_unread() {
    peek("peek_at_unread", 3, PLAIN, ROWS, true);
}

#[test]
fn peek_drop_oldest() {
    peek("peek_drop_oldest", 2, Shape { drop_oldest: true, ..APART }, ROWS_OF_TWO_WORDS, true);
}
