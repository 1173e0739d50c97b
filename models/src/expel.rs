//! Readers that are expelled while they live, and expellers that are killed.

use std::rc::Rc;

use loom::thread::{self, JoinHandle};

use crate::atomics::Ordering;
use crate::modelled::live;
use crate::protocol::commit::Owed;
use crate::protocol::dead::Dead;
use crate::protocol::expel::Outcome;
use crate::protocol::recovery;
use crate::protocol::reference;
use crate::protocol::rows::{self, Seat};
use crate::protocol::shape::Shape;
use crate::protocol::words::{Marks, RowPhase, RowState};
use crate::world::{
    Consumer, ONE_SLOT, PLAIN, ROWS, World, dying, end, explore, explore_deaths, sound,
};

/// Participants that expel, one of which is killed; writers and readers are of 0.
const EXPELLER: u32 = 3;
const VICTIM: u32 = 1;

const ONE_DROPPING: Shape = Shape { drop_oldest: true, ..ONE_SLOT };
const KEEPING: Shape = Shape { history: 1, ..PLAIN };

fn expelling(world: &Rc<World>, index: u32) -> JoinHandle<Outcome> {
    let world = Rc::clone(world);
    thread::spawn(move || world.expel(EXPELLER, index, 1))
}

/// A reader that was expelled leaves, and nothing of it is left.
fn check_gone(reader: &mut Consumer) {
    assert!(!reader.take() && reader.is_expelled, "it reads nothing more");
    reader.leave();
    reader.give_row_back();
}

/// A sample that is unread does not block writers once its reader is expelled; one that the reader
/// has taken keeps its bytes until it is marked.
fn read_while_expelled(name: &str, preemptions: usize, shape: Shape) {
    explore(name, preemptions, move || {
        let world = World::expelling(shape, ROWS);
        let mut reader = world.join(0);
        let writer = world.producer(1);
        writer.try_write(1).expect("a slot is free");
        let index = reader.member.index;
        let reading = thread::spawn(move || {
            let in_hand = reader.read();
            (reader, in_hand)
        });
        assert_eq!(world.expel(EXPELLER, index, 1), Outcome::Expelled);
        // Its bytes race with those that the reader holds, if the slot was released wrongly.
        writer.try_write(2);
        let (mut reader, in_hand) = end(reading);
        if let Some(sample) = in_hand {
            reader.mark(sample);
        }
        check_gone(&mut reader);
        world.check_members(&[]);
        writer.try_write(3).expect("every slot is free");
        world.check_at_rest();
    });
}

#[test]
fn expel_during_a_read() {
    read_while_expelled("expel_during_a_read", 3, ONE_SLOT);
}

#[test]
fn expel_during_a_read_drop_oldest() {
    read_while_expelled("expel_during_a_read_drop_oldest", 3, ONE_DROPPING);
}

#[test]
fn expel_during_a_read_of_a_single_writer() {
    let shape = Shape { single_writer: true, ..ONE_SLOT };
    read_while_expelled("expel_during_a_read_of_a_single_writer", 3, shape);
}

/// A commit that owes its sample to the reader is under way while that is expelled.
fn commit_while_expelled(name: &str, preemptions: usize, shape: Shape, reads: bool) {
    explore(name, preemptions, move || {
        let world = World::expelling(shape, ROWS);
        let mut reader = world.join(0);
        let writer = world.producer(1);
        let expelling = expelling(&world, reader.member.index);
        let writing = thread::spawn(move || {
            writer.try_write(1);
            writer.try_write(2);
            writer
        });
        let in_hand = reads.then(|| reader.read()).flatten();
        assert_eq!(end(expelling), Outcome::Expelled);
        let writer = end(writing);
        if let Some(sample) = in_hand {
            reader.mark(sample);
        }
        // Whether or not the reader notices, every slot is free.
        writer.try_write(3).expect("every slot is free");
        world.check_at_rest();
        check_gone(&mut reader);
        world.check_members(&[]);
    });
}

