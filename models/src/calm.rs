//! The calm path: commits and marks that look at one word, and the processes that change it.
//!
//! In these models light and heavy fences are sequentially consistent. That a light fence alone
//! orders nothing is what `simulator/` checks.

use std::rc::Rc;

use loom::thread;

use crate::death::clearing_writer_dies;
use crate::error::Code;
use crate::members::leave_with_its_sample;
use crate::modelled::live;
use crate::protocol::calm::Right;
use crate::protocol::commit::Owed;
use crate::protocol::expel::Outcome;
use crate::protocol::loan;
use crate::protocol::shape::Shape;
use crate::world::{
    Consumer, ONE_SLOT, PLAIN, Producer, ROWS, World, dying, end, explore, explore_deaths, mark_for,
};

/// Participants that are killed, or that expel; the living ones are 0.
const VICTIM: u32 = 1;
const EXPELLER: u32 = 3;

const ALONE: Shape = Shape { single_writer: true, ..PLAIN };
const ONE_ALONE: Shape = Shape { single_writer: true, ..ONE_SLOT };
/// The least for which the tail may lag.
const FOUR: Shape = Shape { slots: 4, shift: Some(2), ..PLAIN };

/// Turns of a slot.
const TURNS: u32 = 128;

/// A world that was calm, and is alert although nobody sleeps any more.
fn alert(shape: Shape) -> Rc<World> {
    let world = World::calm(shape, ROWS);
    world.table().attention().raise();
    world
}

// The way of a sample, and the way back of its slot.

/// Each sample arrives once, and a reader's byte is not written before its receipt.
fn stream(name: &str, preemptions: usize, make: Make, shape: Shape) {
    explore(name, preemptions, move || {
        let world = make(shape, ROWS);
        let mut reader = world.join(0);
        let writer = world.producer(1);
        let writing = thread::spawn(move || {
            for value in 1..=3 {
                writer.try_write(value);
            }
        });
        reader.take();
        reader.take();
        end(writing);
        reader.take_all();
        reader.check_books();
        world.check_at_rest();
    });
}

#[test]
fn calm_stream_through_one_slot() {
    stream("calm_stream_through_one_slot", 3, World::calm, ONE_SLOT);
}

#[test]
fn calm_stream_through_two_slots() {
    stream("calm_stream_through_two_slots", 3, World::calm, PLAIN);
}

#[test]
fn calm_stream_of_a_single_writer() {
    stream("calm_stream_of_a_single_writer", 3, World::calm, ONE_ALONE);
}

#[test]
fn pinned_stream_through_one_slot() {
    stream("pinned_stream_through_one_slot", 3, World::pinned, ONE_SLOT);
}

// Commits while readers come and go.

/// Makes a world.
pub(crate) type Make = fn(Shape, usize) -> Rc<World>;

fn write_two(writer: &Producer) {
    writer.try_write(1);
    writer.try_write(2);
}

/// A reader joins while another is there: it misses nothing that is committed after it has joined.
/// `writes`: what the `writer` does meanwhile.
pub(crate) fn join(
    name: &str,
    preemptions: usize,
    make: Make,
    shape: Shape,
    writer: fn(&Rc<World>, u32) -> Producer,
    writes: fn(&Producer),
) {
    explore(name, preemptions, move || {
        let world = make(shape, ROWS);
        let mut first = world.join(0);
        let writer = writer(&world, 1);
        let writing = thread::spawn(move || {
            writes(&writer);
            writer
        });
        let mut reader = world.join(0);
        reader.take();
        let writer = end(writing);
        first.take_all();
        reader.take_all_and_one_more(&writer);
        reader.check_end();
        first.take_all();
        first.check_books();
        world.check_members(&[&first, &reader]);
        world.check_at_rest();
    });
}

#[test]
fn join_during_calm_commits_alone() {
    join("join_during_calm_commits_alone", 3, World::calm, ALONE, World::calm_producer, write_two);
}

#[test]
fn join_during_calm_commits_among() {
    join("join_during_calm_commits_among", 3, World::calm, PLAIN, World::calm_producer, write_two);
}

