//! Processes that are killed after each of their steps, and how the others repair what is left.
//!
//! A victim ends as `modelled::live` says. Waiting for the end of its thread models the kernel's
//! report that its process is dead. A process that has this report recovers, while the others
//! continue.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering as PlainOrdering};

use loom::thread::{self, JoinHandle};

use crate::atomics::{AtomicU64, Ordering};
use crate::modelled::live;
use crate::protocol::commit::Owed;
use crate::protocol::loan;
use crate::protocol::reference::{self, Life};
use crate::protocol::rows;
use crate::protocol::shape::Shape;
use crate::protocol::words::{Audience, Bit, Marks, Wanted};
use crate::world::{
    Consumer, ONE_SLOT, PLAIN, Producer, ROWS, ROWS_OF_TWO_WORDS, World, dying, end, explore,
    explore_deaths, sound,
};

/// Participants that are killed; the living ones are 0.
const VICTIM: u32 = 1;
const SECOND_VICTIM: u32 = 2;

const DROPPING: Shape = Shape { drop_oldest: true, ..PLAIN };
const ONE_DROPPING: Shape = Shape { drop_oldest: true, ..ONE_SLOT };
const KEEPING: Shape = Shape { history: 1, ..PLAIN };
const APART: Shape = Shape { mark_words: 2, ..KEEPING };

/// As [`dying`], and its thread continues as the one that finds it dead.
fn dying_then_buried<T>(
    world: &Rc<World>,
    steps: u32,
    life: impl FnOnce() -> T + 'static,
) -> JoinHandle<bool> {
    let world = Rc::clone(world);
    thread::spawn(move || {
        let survived = live(steps, life).is_some();
        world.free_rows(&[VICTIM]);
        survived
    })
}

// Writers.

/// What others do while the victim dies.
type Others = fn(&Producer, &mut Consumer);

/// The victim dies in a commit.
fn committing_writer_dies(name: &str, preemptions: usize, shape: Shape, others: Others) {
    explore_deaths(name, preemptions, move |steps| {
        let world = World::new(shape, ROWS);
        let mut reader = world.join(0);
        let [victim, survivor] = [world.producer_of(VICTIM, 1), world.producer(1)];
        let loan = victim.try_reserve().expect("it is free");
        let dying = dying(steps, move || victim.commit(loan, 1));
        others(&survivor, &mut reader);
        let survived = end(dying);
        world.free_rows(&[VICTIM]);
        reader.take_all();
        reader.check_books();
        world.check_members(&[&reader]);
        world.check_at_rest();
        survived
    });
}

#[test]
fn committing_writer_dies_before_a_reader() {
    committing_writer_dies("committing_writer_dies_before_a_reader", 3, PLAIN, |_, reader| {
        reader.take();
    });
}

#[test]
fn committing_writer_dies_of_two() {
    committing_writer_dies("committing_writer_dies_of_two", 2, PLAIN, |writer, _| {
        writer.try_write(2);
    });
}

#[test]
fn committing_writer_dies_keeping_history() {
    committing_writer_dies("committing_writer_dies_keeping_history", 2, KEEPING, |writer, _| {
        writer.try_write(2);
    });
}

/// The victim dies in a commit for nobody, or in the steps that a commit takes afterwards for a
/// reader that leaves meanwhile.
pub(crate) fn clearing_writer_dies(
    name: &str,
    preemptions: usize,
    world: impl Fn() -> Rc<World> + Clone + Send + Sync + 'static,
    victim: fn(&Rc<World>, u32, u32) -> Producer,
    holds: bool,
) {
    explore_deaths(name, preemptions, move |steps| {
        let world = world();
        let mut reader = world.join(0);
        let victim = victim(&world, VICTIM, 1);
        let loan = victim.try_reserve().expect("it is free");
        let dying = dying(steps, move || victim.commit(loan, 1));
        let in_hand = holds.then(|| reader.read()).flatten();
        reader.leave();
        let survived = end(dying);
        let marking = thread::spawn(move || {
            if let Some(sample) = in_hand {
                reader.mark(sample);
            }
            reader.give_row_back();
        });
        world.free_rows(&[VICTIM]);
        end(marking);
        world.check_members(&[]);
        world.check_at_rest();
        world.check_newcomer();
        survived
    });
}

#[test]
fn clearing_writer_dies_after_a_reader() {
    clearing_writer_dies(
        "clearing_writer_dies_after_a_reader",
        3,
        || World::new(PLAIN, ROWS),
        World::producer_of,
        false,
    );
}

