//! Writers that are killed or stopped in a commit, and are found dead or continue only after laps
//! of others' samples.
//!
//! A reader holds the victim's sample all the time, if it was published. By then the entry that led
//! to it is overwritten.

use std::rc::Rc;

use loom::thread;

use crate::modelled::live;
use crate::protocol::shape::Shape;
use crate::world::{
    Consumer, HeldSample, PLAIN, Producer, ROWS, ROWS_OF_TWO_WORDS, World, explore, explore_deaths,
};

const VICTIM: u32 = 1;

const DROPPING: Shape = Shape { drop_oldest: true, ..PLAIN };
const APART: Shape = Shape { mark_words: 2, ..PLAIN };
/// One slot is retained, one is the victim's, and the third is for the others.
const KEEPING: Shape = Shape { slots: 3, shift: None, history: 1, ..PLAIN };

/// Commits so many samples that each entry of the order is overwritten `laps` times, and one more.
fn commit_laps(writer: &Producer, reader: &mut Consumer, laps: u64) {
    for value in 0..laps * u64::from(reader.world.shape.slots) + 1 {
        writer.try_write(10 + value).expect("a slot is free");
        if let Some(sample) = reader.read() {
            reader.let_go(sample);
        }
    }
}

/// The slot still contains what was read, after all of it.
fn end_hold(reader: &mut Consumer, held: Option<HeldSample>) {
    if let Some(sample) = held {
        reader.let_go(sample);
    }
    while let Some(sample) = reader.read() {
        reader.let_go(sample);
    }
    reader.seen.sort_unstable();
    reader.check_books();
}

/// Killed, and recovered `laps` later, while the reader releases its sample and another writer
/// continues.
fn killed(name: &str, preemptions: usize, shape: Shape, rows: usize, laps: u64) {
    explore_deaths(name, preemptions, move |steps| {
        let world = World::new(shape, rows);
        let mut reader = world.join(0);
        let [victim, survivor] = [world.producer_of(VICTIM, 1), world.producer(1)];
        let survived = live(steps, || victim.try_write(1)).is_some();
        let held = reader.read();
        commit_laps(&survivor, &mut reader, laps);
        let burying = thread::spawn({
            let world = Rc::clone(&world);
            move || world.free_rows(&[VICTIM])
        });
        survivor.try_write(2);
        burying.join().expect("the sweep is done");
        // Writes to every slot that it can get: a held sample is in none of them.
        while let Some(loan) = survivor.find_vacant() {
            survivor.commit(loan, 3);
        }
        end_hold(&mut reader, held);
        world.check_members(&[&reader]);
        world.check_at_rest();
        survived
    });
}

#[test]
fn killed_one_lap_ago() {
    killed("killed_one_lap_ago", 0, PLAIN, ROWS, 1);
}

#[test]
fn killed_two_laps_ago() {
    killed("killed_two_laps_ago", 1, PLAIN, ROWS, 2);
}

#[test]
fn killed_three_laps_ago() {
    killed("killed_three_laps_ago", 0, PLAIN, ROWS, 3);
}

#[test]
fn killed_two_laps_ago_drop_oldest() {
    killed("killed_two_laps_ago_drop_oldest", 0, DROPPING, ROWS, 2);
}

#[test]
fn killed_two_laps_ago_with_history() {
    killed("killed_two_laps_ago_with_history", 0, KEEPING, ROWS, 2);
}

#[test]
fn killed_two_laps_ago_in_two_words() {
    killed("killed_two_laps_ago_in_two_words", 0, APART, ROWS_OF_TWO_WORDS, 2);
}

/// Stopped anywhere, and continued `laps` later, which one preemption does. Without preemptions, it
/// continues in between.
fn stopped(name: &str, preemptions: usize, shape: Shape, laps: u64) {
    explore(name, preemptions, move || {
        let world = World::new(shape, ROWS);
        let mut reader = world.join(0);
        let [victim, survivor] = [world.producer_of(VICTIM, 1), world.producer(1)];
        let loan = victim.try_reserve().expect("it is free");
        let committing = thread::spawn(move || victim.commit(loan, 1));
        let held = reader.read();
        commit_laps(&survivor, &mut reader, laps);
        committing.join().expect("the commit is done");
        while let Some(loan) = survivor.find_vacant() {
            survivor.commit(loan, 3);
        }
        end_hold(&mut reader, held);
        world.check_members(&[&reader]);
        world.check_at_rest();
    });
}

#[test]
fn stopped_for_one_lap() {
    stopped("stopped_for_one_lap", 1, PLAIN, 1);
}

#[test]
fn stopped_for_two_laps() {
    stopped("stopped_for_two_laps", 1, PLAIN, 2);
}

#[test]
fn stopped_for_three_laps() {
    stopped("stopped_for_three_laps", 0, PLAIN, 3);
}

#[test]
fn stopped_for_two_laps_drop_oldest() {
    stopped("stopped_for_two_laps_drop_oldest", 1, DROPPING, 2);
}

#[test]
fn stopped_for_two_laps_with_history() {
    stopped("stopped_for_two_laps_with_history", 0, KEEPING, 2);
}