/// A reader leaves, with or without a sample in hand: nothing stays owed to it, even before it gives
/// its row back.
fn leave(name: &str, preemptions: usize, make: Make, shape: Shape, holds: bool) {
    explore(name, preemptions, move || {
        let world = make(shape, ROWS);
        let mut reader = world.join(0);
        let writer = world.producer(1);
        writer.learn();
        if holds {
            writer.try_write(1);
        }
        let writing = thread::spawn(move || {
            writer.try_write(2);
            writer.try_write(3);
        });
        let in_hand = holds.then(|| reader.read()).flatten();
        reader.leave();
        if let Some(sample) = in_hand {
            reader.mark(sample);
        }
        end(writing);
        world.check_at_rest();
        reader.give_row_back();
        world.check_members(&[]);
        world.check_at_rest();
    });
}

#[test]
fn leave_during_calm_commits_alone() {
    leave("leave_during_calm_commits_alone", 3, World::calm, ALONE, false);
}

#[test]
fn leave_during_calm_commits_among() {
    leave("leave_during_calm_commits_among", 3, World::calm, PLAIN, false);
}

#[test]
fn leave_during_pinned_commits() {
    leave("leave_during_pinned_commits", 3, World::pinned, PLAIN, false);
}

#[test]
fn leave_a_calm_writer_with_a_sample_in_hand() {
    leave("leave_a_calm_writer_with_a_sample_in_hand", 3, World::calm, PLAIN, true);
}

#[test]
fn leave_with_the_sample_of_a_calm_commit_alone() {
    let name = "leave_with_the_sample_of_a_calm_commit_alone";
    leave_with_its_sample(name, 3, || World::calm(ONE_ALONE, ROWS), World::calm_producer, 1);
}

#[test]
fn leave_with_the_sample_of_a_calm_commit_among() {
    let name = "leave_with_the_sample_of_a_calm_commit_among";
    leave_with_its_sample(name, 3, || World::calm(ONE_SLOT, ROWS), World::calm_producer, 1);
}

/// The same where nobody has the slot's hint any more: a search met the loan.
#[test]
fn leave_during_a_calm_commit_without_a_hint() {
    explore("leave_during_a_calm_commit_without_a_hint", 3, || {
        let world = World::calm(ONE_SLOT, ROWS);
        let reader = world.join(0);
        let writer = world.calm_producer(1);
        let loan = writer.try_reserve().expect("it is free");
        assert!(world.producer(2).find_vacant().is_none());
        let writing = thread::spawn(move || writer.commit(loan, 1));
        reader.leave();
        end(writing);
        world.check_at_rest();
    });
}

/// A reader leaves after it has marked a sample, and another joins in its row, during calm commits
/// that know the first: what is left of the first counts for nothing.
fn rejoin(name: &str, preemptions: usize, shape: Shape) {
    explore(name, preemptions, move || {
        let world = World::calm(shape, 1);
        let mut first = world.join(0);
        let writer = world.calm_producer(1);
        writer.try_write(1);
        let sample = first.read().expect("it was committed");
        let writing = thread::spawn(move || {
            writer.try_write(2);
            writer.try_write(3);
            writer
        });
        first.mark(sample);
        first.leave();
        first.give_row_back();
        let mut second = world.join(0);
        assert_eq!(first.member.index, second.member.index);
        second.take();
        let writer = end(writing);
        second.take_all_and_one_more(&writer);
        second.check_end();
        world.check_members(&[&second]);
        world.check_at_rest();
    });
}

#[test]
fn rejoin_during_calm_commits_alone() {
    rejoin("rejoin_during_calm_commits_alone", 2, ALONE);
}

#[test]
fn rejoin_during_calm_commits_among() {
    rejoin("rejoin_during_calm_commits_among", 2, PLAIN);
}

/// So many samples that the turns of the slot come round to the receipt of a reader that has left, or
/// to that of a reader whose next samples were never published.
#[test]
fn turns_come_round() {
    explore("turns_come_round", 0, || {
        let world = World::calm(ONE_SLOT, 1);
        let mut first = world.join(0);
        let writer = world.producer(1);
        writer.try_write(1);
        first.take();
        first.leave();
        first.give_row_back();
        for _ in 0..TURNS - 1 {
            writer.try_write(2).expect("nobody is there");
        }
        let mut second = world.join(0);
        let last = writer.try_write(3).expect("the slot is free");
        assert!(writer.try_reserve().is_none(), "it is unread");
        second.take_all();
        assert_eq!(second.seen, [(last, 3)]);
        world.check_at_rest();
    });
}