#[test]
fn clearing_writer_dies_before_a_mark() {
    clearing_writer_dies(
        "clearing_writer_dies_before_a_mark",
        3,
        || World::new(PLAIN, ROWS),
        World::producer_of,
        true,
    );
}

#[test]
fn clearing_writer_dies_drop_oldest() {
    clearing_writer_dies(
        "clearing_writer_dies_drop_oldest",
        3,
        || World::new(DROPPING, ROWS),
        World::producer_of,
        true,
    );
}

/// The victim dies as it reserves or discards, or as it writes without readers.
fn reserving_writer_dies(name: &str, preemptions: usize, shape: Shape, life: fn(&Producer)) {
    explore_deaths(name, preemptions, move |steps| {
        let world = World::new(shape, ROWS);
        let [victim, survivor] = [world.producer_of(VICTIM, 1), world.producer(1)];
        let dying = dying(steps, move || life(&victim));
        survivor.try_fill();
        let survived = end(dying);
        survivor.try_fill();
        world.free_rows(&[VICTIM]);
        world.check_at_rest();
        world.check_newcomer();
        survived
    });
}

#[test]
fn discarding_writer_dies() {
    reserving_writer_dies("discarding_writer_dies", 2, ONE_SLOT, Producer::try_fill);
}

#[test]
fn writer_dies_without_readers() {
    reserving_writer_dies("writer_dies_without_readers", 2, ONE_SLOT, |victim| {
        victim.try_write(1);
    });
}

#[test]
fn writer_dies_over_the_map() {
    reserving_writer_dies("writer_dies_over_the_map", 2, PLAIN, |victim| {
        for _ in 0..2 {
            victim.find_vacant().into_iter().for_each(|loan| victim.discard(loan));
        }
    });
}

/// The only writer dies; the next one continues where it stopped.
fn single_writer_dies(name: &str, preemptions: usize, shape: Shape) {
    explore_deaths(name, preemptions, move |steps| {
        let shape = Shape { single_writer: true, ..shape };
        let world = World::new(shape, ROWS);
        let mut reader = world.join(0);
        let victim = world.producer_of(VICTIM, 1);
        let dying = dying(steps, move || {
            victim.open();
            victim.try_write(1);
            victim.try_write(2);
        });
        let reading = thread::spawn(move || {
            reader.take();
            reader
        });
        let survived = end(dying);
        world.free_rows(&[VICTIM]);
        let successor = world.producer(1);
        successor.open();
        successor.try_write(3);
        let mut reader = end(reading);
        reader.take_all();
        successor.try_write(4).expect("a slot is free");
        reader.take_all();
        reader.check_books();
        world.check_members(&[&reader]);
        world.check_at_rest();
        survived
    });
}

#[test]
fn single_writer_dies_lossless() {
    single_writer_dies("single_writer_dies_lossless", 2, PLAIN);
}

#[test]
fn single_writer_dies_drop_oldest() {
    single_writer_dies("single_writer_dies_drop_oldest", 1, ONE_DROPPING);
}

/// The victim dies as it takes an unread sample away, or commits in its place.
fn reclaiming_writer_dies(name: &str, preemptions: usize, others: Others) {
    explore_deaths(name, preemptions, move |steps| {
        let world = World::new(ONE_DROPPING, ROWS);
        let mut reader = world.join(0);
        let [victim, survivor] = [world.producer_of(VICTIM, 1), world.producer(1)];
        survivor.try_write(10);
        let dying = dying(steps, move || victim.try_write(1));
        others(&survivor, &mut reader);
        let survived = end(dying);
        world.free_rows(&[VICTIM]);
        reader.take_all();
        survivor.try_write(3).expect("nobody has anything in hand");
        reader.take_all();
        reader.check_books();
        world.check_members(&[&reader]);
        world.check_at_rest();
        survived
    });
}

#[test]
fn reclaiming_writer_dies_before_a_reader() {
    reclaiming_writer_dies("reclaiming_writer_dies_before_a_reader", 2, |_, reader| {
        reader.take();
    });
}

#[test]
fn reclaiming_writer_dies_of_two() {
    reclaiming_writer_dies("reclaiming_writer_dies_of_two", 1, |writer, _| {
        writer.try_write(2);
    });
}

