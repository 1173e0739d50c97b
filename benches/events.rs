//! Descriptors for event loops and sets: how fast they wake, and what they cost those who commit.
//!
//! `cargo bench --bench events` prints Markdown. The method is in `benches/README.md`.

#![allow(unsafe_code)] // Processes are forked, and loops are system calls.

use std::hint::spin_loop;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::shmslot::{
    Arm, Code, CreateOptions, EndWaits, Event, Policy, Readable, Reader, Segment, Set, Writer,
};

use harness::clock::{spin, ticks, ticks_when_done};
use harness::measures::{
    Against, calls_per_payload, calls_per_wake, put_probes, sample, staying_sample, wake,
    wake_beside,
};
use harness::place::{Place, SharedMemory, await_value};
use harness::process::{Side, alone, fork, hop, join, pair, pin};
use harness::rows::{
    Aim, Figures, Row, Sample, Settings, Surroundings, calls_table, crossing, keep, middle, place,
    run, staying,
};
use harness::shmslot::{Shmslot, options};
use harness::state::State;
use harness::transport::{Receiver, Sender, Touch, Transport};

mod harness;

const WORDS: usize = 8;
const PAYLOAD: usize = 8 * WORDS;

/// A level-triggered epoll of one descriptor.
struct Loop(OwnedFd);

impl Loop {
    fn of(descriptor: BorrowedFd<'_>) -> Loop {
        // SAFETY: a new descriptor, which nobody else has.
        let epoll = unsafe {
            let made = libc::epoll_create1(libc::EPOLL_CLOEXEC);
            assert!(made >= 0, "epoll: {}", io::Error::last_os_error());
            OwnedFd::from_raw_fd(made)
        };
        let mut wanted = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
        // SAFETY: both are open, and the struct is only read.
        let added = unsafe {
            libc::epoll_ctl(
                epoll.as_raw_fd(),
                libc::EPOLL_CTL_ADD,
                descriptor.as_raw_fd(),
                &mut wanted,
            )
        };
        assert_eq!(added, 0, "epoll: {}", io::Error::last_os_error());
        Loop(epoll)
    }

    /// Whether the descriptor became readable in time; -1 is without limit.
    fn wait(&self, milliseconds: i32) -> bool {
        let mut told = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: writes to a local that lives.
        let count = unsafe { libc::epoll_wait(self.0.as_raw_fd(), &mut told, 1, milliseconds) };
        assert!(count >= 0, "epoll: {}", io::Error::last_os_error());
        count > 0
    }
}

fn lane(single_writer: bool) -> Shmslot {
    Shmslot::new(options::<WORDS>(single_writer, Policy::Fail, 64))
}

/// A segment whose reader sleeps in epoll, behind its descriptor.
struct InLoop {
    lane: Shmslot,
    arm: Arm,
}

impl InLoop {
    fn new(single_writer: bool) -> InLoop {
        InLoop { lane: lane(single_writer), arm: Arm::WhenNothingIsThere }
    }

    /// Its reader polls, and is armed only when it is told to.
    fn on_request(single_writer: bool) -> InLoop {
        InLoop { lane: lane(single_writer), arm: Arm::OnRequest }
    }
}

struct LoopReader {
    reader: Reader,
    sleeper: Loop,
}

impl Transport<WORDS> for InLoop {
    type Sender = Writer;
    type Receiver = LoopReader;

    fn sender(&self) -> Writer {
        Transport::<WORDS>::sender(&self.lane)
    }

    fn receiver(&self) -> LoopReader {
        let reader = Transport::<WORDS>::receiver(&self.lane);
        let sleeper = Loop::of(reader.descriptor(self.arm).expect("a descriptor"));
        LoopReader { reader, sleeper }
    }
}

impl Receiver<WORDS> for LoopReader {
    fn receive(&mut self, touch: Touch) -> Option<u64> {
        Receiver::<WORDS>::receive(&mut self.reader, touch)
    }

    fn sleep(&mut self) {
        self.sleeper.wait(-1);
    }
}

/// A value beside an eventfd that both sides have: a store and a write for each. The receiver
/// looks, drains, and looks again, before it sleeps in epoll.
#[derive(Clone)]
struct EventFd {
    memory: Rc<SharedMemory>,
    counter: Rc<OwnedFd>,
    seen: u64,
}