#[test]
fn turns_of_the_dead_come_round() {
    explore("turns_of_the_dead_come_round", 0, || {
        let world = World::calm(ONE_SLOT, 1);
        let mut reader = world.join(0);
        let writer = world.producer(1);
        writer.try_write(1);
        reader.take();
        for _ in 0..TURNS - 1 {
            let victim = world.calm_producer_of(VICTIM, 1);
            let loan = victim.try_reserve().expect("the slot is free");
            // Committing, extent, sequence, turn and marks; the payload comes before.
            assert!(live(6, || victim.commit(loan, 2)).is_none());
            world.free_rows(&[VICTIM]);
        }
        let last = writer.try_write(3).expect("the slot is free");
        assert!(writer.try_reserve().is_none(), "it is unread");
        reader.take_all();
        assert_eq!(reader.seen.last(), Some(&(last, 3)));
        world.check_at_rest();
    });
}

/// A reader that has marked a sample gives its row back, while the last reader of the sample marks
/// it and a writer withdraws the hint: the hint is not lost between the three.
#[test]
fn give_row_back_during_the_last_mark() {
    explore("give_row_back_during_the_last_mark", 3, || {
        let world = World::calm(ONE_SLOT, ROWS);
        let [mut first, mut last] = [world.join(0), world.join(0)];
        let writer = world.producer(1);
        writer.try_write(1);
        let sample = last.read().expect("it was committed");
        first.take();
        first.leave();
        let leaving = thread::spawn(move || first.give_row_back());
        let searching = thread::spawn(move || {
            writer.find_vacant().into_iter().for_each(|loan| writer.discard(loan));
        });
        last.mark(sample);
        end(leaving);
        end(searching);
        last.check_books();
        world.check_members(&[&last]);
        world.check_at_rest();
    });
}

/// A calm commit that owes its sample to a reader is under way while that is expelled.
fn expel(name: &str, preemptions: usize, shape: Shape, reads: bool) {
    explore(name, preemptions, move || {
        let world = World::calm(shape, ROWS).with_expellers();
        let mut reader = world.join(0);
        let index = reader.member.index;
        let writer = world.calm_producer(1);
        let expelling = thread::spawn({
            let world = Rc::clone(&world);
            move || world.expel(EXPELLER, index, 1)
        });
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
        writer.try_write(3).expect("every slot is free");
        world.check_at_rest();
        assert!(!reader.take() && reader.is_expelled, "it reads nothing more");
        reader.leave();
        reader.give_row_back();
        world.check_members(&[]);
        world.check_at_rest();
    });
}

#[test]
fn expel_during_calm_commits_alone() {
    expel("expel_during_calm_commits_alone", 2, ONE_ALONE, true);
}

#[test]
fn expel_during_calm_commits_among() {
    expel("expel_during_calm_commits_among", 2, ONE_SLOT, true);
}

#[test]
fn expel_during_calm_commits_unread() {
    expel("expel_during_calm_commits_unread", 2, ONE_SLOT, false);
}

/// Two threads share a writer, and both learn who is joined while a reader joins.
#[test]
fn two_threads_learn_during_a_join() {
    explore("two_threads_learn_during_a_join", 3, || {
        let world = World::calm(PLAIN, ROWS);
        let mut first = world.join(0);
        let writer = Rc::new(world.producer(1));
        let learning = thread::spawn({
            let writer = Rc::clone(&writer);
            move || writer.learn()
        });
        let joining = thread::spawn({
            let world = Rc::clone(&world);
            move || world.join(0)
        });
        writer.learn();
        end(learning);
        let mut second = end(joining);
        let last = writer.try_write(1).expect("a slot is free");
        for reader in [&mut first, &mut second] {
            reader.take_all();
            assert_eq!(reader.seen, [(last, 1)]);
        }
        world.check_at_rest();
    });
}

/// A participant without a heavy fence has the segment pinned, and joins then with ordinary fences.
fn pin(name: &str, preemptions: usize, shape: Shape) {
    explore(name, preemptions, move || {
        let world = World::calm(shape, ROWS);
        let mut first = world.join(0);
        let writer = world.calm_producer(1);
        let writing = thread::spawn(move || {
            writer.try_write(1);
            writer.try_write(2);
            writer
        });
        world.table().attention().pin();
        let mut reader = world.join(0);
        reader.take();
        let writer = end(writing);
        first.take_all();
        reader.take_all_and_one_more(&writer);
        reader.check_end();
        first.take_all();
        first.check_books();
        writer.settle();
        assert!(!world.table().attention().look().is_calm(), "it is never calm again");
        world.check_at_rest();
    });
}

#[test]
fn pin_during_calm_commits_alone() {
    pin("pin_during_calm_commits_alone", 3, ALONE);
}