/// Two readers whose marks are in two words: the victim may have revoked one of them.
#[test]
fn reclaiming_writer_dies_between_two_words() {
    explore_deaths("reclaiming_writer_dies_between_two_words", 2, |steps| {
        let world = World::new(Shape { mark_words: 2, ..ONE_DROPPING }, ROWS_OF_TWO_WORDS);
        let readers = [world.join(0), world.join(0)];
        assert!(readers[0].member.bit.word > readers[1].member.bit.word);
        let [victim, survivor] = [world.producer_of(VICTIM, 1), world.producer(1)];
        survivor.try_write(10);
        let dying = dying(steps, move || victim.try_write(1));
        let [mut first, mut second] = readers;
        // Its bits are in the word that is revoked last.
        first.take();
        let survived = end(dying);
        world.free_rows(&[VICTIM]);
        survivor.try_write(2).expect("nobody has anything in hand");
        for reader in [&mut first, &mut second] {
            reader.take_all();
            reader.check_books();
        }
        world.check_members(&[&first, &second]);
        world.check_at_rest();
        survived
    });
}

/// The victim's commit overwrites the only way to a sample that one reader holds and that another
/// is owed.
#[test]
fn overwriting_writer_dies() {
    explore_deaths("overwriting_writer_dies", 2, |steps| {
        let world = World::new(DROPPING, ROWS);
        let [mut holding, mut late] = [world.join(0), world.join(0)];
        let [victim, survivor] = [world.producer_of(VICTIM, 1), world.producer(1)];
        survivor.try_write(10);
        let held = holding.read().expect("it was committed");
        for value in 11..14 {
            survivor.try_write(value).expect("the other slot can be taken");
        }
        let dying = dying(steps, move || victim.try_write(1));
        late.take();
        let survived = end(dying);
        world.free_rows(&[VICTIM]);
        holding.mark(held);
        for reader in [&mut holding, &mut late] {
            reader.take_all();
            reader.check_books();
        }
        world.check_members(&[&holding, &late]);
        world.check_at_rest();
        survived
    });
}

/// The victim dies before it ends the retention of the sample that its own sample pushed out of
/// history, while a reader joins with history.
fn retaining_writer_dies(name: &str, preemptions: usize, shape: Shape, rows: usize) {
    explore_deaths(name, preemptions, move |steps| {
        let world = World::new(shape, rows);
        let [victim, survivor] = [world.producer_of(VICTIM, 1), world.producer(1)];
        survivor.try_write(10);
        let survived = live(steps, || victim.try_write(1)).is_some();
        let coming = thread::spawn({
            let world = Rc::clone(&world);
            move || {
                let mut reader = world.join(1);
                reader.take();
                reader
            }
        });
        world.free_rows(&[VICTIM]);
        let mut reader = end(coming);
        reader.take_all();
        let last = survivor.try_write(2).expect("a slot is free");
        reader.take_all();
        let committed = world.committed();
        assert!(
            committed.len() >= 2 && reader.seen == committed[committed.len() - 2..],
            "{:?}",
            reader.seen
        );
        assert_eq!(committed.last(), Some(&(last, 2)));
        world.check_members(&[&reader]);
        world.check_at_rest();
        survived
    });
}

#[test]
fn retaining_writer_dies_in_one_word() {
    retaining_writer_dies("retaining_writer_dies_in_one_word", 2, KEEPING, ROWS);
}

#[test]
fn retaining_writer_dies_in_two_words() {
    retaining_writer_dies("retaining_writer_dies_in_two_words", 2, APART, ROWS_OF_TWO_WORDS);
}

/// The victim dies before it ends the retention of a sample whose own writer is alive and has not
/// finished that commit.
#[test]
fn retaining_writer_dies_before_an_older_commit_ends() {
    explore_deaths("retaining_writer_dies_before_an_older_commit_ends", 2, |steps| {
        let world = World::new(KEEPING, ROWS);
        let [victim, survivor] = [world.producer_of(VICTIM, 1), world.producer(1)];
        let [older, newer] =
            [&survivor, &victim].map(|writer| writer.try_reserve().expect("it is free"));
        let committing = thread::spawn(move || survivor.commit(older, 2));
        let survived = live(steps, || victim.commit(newer, 1)).is_some();
        world.free_rows(&[VICTIM]);
        end(committing);
        world.check_at_rest();
        survived
    });
}

/// The bit of reader 0, which its caller tracks, on samples that are not read.
fn owed_to_inactive(world: &World) -> usize {
    let bit = Bit::of_reader(0);
    let owes = |marks: &AtomicU64| Marks(marks.load(Ordering::Acquire)).0 & bit.owed != 0;
    world.table().slots.lines().iter().filter(|line| owes(&line.marks[bit.word])).count()
}