#[test]
fn expel_during_commits() {
    commit_while_expelled("expel_during_commits", 2, ONE_SLOT, false);
}

#[test]
fn expel_during_commits_and_a_read() {
    commit_while_expelled("expel_during_commits_and_a_read", 2, ONE_SLOT, true);
}

#[test]
fn expel_during_commits_drop_oldest() {
    commit_while_expelled("expel_during_commits_drop_oldest", 2, ONE_DROPPING, true);
}

#[test]
fn expel_during_commits_keeping_history() {
    explore("expel_during_commits_keeping_history", 2, || {
        let world = World::expelling(KEEPING, ROWS);
        let writer = world.producer(1);
        writer.try_write(1).expect("a slot is free");
        let mut reader = world.join(1);
        let expelling = expelling(&world, reader.member.index);
        let in_hand = reader.read();
        writer.try_write(2);
        assert_eq!(end(expelling), Outcome::Expelled);
        if let Some(sample) = in_hand {
            reader.mark(sample);
        }
        writer.try_write(3).expect("a slot is free");
        world.check_at_rest();
        check_gone(&mut reader);
    });
}

/// The reader leaves by itself, and another takes its row: it loses nothing to the expeller of the
/// first.
fn rejoin(name: &str, preemptions: usize, shape: Shape, commits: bool) {
    explore(name, preemptions, move || {
        let world = World::expelling(shape, 1);
        let first = world.join(0);
        let writer = world.producer(1);
        writer.try_write(1);
        let expelling = expelling(&world, 0);
        let writing = commits.then(|| {
            let writer = world.producer(2);
            thread::spawn(move || {
                writer.try_write(2);
            })
        });
        first.leave();
        first.give_row_back();
        let second = world.try_join(0, 0);
        let expelled = end(expelling);
        assert!(matches!(expelled, Outcome::Expelled | Outcome::Gone));
        writing.into_iter().for_each(end);
        // While the expeller was at work, the row was not free.
        let mut second = second.unwrap_or_else(|| world.join(0));
        second.take_all_and_one_more(&writer);
        assert!(!second.is_expelled);
        world.check_members(&[&second]);
        world.check_at_rest();
    });
}

#[test]
fn rejoin_while_expelled() {
    rejoin("rejoin_while_expelled", 3, PLAIN, false);
}

#[test]
fn rejoin_while_expelled_during_a_commit() {
    rejoin("rejoin_while_expelled_during_a_commit", 2, PLAIN, true);
}

#[test]
fn rejoin_while_expelled_drop_oldest() {
    rejoin("rejoin_while_expelled_drop_oldest", 3, Shape { drop_oldest: true, ..PLAIN }, false);
}

/// Callers name the number of a reader that is expelled and leaves: what is committed for them
/// afterwards is not taken away by the expeller.
#[test]
fn name_while_expelled() {
    explore("name_while_expelled", 3, || {
        let world = World::expelling(PLAIN, 1);
        let first = world.join(0);
        let writer = world.producer(1);
        let expelling = expelling(&world, 0);
        first.leave();
        first.give_row_back();
        if rows::name(&world.table(), 0) == Ok(true) {
            let loan = writer.try_reserve().expect("it is free");
            let slot = loan.slot as usize;
            writer.commit_to(loan, 1, Owed::External(1));
            end(expelling);
            let marks = Marks(world.table().slots.lines()[slot].marks[0].load(Ordering::Acquire));
            assert_eq!(marks.readers(0).readers(), 1, "it is owed to the named number");
            sound(reference::disconnect(&world.table(), 0, 0));
        } else {
            end(expelling);
        }
        world.check_at_rest();
    });
}

/// A reader is expelled while it joins: it is a member no more, or its join fails.
fn join_while_expelled(name: &str, preemptions: usize, shape: Shape) {
    explore(name, preemptions, move || {
        let world = World::expelling(shape, 1);
        let writer = world.producer(1);
        writer.try_write(1).expect("a slot is free");
        let expelling = expelling(&world, 0);
        let reader = world.try_join(0, shape.history);
        writer.try_write(2);
        let expelled = end(expelling);
        if let Some(mut reader) = reader {
            reader.take_all();
            assert_eq!(reader.is_expelled, expelled == Outcome::Expelled);
            reader.leave();
            reader.give_row_back();
        }
        world.check_members(&[]);
        writer.try_write(3).expect("a slot is free");
        world.check_at_rest();
    });
}