#[test]
fn pin_during_calm_commits_among() {
    pin("pin_during_calm_commits_among", 3, PLAIN);
}

// Sleepers.

/// A reader sleeps until there is a sample, and a writer until there is a slot; both begin calmly.
fn turns(name: &str, preemptions: usize, shape: Shape, samples: u64) {
    explore(name, preemptions, move || {
        let world = World::calm(shape, ROWS);
        let mut reader = world.join(0);
        let writer = world.calm_producer(1);
        let writing = thread::spawn(move || {
            for value in 1..=samples {
                writer.write(value);
            }
        });
        for _ in 0..samples {
            reader.take_waiting();
        }
        end(writing);
        reader.check_books();
        world.check_at_rest();
    });
}

#[test]
fn reader_sleeps_before_a_calm_commit_alone() {
    turns("reader_sleeps_before_a_calm_commit_alone", 3, ONE_ALONE, 1);
}

#[test]
fn reader_sleeps_before_a_calm_commit_among() {
    turns("reader_sleeps_before_a_calm_commit_among", 3, ONE_SLOT, 1);
}

#[test]
fn reader_and_writer_sleep_in_turn() {
    turns("reader_and_writer_sleep_in_turn", 1, ONE_SLOT, 2);
}

/// A writer sleeps for the slot of a sample that a reader marks calmly.
fn writer_sleeps(name: &str, preemptions: usize, shape: Shape) {
    explore(name, preemptions, move || {
        let world = World::calm(shape, ROWS);
        let mut reader = world.join(0);
        let writer = world.calm_producer(1);
        writer.try_write(1);
        let sample = reader.read().expect("it was committed");
        let writing = thread::spawn(move || writer.write(2));
        reader.mark(sample);
        end(writing);
        reader.take_all();
        reader.check_books();
        world.check_at_rest();
    });
}

#[test]
fn writer_sleeps_before_a_calm_mark_alone() {
    writer_sleeps("writer_sleeps_before_a_calm_mark_alone", 4, ONE_ALONE);
}

#[test]
fn writer_sleeps_before_a_calm_mark_among() {
    writer_sleeps("writer_sleeps_before_a_calm_mark_among", 4, ONE_SLOT);
}

/// A slot is marked calmly while its writer is still committing it calmly, and another writer sleeps
/// over it.
#[test]
fn writer_sleeps_over_a_calm_commit() {
    explore("writer_sleeps_over_a_calm_commit", 2, || {
        let world = World::calm(ONE_SLOT, ROWS);
        let mut reader = world.join(0);
        let [one, two] = [world.calm_producer(1), world.calm_producer(2)];
        let loan = one.try_reserve().expect("it is free");
        let waiting = thread::spawn(move || two.wait(Producer::try_reserve));
        let committing = thread::spawn(move || one.commit(loan, 1));
        reader.take();
        end(committing);
        reader.take_all();
        world.producer(2).discard(end(waiting));
        reader.check_books();
        world.check_at_rest();
    });
}

/// A process sleeps until anything changes: by a calm commit, and by a calm mark.
fn change_is_told(name: &str, preemptions: usize, shape: Shape) {
    explore(name, preemptions, move || {
        let world = World::calm(shape, ROWS);
        let mut reader = world.join(0);
        let writer = world.calm_producer(1);
        let bell = world.table().change_bell();
        let writing = thread::spawn(move || writer.try_write(1));
        let sleep_until = |is_so: &mut dyn FnMut() -> bool| {
            while !is_so() {
                let watched = bell.watch(world.table().attention());
                if is_so() {
                    return;
                }
                let armed = bell.arm(world.table().attention());
                if armed.count() == watched {
                    bell.sleep(armed, None);
                }
            }
        };
        let mut sample = None;
        sleep_until(&mut || {
            sample = sample.or_else(|| reader.read());
            sample.is_some()
        });
        let sample = sample.expect("that is what changed");
        let marking = thread::spawn(move || reader.mark(sample));
        sleep_until(&mut || loan::blockers(&world.table()) == 0);
        end(marking);
        end(writing);
        world.check_at_rest();
    });
}

#[test]
fn change_is_told_alone() {
    change_is_told("change_is_told_alone", 2, ONE_ALONE);
}

#[test]
fn change_is_told_among() {
    change_is_told("change_is_told_among", 2, ONE_SLOT);
}

