//! The same work through other libraries, beside shmslot in the same run; and the plots of what all
//! benchmarks measured.
//!
//! `scripts/bench` runs it. The method is in `benches/README.md`.

use std::time::Duration;

use ::shmslot::Policy;

use boost::Queue;
use harness::limits::{Futex, Memory};
use harness::measures::{
    Against, StreamLimit, calls_per_wake, one_thread, one_way, set_up, streaming, wake,
};
use harness::place::Place;
use harness::process::pin;
use harness::rows::{Settings, place};
use harness::shmslot::{Shmslot, ThroughC, asleep_at_once, never_asleep, options};
use harness::transport::{Touch, Transport};
use iceoryx2::{Mode, Service};
use kernel::{Kind, Lane};
use shmem_ipc::Ring;
use table::{Contest, OURS, OURS_C, OURS_MANY};
use vox::Segments;
use zerodds::Slots;

mod boost;
#[path = "../../harness/mod.rs"]
mod harness;
mod iceoryx2;
mod kernel;
mod large;
#[path = "../../payload/mod.rs"]
mod payload;
mod plots;
mod reference;
mod shmem_ipc;
mod table;
mod traces;
mod vox;
mod zerodds;
mod zeromq;

/// Rooms for payloads that those libraries get which ask: as many as plain memory has.
fn rooms<const W: usize>() -> u32 {
    if W > 512 { 4 } else { 64 }
}

fn ours<const W: usize>(single_writer: bool, policy: Policy) -> Shmslot {
    Shmslot::new(options::<W>(single_writer, policy, rooms::<W>()))
}