impl EventFd {
    fn new() -> EventFd {
        // SAFETY: a new descriptor, which nobody else has.
        let counter = unsafe {
            let made = libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC);
            assert!(made >= 0, "eventfd: {}", io::Error::last_os_error());
            OwnedFd::from_raw_fd(made)
        };
        EventFd { memory: Rc::new(SharedMemory::new(4096)), counter: Rc::new(counter), seen: 0 }
    }

    fn sent(&self) -> &AtomicU64 {
        self.memory.word(0)
    }

    fn value(&self) -> &AtomicU64 {
        self.memory.word(1)
    }

    fn look(&mut self) -> Option<u64> {
        let now = self.sent().load(Ordering::Acquire);
        (now != self.seen).then(|| {
            self.seen = now;
            self.value().load(Ordering::Relaxed)
        })
    }
}

struct EventFdReader {
    side: EventFd,
    sleeper: Loop,
}

impl Transport<WORDS> for EventFd {
    type Sender = EventFd;
    type Receiver = EventFdReader;

    fn sender(&self) -> EventFd {
        self.clone()
    }

    fn receiver(&self) -> EventFdReader {
        EventFdReader { side: self.clone(), sleeper: Loop::of(self.counter.as_fd()) }
    }
}

impl Sender<WORDS> for EventFd {
    fn send(&mut self, value: u64, _: Touch) {
        self.value().store(value, Ordering::Relaxed);
        self.sent().fetch_add(1, Ordering::Release);
        let one = 1_u64;
        // SAFETY: reads a local that lives.
        let written = unsafe { libc::write(self.counter.as_raw_fd(), (&raw const one).cast(), 8) };
        assert_eq!(written, 8);
    }
}

impl Receiver<WORDS> for EventFdReader {
    fn receive(&mut self, _: Touch) -> Option<u64> {
        self.side.look().or_else(|| {
            let mut count = 0_u64;
            // SAFETY: writes to a local that lives. It fails where there is nothing to drain.
            unsafe { libc::read(self.side.counter.as_raw_fd(), (&raw mut count).cast(), 8) };
            self.side.look()
        })
    }

    fn sleep(&mut self) {
        self.sleeper.wait(-1);
    }
}

/// Which segments of a set are written to.
#[derive(Clone, Copy)]
enum Ringing {
    /// The same one each time.
    One,
    /// One after another.
    All,
}

/// Segments whose readers are in one set, in which the other side sleeps.
struct InSet {
    lanes: Vec<Shmslot>,
    ringing: Ringing,
}

impl InSet {
    fn new(count: usize, ringing: Ringing) -> InSet {
        let lane = |_| Shmslot::new(options::<WORDS>(true, Policy::Fail, 4));
        InSet { lanes: (0..count).map(lane).collect(), ringing }
    }
}

struct SetSender {
    writers: Vec<Writer>,
    next: usize,
}

struct SetReader {
    set: Set,
    readers: Vec<Reader>,
    events: Vec<Event>,
    /// The reader that the set told of last.
    told: usize,
}

impl Transport<WORDS> for InSet {
    type Sender = SetSender;
    type Receiver = SetReader;

    fn sender(&self) -> SetSender {
        let middle = self.lanes.len() / 2;
        let written = match self.ringing {
            Ringing::One => &self.lanes[middle..=middle],
            Ringing::All => &self.lanes,
        };
        SetSender { writers: written.iter().map(Transport::<WORDS>::sender).collect(), next: 0 }
    }

    fn receiver(&self) -> SetReader {
        let set = Set::new(Readable::default()).expect("a set");
        let readers: Vec<_> = self.lanes.iter().map(Transport::<WORDS>::receiver).collect();
        for (cookie, reader) in readers.iter().enumerate() {
            set.add_reader(reader, cookie as u64).expect("a member");
        }
        // It tells of each once, because what is there already would not ring.
        let mut events = Vec::new();
        while set.wait(&mut events, 64, Some(Duration::ZERO)).expect("a wait") > 0 {
            for event in events.drain(..) {
                assert!(readers[event.cookie as usize].read().expect("a read").is_none());
            }
        }
        SetReader { set, readers, events, told: 0 }
    }
}

impl Sender<WORDS> for SetSender {
    fn send(&mut self, value: u64, touch: Touch) {
        Sender::<WORDS>::send(&mut self.writers[self.next], value, touch);
        self.next = (self.next + 1) % self.writers.len();
    }
}

