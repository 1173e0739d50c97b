//! Sleeping behind a descriptor that the chime makes readable: a lost wake is a deadlock, which loom
//! reports.
//!
//! The kernel closes the files of a dead process, and each close makes the descriptors of all
//! watchers readable, as the chime does. Nobody else is alive in the models of death, and nobody
//! recovers: the close alone must wake the sleeper.

use std::rc::Rc;

use loom::thread;

use crate::atomics::{AtomicU64, Ordering};
use crate::modelled::{Descriptor, without_the_file};
use crate::protocol::hold;
use crate::protocol::shape::Shape;
use crate::world::{
    Consumer, ONE_SLOT, PLAIN, ROWS, World, dying, end, explore, explore_deaths, sound,
};

const ONE_ALONE: Shape = Shape { single_writer: true, ..ONE_SLOT };

/// What a loop does when its descriptor is readable: it reads until there is nothing, drains, arms,
/// and looks again; if there is still nothing, it polls.
fn take_by_descriptor(world: &Rc<World>, reader: &mut Consumer, descriptor: &Descriptor) {
    loop {
        if reader.take() {
            return;
        }
        descriptor.drain();
        let table = world.table();
        table.data_bell().arm_descriptor(table.attention());
        if reader.take() {
            return;
        }
        descriptor.poll();
    }
}

/// A reader takes samples behind a descriptor.
fn turns(name: &str, preemptions: usize, world: impl Fn() -> Rc<World> + Send + Sync + 'static) {
    explore(name, preemptions, move || {
        let world = world();
        let descriptor = world.chime.watch();
        let mut reader = world.join(0);
        let writer = world.producer(1);
        let writing = thread::spawn(move || writer.write(1));
        take_by_descriptor(&world, &mut reader, &descriptor);
        end(writing);
        reader.check_books();
        world.check_at_rest();
    });
}

#[test]
fn loop_sleeps_before_a_commit() {
    turns("loop_sleeps_before_a_commit", 3, || World::new(ONE_SLOT, ROWS));
}

#[test]
fn loop_sleeps_before_a_calm_commit_alone() {
    turns("loop_sleeps_before_a_calm_commit_alone", 2, || World::calm(ONE_ALONE, ROWS));
}

/// A loop that was readable for no reason, as after an attach or a close of others, comes to sleep
/// while a commit rings.
#[test]
fn strays_hide_no_ring() {
    explore("strays_hide_no_ring", 3, || {
        let world = World::new(ONE_SLOT, ROWS);
        let descriptor = world.chime.watch();
        let mut reader = world.join(0);
        let writer = world.producer(1);
        let writing = thread::spawn(move || writer.try_write(1));
        let straying = thread::spawn({
            let world = Rc::clone(&world);
            move || world.chime.ring()
        });
        take_by_descriptor(&world, &mut reader, &descriptor);
        end(straying);
        assert!(end(writing).is_some(), "the slot was free");
        reader.check_books();
        world.check_at_rest();
    });
}

/// Two writers ring for a loop that takes one sample, and comes back for the other.
#[test]
fn two_ringers() {
    explore("two_ringers", 2, || {
        let world = World::new(PLAIN, ROWS);
        let descriptor = world.chime.watch();
        let mut reader = world.join(0);
        let writing = [1, 2].map(|number| {
            let writer = world.producer(number);
            thread::spawn(move || writer.try_write(u64::from(number)))
        });
        for _ in 0..2 {
            take_by_descriptor(&world, &mut reader, &descriptor);
        }
        for writing in writing {
            assert!(end(writing).is_some(), "there is a slot for each");
        }
        reader.check_books();
        world.check_at_rest();
    });
}

/// A ringer that has lost the file leaves the chime to the next one.
#[test]
fn ringer_without_the_file() {
    explore("ringer_without_the_file", 3, || {
        let world = World::new(PLAIN, ROWS);
        let descriptor = world.chime.watch();
        let mut reader = world.join(0);
        let [first, second] = [1, 2].map(|number| world.producer(number));
        let writing = thread::spawn(move || {
            let written = without_the_file(|| first.try_write(1));
            written.and(second.try_write(2))
        });
        // Both are there when the second ringer has rung.
        for _ in 0..2 {
            take_by_descriptor(&world, &mut reader, &descriptor);
        }
        assert!(end(writing).is_some(), "there is a slot for each");
        reader.check_books();
        world.check_at_rest();
    });
}

/// One sleeps on the futex and one behind a descriptor: a ring wakes both.
#[test]
fn two_kinds_of_sleepers() {
    explore("two_kinds_of_sleepers", 2, || {
        let world = World::new(ONE_SLOT, ROWS);
        let descriptor = world.chime.watch();
        let [mut reader, mut other] = [world.join(0), world.join(0)];
        let writer = world.producer(1);
        let sleeping = thread::spawn(move || {
            other.take_waiting();
            other
        });
        let writing = thread::spawn(move || writer.try_write(1));
        take_by_descriptor(&world, &mut reader, &descriptor);
        assert!(end(writing).is_some(), "the slot was free");
        reader.check_books();
        end(sleeping).check_books();
        world.check_at_rest();
    });
}

