//! The vacancy map: a free slot is found.

use std::rc::Rc;

use loom::thread;

use crate::atomics::{AtomicU64, Ordering, fence_after_rmw};
use crate::protocol::loan;
use crate::protocol::shape::Shape;
use crate::protocol::vacancy;
use crate::world::{PLAIN, ROWS, World, explore, sound};

/// Slots are freed while a writer withdraws their hints: what it missed is found afterwards.
#[test]
fn free_slots_are_found() {
    explore("free_slots_are_found", 3, || {
        let world = World::new(PLAIN, ROWS);
        let mut reader = world.join(0);
        let writer = world.producer(1);
        writer.try_write(1);
        writer.try_write(2);
        let finding = thread::spawn({
            let world = Rc::clone(&world);
            move || {
                for _ in 0..2 {
                    if let Some(loan) = sound(loan::claim_from_map(&world.table(), writer.owner)) {
                        writer.discard(loan);
                    }
                }
            }
        });
        reader.take_all();
        finding.join().expect("the writer is done");
        reader.check_books();
        world.check_at_rest();
    });
}

/// The readers of a slot are done before its writer is, while another writer withdraws its hint.
#[test]
fn slot_read_before_it_is_published() {
    explore("slot_read_before_it_is_published", 3, || {
        let world = World::new(PLAIN, ROWS);
        let mut reader = world.join(0);
        let [one, two] = [world.producer(1), world.producer(2)];
        let loan = one.try_reserve().expect("it is free");
        let committing = thread::spawn(move || one.commit(loan, 1));
        let finding = thread::spawn({
            let world = Rc::clone(&world);
            move || {
                // The first slot that it finds may be the other one; it keeps that while it looks
                // for more.
                let loans =
                    [(); 2].map(|()| sound(loan::claim_from_map(&world.table(), two.owner)));
                for loan in loans.into_iter().flatten() {
                    two.discard(loan);
                }
            }
        });
        reader.take();
        committing.join().expect("the writer is done");
        finding.join().expect("the writer is done");
        reader.take_all();
        reader.check_books();
        world.check_at_rest();
    });
}

/// Two slots of a map of two levels, as flags: 1 is free.
struct Flags {
    world: Rc<World>,
    free: [AtomicU64; 2],
}

/// Both are in one word, which is not the first: a search comes to it from the level above.
const SLOTS: [u32; 2] = [64, 65];

impl Flags {
    /// Only the first of the two is free.
    fn new() -> Rc<Flags> {
        let world = World::with_lines(Shape { slots: 66, shift: None, ..PLAIN }, 0, 1);
        for slot in 0..66 {
            vacancy::withdraw(&world.table(), slot);
        }
        let flags = Flags { world, free: [0, 0].map(AtomicU64::new) };
        flags.release(64);
        Rc::new(flags)
    }

    fn flag(&self, slot: u32) -> &AtomicU64 {
        &self.free[slot as usize - 64]
    }

    /// Frees a slot, as its last reader does.
    fn release(&self, slot: u32) {
        self.flag(slot).fetch_or(1, Ordering::AcqRel);
        fence_after_rmw();
        vacancy::offer(&self.world.table(), slot);
        self.world.table().space_bell().ring();
    }

    /// Takes a slot that the map knows, as `claim_from_map` does.
    fn take(&self) -> Option<u32> {
        let mut from = 0;
        while let Some(slot) = vacancy::next_from(&self.world.table(), from) {
            vacancy::withdraw(&self.world.table(), slot);
            let flag = self.flag(slot);
            if flag.load(Ordering::Acquire) == 1
                && flag.compare_exchange(1, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            {
                return Some(slot);
            }
            from = slot + 1;
        }
        None
    }

    fn take_waiting(&self) -> u32 {
        let bell = self.world.table().space_bell();
        loop {
            let armed = bell.arm(self.world.table().attention());
            if let Some(slot) = self.take() {
                return slot;
            }
            bell.sleep(armed, None);
        }
    }
}

/// One slot of a word is taken while the other is freed: afterwards the level above shows it.
#[test]
fn two_levels_agree() {
    explore("two_levels_agree", 4, || {
        let flags = Flags::new();
        let taking = thread::spawn({
            let flags = Rc::clone(&flags);
            move || flags.take()
        });
        flags.release(65);
        let mut taken: Vec<u32> = taking.join().expect("the writer is done").into_iter().collect();
        taken.extend(std::iter::from_fn(|| flags.take()));
        taken.sort_unstable();
        assert_eq!(taken, SLOTS);
    });
}

/// As above with two that take slots: neither sleeps over a slot that the level above does not show
/// for a moment.
#[test]
fn two_levels_wake() {
    explore("two_levels_wake", 3, || {
        let flags = Flags::new();
        let taking = [(); 2].map(|()| {
            let flags = Rc::clone(&flags);
            thread::spawn(move || flags.take_waiting())
        });
        flags.release(65);
        let mut taken = taking.map(|taking| taking.join().expect("the writer is done"));
        taken.sort_unstable();
        assert_eq!(taken, SLOTS);
    });
}