impl Receiver<WORDS> for SetReader {
    fn receive(&mut self, touch: Touch) -> Option<u64> {
        Receiver::<WORDS>::receive(&mut self.readers[self.told], touch)
    }

    fn sleep(&mut self) {
        self.events.clear();
        self.set.wait(&mut self.events, 1, None).expect("a wait");
        self.told = self.events[0].cookie as usize;
    }
}

const ASLEEP: Duration = Duration::from_micros(20);

fn wakes(place: &'static Place, quick: bool) -> Vec<Row> {
    let turns = if quick { 100 } else { 400 };
    let by_a_commit = |single: bool| {
        let writers = if single { "single writer" } else { "many writers" };
        let name = format!("wake of an epoll sleeper by a commit, {writers}, beside an eventfd");
        crossing(name, Aim::Limits(1.1), move || {
            let in_loop = move || InLoop::new(single);
            wake_beside::<WORDS, _, _>(place, ASLEEP, turns, in_loop, EventFd::new)
        })
    };
    let of_a_set = |name: &str, aim, ringing| {
        crossing(name, aim, move || {
            let many = move || InSet::new(1000, ringing);
            let one = || InSet::new(1, Ringing::One);
            wake_beside::<WORDS, _, _>(place, ASLEEP, turns, many, one)
        })
    };
    vec![
        by_a_commit(true),
        by_a_commit(false),
        crossing(
            "wake of an epoll sleeper by an eventfd, beside a raw futex",
            Aim::None,
            move || wake::<WORDS, _>(place, ASLEEP, turns, EventFd::new),
        ),
        crossing("wake in a set of 1 segment, beside an eventfd", Aim::None, move || {
            let set = || InSet::new(1, Ringing::One);
            wake_beside::<WORDS, _, _>(place, ASLEEP, turns, set, EventFd::new)
        }),
        of_a_set(
            "wake in a set of 1000 segments by one of them, beside a set of 1",
            Aim::Limits(1.15),
            Ringing::One,
        ),
        of_a_set(
            "wake in a set of 1000 segments by each in turn, beside a set of 1",
            Aim::None,
            Ringing::All,
        ),
    ]
}

/// Commits alone, 32 timed together, while a reader has a descriptor that is not armed, or none.
fn commits(place: &Place, has_descriptor: bool, blocks: u64) -> Option<Sample> {
    const BATCH: u64 = 32;
    let options: CreateOptions = options::<WORDS>(true, Policy::Fail, 64);
    let well = alone(place, || {
        let segment = Segment::create_anonymous(&options).expect("a segment");
        let reader = segment.reader(0).expect("a reader");
        if has_descriptor {
            reader.descriptor(Arm::OnRequest).expect("a descriptor");
        }
        let writer = segment.writer().expect("a writer");
        let mut loans = Vec::with_capacity(BATCH as usize);
        for block in 0..blocks {
            loans.extend((0..BATCH).map(|_| writer.reserve(PAYLOAD, None).expect("a slot")));
            let start = ticks();
            for loan in loans.drain(..) {
                loan.commit(PAYLOAD).expect("a commit");
            }
            let took = ticks_when_done() - start;
            if block >= blocks / 8 {
                place.note(took * 16 / BATCH);
            }
            let read = std::iter::from_fn(|| reader.read().expect("a read"));
            assert_eq!(read.count() as u64, BATCH, "each sample is read");
        }
    });
    well.then(|| staying_sample(place, None))
}

/// A file that an inotify instance watches, in an epoll: what the kernel alone takes to ring.
struct Watched {
    file: OwnedFd,
    watch: OwnedFd,
    sleeper: Loop,
}

