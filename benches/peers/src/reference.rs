//! The reference operations beside the library whose model they are: the same calls, in the same
//! order, on as many slots, of which as many are taken.

use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::ptr::{null, null_mut};
use std::time::Duration;

use ::shmslot::{Policy, Ref, Reference};
use zerodds_flatdata::{PosixSlotAllocator, SlotBackend, SlotHandle};

use crate::harness::measures::{StreamLimit, one_thread, staying_sample, streaming, turns};
use crate::harness::place::Place;
use crate::harness::process::alone;
use crate::harness::rows::Sample;
use crate::harness::shmslot::{Shmslot, never_asleep, options};
use crate::harness::transport::{Touch, check, fill};
use crate::table::{Contest, OURS, OURS_C, OURS_MANY, ROUND};
use crate::zerodds::Slots;

const OURS_C_MANY: &str = "shmslot, C ABI, many writers";
const THEIRS: &str = "zerodds-flatdata";

/// Readers 0 and 1, as a mask.
const ONE: u32 = 1;
const BOTH: u32 = 3;

/// What both libraries have. One handle does it all, as the model has it.
trait Operations {
    type Ref: Copy;

    fn reserve(&self, active: u32) -> Self::Ref;
    fn data(&self, slot: &Self::Ref) -> *mut u64;
    fn commit(&self, slot: &Self::Ref, len: usize);
    fn discard(&self, slot: &Self::Ref);
    fn next_unread(&self, reader: u8) -> Option<Self::Ref>;
    fn sample(&self, slot: &Self::Ref) -> (*const u64, usize);
    fn mark(&self, slot: &Self::Ref, reader: u8);

    /// Reserve, fill in place, commit, find it unread, look at it, mark.
    fn turn<const W: usize>(&self, level: &Level, value: u64) {
        let loan = self.reserve(level.active());
        // SAFETY: a loan with that much room.
        unsafe { fill::<W>(self.data(&loan), value, Touch::Whole) };
        self.commit(&loan, 8 * W);
        let sample = self.next_unread(0).expect("a sample");
        check_sample::<W>(self.sample(&sample), level.next(value));
        self.mark(&sample, 0);
        if level.taken == Taken::Unread {
            self.mark(&sample, 1);
        }
    }
}

fn check_sample<const W: usize>((start, len): (*const u64, usize), value: Option<u64>) {
    assert_eq!(len, 8 * W);
    // SAFETY: unread, so nobody writes to it.
    let found = unsafe { check::<W>(start, Touch::Whole) };
    assert!(value.is_none_or(|value| value == found), "another sample");
}

impl Operations for PosixSlotAllocator {
    type Ref = SlotHandle;

    fn reserve(&self, active: u32) -> SlotHandle {
        self.reserve_slot(active).expect("a slot")
    }

    fn data(&self, slot: &SlotHandle) -> *mut u64 {
        self.slot_data_ptr(*slot).expect("a loan").0.cast()
    }

    fn commit(&self, slot: &SlotHandle, len: usize) {
        self.commit_in_place(*slot, len).expect("a commit");
    }

    fn discard(&self, slot: &SlotHandle) {
        self.discard_slot(*slot).expect("a loan");
    }

    fn next_unread(&self, reader: u8) -> Option<SlotHandle> {
        self.next_unread_slot(reader).expect("a look")
    }

    fn sample(&self, slot: &SlotHandle) -> (*const u64, usize) {
        let (start, len) = self.slot_read_ptr(*slot).expect("a sample");
        (start.cast(), len)
    }

    fn mark(&self, slot: &SlotHandle, reader: u8) {
        self.mark_read(*slot, reader).expect("a mark");
    }
}

impl Operations for Reference {
    type Ref = Ref;

    fn reserve(&self, active: u32) -> Ref {
        self.reserve(active.into()).expect("a slot")
    }

    fn data(&self, slot: &Ref) -> *mut u64 {
        self.data_ptr(*slot).expect("a loan").0.cast()
    }