#[test]
fn expel_during_a_join() {
    join_while_expelled("expel_during_a_join", 2, PLAIN);
}

#[test]
fn expel_during_a_join_with_history() {
    join_while_expelled("expel_during_a_join_with_history", 2, KEEPING);
}

/// Two processes expel one reader.
#[test]
fn two_expellers() {
    explore("two_expellers", 3, || {
        let world = World::expelling(ONE_SLOT, 1);
        let mut reader = world.join(0);
        let writer = world.producer(1);
        writer.try_write(1).expect("a slot is free");
        let expelling = expelling(&world, 0);
        let second = world.expel(EXPELLER + 1, 0, 1);
        let first = end(expelling);
        assert!(first == Outcome::Expelled || second == Outcome::Expelled);
        writer.try_write(2).expect("the slot is free");
        check_gone(&mut reader);
        world.check_at_rest();
    });
}

/// A reader that was expelled is expelled again, while it leaves and another takes its row.
#[test]
fn rejoin_while_expelled_again() {
    explore("rejoin_while_expelled_again", 3, || {
        let world = World::expelling(PLAIN, 1);
        let first = world.join(0);
        let writer = world.producer(1);
        assert_eq!(world.expel(EXPELLER + 1, 0, 1), Outcome::Expelled);
        let expelling = expelling(&world, 0);
        first.leave();
        first.give_row_back();
        let second = world.try_join(0, 0);
        end(expelling);
        let mut second = second.unwrap_or_else(|| world.join(0));
        world.check_members(&[&second]);
        second.take_all_and_one_more(&writer);
        world.check_at_rest();
    });
}

/// Between the expeller's first step and its cut, two laps of samples pass that are not owed to the
/// reader. A read passes over those that are, before it finds that the reader was expelled: they
/// are released nevertheless.
#[test]
fn pass_over_samples_while_expelled() {
    explore("pass_over_samples_while_expelled", 2, || {
        let world = World::expelling(PLAIN, 1);
        let mut reader = world.join(0);
        let writer = world.producer(1);
        writer.try_write(1).expect("a slot is free");
        let expelling = expelling(&world, 0);
        for value in 2..7 {
            writer.try_write(value);
        }
        let in_hand = reader.read();
        assert_eq!(end(expelling), Outcome::Expelled);
        if let Some(sample) = in_hand {
            reader.mark(sample);
        }
        assert!(!reader.take(), "it reads nothing more");
        let loans = [writer.try_reserve(), writer.try_reserve()];
        assert!(loans.iter().all(Option::is_some), "it keeps no slot");
    });
}

/// What the reader does while its expeller dies.
type Life = fn(&mut Consumer);

/// The expeller dies. Then the reader goes on or not, and another expeller ends what it began.
fn expeller_dies(name: &str, preemptions: usize, shape: Shape, life: Life) {
    explore_deaths(name, preemptions, move |steps| {
        let world = World::expelling(shape, 1);
        let mut reader = world.join(0);
        let writer = world.producer(1);
        writer.try_write(1).expect("a slot is free");
        let dying = dying(steps, {
            let world = Rc::clone(&world);
            move || world.expel(VICTIM, 0, 1)
        });
        life(&mut reader);
        let survived = end(dying);
        world.free_rows(&[VICTIM]);
        let seat = rows::look(&world.table().readers[0]).map(|seen| seen.seat);
        let is_member = world.hot.active.0.load(Ordering::Acquire) != 0;
        assert!(seat != Some(Seat::Expelled) || !is_member, "nothing more is owed to it");
        let state = RowState(world.table().readers[0].state.load(Ordering::Acquire));
        if state.is(RowPhase::Cut) {
            writer.discard(writer.try_reserve().expect("what it does not hold is released"));
        }
        let outcome = world.expel(EXPELLER, 0, 1);
        let has_left = rows::taken_rows(&world.table()) == 0;
        assert_eq!(outcome, if has_left { Outcome::Gone } else { Outcome::Expelled });
        writer.try_write(2).expect("every slot is free");
        if !has_left {
            check_gone(&mut reader);
        }
        world.check_members(&[]);
        world.check_at_rest();
        world.check_newcomer();
        survived
    });
}

