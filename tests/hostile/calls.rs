//! Our side: every call of the library, in any order, while a peer writes whatever it likes.

use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use shmslot::layout::Geometry;
use shmslot::{
    Arm, AttachOptions, Code, CreateOptions, EndWaits, Loan, Policy, Readable, Reader, Ref,
    Reference, Result, Sample, Segment, Set, Writer,
};

use super::choices::Choices;
use super::fence::{Fence, fenced};
use super::peer::Peer;

/// What the library keeps in private memory.
pub(crate) fn geometry_of(segment: &Segment) -> Geometry {
    segment.info().expect("not forked").geometry
}

/// A segment of any shape, and on it calls and moves of a peer in turn, all chosen by the bytes.
pub(crate) fn peer_moves(bytes: &[u8]) {
    let mut c = Choices::new(bytes);
    World::create(&mut c).live(&mut c);
}

/// One kind of call, its arguments chosen by the bytes.
type Call = fn(&mut World, &mut Choices<'_>);

/// All calls. A step whose number is not in the list belongs to the peer, so adding a call here
/// moves no other.
const CALLS: &[Call] = &[
    World::reserve,
    World::reserve,
    World::commit,
    World::commit,
    World::discard,
    World::write,
    World::write,
    World::read,
    World::read,
    World::read_and_mark,
    World::mark,
    World::mark,
    World::peek,
    World::wait,
    World::wait_space,
    World::join,
    World::leave,
    World::open_writer,
    World::close_writer,
    World::interrupt,
    World::generation,
    World::attach,
    World::close_segment,
    World::open_books,
    World::close_books,
    World::books_reserve,
    World::books_commit,
    World::books_discard,
    World::books_read,
    World::books_mark,
    |world, _| _ = answer(world.segment().info()),
    |world, _| _ = answer(world.segment().participants()),
    |world, _| _ = answer(world.segment().recover()),
    |world, _| _ = answer(world.segment().trim()),
    World::end_waits,
    World::arm,
    |world, _| world.lenders.iter().for_each(|lender| _ = lender.writer().blockers()),
    World::books_scan,
    |world, _| counted(world.segment()),
    |world, _| _ = answer(world.segment().is_named()),
    |world, c| expel(world.segment(), c.below(64)),
    World::reserve_many,
    World::commit_many,
    World::read_many,
    World::mark_many,
    World::change_set,
    World::wait_in_set,
];
/// Steps are numbered below one of these: the larger it is, the more of them belong to the peer.
const STEPS: [usize; 4] = [48, 52, 64, 128];
const _: () = assert!(CALLS.len() < STEPS[0]);

/// Timeouts that end soon.
const TIMEOUTS: [Duration; 4] =
    [Duration::ZERO, Duration::ZERO, Duration::from_nanos(1), Duration::from_micros(20)];

/// How many a call is to take at once.
const MANY: [usize; 4] = [2, 20, 100, usize::MAX];

/// Every error code except those of a defect is an answer.
fn answer<T>(result: Result<T>) -> Option<T> {
    let code = match result {
        Ok(value) => return Some(value),
        Err(error) => error.code(),
    };
    assert!(!matches!(code, Code::Panic | Code::Sys), "a call fails with {code:?}");
    None
}

/// Whatever a slot holds, it is counted once.
fn counted(segment: &Segment) {
    if let Some(seen) = answer(segment.counters()) {
        let sum = u64::from(seen.free) + u64::from(seen.loaned) + u64::from(seen.unread);
        let slots = u64::from(geometry_of(segment).slot_count);
        assert_eq!(sum + u64::from(seen.held) + u64::from(seen.retained), slots, "{seen:?}");
    }
    let _ = (answer(segment.readers()), answer(segment.writers()), answer(segment.deaths()));
}

/// Whatever a row holds.
fn expel(segment: &Segment, number: usize) {
    if let Some(readers) = answer(segment.readers()) {
        if let Some(reader) = number.checked_rem(readers.len()).and_then(|nth| readers.get(nth)) {
            let _ = answer(segment.expel(reader));
        }
    }
}

/// A writer and its loans.
struct Lender {
    /// Dropped first, because they borrow the writer.
    loans: Vec<Loan<&'static Writer>>,
    writer: *mut Writer,
}

impl Lender {
    fn new(writer: Writer) -> Lender {
        Lender { loans: Vec::new(), writer: Box::into_raw(Box::new(writer)) }
    }

    fn writer(&self) -> &Writer {
        // SAFETY: from `into_raw`, and freed by `drop` alone.
        unsafe { &*self.writer }
    }

    fn reserve(&mut self, len: usize, timeout: Duration) -> Result<()> {
        // SAFETY: as in `writer`; the loan goes to `loans`, which `drop` empties before it frees
        // the writer, and a caller that takes it out ends it at once.
        let writer: &'static Writer = unsafe { &*self.writer };
        self.loans.push(writer.reserve(len, Some(timeout))?);
        Ok(())
    }

    fn reserve_many(&mut self, len: usize, timeout: Duration, most: usize) -> Result<usize> {
        // SAFETY: as in `reserve`.
        let writer: &'static Writer = unsafe { &*self.writer };
        writer.reserve_many(len, Some(timeout), most, &mut self.loans)
    }

    fn commit_many(&mut self, lens: &[usize]) -> Result<usize> {
        // SAFETY: as in `reserve`.
        let writer: &'static Writer = unsafe { &*self.writer };
        writer.commit_many(&mut self.loans, lens, |_| {})
    }
}

impl Drop for Lender {
    fn drop(&mut self) {
        self.loans.clear();
        // SAFETY: from `into_raw`, and no loan is left to borrow it.
        drop(unsafe { Box::from_raw(self.writer) });
    }
}

/// The reference operations, and the slots that were seen through them, including stale ones.
struct Books {
    reference: Reference,
    slots: Vec<Ref>,
}

/// Everything that a process may have of one segment.
pub(crate) struct World {
    samples: Vec<Sample<'static>>,
    lenders: Vec<Lender>,
    readers: Vec<Reader>,
    books: Vec<Books>,
    /// Made by the first call that needs it.
    set: Option<Set>,
    segments: Vec<Segment>,
    options: AttachOptions,
    geometry: Geometry,
    /// Shared with a thread that moves at the same time.
    pub(crate) peer: Arc<Peer>,
    /// Dropped last: nothing may be mapped in the holes before.
    fences: Vec<Fence>,
}

/// Most entries of each of the lists above.
const ENOUGH: usize = 8;

fn any_shape(c: &mut Choices<'_>) -> CreateOptions {
    let slot_count = c.pick(&[1, 2, 2, 3, 4, 4, 5, 8, 64, 65, 100]);
    let history = c.pick(&[0, 0, 1, 2, 3, slot_count - 1]).min(slot_count - 1);
    // Retained payloads keep their regions.
    let max_payload = if history < 63 { c.pick(&[0, 0, 101, 4096, 100_000]) } else { 0 };
    let options = CreateOptions {
        max_payload,
        region_count: c.pick(&[0, history + 1, history + 2]).min(63),
        slot_count,
        slot_capacity: c.pick(&[1, 8, 64, 100]),
        payload_align: c.pick(&[64, 64, 128]),
        user_header_size: c.pick(&[0, 0, 8, 65, 256]),
        max_readers: c.pick(&[1, 3, 15, 16, 17, 31, 47, 63]),
        max_participants: c.pick(&[1, 2, 3]),
        history,
        policy: Some(c.pick(&[Policy::Fail, Policy::Block, Policy::DropOldest])),
        single_writer: c.flag(),
        timestamps: c.flag(),
        max_loans: c.pick(&[0, 0, 0, 2]),
        spin: Some(c.pick(&[Duration::ZERO, Duration::from_nanos(100)])),
        ..CreateOptions::default()
    };
    // One choice for both: another would move the meaning of all seeds.
    CreateOptions { max_held: options.max_loans, ..options }
}

impl World {
    pub(crate) fn create(c: &mut Choices<'_>) -> World {
        let (options, local) = (any_shape(c), c.flag());
        // An existing segment tells best how large it will be.
        let like = Segment::create_local(&options).expect("the shape is right");
        let size = geometry_of(&like).offsets().expect("the shape fits").total as usize;
        drop(like);
        let make = || {
            if local {
                Segment::create_local(&options)
            } else {
                Segment::create_anonymous(&options)
            }
        };
        let (segment, fence) = fenced(size, make).expect("there is memory");
        let fence = fence.expect("there are addresses");
        let peer = Peer::new(&segment, segment.fd().ok(), fence.inside().start);
        let CreateOptions { spin, max_loans, .. } = options;
        World::new(
            segment,
            fence,
            peer,
            AttachOptions { spin, max_loans, ..AttachOptions::default() },
        )
    }

    /// A process that has attached to a segment whose file a peer has, too.
    pub(crate) fn attached(
        segment: Segment,
        fence: Fence,
        fd: BorrowedFd<'_>,
        options: AttachOptions,
    ) -> World {
        let peer = Peer::new(&segment, Some(fd), fence.inside().start);
        World::new(segment, fence, peer, options)
    }

    fn new(segment: Segment, fence: Fence, peer: Peer, options: AttachOptions) -> World {
        World {
            samples: Vec::new(),
            lenders: Vec::new(),
            readers: Vec::new(),
            books: Vec::new(),
            set: None,
            geometry: geometry_of(&segment),
            segments: vec![segment],
            options,
            peer: Arc::new(peer),
            fences: vec![fence],
        }
    }

    /// Takes one step after another, ours and the peer's, until the bytes are used up; then
    /// releases everything.
    pub(crate) fn live(mut self, c: &mut Choices<'_>) {
        let steps = c.pick(&STEPS);
        while !c.is_over() {
            match CALLS.get(c.below(steps)) {
                Some(call) => call(&mut self, c),
                None => self.peer.strike(c),
            }
        }
        // In the order that the bytes choose, if any are left.
        let mut parts: [Call; 5] = [
            |world, _| world.samples.clear(),
            |world, _| world.lenders.clear(),
            |world, _| world.readers.clear(),
            |world, _| world.books.clear(),
            |world, _| world.segments.clear(),
        ];
        parts.rotate_left(c.below(5));
        parts.into_iter().for_each(|part| part(&mut self, c));
    }

    /// Where the first attachment is mapped.
    pub(crate) fn place(&self) -> Range<usize> {
        self.fences[0].inside()
    }

    /// Passes one sample from a writer to a reader, as far as that works.
    pub(crate) fn exchange(&mut self) {
        let c = &mut Choices::new(&[]);
        self.reader(c);
        self.write(c);
        self.read_and_mark(c);
    }

    /// The same with batches.
    pub(crate) fn exchange_many(&mut self) {
        let c = &mut Choices::new(&[]);
        self.reader(c);
        self.reserve_many(c);
        self.commit_many(c);
        self.read_many(c);
        self.mark_many(c);
    }

    /// Passes one sample in every slot, and holds all of them.
    pub(crate) fn hold_all(&mut self) {
        let c = &mut Choices::new(&[]);
        self.reader(c);
        for _ in 0..self.geometry.slot_count {
            self.write(c);
            self.read(c);
        }
        assert_eq!(self.samples.len(), self.geometry.slot_count as usize, "nobody has moved yet");
    }

    /// Sends a sample, if a writer finds room.
    pub(crate) fn send(&mut self) {
        self.write(&mut Choices::new(&[]));
    }

    /// The first attachment stays open until the end.
    fn segment(&self) -> &Segment {
        &self.segments[0]
    }

    fn any_segment(&self, c: &mut Choices<'_>) -> &Segment {
        &self.segments[c.below(self.segments.len())]
    }

    /// Fails unless the whole range lies in one of our mappings.
    fn check_inside(&self, start: *const u8, len: usize) {
        let start = start.addr();
        let end = start.checked_add(len).expect("memory does not wrap");
        let inside = |fence: &Fence| fence.inside().start <= start && end <= fence.inside().end;
        assert!(
            self.fences.iter().any(inside),
            "{len} bytes at {start:#x} are outside the mappings"
        );
    }

    /// Fails unless this is an aligned payload of at most the capacity of a slot, then reads both
    /// its ends.
    fn look_at(&self, payload: *const u8, len: usize) {
        assert!(len <= self.largest(), "neither a slot nor a region has {len} bytes");
        assert!(payload.addr() % self.geometry.payload_align as usize == 0, "aligned");
        self.check_inside(payload, len);
        for at in [0, len.saturating_sub(1)].into_iter().filter(|at| *at < len) {
            // SAFETY: inside a mapping, as was just checked. If it is not mapped after all, this
            // test must find out.
            unsafe { payload.add(at).read_volatile() };
        }
    }

    /// As `look_at`, for what a writer may fill, and writes both its ends.
    fn fill(&self, payload: *mut u8, len: usize) {
        self.look_at(payload, len);
        let end = len.min(64);
        // SAFETY: as in `look_at`; this process has a writer, and the bytes are on loan to it.
        unsafe {
            ptr::write_bytes(payload, 0x5a, end);
            ptr::write_bytes(payload.add(len - end), 0xa5, end);
        }
    }

    fn check_user_header(&self, header: *const u8) {
        let size = self.geometry.user_header_size as usize;
        assert_eq!(header.is_null(), size == 0);
        if size > 0 {
            self.check_inside(header, size);
            // SAFETY: as in `look_at`.
            unsafe { header.add(size - 1).read_volatile() };
        }
    }

    fn look_at_sample(&self, sample: &Sample<'_>) {
        self.look_at(sample.as_ptr(), sample.len());
        self.check_user_header(sample.user_header());
        let mut start = [0; 300];
        sample.copy_to(&mut start);
        sample.read_user_header(&mut start);
        let _ = (sample.sequence(), sample.timestamp_ns(), sample.writer_id(), sample.is_empty());
    }

    fn largest(&self) -> usize {
        self.geometry.max_payload.max(self.geometry.slot_capacity) as usize
    }

    /// A length that fits, or exceeds the limit by little.
    fn any_len(&self, c: &mut Choices<'_>) -> usize {
        let (capacity, largest) = (self.geometry.slot_capacity as usize, self.largest());
        c.pick(&[capacity, 0, 1, capacity - 1, capacity, capacity + 1, largest, largest + 1])
    }

    // Writers.

    fn open_writer(&mut self, c: &mut Choices<'_>) {
        let writer = answer(self.any_segment(c).writer());
        let _ = writer.as_ref().map(Writer::id);
        self.lenders.extend(writer.map(Lender::new));
        self.lenders.truncate(ENOUGH);
    }

    fn close_writer(&mut self, c: &mut Choices<'_>) {
        if !self.lenders.is_empty() {
            self.lenders.swap_remove(c.below(self.lenders.len()));
        }
    }

    /// A writer, opened if there is none.
    fn lender(&mut self, c: &mut Choices<'_>) -> Option<usize> {
        if self.lenders.is_empty() {
            self.open_writer(c);
        }
        (!self.lenders.is_empty()).then(|| c.below(self.lenders.len()))
    }

    fn reserve(&mut self, c: &mut Choices<'_>) {
        let (len, timeout) = (self.any_len(c), c.pick(&TIMEOUTS));
        let Some(lender) = self.lender(c) else { return };
        let lender = &mut self.lenders[lender];
        if lender.loans.len() >= ENOUGH || answer(lender.reserve(len, timeout)).is_none() {
            return;
        }
        let loan = lender.loans.last_mut().expect("it was reserved");
        let (payload, len, header) = (loan.as_mut_ptr(), loan.reserved(), loan.user_header());
        self.fill(payload, len);
        self.check_user_header(header);
    }

    fn reserve_many(&mut self, c: &mut Choices<'_>) {
        let (len, timeout, most) = (self.any_len(c), c.pick(&TIMEOUTS), c.pick(&MANY));
        let Some(lender) = self.lender(c) else { return };
        let lender = &mut self.lenders[lender];
        let before = lender.loans.len();
        if before >= ENOUGH || answer(lender.reserve_many(len, timeout, most)).is_none() {
            return;
        }
        let added = &mut lender.loans[before..];
        let added: Vec<_> =
            added.iter_mut().map(|loan| (loan.as_mut_ptr(), loan.reserved())).collect();
        added.into_iter().for_each(|(payload, len)| self.fill(payload, len));
    }

    fn commit_many(&mut self, c: &mut Choices<'_>) {
        let lens = [self.any_len(c), self.any_len(c)].repeat(20);
        let Some(lender) = self.lender(c) else { return };
        answer(self.lenders[lender].commit_many(&lens));
    }

    /// A loan, removed from its writer's list.
    fn take_loan(&mut self, c: &mut Choices<'_>) -> Option<Loan<&'static Writer>> {
        let lender = self.lender(c)?;
        let loans = &mut self.lenders[lender].loans;
        (!loans.is_empty()).then(|| loans.swap_remove(c.below(loans.len())))
    }

    fn commit(&mut self, c: &mut Choices<'_>) {
        let (len, header) = (self.any_len(c), c.flag());
        let Some(mut loan) = self.take_loan(c) else { return };
        if header {
            answer(loan.write_user_header(&[0x3c; 300][..self.geometry.user_header_size as usize]));
        }
        answer(loan.copy_from(&[0x77; 8][..len.min(8)]));
        answer(loan.commit(len));
    }

    fn discard(&mut self, c: &mut Choices<'_>) {
        drop(self.take_loan(c));
    }

    fn write(&mut self, c: &mut Choices<'_>) {
        let (len, timeout) = (self.any_len(c), c.pick(&TIMEOUTS));
        let Some(lender) = self.lender(c) else { return };
        answer(self.lenders[lender].writer().write(&[0x11; 300][..len.min(300)], Some(timeout)));
    }

    fn wait_space(&mut self, c: &mut Choices<'_>) {
        let timeout = c.pick(&TIMEOUTS);
        let Some(lender) = self.lender(c) else { return };
        answer(self.lenders[lender].writer().wait_space(Some(timeout)));
    }

    // Readers.

    fn join(&mut self, c: &mut Choices<'_>) {
        let any = c.byte().into();
        let history = c.pick(&[0, self.geometry.history, any]);
        let reader = answer(self.any_segment(c).reader(history));
        if let Some(reader) = &reader {
            assert!(reader.index() < self.geometry.max_readers);
        }
        self.readers.extend(reader);
        self.readers.truncate(ENOUGH);
    }

    fn leave(&mut self, c: &mut Choices<'_>) {
        if !self.readers.is_empty() {
            self.readers.swap_remove(c.below(self.readers.len()));
        }
    }

    /// A reader, joined if there is none.
    fn reader(&mut self, c: &mut Choices<'_>) -> Option<&Reader> {
        if self.readers.is_empty() {
            self.join(c);
        }
        (!self.readers.is_empty()).then(|| &self.readers[c.below(self.readers.len())])
    }

    /// Looks at a sample and holds it.
    fn keep(&mut self, sample: Option<Sample<'static>>) {
        let Some(sample) = sample else { return };
        self.look_at_sample(&sample);
        self.samples.push(sample);
        self.samples.truncate(4 * ENOUGH);
    }

    fn read(&mut self, c: &mut Choices<'_>) {
        let Some(reader) = self.reader(c) else { return };
        let sample = answer(reader.read()).flatten().map(Sample::into_owned);
        self.keep(sample);
    }

    fn read_many(&mut self, c: &mut Choices<'_>) {
        let most = c.pick(&MANY);
        let Some(reader) = self.reader(c) else { return };
        let mut samples = Vec::new();
        answer(reader.read_many(most, &mut samples));
        let samples: Vec<_> = samples.into_iter().map(Sample::into_owned).collect();
        samples.into_iter().for_each(|sample| self.keep(Some(sample)));
    }

    fn mark_many(&mut self, c: &mut Choices<'_>) {
        let mut samples = std::mem::take(&mut self.samples);
        let Some(reader) = self.reader(c) else { return };
        reader.mark_many(&mut samples);
    }

    fn peek(&mut self, c: &mut Choices<'_>) {
        let Some(reader) = self.reader(c) else { return };
        let sample = answer(reader.peek_latest()).flatten().map(Sample::into_owned);
        self.keep(sample);
    }

    fn read_and_mark(&mut self, c: &mut Choices<'_>) {
        let Some(reader) = self.reader(c) else { return };
        let _ = reader.lost();
        let sample = answer(reader.read()).flatten().map(Sample::into_owned);
        sample.iter().for_each(|sample| self.look_at_sample(sample));
    }

    fn mark(&mut self, c: &mut Choices<'_>) {
        if !self.samples.is_empty() {
            self.samples.swap_remove(c.below(self.samples.len()));
        }
    }

    fn wait(&mut self, c: &mut Choices<'_>) {
        let (timeout, all) = (c.pick(&TIMEOUTS), c.flag());
        let Some(reader) = self.reader(c) else { return };
        if !all {
            answer(reader.wait(Some(timeout)));
            return;
        }
        let readers: Vec<&Reader> = self.readers.iter().collect();
        if let Some(ready) = answer(Reader::wait_any(&readers, Some(timeout))) {
            assert!(ready < readers.len());
        }
    }

    /// Puts something into the set, or takes something out.
    fn change_set(&mut self, c: &mut Choices<'_>) {
        let (kind, cookie) = (c.below(5), c.below(ENOUGH) as u64);
        // Seldom, because the kernel takes some 10 ms to close a set.
        if self.set.is_none() && c.below(8) == 0 {
            let readable = c.pick(&[Readable::Level, Readable::Edge]);
            self.set = answer(Set::new(readable));
        }
        match kind {
            0 => _ = self.reader(c),
            1 => _ = self.lender(c),
            _ => {}
        }
        let Some(set) = &self.set else { return };
        match kind {
            0 => self.readers.iter().for_each(|reader| _ = answer(set.add_reader(reader, cookie))),
            1 => self.lenders.iter().for_each(|lender| {
                answer(set.add_writer(lender.writer(), cookie));
            }),
            2 => _ = answer(set.add_segment(self.any_segment(c), cookie)),
            3 => _ = answer(set.remove(cookie)),
            _ => self.set = None,
        }
    }

    fn wait_in_set(&mut self, c: &mut Choices<'_>) {
        let (timeout, most) = (c.pick(&TIMEOUTS), c.pick(&MANY));
        let Some(set) = &self.set else { return };
        let mut events = Vec::new();
        if let Some(count) = answer(set.wait(&mut events, most, Some(timeout))) {
            assert!(count == events.len() && count <= most.min(ENOUGH));
            assert!(events.iter().all(|event| event.cookie < ENOUGH as u64));
        }
    }

    fn end_waits(&mut self, c: &mut Choices<'_>) {
        let when = EndWaits {
            no_writers: c.flag(),
            peer_dead: c.flag(),
            signal: c.flag(),
            retired: false,
        };
        if let Some(reader) = self.reader(c) {
            answer(reader.end_waits(when));
        }
    }

    fn arm(&mut self, c: &mut Choices<'_>) {
        let when = if c.flag() { Arm::OnRequest } else { Arm::WhenNothingIsThere };
        if let Some(reader) = self.reader(c) {
            answer(reader.descriptor(when));
            answer(reader.arm());
        }
        for lender in &self.lenders {
            answer(lender.writer().descriptor(when));
            answer(lender.writer().arm());
        }
    }

    fn interrupt(&mut self, c: &mut Choices<'_>) {
        if c.flag() {
            self.readers.iter().for_each(|reader| _ = answer(reader.interrupter().interrupt()));
        } else {
            self.lenders
                .iter()
                .for_each(|lender| _ = answer(lender.writer().interrupter().interrupt()));
        }
    }

    // Segments.

    fn generation(&mut self, c: &mut Choices<'_>) {
        let (timeout, past) = (c.pick(&TIMEOUTS), c.flag());
        let segment = self.any_segment(c);
        let Some(generation) = answer(segment.generation()) else { return };
        let last = generation.wrapping_sub(past.into());
        answer(segment.wait_for_change(last, Some(timeout)));
    }

    /// One more attachment of this process, as if it were another process.
    fn attach(&mut self, _: &mut Choices<'_>) {
        if self.segments.len() < 3 {
            self.attach_again();
        }
    }

    /// Where it is mapped, if attaching succeeded.
    pub(crate) fn attach_again(&mut self) -> Option<Range<usize>> {
        let options = AttachOptions { observer: false, ..self.options.clone() };
        let fd = self.segment().fd().ok()?;
        let (segment, fence) =
            answer(fenced(self.place().len(), || Segment::attach_fd(fd, &options)))?;
        let place = fence.as_ref().map(Fence::inside);
        self.segments.push(segment);
        self.fences.extend(fence);
        place
    }

    fn close_segment(&mut self, _: &mut Choices<'_>) {
        if self.segments.len() > 1 {
            self.segments.pop();
        }
    }

    // The reference operations.

    fn open_books(&mut self, c: &mut Choices<'_>) {
        if self.books.len() < 2 {
            let reference = answer(self.any_segment(c).reference());
            self.books.extend(reference.map(|reference| Books { reference, slots: Vec::new() }));
        }
    }

    fn close_books(&mut self, _: &mut Choices<'_>) {
        self.books.pop();
    }

    fn books(&mut self, c: &mut Choices<'_>) -> Option<&mut Books> {
        if self.books.is_empty() {
            self.open_books(c);
        }
        self.books.last_mut()
    }

    fn any_slot(&mut self, c: &mut Choices<'_>) -> Option<(&Books, Ref)> {
        let books = self.books(c).filter(|books| !books.slots.is_empty())?;
        let slot = c.pick(&books.slots);
        Some((books, slot))
    }

    fn books_reserve(&mut self, c: &mut Choices<'_>) {
        let mask = c.pick(&[0, 1, 3]) & (u64::MAX >> (64 - self.geometry.max_readers));
        let mask = if c.byte() < 240 { mask } else { c.word() };
        let Some(books) = self.books(c) else { return };
        let Some(slot) = answer(books.reference.reserve(mask)) else { return };
        books.slots.insert(0, slot);
        books.slots.truncate(4 * ENOUGH);
        if let Some((payload, len)) = answer(books.reference.data_ptr(slot)) {
            self.fill(payload, len);
        }
    }

    fn books_commit(&mut self, c: &mut Choices<'_>) {
        let (len, copy) = (self.any_len(c), c.flag());
        let Some((books, slot)) = self.any_slot(c) else { return };
        if copy {
            answer(books.reference.commit_copy(slot, &[0x22; 300][..len.min(300)]));
        } else {
            answer(books.reference.commit_in_place(slot, len));
        }
    }

    fn books_discard(&mut self, c: &mut Choices<'_>) {
        let Some((books, slot)) = self.any_slot(c) else { return };
        answer(books.reference.discard(slot));
    }

    fn books_read(&mut self, c: &mut Choices<'_>) {
        let reader = u32::from(c.byte()) % (self.geometry.max_readers + 1);
        let Some(books) = self.books(c) else { return };
        let Some(slot) = answer(books.reference.next_unread(reader)).flatten() else { return };
        books.slots.insert(0, slot);
        books.slots.truncate(4 * ENOUGH);
        let mut copy = [0; 300];
        // SAFETY: this thread is the only one of its process that writes.
        answer(unsafe { books.reference.read_copy(slot, &mut copy) });
        let seen = answer(books.reference.read_ptr(slot));
        if let Some((payload, len)) = seen {
            self.look_at(payload, len);
        }
    }

    fn books_scan(&mut self, c: &mut Choices<'_>) {
        let slot = u32::from(c.byte()) % (self.geometry.slot_count + 1);
        let Some(books) = self.books(c) else { return };
        let Some(slot) = answer(books.reference.published(slot)).flatten() else { return };
        answer(books.reference.header(slot));
        books.slots.insert(0, slot);
        books.slots.truncate(4 * ENOUGH);
    }

    fn books_mark(&mut self, c: &mut Choices<'_>) {
        let (reader, gone) = (u32::from(c.byte()) % (self.geometry.max_readers + 1), c.byte() < 32);
        if gone {
            let Some(books) = self.books(c) else { return };
            answer(books.reference.mark_reader_disconnected(reader));
            return;
        }
        let Some((books, slot)) = self.any_slot(c) else { return };
        answer(books.reference.mark_read(slot, reader));
    }
}