    fn commit(&self, slot: &Ref, len: usize) {
        self.commit_in_place(*slot, len).expect("a commit");
    }

    fn discard(&self, slot: &Ref) {
        self.discard(*slot).expect("a loan");
    }

    fn next_unread(&self, reader: u8) -> Option<Ref> {
        self.next_unread(reader.into()).expect("a look")
    }

    fn sample(&self, slot: &Ref) -> (*const u64, usize) {
        let (start, len) = self.read_ptr(*slot).expect("a sample");
        (start.cast(), len)
    }

    fn mark(&self, slot: &Ref, reader: u8) {
        self.mark_read(*slot, reader.into()).expect("a mark");
    }
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CRef([u64; 2]);

unsafe extern "C" {
    fn shmslot_ref_reserve(segment: *mut u8, active: u64, ret: *mut CRef) -> c_int;
    fn shmslot_ref_data_ptr(
        segment: *mut u8,
        slot: *const CRef,
        data: *mut *mut c_void,
        capacity: *mut usize,
    ) -> c_int;
    fn shmslot_ref_commit_in_place(
        segment: *mut u8,
        slot: *const CRef,
        len: usize,
        sequence: *mut u64,
    ) -> c_int;
    fn shmslot_ref_discard(segment: *mut u8, slot: *const CRef) -> c_int;
    fn shmslot_ref_next_unread(segment: *mut u8, reader: u32, ret: *mut CRef) -> c_int;
    fn shmslot_ref_read_ptr(
        segment: *mut u8,
        slot: *const CRef,
        data: *mut *const c_void,
        len: *mut usize,
    ) -> c_int;
    fn shmslot_ref_mark_read(segment: *mut u8, slot: *const CRef, reader: u32) -> c_int;
}

/// A segment through the C ABI. Open as long as its process lives.
struct ByC(*mut u8);

const AGAIN: c_int = -11;

impl Operations for ByC {
    type Ref = CRef;

    fn reserve(&self, active: u32) -> CRef {
        let mut slot = CRef([0; 2]);
        // SAFETY: the call as the header declares it, with live arguments; so are those that
        // follow.
        assert_eq!(unsafe { shmslot_ref_reserve(self.0, active.into(), &mut slot) }, 0);
        slot
    }

    fn data(&self, slot: &CRef) -> *mut u64 {
        let (mut data, mut capacity) = (null_mut(), 0);
        // SAFETY: as above.
        assert_eq!(unsafe { shmslot_ref_data_ptr(self.0, slot, &mut data, &mut capacity) }, 0);
        data.cast()
    }

    fn commit(&self, slot: &CRef, len: usize) {
        // SAFETY: as above.
        assert_eq!(unsafe { shmslot_ref_commit_in_place(self.0, slot, len, null_mut()) }, 0);
    }

    fn discard(&self, slot: &CRef) {
        // SAFETY: as above.
        assert_eq!(unsafe { shmslot_ref_discard(self.0, slot) }, 0);
    }

    fn next_unread(&self, reader: u8) -> Option<CRef> {
        let mut slot = CRef([0; 2]);
        // SAFETY: as above.
        match unsafe { shmslot_ref_next_unread(self.0, reader.into(), &mut slot) } {
            0 => Some(slot),
            code => {
                assert_eq!(code, AGAIN);
                None
            }
        }
    }

    fn sample(&self, slot: &CRef) -> (*const u64, usize) {
        let (mut data, mut len) = (null(), 0);
        // SAFETY: as above.
        assert_eq!(unsafe { shmslot_ref_read_ptr(self.0, slot, &mut data, &mut len) }, 0);
        (data.cast(), len)
    }

    fn mark(&self, slot: &CRef, reader: u8) {
        // SAFETY: as above.
        assert_eq!(unsafe { shmslot_ref_mark_read(self.0, slot, reader.into()) }, 0);
    }