#[test]
fn expeller_dies_before_a_read() {
    expeller_dies("expeller_dies_before_a_read", 2, ONE_SLOT, |reader| {
        reader.take();
    });
}

#[test]
fn expeller_dies_before_the_reader_leaves() {
    expeller_dies("expeller_dies_before_the_reader_leaves", 2, ONE_SLOT, |reader| {
        reader.leave();
        reader.give_row_back();
    });
}

#[test]
fn expeller_dies_drop_oldest() {
    expeller_dies("expeller_dies_drop_oldest", 2, ONE_DROPPING, |reader| {
        reader.take();
    });
}

/// The expeller dies while a commit is under way; the reader leaves without having noticed
/// anything.
#[test]
fn expeller_dies_during_a_commit() {
    explore_deaths("expeller_dies_during_a_commit", 1, |steps| {
        let world = World::expelling(PLAIN, 1);
        let reader = world.join(0);
        let writer = world.producer(1);
        let dying = {
            let world = Rc::clone(&world);
            thread::spawn(move || {
                let survived = live(steps, || world.expel(VICTIM, 0, 1)).is_some();
                world.free_rows(&[VICTIM]);
                survived
            })
        };
        let writing = thread::spawn(move || {
            writer.try_write(1);
        });
        let survived = end(dying);
        reader.leave();
        reader.give_row_back();
        end(writing);
        world.check_members(&[]);
        world.check_at_rest();
        world.check_newcomer();
        survived
    });
}

/// The process of the reader dies while that is expelled, and is recovered.
fn reader_dies(name: &str, preemptions: usize, shape: Shape) {
    explore_deaths(name, preemptions, move |steps| {
        let world = World::expelling(shape, 1);
        let mut reader = world.join_of(VICTIM, 0);
        let writer = world.producer(1);
        writer.try_write(1).expect("a slot is free");
        let expelling = expelling(&world, 0);
        let life = move || {
            reader.take();
            reader.leave();
            reader.give_row_back();
        };
        let survived = live(steps, life).is_some();
        world.free_rows(&[VICTIM]);
        let second = world.try_join(0, 0);
        end(expelling);
        let mut second = second.unwrap_or_else(|| world.join(0));
        second.take_all_and_one_more(&writer);
        world.check_members(&[&second]);
        world.check_at_rest();
        survived
    });
}

/// The process of the reader is dead. Another recovers it while a third expels the reader, and a
/// commit that still owes it a sample is under way.
#[test]
fn dead_reader_is_expelled_during_a_commit() {
    explore("dead_reader_is_expelled_during_a_commit", 2, || {
        let world = World::expelling(ONE_SLOT, 1);
        let _dead = world.join_of(VICTIM, 0);
        let writer = world.producer(1);
        let loan = writer.try_reserve().expect("the slot is free");
        let expelling = expelling(&world, 0);
        let writing = thread::spawn(move || {
            writer.commit(loan, 1);
        });
        let mut dead = Dead::default();
        dead.insert(VICTIM);
        sound(recovery::sweep(&world.table(), &dead));
        end(expelling);
        end(writing);
        world.check_members(&[]);
        world.check_at_rest();
    });
}

#[test]
fn expelled_reader_dies() {
    reader_dies("expelled_reader_dies", 2, PLAIN);
}

#[test]
fn expelled_reader_dies_drop_oldest() {
    reader_dies("expelled_reader_dies_drop_oldest", 2, Shape { drop_oldest: true, ..PLAIN });
}