/// The victim dies in a commit for a reader that its caller tracks, while a joined reader leaves:
/// the first is owed the sample if it was published, the second is owed nothing.
fn writer_dies_in_a_named_commit(name: &str, preemptions: usize, row_goes_first: bool) {
    explore_deaths(name, preemptions, move |steps| {
        let world = World::new(PLAIN, ROWS);
        let reader = world.join(0);
        let victim = world.producer_of(VICTIM, 1);
        let loan = victim.try_reserve().expect("it is free");
        sound(rows::name(&world.table(), 0));
        let dying = dying(steps, move || victim.commit_to(loan, 1, Owed::External(1)));
        reader.leave();
        if row_goes_first {
            reader.give_row_back();
        }
        let survived = end(dying);
        world.free_rows(&[VICTIM]);
        if !row_goes_first {
            reader.give_row_back();
        }
        assert_eq!(owed_to_inactive(&world), world.committed().len(), "owed to the named reader");
        sound(reference::disconnect(&world.table(), 0, 0));
        world.check_members(&[]);
        world.check_at_rest();
        survived
    });
}

#[test]
fn writer_dies_in_a_named_commit_before_the_row_is_free() {
    writer_dies_in_a_named_commit("writer_dies_in_a_named_commit_before_the_row_is_free", 3, false);
}

#[test]
fn writer_dies_in_a_named_commit_after_the_row_is_free() {
    writer_dies_in_a_named_commit("writer_dies_in_a_named_commit_after_the_row_is_free", 3, true);
}

/// The victim dies as it takes a slot whose sample is unread only by a reader that nobody waits
/// for, while another reader joins and may take that sample from history.
#[test]
fn writer_dies_over_an_inactive_reader() {
    explore_deaths("writer_dies_over_an_inactive_reader", 1, |steps| {
        let world = World::new(KEEPING, ROWS);
        let [victim, survivor] = [world.producer_of(VICTIM, 1), world.producer(1)];
        let loan = survivor.try_reserve().expect("it is free");
        sound(rows::name(&world.table(), 0));
        survivor.commit_to(loan, 1, Owed::External(1));
        let dying = dying(steps, {
            let world = Rc::clone(&world);
            move || {
                victim.try_write(2);
                let joined = world.hot.active.0.load(Ordering::Relaxed);
                let waited_for = Audience::of_readers(joined, true);
                if let Some(loan) = sound(loan::claim_ignoring(
                    &world.table(),
                    victim.owner,
                    Wanted::AnySlot,
                    waited_for,
                )) {
                    victim.discard(loan);
                }
            }
        });
        let sweeping = thread::spawn({
            let world = Rc::clone(&world);
            move || {
                let survived = end(dying);
                world.free_rows(&[VICTIM]);
                survived
            }
        });
        let mut reader = world.join(1);
        let in_hand = reader.read();
        let survived = end(sweeping);
        in_hand.into_iter().for_each(|sample| reader.mark(sample));
        reader.take_all();
        sound(reference::disconnect(&world.table(), 0, 0));
        world.check_members(&[&reader]);
        world.check_at_rest();
        survived
    });
}

/// The victim dies as it gives up a reader for which a commit is under way: the reader's number is
/// not lost, and it keeps no slot.
#[test]
fn caller_dies_giving_a_reader_up() {
    explore_deaths("caller_dies_giving_a_reader_up", 3, |steps| {
        let world = World::new(ONE_SLOT, 1);
        let writer = world.producer(1);
        let loan = writer.try_reserve().expect("it is free");
        sound(rows::name(&world.table(), 0));
        let dying = dying(steps, {
            let world = Rc::clone(&world);
            move || sound(reference::disconnect(&world.table(), 0, VICTIM))
        });
        writer.commit_to(loan, 1, Owed::External(1));
        let survived = end(dying);
        world.free_rows(&[VICTIM]);
        // If the victim had not begun.
        assert!(sound(reference::disconnect(&world.table(), 0, 0)), "nobody else is at it");
        world.check_members(&[]);
        world.check_at_rest();
        world.check_newcomer();
        survived
    });
}