    /// As a C program does it: one struct stays where it is. A copy of it, which the other calls
    /// here return, waits until the stores of its two halves have left the processor.
    fn turn<const W: usize>(&self, level: &Level, value: u64) {
        let mut slot = CRef([0; 2]);
        let (mut data, mut start, mut size) = (null_mut(), null(), 0);
        // SAFETY: as above; a loan with that much room.
        unsafe {
            let mut bad = shmslot_ref_reserve(self.0, level.active().into(), &mut slot);
            bad |= shmslot_ref_data_ptr(self.0, &slot, &mut data, &mut size);
            assert_eq!(bad, 0);
            fill::<W>(data.cast(), value, Touch::Whole);
            bad |= shmslot_ref_commit_in_place(self.0, &slot, 8 * W, null_mut());
            bad |= shmslot_ref_next_unread(self.0, 0, &mut slot);
            bad |= shmslot_ref_read_ptr(self.0, &slot, &mut start, &mut size);
            assert_eq!(bad, 0);
            check_sample::<W>((start.cast(), size), level.next(value));
            bad |= shmslot_ref_mark_read(self.0, &slot, 0);
            if level.taken == Taken::Unread {
                bad |= shmslot_ref_mark_read(self.0, &slot, 1);
            }
            assert_eq!(bad, 0);
        }
    }
}

/// What keeps slots from being reserved.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    OnLoan,
    /// Reader 1, who is active, has not marked them.
    Unread,
    /// Reader 0 itself has not marked them: it is behind.
    Backlog,
}

/// What is taken, and which slots are left.
#[derive(Clone)]
struct Level {
    taken: Taken,
    slots: usize,
    free: Range<usize>,
}

impl Level {
    fn active(&self) -> u32 {
        if self.taken == Taken::Unread { BOTH } else { ONE }
    }

    /// The number of the sample that is found unread after this one was committed. Behind a backlog
    /// it is the library's choice: only shmslot keeps an order.
    fn next(&self, value: u64) -> Option<u64> {
        (self.taken != Taken::Backlog).then_some(value)
    }

    /// Takes all slots, and gives back those that are to be free.
    fn reach<const W: usize, O: Operations>(&self, operations: &O) {
        let reserve = |_| operations.reserve(self.active());
        let mut all: Vec<_> = (0..self.slots).map(reserve).collect();
        all.sort_by_key(|slot| operations.data(slot));
        match self.taken {
            Taken::OnLoan => {
                all[self.free.clone()].iter().for_each(|slot| operations.discard(slot))
            }
            Taken::Unread => {
                for slot in &all {
                    operations.commit(slot, 8);
                    operations.mark(slot, 0);
                }
                all[self.free.clone()].iter().for_each(|slot| operations.mark(slot, 1));
            }
            Taken::Backlog => {
                for slot in &all {
                    // SAFETY: a loan with that much room.
                    unsafe { fill::<W>(operations.data(slot), 0, Touch::Whole) };
                    operations.commit(slot, 8 * W);
                }
                all[self.free.clone()].iter().for_each(|slot| operations.mark(slot, 0));
            }
        }
    }
}

/// Turns of one thread, of payloads of `W` words that are written and read.
fn round<const W: usize, P, O: Operations>(
    place: &Place,
    time: Duration,
    prepare: impl Fn() -> P,
    open: impl Fn(&P) -> O,
    level: &Level,
) -> Option<Sample> {
    let prepared = prepare();
    let well = alone(place, || {
        let operations = open(&prepared);
        level.reach::<W, _>(&operations);
        let block = if W > 512 { 4 } else { 64 };
        let note = |round| place.note(round);
        turns(time / 2, block, note, |value| operations.turn::<W>(level, value));
    });
    well.then(|| staying_sample(place, None))
}