/// Adds a way for payloads of `W` words to the rows of one thread and of one way. Whole payloads,
/// and untouched ones where the library does not copy them.
fn add_busy<const W: usize, T: Transport<W>>(
    contest: &mut Contest,
    (name, size, in_place): (&'static str, &str, bool),
    prepare: impl Fn() -> T + Copy + 'static,
) {
    let (place, time) = (contest.place, contest.time);
    for (touch, what) in [(Touch::Whole, "written and read"), (Touch::First, "untouched")] {
        if touch == Touch::First && !in_place {
            continue;
        }
        contest.staying(&format!("one thread, {size}, {what}"), name, move || {
            one_thread::<W, T>(place, time / 2, prepare, touch, 0)
        });
        contest.crossing(&format!("one way, {size}, {what}"), name, move || {
            one_way::<W, T>(place, time, prepare, Against::Hop, touch)
        });
    }
}

fn add_stream<const W: usize, T: Transport<W>>(
    contest: &mut Contest,
    name: &'static str,
    size: &str,
    prepare: impl Fn() -> T + Copy + 'static,
) {
    let (place, time) = (contest.place, contest.time);
    contest.crossing(
        &format!("streaming 1 → 1, lossless, {size}, written and read"),
        name,
        move || streaming::<W, T>(place, time, prepare, StreamLimit::Lines, Touch::Whole),
    );
}

/// All that is measured of payloads of `W` words.
fn add_size<const W: usize>(contest: &mut Contest, size: &'static str) {
    add_busy::<W, _>(contest, (OURS, size, true), || ours::<W>(true, Policy::Fail));
    add_busy::<W, _>(contest, (OURS_MANY, size, true), || ours::<W>(false, Policy::Fail));
    add_busy::<W, _>(contest, (OURS_C, size, true), || ThroughC(ours::<W>(true, Policy::Fail)));
    add_busy::<W, _>(contest, ("plain shared memory", size, true), Memory::new::<W>);
    let overflow = || Service::new(Mode::Overflow, 2, 0);
    add_busy::<W, _>(contest, ("iceoryx2, overflow", size, true), overflow);
    let lossless = || Service::new(Mode::Lossless, rooms::<W>() as usize, 0);
    add_busy::<W, _>(contest, ("iceoryx2, lossless", size, true), lossless);
    let zerodds = || Slots::new::<W>(rooms::<W>() as usize);
    add_busy::<W, _>(contest, ("zerodds-flatdata", size, true), zerodds);
    let vox = || Segments::new::<W>(rooms::<W>());
    add_busy::<W, _>(contest, ("vox-shm", size, true), vox);
    let shmem_ipc = || Ring::<W>::new(false);
    add_busy::<W, _>(contest, ("shmem-ipc", size, true), shmem_ipc);
    let [pipe, stream, packets] = LANES;
    add_busy::<W, _>(contest, ("pipe", size, false), pipe);
    add_busy::<W, _>(contest, ("unix stream socket", size, false), stream);
    add_busy::<W, _>(contest, ("unix seqpacket socket", size, false), packets);
    add_busy::<W, _>(contest, ("Boost message_queue", size, false), Queue::new::<W>);
    add_busy::<W, _>(contest, ("ZeroMQ", size, false), zeromq::Address::new);

    let block =
        |single| Shmslot::new(never_asleep(options::<W>(single, Policy::Block, rooms::<W>())));
    add_stream::<W, _>(contest, OURS, size, move || block(true));
    add_stream::<W, _>(contest, OURS_MANY, size, move || block(false));
    add_stream::<W, _>(contest, OURS_C, size, move || ThroughC(block(true)));
    add_stream::<W, _>(contest, "plain shared memory", size, Memory::new::<W>);
    add_stream::<W, _>(contest, "iceoryx2, lossless", size, lossless);
    if W <= 512 {
        let large = || Service::new(Mode::Lossless, 1024, 0);
        add_stream::<W, _>(contest, "iceoryx2, lossless, buffer of 1024", size, large);
    }
    add_stream::<W, _>(contest, "zerodds-flatdata", size, zerodds);
    add_stream::<W, _>(contest, "vox-shm", size, vox);
    add_stream::<W, _>(contest, "shmem-ipc", size, shmem_ipc);
    add_stream::<W, _>(contest, "pipe", size, pipe);
    add_stream::<W, _>(contest, "unix stream socket", size, stream);
    add_stream::<W, _>(contest, "unix seqpacket socket", size, packets);
    add_stream::<W, _>(contest, "Boost message_queue", size, Queue::new::<W>);
    add_stream::<W, _>(contest, "ZeroMQ", size, zeromq::Address::new);
}

const LANES: [fn() -> Lane; 3] =
    [|| Lane::new(Kind::Pipe), || Lane::new(Kind::Stream), || Lane::new(Kind::SeqPacket)];

/// Words of the payloads that find others kept: too many for any library to send them without a
/// slot.
const FILL: usize = 64;

/// One thread, while so many slots of so many are on loan.
fn add_fill_levels(contest: &mut Contest) {
    let (place, time) = (contest.place, contest.time);
    for slots in [64_u32, 1024, 16_384] {
        for (level, kept) in
            [("all free", 0), ("half on loan", slots / 2), ("all but one on loan", slots - 1)]
        {
            let what = format!("one thread, 512 B, {slots} slots, {level}");
            let kept = kept as usize;
            let mut add = |name, turn: Box<dyn Fn() -> Option<harness::rows::Sample>>| {
                contest.staying(&what, name, turn);
            };
            let segment = move |single| Shmslot::new(options::<FILL>(single, Policy::Fail, slots));
            add(
                OURS,
                Box::new(move || {
                    one_thread::<FILL, _>(place, time / 2, || segment(true), Touch::First, kept)
                }),
            );
            add(
                OURS_MANY,
                Box::new(move || {
                    one_thread::<FILL, _>(place, time / 2, || segment(false), Touch::First, kept)
                }),
            );
            add(
                OURS_C,
                Box::new(move || {
                    one_thread::<FILL, _>(
                        place,
                        time / 2,
                        || ThroughC(segment(true)),
                        Touch::First,
                        kept,
                    )
                }),
            );
            add(
                "iceoryx2, overflow",
                Box::new(move || {
                    let service = || Service::new(Mode::Overflow, 2, kept);
                    one_thread::<FILL, _>(place, time / 2, service, Touch::First, kept)
                }),
            );
            add(
                "zerodds-flatdata",
                Box::new(move || {
                    one_thread::<FILL, _>(
                        place,
                        time / 2,
                        || Slots::new::<FILL>(slots as usize),
                        Touch::First,
                        kept,
                    )
                }),
            );
            add(
                "vox-shm",
                Box::new(move || {
                    one_thread::<FILL, _>(
                        place,
                        time / 2,
                        || Segments::new::<FILL>(slots),
                        Touch::First,
                        kept,
                    )
                }),
            );
        }
    }
}

/// Words of the payloads that wake somebody.
const SMALL: usize = 8;

fn add_wake<T: Transport<SMALL>>(
    contest: &mut Contest,
    name: &'static str,
    prepare: impl Fn() -> T + Copy + 'static,
) {
    let place = contest.place;
    let turns = if contest.quick { 100 } else { 400 };
    for (what, microseconds, turns) in [
        ("wake of a reader asleep for 20 µs", 20, turns),
        ("wake of a reader idle for 500 µs", 500, turns / 5),
    ] {
        let asleep = Duration::from_micros(microseconds);
        contest.crossing(what, name, move || wake::<SMALL, T>(place, asleep, turns, prepare));
    }
    contest.calls(name, move || calls_per_wake::<SMALL, T>(place, prepare));
}

fn add_wakes(contest: &mut Contest) {
    let sleepy = |single| Shmslot::new(asleep_at_once(options::<SMALL>(single, Policy::Fail, 64)));
    add_wake(contest, OURS, move || sleepy(true));
    add_wake(contest, OURS_MANY, move || sleepy(false));
    add_wake(contest, OURS_C, move || ThroughC(sleepy(true)));
    add_wake(contest, "raw futex", Futex::new);
    add_wake(contest, "iceoryx2, events", || Service::new(Mode::Waking, 2, 0));
    add_wake(contest, "zerodds-flatdata", || Slots::new::<SMALL>(64));
    add_wake(contest, "vox-shm", || Segments::new::<SMALL>(64));
    add_wake(contest, "shmem-ipc", || Ring::<SMALL>::new(true));
    add_wake(contest, "pipe", LANES[0]);
    add_wake(contest, "unix stream socket", LANES[1]);
    add_wake(contest, "unix seqpacket socket", LANES[2]);
    add_wake(contest, "Boost message_queue", Queue::new::<SMALL>);
    add_wake(contest, "ZeroMQ", zeromq::Address::new);
}

/// Words of the payloads of a segment that is set up, 64 slots of them.
const PAGE: usize = 512;

fn add_set_up<T: Transport<PAGE>>(
    contest: &mut Contest,
    name: &'static str,
    prepare: impl Fn() -> T + Copy + 'static,
) {
    let (place, times) = (contest.place, if contest.quick { 3 } else { 10 });
    let what = "create, attach, first payload, 64 × 4 KiB";
    contest.staying(what, name, move || set_up::<PAGE, T>(place, times, prepare));
}

fn add_set_ups(contest: &mut Contest) {
    let untouched = |single| harness::shmslot::options::<PAGE>(single, Policy::Fail, 64);
    let lazy = move |single| ::shmslot::CreateOptions { prefault: false, ..untouched(single) };
    add_set_up(contest, OURS, move || Shmslot::new(lazy(true)));
    add_set_up(contest, OURS_MANY, move || Shmslot::new(lazy(false)));
    add_set_up(contest, OURS_C, move || ThroughC(Shmslot::new(lazy(true))));
    add_set_up(contest, "iceoryx2, overflow", || Service::new(Mode::Overflow, 2, 0));
    add_set_up(contest, "iceoryx2, lossless, buffer of 64", || Service::new(Mode::Lossless, 64, 0));
    add_set_up(contest, "zerodds-flatdata", || Slots::new::<PAGE>(64));
    add_set_up(contest, "vox-shm", || Segments::new::<PAGE>(64));
    add_set_up(contest, "shmem-ipc", || Ring::<PAGE>::new(true));
    add_set_up(contest, "pipe", LANES[0]);
    add_set_up(contest, "unix stream socket", LANES[1]);
    add_set_up(contest, "unix seqpacket socket", LANES[2]);
    add_set_up(contest, "Boost message_queue", Queue::new::<PAGE>);
    add_set_up(contest, "ZeroMQ", zeromq::Address::new);
}

fn contest(place: &'static Place, settings: &Settings) {
    let mut contest = Contest::new(place, settings);
    add_size::<8>(&mut contest, "64 B");
    add_size::<512>(&mut contest, "4 KiB");
    add_size::<8192>(&mut contest, "64 KiB");
    add_size::<131_072>(&mut contest, "1 MiB");
    add_fill_levels(&mut contest);
    reference::add(&mut contest);
    add_wakes(&mut contest);
    add_set_ups(&mut contest);
    contest.run(settings);
}

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let [command, directory] = &arguments[..]
        && command == "plot"
    {
        return plots::draw(directory.as_ref());
    }
    pin(0);
    let settings = Settings::from_args(true);
    let _cleaner = traces::Cleaner::new();
    let place = place();
    contest(place, &settings);
    large::run(&settings, place);
}