/// A sleeper is stopped or killed at each step of its announcement. Another comes meanwhile, and
/// sleeps until a calm commit.
#[test]
fn first_sleeper_dies() {
    explore_deaths("first_sleeper_dies", 2, |steps| {
        let world = World::calm(ONE_SLOT, ROWS);
        let mut reader = world.join(0);
        let writer = world.calm_producer(1);
        let dying = dying(steps, {
            let world = Rc::clone(&world);
            move || world.table().data_bell().arm(world.table().attention())
        });
        let writing = thread::spawn(move || writer.write(1));
        reader.take_waiting();
        end(writing);
        reader.check_books();
        world.check_at_rest();
        end(dying)
    });
}

// Alert segments that become calm again.

/// A writer makes the segment calm, and commits, while a reader goes to sleep.
fn settle(name: &str, preemptions: usize, shape: Shape) {
    explore(name, preemptions, move || {
        let world = alert(shape);
        let mut reader = world.join(0);
        let writer = world.producer(1);
        let writing = thread::spawn(move || {
            writer.settle();
            writer.write(1);
        });
        reader.take_waiting();
        end(writing);
        reader.check_books();
        world.check_at_rest();
    });
}

#[test]
fn settle_before_a_sleeper_alone() {
    settle("settle_before_a_sleeper_alone", 4, ONE_ALONE);
}

#[test]
fn settle_before_a_sleeper_among() {
    settle("settle_before_a_sleeper_among", 4, ONE_SLOT);
}

/// Two writers make the segment calm at once, and one commits while a reader goes to sleep.
#[test]
fn two_settle_before_a_sleeper() {
    explore("two_settle_before_a_sleeper", 2, || {
        let world = alert(ONE_SLOT);
        let mut reader = world.join(0);
        let [writer, other] = [world.producer(1), world.producer(2)];
        let settling = thread::spawn(move || other.settle());
        let writing = thread::spawn(move || {
            writer.settle();
            writer.write(1);
        });
        reader.take_waiting();
        end(writing);
        end(settling);
        reader.check_books();
        world.check_at_rest();
    });
}

/// A process is killed as it makes the segment calm. Another does it then, and no sleeper is lost.
#[test]
fn settling_writer_dies() {
    explore_deaths("settling_writer_dies", 2, |steps| {
        let world = alert(ONE_SLOT);
        let mut reader = world.join(0);
        let [victim, writer] = [world.producer_of(VICTIM, 1), world.producer(1)];
        let dying = dying(steps, move || victim.settle());
        let writing = thread::spawn(move || {
            writer.settle();
            writer.write(1);
            writer
        });
        reader.take_waiting();
        let writer = end(writing);
        let survived = end(dying);
        // If the sleeper came first, its bell is armed until a commit rings it.
        writer.try_write(2);
        reader.take_all();
        reader.check_books();
        writer.settle();
        assert!(world.table().attention().look().is_calm(), "nobody sleeps");
        world.check_at_rest();
        survived
    });
}

// Tokens that two threads have.

/// Two threads commit one loan at once, and the sample is read and its slot used again: one of them
/// succeeds.
#[test]
fn second_commit_during_a_calm_commit() {
    explore("second_commit_during_a_calm_commit", 3, || {
        let world = World::calm(ONE_SLOT, ROWS);
        let mut reader = world.join(0);
        let writer = Rc::new(world.calm_producer(1));
        let loan = writer.try_reserve().expect("it is free");
        writer.fill(loan, 1);
        let commit = |writer: &Rc<Producer>| {
            let writer = Rc::clone(writer);
            thread::spawn(move || writer.publish(loan, 1, Owed::Members, Right::Token))
        };
        let [one, other] = [commit(&writer), commit(&writer)];
        if reader.take() {
            world.producer(2).try_write(2);
        }
        let results = [end(one), end(other)];
        assert!(results.contains(&Err(Code::Stale)) && results.iter().any(Result::is_ok));
        reader.take_all();
        reader.check_books();
        world.check_at_rest();
    });
}

// Marks.

/// Two readers mark a sample at once while a writer walks the map: the slot is found, then or
/// afterwards.
fn two_marks(name: &str, preemptions: usize, make: fn(Shape) -> Rc<World>) {
    explore(name, preemptions, move || {
        let world = make(ONE_SLOT);
        let [mut first, mut second] = [world.join(0), world.join(0)];
        let writer = world.producer(1);
        writer.try_write(1);
        let [of_first, of_second] =
            [&mut first, &mut second].map(|reader| reader.read().expect("it was committed"));
        let marking = thread::spawn(move || {
            first.mark(of_first);
            first
        });
        let searching = thread::spawn(move || {
            writer.find_vacant().into_iter().for_each(|loan| writer.discard(loan));
        });
        second.mark(of_second);
        let first = end(marking);
        end(searching);
        first.check_books();
        second.check_books();
        world.check_at_rest();
    });
}