impl Watched {
    fn new() -> Watched {
        let owned = |made: i32| {
            assert!(made >= 0, "a watched file: {}", io::Error::last_os_error());
            // SAFETY: a new descriptor, which nobody else has.
            unsafe { OwnedFd::from_raw_fd(made) }
        };
        // SAFETY: a text that ends with a zero, or numbers.
        let made = unsafe { owned(libc::memfd_create(c"bench-watched".as_ptr(), 0)) };
        let path = format!("/proc/self/fd/{}\0", made.as_raw_fd());
        // SAFETY: as above; the descriptor is open.
        let (file, watch) = unsafe {
            assert_eq!(libc::ftruncate(made.as_raw_fd(), 4096), 0);
            // Opened again, because the kernel tells nothing of the first one.
            let file = owned(libc::open(path.as_ptr().cast(), libc::O_RDWR | libc::O_CLOEXEC));
            let watch = owned(libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC));
            let events = libc::IN_ACCESS | libc::IN_CLOSE_WRITE;
            let added = libc::inotify_add_watch(watch.as_raw_fd(), path.as_ptr().cast(), events);
            assert!(added >= 0, "a watch: {}", io::Error::last_os_error());
            (file, watch)
        };
        let sleeper = Loop::of(watch.as_fd());
        Watched { file, watch, sleeper }
    }

    fn drain(&self) {
        let mut events = [0_u8; 4096];
        // SAFETY: writes to a local of that size. It fails where there is nothing to drain.
        unsafe { libc::read(self.watch.as_raw_fd(), events.as_mut_ptr().cast(), events.len()) };
    }

    fn ring(&self) {
        let mut byte = 0_u8;
        // SAFETY: writes to a local that lives.
        let count = unsafe { libc::pread(self.file.as_raw_fd(), (&raw mut byte).cast(), 1, 0) };
        assert_eq!(count, 1);
    }
}

/// Commits that find the descriptor armed, by the thread that also arms it and reads. Each must
/// have made it readable. In turn with them, a watched file is read, which is the limit.
fn commits_to_armed(place: &Place, turns: u64) -> Option<Sample> {
    let lane = InLoop::on_request(true);
    let well = alone(place, || {
        let writer = lane.sender();
        let LoopReader { reader, sleeper } = lane.receiver();
        let watched = Watched::new();
        let mut raw_rings = Vec::new();
        for turn in 1..=turns {
            let counts = turn > turns / 10;
            watched.drain();
            assert!(!watched.sleeper.wait(0), "nobody has read");
            let start = ticks();
            watched.ring();
            let took = ticks_when_done() - start;
            if counts {
                raw_rings.push(took.min(u64::from(u32::MAX)) as u32);
            }
            assert!(watched.sleeper.wait(0), "nobody was told");

            let loan = writer.reserve(PAYLOAD, None).expect("a slot");
            assert!(!reader.arm().expect("armed"), "everything was read");
            assert!(!sleeper.wait(0), "nobody has committed");
            let start = ticks();
            loan.commit(PAYLOAD).expect("a commit");
            let took = ticks_when_done() - start;
            if counts {
                place.note(took * 16);
            }
            assert!(sleeper.wait(0), "the commit did not ring");
            assert!(reader.read().expect("a read").is_some());
        }
        raw_rings.sort_unstable();
        place.put(0, middle(&raw_rings));
    });
    well.then(|| staying_sample(place, Some(place.get(0))))
}

/// Commits that find the descriptor armed although its process is awake: it arms before each of
/// them, and polls. Each must have made the descriptor readable.
fn commits_to_busy(place: &Place, turns: u64) -> Option<Sample> {
    let lane = InLoop::on_request(true);
    let well = pair(place, |meeting| {
        let [armed, committed] = [0, 1].map(|at| &place.said[at].0);
        let (mut writer, mut receiver) = (None, None);
        if meeting.side == Side::Here {
            writer = Some(lane.sender());
        }
        meeting.meet();
        if meeting.side == Side::There {
            receiver = Some(lane.receiver());
        }
        let before = meeting.probe();
        for turn in 1..=turns {
            if let Some(writer) = &writer {
                let loan = writer.reserve(PAYLOAD, None).expect("a slot");
                await_value(armed, turn);
                let start = ticks();
                loan.commit(PAYLOAD).expect("a commit");
                let took = ticks_when_done() - start;
                committed.store(turn, Ordering::Release);
                if turn > turns / 10 {
                    place.note(took);
                }
            }
            if let Some(LoopReader { reader, sleeper }) = &receiver {
                assert!(!reader.arm().expect("armed"), "everything was read");
                assert!(!sleeper.wait(0), "nobody has committed");
                armed.store(turn, Ordering::Release);
                while reader.read().expect("a read").is_none() {
                    spin_loop();
                }
                await_value(committed, turn);
                assert!(sleeper.wait(0), "the commit did not ring");
            }
        }
        let after = meeting.probe();
        if meeting.side == Side::Here {
            put_probes(place, [before, after]);
        }
        meeting.meet();
    });
    well.then(|| sample(place, Figures::of_turns(place.noted(), 1.0), Against::Nothing))
}