/// The victim dies over the slot of a sample that is unread only by a reader that nobody waits for:
/// while that reader's bit is set, the sample is unchanged.
#[test]
fn sample_of_an_inactive_reader_stays() {
    explore_deaths("sample_of_an_inactive_reader_stays", 3, |steps| {
        let world = World::new(ONE_SLOT, ROWS);
        let [victim, survivor] = [world.producer_of(VICTIM, 1), world.producer(1)];
        let loan = survivor.try_reserve().expect("it is free");
        sound(rows::name(&world.table(), 0));
        survivor.commit_to(loan, 1, Owed::External(1));
        let nobody = Audience::of_readers(0, true);
        let reserve =
            || sound(loan::claim_ignoring(&world.table(), victim.owner, Wanted::AnySlot, nobody));
        let survived = live(steps, reserve).is_some();
        world.free_rows(&[VICTIM]);
        if owed_to_inactive(&world) > 0 {
            let life = Life { slot: loan.slot, generation: loan.generation };
            assert!(reference::look(&world.table(), life).is_ok(), "the sample is there");
        }
        sound(reference::disconnect(&world.table(), 0, 0));
        world.check_at_rest();
        survived
    });
}

// Readers.

/// A reader lives and dies while samples are committed; nothing of it stays.
fn reader_dies(
    name: &str,
    preemptions: usize,
    shape: Shape,
    rows: usize,
    joins: Option<u32>,
    life: fn(Consumer),
) {
    explore_deaths(name, preemptions, move |steps| {
        let world = World::new(shape, rows);
        let writer = world.producer(1);
        // A reader that dies later has joined before the samples were committed.
        let joined = joins.is_none().then(|| world.join_of(VICTIM, 0));
        writer.try_write(1);
        let dying = dying(steps, {
            let world = Rc::clone(&world);
            move || life(joined.unwrap_or_else(|| world.join_of(VICTIM, joins.unwrap_or(0))))
        });
        writer.try_write(2);
        writer.try_fill();
        let survived = end(dying);
        world.free_rows(&[VICTIM]);
        world.check_members(&[]);
        world.check_at_rest();
        world.check_newcomer();
        survived
    });
}

#[test]
fn joining_reader_dies() {
    reader_dies("joining_reader_dies", 2, PLAIN, ROWS, Some(0), drop);
}

#[test]
fn joining_reader_dies_with_history() {
    reader_dies("joining_reader_dies_with_history", 2, KEEPING, ROWS, Some(1), |mut reader| {
        reader.take();
    });
}

#[test]
fn joining_reader_dies_with_history_in_another_word() {
    let name = "joining_reader_dies_with_history_in_another_word";
    reader_dies(name, 2, APART, ROWS_OF_TWO_WORDS, Some(1), drop);
}

#[test]
fn reading_reader_dies() {
    reader_dies("reading_reader_dies", 2, PLAIN, ROWS, None, |mut reader| reader.take_all());
}

#[test]
fn reading_reader_dies_drop_oldest() {
    reader_dies("reading_reader_dies_drop_oldest", 2, DROPPING, ROWS, None, |mut reader| {
        reader.take_all()
    });
}

fn leave_with_a_sample(mut reader: Consumer) {
    let sample = reader.read();
    reader.leave();
    sample.into_iter().for_each(|sample| reader.mark(sample));
    reader.give_row_back();
}

#[test]
fn leaving_reader_dies() {
    reader_dies("leaving_reader_dies", 2, PLAIN, ROWS, None, leave_with_a_sample);
}

#[test]
fn leaving_reader_dies_drop_oldest() {
    reader_dies("leaving_reader_dies_drop_oldest", 2, DROPPING, ROWS, None, leave_with_a_sample);
}

fn peek_and_mark(mut reader: Consumer) {
    let sample = reader.peek();
    sample.into_iter().for_each(|sample| reader.mark(sample));
}

#[test]
fn peeking_reader_dies() {
    reader_dies("peeking_reader_dies", 2, KEEPING, ROWS, None, peek_and_mark);
}

#[test]
fn peeking_reader_dies_in_another_word() {
    reader_dies(
        "peeking_reader_dies_in_another_word",
        2,
        APART,
        ROWS_OF_TWO_WORDS,
        None,
        peek_and_mark,
    );
}

#[test]
fn peeking_reader_dies_drop_oldest() {
    let shape = Shape { drop_oldest: true, ..APART };
    reader_dies(
        "peeking_reader_dies_drop_oldest",
        2,
        shape,
        ROWS_OF_TWO_WORDS,
        None,
        peek_and_mark,
    );
}