#[test]
fn two_calm_marks_during_a_search() {
    two_marks("two_calm_marks_during_a_search", 3, |shape| World::calm(shape, ROWS));
}

#[test]
fn two_marks_during_an_alert_search() {
    two_marks("two_marks_during_an_alert_search", 3, alert);
}

/// Two slots are marked while a writer walks the map.
#[test]
fn calm_marks_during_a_search() {
    explore("calm_marks_during_a_search", 3, || {
        let world = World::calm(PLAIN, ROWS);
        let mut reader = world.join(0);
        let writer = world.producer(1);
        writer.try_write(1);
        writer.try_write(2);
        let searching = thread::spawn(move || {
            for _ in 0..2 {
                writer.find_vacant().into_iter().for_each(|loan| writer.discard(loan));
            }
        });
        reader.take_all();
        end(searching);
        reader.check_books();
        world.check_at_rest();
    });
}

/// Two threads mark one sample at once, while a writer commits to its slot again: one of them
/// succeeds, and the new sample is not marked.
fn second_mark(name: &str, preemptions: usize, shape: Shape) {
    explore(name, preemptions, move || {
        let world = World::calm(shape, ROWS);
        let mut reader = world.join(0);
        let writer = world.calm_producer(1);
        writer.try_write(1);
        let sample = reader.read().expect("it was committed");
        let marking = thread::spawn({
            let (world, member) = (Rc::clone(&world), reader.member);
            move || mark_for(&world, member, sample, Right::Token)
        });
        let writing = thread::spawn(move || {
            writer.try_write(2);
            // Not before the second sample is read.
            writer.try_write(3);
        });
        let here = reader.try_mark(sample, Right::Token);
        let there = end(marking);
        assert!([(Ok(()), Err(Code::Stale)), (Err(Code::Stale), Ok(()))].contains(&(here, there)));
        reader.seen.push((sample.sequence, sample.value));
        end(writing);
        reader.take_all();
        reader.check_books();
        world.check_at_rest();
    });
}

#[test]
fn second_mark_during_a_calm_commit_alone() {
    second_mark("second_mark_during_a_calm_commit_alone", 2, ONE_ALONE);
}

#[test]
fn second_mark_during_a_calm_commit_among() {
    second_mark("second_mark_during_a_calm_commit_among", 2, ONE_SLOT);
}

/// A token that was used is used again while others undo a commit in the slot of its sample: it
/// stays stale.
#[test]
fn second_mark_during_a_sweep() {
    explore_deaths("second_mark_during_a_sweep", 2, |steps| {
        let world = World::calm(ONE_SLOT, ROWS);
        let mut reader = world.join(0);
        let victim = world.calm_producer_of(VICTIM, 1);
        victim.try_write(1);
        let sample = reader.read().expect("it was committed");
        reader.try_mark(sample, Right::Token).expect("it is held");
        reader.seen.push((sample.sequence, sample.value));
        let survived = live(steps, || victim.try_write(2)).is_some();
        let burying = thread::spawn({
            let world = Rc::clone(&world);
            move || world.free_rows(&[VICTIM])
        });
        assert_eq!(reader.try_mark(sample, Right::Token), Err(Code::Stale));
        end(burying);
        reader.take_all();
        reader.check_books();
        world.check_at_rest();
        survived
    });
}

/// A reader peeks at a sample that another of its threads marks at this moment: if it gets it, it
/// has it until it marks that, too.
fn peek(name: &str, preemptions: usize, shape: Shape, right: Right, rows: usize) {
    explore(name, preemptions, move || {
        let world = World::calm(shape, rows);
        let mut reader = world.join(0);
        let mut other = world.try_join(0, 0);
        let writer = world.calm_producer(1);
        writer.try_write(1);
        other.iter_mut().for_each(Consumer::take_all);
        let sample = reader.read().expect("it was committed");
        let marking = thread::spawn({
            let (world, member) = (Rc::clone(&world), reader.member);
            move || mark_for(&world, member, sample, right)
        });
        let writing = thread::spawn(move || {
            writer.try_write(2);
        });
        if let Some(peeked) = reader.peek() {
            let before = reader.seen.len();
            reader.let_go(peeked);
            reader.seen.truncate(before);
        }
        assert_eq!(end(marking), Ok(()));
        end(writing);
        reader.seen.push((sample.sequence, sample.value));
        reader.take_all();
        reader.check_books();
        other.iter_mut().for_each(Consumer::take_all);
        world.check_at_rest();
    });
}