fn add_level<const W: usize>(contest: &mut Contest, what: &str, level: Level) {
    let (place, time) = (contest.place, contest.time);
    let slots = level.slots;
    let segment = move |single| Shmslot::new(options::<W>(single, Policy::Fail, slots as u32));
    for (name, single) in [(OURS_MANY, false), (OURS, true)] {
        let level = level.clone();
        contest.staying(what, name, move || {
            let open = |segment: &Shmslot| segment.attach().reference().expect("the operations");
            round::<W, _, _>(place, time, || segment(single), open, &level)
        });
    }
    for (name, single) in [(OURS_C_MANY, false), (OURS_C, true)] {
        let level = level.clone();
        contest.staying(what, name, move || {
            let open = |segment: &Shmslot| ByC(segment.attach_through_c());
            round::<W, _, _>(place, time, || segment(single), open, &level)
        });
    }
    contest.staying(what, THEIRS, move || {
        round::<W, _, _>(place, time, || Slots::new::<W>(slots), Slots::attach, &level)
    });
}

/// Words of the payloads that are measured at each level.
const SMALL: usize = 8;

/// Words of 64 KiB and of 1 MiB.
const MIDDLE: usize = 1 << 13;
const LARGE: usize = 1 << 17;

/// Slots of those, all free at first: which of them are used is the library's choice.
const MANY: usize = 64;

/// The rounds of the model, at every level; and large payloads in many slots, also by the other
/// calls.
pub(crate) fn add(contest: &mut Contest) {
    for slots in [16, 64, 1024] {
        let mut add = |what: &str, taken, free| {
            let what = format!("{ROUND}, 64 B, {slots} slots, {what}");
            add_level::<SMALL>(contest, &what, Level { taken, slots, free });
        };
        add("all free", Taken::OnLoan, 0..slots);
        for (how, taken) in [("on loan", Taken::OnLoan), ("unread by another", Taken::Unread)] {
            add(&format!("the upper half {how}"), taken, 0..slots / 2);
            add(&format!("the lower half {how}"), taken, slots / 2..slots);
            add(&format!("all but the first {how}"), taken, 0..1);
            add(&format!("all but the last {how}"), taken, slots - 1..slots);
        }
        for backlog in [1, slots / 2] {
            add(&format!("behind a backlog of {backlog}"), Taken::Backlog, backlog..slots);
        }
    }
    let all_free = || Level { taken: Taken::OnLoan, slots: MANY, free: 0..MANY };
    add_level::<MIDDLE>(contest, &format!("{ROUND}, 64 KiB, {MANY} slots, all free"), all_free());
    add_level::<LARGE>(contest, &format!("{ROUND}, 1 MiB, {MANY} slots, all free"), all_free());
    add_many::<MIDDLE>(contest, "64 KiB");
    add_many::<LARGE>(contest, "1 MiB");
}

/// What the other rows measure in few slots.
fn add_many<const W: usize>(contest: &mut Contest, size: &str) {
    let (place, time) = (contest.place, contest.time);
    let theirs = || Slots::new::<W>(MANY);
    let segment =
        |single, policy| Shmslot::new(never_asleep(options::<W>(single, policy, MANY as u32)));
    let what = format!("one thread, {size}, {MANY} slots, written and read");
    for (name, single) in [(OURS, true), (OURS_MANY, false)] {
        contest.staying(&what, name, move || {
            one_thread::<W, _>(place, time / 2, || segment(single, Policy::Fail), Touch::Whole, 0)
        });
    }
    contest.staying(&what, THEIRS, move || {
        one_thread::<W, _>(place, time / 2, theirs, Touch::Whole, 0)
    });
    let what = format!("streaming 1 → 1, lossless, {size}, {MANY} slots, written and read");
    for (name, single) in [(OURS, true), (OURS_MANY, false)] {
        contest.crossing(&what, name, move || {
            let segment = || segment(single, Policy::Block);
            streaming::<W, _>(place, time, segment, StreamLimit::Lines, Touch::Whole)
        });
    }
    contest.crossing(&what, THEIRS, move || {
        streaming::<W, _>(place, time, theirs, StreamLimit::Lines, Touch::Whole)
    });
}