/// A new reader takes the row of a dead one as soon as it is free.
#[test]
fn row_of_a_dead_reader() {
    explore_deaths("row_of_a_dead_reader", 2, |steps| {
        let world = World::new(PLAIN, 1);
        let mut victim = world.join_of(VICTIM, 0);
        let writer = world.producer(1);
        writer.try_write(1);
        let survived = live(steps, || victim.take_all()).is_some();
        let sweeping = thread::spawn({
            let world = Rc::clone(&world);
            move || world.free_rows(&[VICTIM])
        });
        // Before the row is free, there is none.
        let early = world.try_join(0, 0);
        end(sweeping);
        let mut reader = early.unwrap_or_else(|| world.join(0));
        let last = writer.try_write(9).expect("a slot is free");
        reader.take_all();
        assert_eq!(reader.seen.last(), Some(&(last, 9)));
        assert!(world.committed().ends_with(&reader.seen), "every sample from some one on");
        world.check_members(&[&reader]);
        world.check_at_rest();
        survived
    });
}

// Those who clean up.

/// What is left of a process that read a sample and then died in a commit.
fn remains(world: &Rc<World>, participant: u32, steps: u32) -> bool {
    let mut reader = world.join_of(participant, 0);
    let victim = world.producer_of(participant, 1);
    let loan = victim.try_reserve().expect("it is free");
    live(steps, || {
        reader.read();
        victim.commit(loan, u64::from(participant));
    })
    .is_some()
}

/// Another process acts while the dead are recovered; at the end a reader sees what is written
/// then.
fn sweep_against(
    name: &str,
    preemptions: usize,
    shape: Shape,
    party: fn(&Producer, Consumer) -> Option<Consumer>,
) {
    explore_deaths(name, preemptions, move |steps| {
        let world = World::new(shape, ROWS);
        let reader = world.join(0);
        let writer = world.producer(1);
        writer.try_write(10);
        let survived = remains(&world, VICTIM, steps);
        let acting = thread::spawn(move || {
            let reader = party(&writer, reader);
            (writer, reader)
        });
        world.free_rows(&[VICTIM]);
        let (writer, reader) = end(acting);
        if let Some(mut reader) = reader {
            reader.take_all();
            let last = writer.try_write(99).expect("a slot is free");
            reader.take_all();
            assert_eq!(reader.seen.last(), Some(&(last, 99)));
            if !shape.drop_oldest {
                assert!(world.committed().ends_with(&reader.seen), "every sample from some one on");
            }
            world.check_members(&[&reader]);
        } else {
            world.check_members(&[]);
        }
        world.check_at_rest();
        survived
    });
}

#[test]
fn sweep_against_a_commit() {
    sweep_against(
        "sweep_against_a_commit",
        1,
        Shape { slots: 3, shift: None, ..PLAIN },
        |writer, reader| {
            writer.try_write(2);
            Some(reader)
        },
    );
}

#[test]
fn sweep_against_a_commit_with_history() {
    sweep_against(
        "sweep_against_a_commit_with_history",
        1,
        Shape { slots: 3, shift: None, ..KEEPING },
        |writer, reader| {
            writer.try_write(2);
            Some(reader)
        },
    );
}

#[test]
fn sweep_against_a_reader() {
    sweep_against("sweep_against_a_reader", 2, PLAIN, |_, mut reader| {
        reader.take();
        reader.take();
        Some(reader)
    });
}

#[test]
fn sweep_against_a_leaving_reader() {
    sweep_against("sweep_against_a_leaving_reader", 2, PLAIN, |_, mut reader| {
        let sample = reader.read();
        reader.leave();
        sample.into_iter().for_each(|sample| reader.mark(sample));
        reader.give_row_back();
        None
    });
}

#[test]
fn sweep_against_a_reclaim() {
    sweep_against("sweep_against_a_reclaim", 1, DROPPING, |writer, reader| {
        writer.try_write(2);
        Some(reader)
    });
}

/// A reader that was killed is owed a sample whose commit is under way, and nobody else is. The
/// slot was found in the map, so its hint is withdrawn.
fn sweep_of_a_reader(name: &str, preemptions: usize, shape: Shape, rows: usize) {
    explore(name, preemptions, move || {
        let world = World::new(shape, rows);
        world.join_of(VICTIM, 0);
        let writer = world.producer(1);
        let loan = writer.find_vacant().expect("it is free");
        let committing = thread::spawn(move || writer.commit(loan, 1));
        world.free_rows(&[VICTIM]);
        end(committing);
        world.check_members(&[]);
        world.check_at_rest();
    });
}