#[test]
fn peek_during_a_calm_mark() {
    peek("peek_during_a_calm_mark", 2, ONE_SLOT, Right::Sole, 1);
}

#[test]
fn peek_during_a_mark_by_token() {
    peek("peek_during_a_mark_by_token", 2, ONE_ALONE, Right::Token, 1);
}

#[test]
fn peek_of_two_readers_during_a_calm_mark() {
    peek("peek_of_two_readers_during_a_calm_mark", 2, ONE_SLOT, Right::Sole, 2);
}

/// The same, and the peeking thread keeps the sample. Nobody gets the slot until it marks it, and
/// then the slot is found.
#[test]
fn peek_is_kept_after_a_calm_mark() {
    explore("peek_is_kept_after_a_calm_mark", 2, || {
        let world = World::calm(ONE_SLOT, ROWS);
        let mut reader = world.join(0);
        let writer = world.calm_producer(1);
        writer.try_write(1);
        let sample = reader.read().expect("it was committed");
        let marking = thread::spawn({
            let (world, member) = (Rc::clone(&world), reader.member);
            move || mark_for(&world, member, sample, Right::Sole)
        });
        let writing = thread::spawn(move || {
            writer.find_vacant().into_iter().for_each(|loan| writer.discard(loan));
            writer
        });
        let peeked = reader.peek();
        assert_eq!(end(marking), Ok(()));
        let writer = end(writing);
        if let Some(peeked) = peeked {
            assert!(writer.try_reserve().is_none(), "the sample is in hand");
            reader.let_go(peeked);
        }
        world.check_at_rest();
    });
}

// The lagging tail.

/// Two writers that do not expect each other, and so leave the tail behind: the order has no hole.
fn lagging(name: &str, preemptions: usize, samples: u64) {
    explore(name, preemptions, move || {
        let world = World::calm(FOUR, ROWS);
        let mut reader = world.join(0);
        let [one, two] = [world.calm_producer(1), world.calm_producer(2)];
        let writing = thread::spawn(move || {
            for value in 1..=samples {
                one.try_write(value);
            }
        });
        let other = thread::spawn(move || {
            two.try_write(11);
            two
        });
        reader.take();
        end(writing);
        let two = end(other);
        two.try_write(12).expect("a slot is free");
        reader.take_all();
        reader.check_books();
        world.check_at_rest();
    });
}

#[test]
fn two_writers_leave_the_tail() {
    lagging("two_writers_leave_the_tail", 2, 2);
}

/// A writer leaves the tail behind, and is stopped in its next commit, while a reader joins: it
/// begins behind everything that was published.
#[test]
fn join_behind_a_lagging_tail() {
    explore("join_behind_a_lagging_tail", 2, || {
        let world = World::calm(FOUR, ROWS);
        let mut first = world.join(0);
        let writer = world.calm_producer(1);
        let writing = thread::spawn(move || {
            writer.try_write(1);
            writer.try_write(2);
            writer
        });
        let other = world.calm_producer(2);
        let before = other.try_write(11).expect("a slot is free");
        let mut reader = world.join(0);
        assert!(reader.cursor.since > before, "it begins with a sample that is older than it");
        reader.take();
        let writer = end(writing);
        first.take_all();
        reader.take_all_and_one_more(&writer);
        reader.check_end();
        first.take_all();
        first.check_books();
        world.check_at_rest();
    });
}

/// A writer laps twice the place at which another is stopped, while the tail lags.
#[test]
fn stopped_behind_a_lagging_tail() {
    explore("stopped_behind_a_lagging_tail", 1, || {
        let world = World::calm(PLAIN, ROWS);
        let mut reader = world.join(0);
        let [victim, survivor] = [world.calm_producer(1), world.calm_producer(2)];
        let loan = victim.try_reserve().expect("it is free");
        let committing = thread::spawn(move || victim.commit(loan, 1));
        for value in 0..5 {
            survivor.try_write(10 + value).expect("a slot is free");
            if let Some(sample) = reader.read() {
                reader.let_go(sample);
            }
        }
        end(committing);
        while reader.take() {}
        reader.check_books();
        world.check_at_rest();
    });
}