/// From `kill -9` of the only writer until the loop of its reader, which slept, has read that there
/// is none left.
fn kills(place: &Place, turns: u64) -> Option<Sample> {
    let before = hop(place);
    let lane = InLoop::new(false);
    let well = alone(place, || {
        let ready = &place.said[0].0;
        let LoopReader { reader, sleeper } = lane.receiver();
        let ends = EndWaits { no_writers: true, ..EndWaits::default() };
        reader.end_waits(ends).expect("known");
        for turn in 1..=turns {
            let victim = fork(1, || {
                let writer = lane.sender();
                ready.store(turn, Ordering::Release);
                // SAFETY: takes nothing.
                unsafe { libc::pause() };
                drop(writer);
            });
            await_value(ready, turn);
            assert!(reader.read().expect("a writer is there").is_none());
            spin(ASLEEP);
            let start = ticks();
            // SAFETY: a child that nobody has waited for.
            assert_eq!(unsafe { libc::kill(victim, libc::SIGKILL) }, 0);
            let end = loop {
                assert!(sleeper.wait(1000), "nobody told of the death");
                match reader.read() {
                    Ok(sample) => assert!(sample.is_none(), "nobody wrote"),
                    Err(end) => break end,
                }
            };
            place.note(ticks() - start);
            assert_eq!(end.code(), Code::NoWriters);
            assert!(!join(&[victim]), "it ended by itself");
        }
    });
    let told = place.noted();
    let state = State::agreed(before, hop(place));
    well.then(|| Sample {
        state,
        figures: Figures::of_turns(told, 1.0),
        limit: None,
        interrupted: false,
    })
}

/// What descriptors cost those who commit, and how soon they tell of a death.
fn costs(place: &'static Place, quick: bool) -> Vec<Row> {
    let (blocks, turns, deaths) = if quick { (1 << 10, 500, 5) } else { (1 << 12, 4000, 25) };
    let without = "commit, a reader without a descriptor";
    vec![
        staying(without, Aim::None, move || commits(place, false, blocks)),
        staying(
            "commit, a reader whose descriptor is not armed",
            Aim::Above(without.into(), 1.0),
            move || commits(place, true, blocks),
        ),
        staying(
            "commit, a reader whose descriptor is armed, in one thread, beside a raw pread",
            Aim::Nanoseconds(700.0),
            move || commits_to_armed(place, turns),
        ),
        crossing(
            "commit, a reader whose descriptor is armed and whose loop is busy",
            Aim::Nanoseconds(700.0),
            move || commits_to_busy(place, turns),
        ),
        crossing(
            "kill -9 of the writer until the loop of the reader has NO_WRITERS",
            Aim::Nanoseconds(1e6),
            move || kills(place, deaths),
        ),
    ]
}

/// A table of system calls: nobody armed, and sleepers that are woken.
fn system_calls(place: &Place) -> String {
    let in_loop = |single| move || InLoop::new(single);
    let polls = |single| move || InLoop::on_request(single);
    calls_table(&[
        (
            "a sample, a descriptor that is not armed, single writer",
            0.0,
            calls_per_payload::<WORDS, _>(place, polls(true)),
        ),
        (
            "a sample, a descriptor that is not armed, many writers",
            0.0,
            calls_per_payload::<WORDS, _>(place, polls(false)),
        ),
        (
            "a sleep in epoll and its wake by a commit, single writer",
            3.0,
            calls_per_wake::<WORDS, _>(place, in_loop(true)),
        ),
        (
            "a sleep in epoll and its wake by a commit, many writers",
            3.0,
            calls_per_wake::<WORDS, _>(place, in_loop(false)),
        ),
        (
            "a sleep in epoll and its wake by an eventfd",
            3.0,
            calls_per_wake::<WORDS, _>(place, EventFd::new),
        ),
    ])
}

/// Segments by the thousand are more descriptors than a process may have by default.
fn allow_descriptors() {
    // SAFETY: a local that lives. If it is refused, only rows that need it fail.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
}

fn main() {
    pin(0);
    allow_descriptors();
    let settings = Settings::from_args(false);
    let place = place();
    let mut rows = wakes(place, settings.quick);
    rows.extend(costs(place, settings.quick));
    run(&settings, place, "events", "events", rows);
    if settings.wants("system calls of descriptors") {
        let began = Surroundings::now(place);
        let text = system_calls(place) + &began.until_now();
        print!("{text}");
        keep(&settings, "events_calls", &text);
    }
}