#[test]
fn sweep_of_a_reader_during_a_commit() {
    sweep_of_a_reader("sweep_of_a_reader_during_a_commit", 2, ONE_SLOT, 1);
}

#[test]
fn sweep_of_a_reader_during_a_commit_drop_oldest() {
    sweep_of_a_reader("sweep_of_a_reader_during_a_commit_drop_oldest", 2, ONE_DROPPING, 1);
}

#[test]
fn sweep_of_a_reader_during_a_commit_with_history() {
    sweep_of_a_reader(
        "sweep_of_a_reader_during_a_commit_with_history",
        2,
        APART,
        ROWS_OF_TWO_WORDS,
    );
}

/// A new reader with history takes the row of a dead one, while a commit that knew the dead one is
/// under way: its writer must not clear what the new reader has taken from history.
fn sweep_and_rejoin(name: &str, preemptions: usize, shape: Shape) {
    explore(name, preemptions, move || {
        let world = World::new(shape, 1);
        world.join_of(VICTIM, 0);
        let writer = world.producer(1);
        let loan = writer.find_vacant().expect("it is free");
        let committing = thread::spawn(move || writer.commit(loan, 1));
        world.free_rows(&[VICTIM]);
        let mut reader = world.join(shape.history);
        let in_hand = reader.read();
        end(committing);
        in_hand.into_iter().for_each(|sample| reader.mark(sample));
        reader.take_all();
        if shape.history > 0 {
            assert_eq!(reader.seen, world.committed());
        }
        world.check_members(&[&reader]);
        world.check_at_rest();
    });
}

#[test]
fn sweep_and_rejoin_during_a_commit() {
    sweep_and_rejoin("sweep_and_rejoin_during_a_commit", 2, PLAIN);
}

#[test]
fn sweep_and_rejoin_with_history() {
    sweep_and_rejoin("sweep_and_rejoin_with_history", 2, KEEPING);
}

/// A reader joins with history while the writer of the newest sample is dead and recovered: that
/// sample is retained, so the reader gets it.
fn sweep_against_a_join(name: &str, preemptions: usize, shape: Shape, rows: usize) {
    explore_deaths(name, preemptions, move |steps| {
        let world = World::new(shape, rows);
        let first = world.join(0);
        let victim = world.producer_of(VICTIM, 1);
        let loan = victim.try_reserve().expect("it is free");
        let survived = live(steps, || victim.commit(loan, 1)).is_some();
        let coming = thread::spawn({
            let world = Rc::clone(&world);
            move || {
                // The reader that the victim's commit knew as a member, and perhaps the next one in
                // its row.
                first.leave();
                first.give_row_back();
                let mut second = world.join(1);
                second.take();
                second
            }
        });
        world.free_rows(&[VICTIM]);
        let mut reader = end(coming);
        reader.take_all();
        assert_eq!(reader.seen, world.committed());
        world.check_members(&[&reader]);
        world.check_at_rest();
        survived
    });
}

#[test]
fn sweep_against_a_join_with_history() {
    sweep_against_a_join("sweep_against_a_join_with_history", 2, KEEPING, 1);
}

#[test]
fn sweep_against_a_join_with_history_in_another_word() {
    sweep_against_a_join(
        "sweep_against_a_join_with_history_in_another_word",
        2,
        APART,
        ROWS_OF_TWO_WORDS,
    );
}

/// Two processes died. Two others recover, each one of them.
#[test]
fn two_sweeps_at_once() {
    explore_deaths("two_sweeps_at_once", 2, |steps| {
        let world = World::new(PLAIN, 3);
        let mut reader = world.join(0);
        let survived =
            [VICTIM, SECOND_VICTIM].map(|participant| remains(&world, participant, steps));
        let sweeping = thread::spawn({
            let world = Rc::clone(&world);
            move || world.free_rows(&[SECOND_VICTIM])
        });
        world.free_rows(&[VICTIM]);
        end(sweeping);
        reader.take_all();
        reader.check_books();
        world.check_members(&[&reader]);
        world.check_at_rest();
        survived == [true; 2]
    });
}