/// A writer waits behind a descriptor for a slot that a reader marks.
#[test]
fn writer_sleeps_before_a_mark() {
    explore("writer_sleeps_before_a_mark", 3, || {
        let world = World::new(ONE_SLOT, ROWS);
        let descriptor = world.chime.watch();
        let mut reader = world.join(0);
        let writer = world.producer(1);
        writer.try_write(1).expect("the slot is free");
        let sample = reader.read().expect("it was committed");
        let writing = thread::spawn({
            let world = Rc::clone(&world);
            move || loop {
                if let Some(loan) = writer.try_reserve() {
                    return writer.discard(loan);
                }
                descriptor.drain();
                let table = world.table();
                table.space_bell().arm_descriptor(table.attention());
                if let Some(loan) = writer.try_reserve() {
                    return writer.discard(loan);
                }
                descriptor.poll();
            }
        });
        reader.mark(sample);
        end(writing);
        reader.check_books();
        world.check_at_rest();
    });
}

/// Waits for the end of the victim, whose files the kernel closes then.
fn die_and_close(world: &Rc<World>, steps: u32, life: impl FnOnce() + 'static) -> Dying {
    let died = Rc::new(AtomicU64::new(0));
    let closing = thread::spawn({
        let (world, died) = (Rc::clone(world), Rc::clone(&died));
        move || {
            let survived = end(dying(steps, life));
            // Release: pairs with the load of whoever was woken by the close.
            died.store(1, Ordering::Release);
            world.chime.ring();
            survived
        }
    });
    Dying { died, closing }
}

struct Dying {
    died: Rc<AtomicU64>,
    closing: thread::JoinHandle<bool>,
}

/// A writer dies at each step of its commit, before the ring, between the ring and the chime, or
/// after it. The loop must take the sample if it was published, and otherwise learn of the death.
fn ringer_dies(name: &str, world: impl Fn() -> Rc<World> + Send + Sync + Clone + 'static) {
    explore_deaths(name, 2, move |steps| {
        let world = world();
        let descriptor = world.chime.watch();
        let mut reader = world.join(0);
        let victim = world.producer(1);
        let Dying { died, closing } = die_and_close(&world, steps, move || {
            victim.try_write(1);
        });
        loop {
            descriptor.drain();
            let table = world.table();
            table.data_bell().arm_descriptor(table.attention());
            // Acquire: pairs with the store in `die_and_close`. What the dead has published is seen
            // below.
            let is_over = died.load(Ordering::Acquire) == 1;
            if is_ready(&mut reader) || is_over {
                break;
            }
            descriptor.poll();
        }
        end(closing)
    });
}

fn is_ready(reader: &mut Consumer) -> bool {
    let world = Rc::clone(&reader.world);
    sound(hold::seek(&world.table(), reader.member.bit, &mut reader.cursor)).is_some()
}

#[test]
fn ringer_dies_in_a_commit() {
    ringer_dies("ringer_dies_in_a_commit", || World::new(ONE_SLOT, ROWS));
}

#[test]
fn ringer_dies_in_a_calm_commit() {
    ringer_dies("ringer_dies_in_a_calm_commit", || World::calm(ONE_ALONE, ROWS));
}

/// A ringer is stopped for good after each step, and never closes its files. The next ringer wakes
/// the loop all the same.
#[test]
fn next_ringer_makes_up() {
    explore_deaths("next_ringer_makes_up", 2, |steps| {
        let world = World::new(PLAIN, ROWS);
        let descriptor = world.chime.watch();
        let mut reader = world.join(0);
        let [stopped, next] = [world.producer(1), world.producer(2)];
        let dying = dying(steps, move || {
            stopped.try_write(1);
        });
        let writing = thread::spawn(move || {
            let survived = end(dying);
            assert!(next.try_write(2).is_some(), "the stopped one has one slot at most");
            survived
        });
        loop {
            descriptor.drain();
            let table = world.table();
            table.data_bell().arm_descriptor(table.attention());
            if is_ready(&mut reader) {
                break;
            }
            descriptor.poll();
        }
        end(writing)
    });
}

/// A loop that dies armed costs the next ringer one call, and nobody needs to know.
#[test]
fn sleeper_dies() {
    explore_deaths("sleeper_dies", 2, |steps| {
        let world = World::calm(ONE_ALONE, ROWS);
        let descriptor = world.chime.watch();
        let mut reader = world.join(0);
        let writer = world.producer(1);
        let dying = dying(steps, {
            let world = Rc::clone(&world);
            let abandoned = world.chime.watch();
            move || {
                abandoned.drain();
                let table = world.table();
                table.data_bell().arm_descriptor(table.attention());
            }
        });
        let writing = thread::spawn(move || writer.write(1));
        take_by_descriptor(&world, &mut reader, &descriptor);
        end(writing);
        reader.check_books();
        world.check_at_rest();
        end(dying)
    });
}
