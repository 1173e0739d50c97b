//! Batches: commits and marks that share their looks, and whoever joins, leaves, sleeps or dies
//! meanwhile.

use std::rc::Rc;

use loom::thread;

use crate::calm::{Make, join};
use crate::modelled::live;
use crate::protocol::calm::Right;
use crate::protocol::shape::Shape;
use crate::protocol::words::Loan;
use crate::world::{
    Consumer, HeldSample, PLAIN, Producer, ROWS, World, dying, end, explore, explore_deaths,
};

/// The participant that is killed; the living ones are 0.
const VICTIM: u32 = 1;

const ALONE: Shape = Shape { single_writer: true, ..PLAIN };
/// The least for which the tail may lag.
const FOUR: Shape = Shape { slots: 4, shift: Some(2), ..PLAIN };

/// A world in which somebody has slept.
fn alert(shape: Shape, rows: usize) -> Rc<World> {
    let world = World::calm(shape, rows);
    world.table().attention().raise();
    world
}

/// Loans of two slots, with the values for them.
fn two(writer: &Producer, values: [u64; 2]) -> [(Loan, u64); 2] {
    values.map(|value| (writer.try_reserve().expect("a slot is free"), value))
}

fn commit_two(writer: &Producer, values: [u64; 2]) {
    assert_eq!(writer.commit_batch(&two(writer, values)), 2);
}

/// Whatever there is, up to two.
fn read_two(reader: &mut Consumer) -> Vec<HeldSample> {
    [reader.read(), reader.read()].into_iter().flatten().collect()
}

fn take_two(reader: &mut Consumer) {
    let samples = read_two(reader);
    assert_eq!(reader.mark_batch(&samples), samples.len());
}

/// Each sample arrives once, in order, and its slot comes back.
fn stream(name: &str, preemptions: usize, make: Make, shape: Shape) {
    explore(name, preemptions, move || {
        let world = make(shape, ROWS);
        let mut reader = world.join(0);
        let writer = world.producer(1);
        let writing = thread::spawn(move || {
            commit_two(&writer, [1, 2]);
            writer.try_write(3);
        });
        take_two(&mut reader);
        end(writing);
        reader.take_all();
        reader.check_books();
        world.check_at_rest();
    });
}

#[test]
fn batches_alone() {
    stream("batches_alone", 3, World::calm, ALONE);
}

#[test]
fn batches_among() {
    stream("batches_among", 3, World::calm, PLAIN);
}

#[test]
fn batches_of_an_alert_segment_alone() {
    stream("batches_of_an_alert_segment_alone", 3, alert, ALONE);
}

#[test]
fn batches_of_an_alert_segment_among() {
    stream("batches_of_an_alert_segment_among", 3, alert, PLAIN);
}

/// A batch and single commits of another writer: the order has no hole.
fn contend(name: &str, preemptions: usize, make: Make) {
    explore(name, preemptions, move || {
        let world = make(FOUR, ROWS);
        let mut reader = world.join(0);
        let [one, other] = [world.producer(1), world.producer(2)];
        let writing = thread::spawn(move || commit_two(&one, [1, 2]));
        other.try_write(11);
        take_two(&mut reader);
        end(writing);
        other.try_write(12).expect("a slot is free");
        reader.take_all();
        reader.check_books();
        world.check_at_rest();
    });
}

#[test]
fn batch_beside_another_writer() {
    contend("batch_beside_another_writer", 3, World::calm);
}

#[test]
fn batch_beside_another_writer_in_an_alert_segment() {
    contend("batch_beside_another_writer_in_an_alert_segment", 2, alert);
}

/// A writer that knows who is joined, if the segment is calm.
fn informed(world: &Rc<World>, number: u32) -> Producer {
    let writer = world.producer(number);
    writer.learn();
    writer
}

fn write_batch(writer: &Producer) {
    commit_two(writer, [1, 2]);
}

#[test]
fn join_during_a_batch_alone() {
    join("join_during_a_batch_alone", 3, World::calm, ALONE, informed, write_batch);
}

#[test]
fn join_during_a_batch_among() {
    join("join_during_a_batch_among", 3, World::calm, PLAIN, informed, write_batch);
}

#[test]
fn join_during_a_batch_of_an_alert_segment() {
    join("join_during_a_batch_of_an_alert_segment", 3, alert, PLAIN, informed, write_batch);
}

/// A reader leaves during a batch: nothing stays owed to it.
fn leave(name: &str, preemptions: usize, make: Make, shape: Shape) {
    explore(name, preemptions, move || {
        let world = make(shape, ROWS);
        let reader = world.join(0);
        let writer = world.producer(1);
        writer.learn();
        let writing = thread::spawn(move || commit_two(&writer, [1, 2]));
        reader.leave();
        end(writing);
        world.check_at_rest();
        reader.give_row_back();
        world.check_members(&[]);
        world.check_at_rest();
    });
}