// Deaths.

/// The victim dies in a calm commit: its sample is seen if it was published, and nothing leaks.
fn committing_writer_dies(name: &str, preemptions: usize, shape: Shape) {
    explore_deaths(name, preemptions, move |steps| {
        let world = World::calm(shape, ROWS);
        let mut reader = world.join(0);
        let victim = world.calm_producer_of(VICTIM, 1);
        let loan = victim.try_reserve().expect("it is free");
        let dying = dying(steps, move || victim.commit(loan, 1));
        reader.take();
        let survived = end(dying);
        world.free_rows(&[VICTIM]);
        reader.take_all();
        reader.check_books();
        world.check_members(&[&reader]);
        world.check_at_rest();
        world.check_calm(&mut reader);
        survived
    });
}

#[test]
fn calm_writer_dies_alone() {
    committing_writer_dies("calm_writer_dies_alone", 3, ALONE);
}

#[test]
fn calm_writer_dies_among() {
    committing_writer_dies("calm_writer_dies_among", 3, PLAIN);
}

/// Another writer commits calmly meanwhile, and the victim had left the tail behind.
#[test]
fn calm_writer_dies_of_two() {
    explore_deaths("calm_writer_dies_of_two", 2, |steps| {
        let world = World::calm(FOUR, ROWS);
        let mut reader = world.join(0);
        let [victim, survivor] = [world.calm_producer_of(VICTIM, 1), world.calm_producer(1)];
        victim.try_write(10);
        let loan = victim.try_reserve().expect("it is free");
        let dying = dying(steps, move || victim.commit(loan, 1));
        survivor.try_write(2);
        let survived = end(dying);
        world.free_rows(&[VICTIM]);
        survivor.try_write(3).expect("a slot is free");
        reader.take_all();
        reader.check_books();
        world.check_members(&[&reader]);
        world.check_at_rest();
        survived
    });
}

#[test]
fn calm_writer_dies_after_a_reader_alone() {
    let (name, world) = ("calm_writer_dies_after_a_reader_alone", || World::calm(ALONE, ROWS));
    clearing_writer_dies(name, 2, world, World::calm_producer_of, true);
}

#[test]
fn calm_writer_dies_after_a_reader_among() {
    let (name, world) = ("calm_writer_dies_after_a_reader_among", || World::calm(PLAIN, ROWS));
    clearing_writer_dies(name, 2, world, World::calm_producer_of, true);
}

/// A reader dies as it reads and marks calmly, leaves and gives its row back, while a writer
/// commits calmly. It is found dead during the next commit.
fn reader_dies(name: &str, preemptions: usize, shape: Shape) {
    explore_deaths(name, preemptions, move |steps| {
        let world = World::calm(shape, ROWS);
        let mut reader = world.join_of(VICTIM, 0);
        let writer = world.calm_producer(1);
        writer.try_write(1);
        let writing = thread::spawn(move || {
            writer.try_write(2);
        });
        let survived = live(steps, move || {
            reader.take();
            reader.leave();
            reader.give_row_back();
        })
        .is_some();
        world.free_rows(&[VICTIM]);
        end(writing);
        world.check_members(&[]);
        world.check_at_rest();
        world.check_newcomer();
        survived
    });
}

#[test]
fn calm_reader_dies_alone() {
    reader_dies("calm_reader_dies_alone", 1, ALONE);
}

#[test]
fn calm_reader_dies_among() {
    reader_dies("calm_reader_dies_among", 1, PLAIN);
}

/// A reader dies as it marks, and a writer sleeps for the slot until the reader is found dead.
#[test]
fn calm_reader_dies_before_a_sleeper() {
    explore_deaths("calm_reader_dies_before_a_sleeper", 1, |steps| {
        let world = World::calm(ONE_SLOT, ROWS);
        let mut reader = world.join_of(VICTIM, 0);
        let mut other = world.join(0);
        let writer = world.calm_producer(1);
        writer.try_write(1);
        let sample = reader.read().expect("it was committed");
        other.take();
        let writing = thread::spawn(move || writer.write(2));
        let survived = live(steps, move || reader.mark(sample)).is_some();
        world.free_rows(&[VICTIM]);
        end(writing);
        other.take_all();
        other.check_books();
        world.check_members(&[&other]);
        world.check_at_rest();
        survived
    });
}