/// The recoverer is killed as well; the next one begins again, while a writer writes.
fn sweeper_dies(name: &str, preemptions: usize, shape: Shape) {
    for first_death in 0.. {
        let done = Arc::new(AtomicBool::new(false));
        let noted = Arc::clone(&done);
        let name = format!("{name}, first death {first_death}");
        explore_deaths(&name, preemptions, move |steps| {
            let world = World::new(shape, ROWS);
            let mut reader = world.join(0);
            if remains(&world, VICTIM, first_death) {
                noted.store(true, PlainOrdering::Relaxed);
            }
            let writer = world.producer(1);
            let writing = thread::spawn(move || writer.try_write(3));
            // Another thread follows where this one was killed: the lock that it held carries the
            // order.
            let survived = live(steps, || world.free_rows(&[VICTIM])).is_some();
            world.free_rows(&[VICTIM]);
            end(writing);
            reader.take_all();
            reader.check_books();
            world.check_members(&[&reader]);
            world.check_at_rest();
            survived
        });
        if done.load(PlainOrdering::Relaxed) {
            return;
        }
    }
}

#[test]
fn sweeper_dies_too() {
    sweeper_dies("sweeper_dies_too", 1, PLAIN);
}

#[test]
fn sweeper_dies_too_drop_oldest() {
    sweeper_dies("sweeper_dies_too_drop_oldest", 1, DROPPING);
}

// Sleepers. Their sleep has no end but the wake.

/// A reader sleeps; the writer that was to wake it is killed.
fn reader_sleeps(name: &str, preemptions: usize, shape: Shape) {
    explore_deaths(name, preemptions, move |steps| {
        let world = World::new(shape, ROWS);
        let mut reader = world.join(0);
        let victim = world.producer_of(VICTIM, 1);
        let dying = dying_then_buried(&world, steps, move || victim.try_write(1));
        // The victim leaves only the wake to this one.
        let filling = thread::spawn({
            let world = Rc::clone(&world);
            move || {
                let survived = end(dying);
                if world.committed().is_empty() {
                    world.producer(1).try_write(2).expect("the slot is free");
                }
                survived
            }
        });
        reader.take_waiting();
        let survived = end(filling);
        reader.check_books();
        world.check_at_rest();
        survived
    });
}

#[test]
fn reader_sleeps_until_its_writer_is_found_dead() {
    reader_sleeps("reader_sleeps_until_its_writer_is_found_dead", 2, ONE_SLOT);
}

/// A writer sleeps over the only slot; the process that has it is killed.
fn writer_sleeps(name: &str, preemptions: usize, shape: Shape, life: fn(&Producer, Consumer)) {
    explore_deaths(name, preemptions, move |steps| {
        let world = World::new(shape, ROWS);
        let [victim, survivor] = [world.producer_of(VICTIM, 1), world.producer(1)];
        let reader = world.join_of(VICTIM, 0);
        survivor.write(10);
        let dying = dying_then_buried(&world, steps, move || life(&victim, reader));
        survivor.write(2);
        let survived = end(dying);
        world.check_members(&[]);
        world.check_at_rest();
        survived
    });
}

#[test]
fn writer_sleeps_until_its_reader_is_found_dead() {
    writer_sleeps("writer_sleeps_until_its_reader_is_found_dead", 1, ONE_SLOT, |_, mut reader| {
        reader.take();
    });
}

#[test]
fn writer_sleeps_until_a_leaving_reader_is_found_dead() {
    writer_sleeps(
        "writer_sleeps_until_a_leaving_reader_is_found_dead",
        1,
        ONE_SLOT,
        |_, reader| {
            leave_with_a_sample(reader);
        },
    );
}

#[test]
fn writer_sleeps_until_another_is_found_dead() {
    writer_sleeps("writer_sleeps_until_another_is_found_dead", 1, ONE_SLOT, |writer, reader| {
        reader.leave();
        writer.try_write(1);
    });
}

#[test]
fn writer_sleeps_until_a_hand_is_found_dead() {
    writer_sleeps("writer_sleeps_until_a_hand_is_found_dead", 1, ONE_DROPPING, |_, mut reader| {
        reader.take();
    });
}

/// A process sleeps until anything changes; the process that changes it is killed, which is a
/// change.
#[test]
fn change_is_told_by_who_finds_the_dead() {
    explore_deaths("change_is_told_by_who_finds_the_dead", 3, |steps| {
        let world = World::new(ONE_SLOT, ROWS);
        let victim = world.producer_of(VICTIM, 1);
        let before = world.table().change_bell().watch(world.table().attention());
        let dying = dying_then_buried(&world, steps, move || victim.try_write(1));
        let bell = world.table().change_bell();
        loop {
            let armed = bell.arm(world.table().attention());
            if armed.count() != before {
                break;
            }
            bell.sleep(armed, None);
        }
        let survived = end(dying);
        world.check_at_rest();
        survived
    });
}