#[test]
fn leave_during_a_batch_alone() {
    leave("leave_during_a_batch_alone", 3, World::calm, ALONE);
}

#[test]
fn leave_during_a_batch_among() {
    leave("leave_during_a_batch_among", 3, World::calm, PLAIN);
}

#[test]
fn leave_during_a_batch_of_an_alert_segment() {
    leave("leave_during_a_batch_of_an_alert_segment", 3, alert, PLAIN);
}

/// Nobody is there to whom a batch would be owed: its slots are offered again.
#[test]
fn batch_for_nobody() {
    explore("batch_for_nobody", 2, || {
        let world = World::calm(PLAIN, ROWS);
        let [one, other] = [world.producer(1), world.producer(2)];
        let loans = two(&one, [1, 2]);
        assert!(other.find_vacant().is_none(), "both are on loan");
        let writing = thread::spawn(move || one.commit_batch(&loans));
        other.find_vacant().into_iter().for_each(|loan| other.discard(loan));
        assert_eq!(end(writing), 2);
        world.check_at_rest();
    });
}

/// A reader sleeps until there is a batch.
fn reader_sleeps(name: &str, preemptions: usize, make: Make, shape: Shape) {
    explore(name, preemptions, move || {
        let world = make(shape, ROWS);
        let mut reader = world.join(0);
        let writer = world.producer(1);
        writer.learn();
        let loans = two(&writer, [1, 2]);
        let writing = thread::spawn(move || writer.commit_batch(&loans));
        reader.take_waiting();
        reader.take_waiting();
        assert_eq!(end(writing), 2);
        reader.check_books();
        world.check_at_rest();
    });
}

#[test]
fn reader_sleeps_before_a_batch_alone() {
    reader_sleeps("reader_sleeps_before_a_batch_alone", 3, World::calm, ALONE);
}

#[test]
fn reader_sleeps_before_a_batch_among() {
    reader_sleeps("reader_sleeps_before_a_batch_among", 3, World::calm, PLAIN);
}

#[test]
fn reader_sleeps_before_a_batch_of_an_alert_segment() {
    reader_sleeps("reader_sleeps_before_a_batch_of_an_alert_segment", 3, alert, PLAIN);
}

/// A writer sleeps for the slots of samples that a reader marks together.
fn writer_sleeps(name: &str, preemptions: usize, make: Make, shape: Shape) {
    explore(name, preemptions, move || {
        let world = make(shape, ROWS);
        let mut reader = world.join(0);
        let writer = world.producer(1);
        commit_two(&writer, [1, 2]);
        let samples = read_two(&mut reader);
        let writing = thread::spawn(move || writer.write(3));
        assert_eq!(reader.mark_batch(&samples), 2);
        end(writing);
        reader.take_all();
        reader.check_books();
        world.check_at_rest();
    });
}

#[test]
fn writer_sleeps_before_marks_alone() {
    writer_sleeps("writer_sleeps_before_marks_alone", 3, World::calm, ALONE);
}

#[test]
fn writer_sleeps_before_marks_among() {
    writer_sleeps("writer_sleeps_before_marks_among", 3, World::calm, PLAIN);
}

#[test]
fn writer_sleeps_before_marks_in_an_alert_segment() {
    writer_sleeps("writer_sleeps_before_marks_in_an_alert_segment", 3, alert, PLAIN);
}

/// Slots of a batch are marked while they are still being committed, and another writer sleeps.
fn writer_sleeps_over(name: &str, preemptions: usize, make: Make) {
    explore(name, preemptions, move || {
        let world = make(PLAIN, ROWS);
        let mut reader = world.join(0);
        let [one, other] = [world.calm_producer(1), world.calm_producer(2)];
        let loans = two(&one, [1, 2]);
        let waiting = thread::spawn(move || other.wait(Producer::try_reserve));
        let committing = thread::spawn(move || one.commit_batch(&loans));
        take_two(&mut reader);
        assert_eq!(end(committing), 2);
        reader.take_all();
        world.producer(2).discard(end(waiting));
        reader.check_books();
        world.check_at_rest();
    });
}

#[test]
fn writer_sleeps_over_a_batch() {
    writer_sleeps_over("writer_sleeps_over_a_batch", 1, World::calm);
}

/// Two readers mark the same samples together, while a writer withdraws the hints of their slots.
#[test]
fn marks_of_two_during_a_search() {
    explore("marks_of_two_during_a_search", 2, || {
        let world = World::calm(PLAIN, ROWS);
        let [mut first, mut second] = [world.join(0), world.join(0)];
        let writer = world.producer(1);
        commit_two(&writer, [1, 2]);
        let [of_first, of_second] = [read_two(&mut first), read_two(&mut second)];
        let marking = thread::spawn(move || {
            assert_eq!(first.mark_batch(&of_first), 2);
            first
        });
        let searching = thread::spawn(move || {
            writer.find_vacant().into_iter().for_each(|loan| writer.discard(loan));
        });
        assert_eq!(second.mark_batch(&of_second), 2);
        end(marking).check_books();
        end(searching);
        second.check_books();
        world.check_at_rest();
    });
}

/// Two threads have the same loans, and both commit all of them that they can.
#[test]
fn one_batch_by_two_threads() {
    explore("one_batch_by_two_threads", 3, || {
        let world = World::calm(PLAIN, ROWS);
        let mut reader = world.join(0);
        let writer = Rc::new(world.calm_producer(1));
        let loans = two(&writer, [1, 2]);
        loans.iter().for_each(|(loan, value)| writer.fill(*loan, *value));
        // One after the other, as a call goes on behind a loan that is stale.
        let commit_all = move |writer: &Producer| -> usize {
            let one = |loan: &(Loan, u64)| writer.publish_batch(&[*loan], Right::Token);
            match writer.publish_batch(&loans, Right::Token) {
                2 => 2,
                done => done + loans.iter().skip(done).map(one).sum::<usize>(),
            }
        };
        let other = thread::spawn({
            let writer = Rc::clone(&writer);
            move || commit_all(&writer)
        });
        let here = commit_all(&writer);
        assert_eq!(here + end(other), 2, "each is committed once");
        reader.take_all();
        reader.check_books();
        world.check_at_rest();
    });
}

/// Two threads have the same samples, and both mark all of them that they can.
#[test]
fn one_batch_of_marks_by_two_threads() {
    explore("one_batch_of_marks_by_two_threads", 3, || {
        let world = World::calm(PLAIN, ROWS);
        let reader = Rc::new({
            let mut reader = world.join(0);
            let writer = world.producer(1);
            commit_two(&writer, [1, 2]);
            let samples = read_two(&mut reader);
            (reader, samples)
        });
        let mark_all = |(reader, samples): &(Consumer, Vec<HeldSample>)| -> usize {
            let one = |sample: &HeldSample| reader.try_mark_batch(&[*sample], Right::Token);
            match reader.try_mark_batch(samples, Right::Token) {
                2 => 2,
                done => done + samples.iter().skip(done).map(one).sum::<usize>(),
            }
        };
        let other = thread::spawn({
            let reader = Rc::clone(&reader);
            move || mark_all(&reader)
        });
        let here = mark_all(&reader);
        assert_eq!(here + end(other), 2, "each is marked once");
        world.check_at_rest();
    });
}

/// The victim dies in a batch: those samples are seen that were published, and nothing leaks.
fn writer_dies(name: &str, preemptions: usize, make: Make, shape: Shape, leaves: bool) {
    explore_deaths(name, preemptions, move |steps| {
        let world = make(shape, ROWS);
        let mut reader = world.join(0);
        let leaver = leaves.then(|| world.join(0));
        let victim = world.producer_of(VICTIM, 1);
        victim.learn();
        let loans = two(&victim, [1, 2]);
        let dying = dying(steps, move || victim.commit_batch(&loans));
        if let Some(leaver) = &leaver {
            leaver.leave();
        } else {
            reader.take();
        }
        let survived = end(dying);
        world.free_rows(&[VICTIM]);
        if let Some(leaver) = leaver {
            leaver.give_row_back();
        }
        reader.take_all();
        reader.check_books();
        world.check_members(&[&reader]);
        world.check_at_rest();
        survived
    });
}

#[test]
fn writer_dies_in_a_batch_alone() {
    writer_dies("writer_dies_in_a_batch_alone", 2, World::calm, ALONE, false);
}

#[test]
fn writer_dies_in_a_batch_among() {
    writer_dies("writer_dies_in_a_batch_among", 2, World::calm, PLAIN, false);
}

#[test]
fn writer_dies_in_a_batch_of_an_alert_segment() {
    writer_dies("writer_dies_in_a_batch_of_an_alert_segment", 2, alert, PLAIN, false);
}

#[test]
fn writer_dies_in_a_batch_after_a_reader_alone() {
    writer_dies("writer_dies_in_a_batch_after_a_reader_alone", 1, World::calm, ALONE, true);
}

#[test]
fn writer_dies_in_a_batch_after_a_reader_among() {
    writer_dies("writer_dies_in_a_batch_after_a_reader_among", 1, World::calm, PLAIN, true);
}

/// The victim dies as it marks, while a writer sleeps for the slots.
#[test]
fn reader_dies_in_a_batch_of_marks() {
    explore_deaths("reader_dies_in_a_batch_of_marks", 1, |steps| {
        let world = World::calm(PLAIN, ROWS);
        let mut victim = world.join_of(VICTIM, 0);
        let writer = world.producer(1);
        commit_two(&writer, [1, 2]);
        let samples = read_two(&mut victim);
        let writing = thread::spawn(move || writer.write(3));
        let survived = live(steps, move || victim.mark_batch(&samples)).is_some();
        world.free_rows(&[VICTIM]);
        end(writing);
        world.check_members(&[]);
        world.check_at_rest();
        world.check_newcomer();
        survived
    });
}
