//! One process's attachment to a segment: from a file that may hold anything to a checked, typed view.
//!
//! One of the four places with `unsafe`: here a mapping becomes a typed view, once, after every size in it has
//! been checked against the file.
#![allow(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicPtr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::atomics::{AtomicU64, Ordering, fence};
use crate::cache;
use crate::error::{Code, Error, Result};
use crate::layout::{
    self, Claim, Geometry, HEADER_SIZE, HOT_OFFSET, Hot, LAYOUT_VERSION, Offsets, ParticipantRow, ReaderRow,
    RegionRow, SlotLine,
};
use crate::options::Options;
use crate::participants::{Look, MARK_BASE, Participant, Participants, Rows};
use crate::protocol::bell::Bell;
use crate::protocol::bounds::RACES;
use crate::protocol::shape::Shape;
use crate::protocol::table::Table;
use crate::protocol::words::{Place, Reserved};
use crate::protocol::{order, recovery, region, rows, vacancy};
use crate::sys::mapping::{Advice, Span};
use crate::sys::{self, Birth, KeptFd};

/// One attachment: the mapping, its checked view, and this process's row.
pub(crate) struct Attachment {
    /// Valid as long as `map`; handed out only with the lifetime of `self`.
    table: Table<'static>,
    /// Whose process it is. A forked child has the mapping, too, and must leave it alone.
    birth: Birth,
    /// Valid as long as `map`. It holds this process's row, and the file with its lock.
    participants: Participants,
    map: Span,
    path: Option<PathBuf>,
    /// Made when somebody asks for it; null before. No lock: a forked child, which may ask as well, would find it taken by a
    /// thread that it does not have.
    shareable: AtomicPtr<KeptFd>,
    geometry: Geometry,
    offsets: Offsets,
    /// Held by the thread that cleans up after the dead.
    recovering: Mutex<()>,
    /// When a look for the dead is due again, in nanoseconds of the monotonic clock.
    next_look: AtomicU64,
    /// Writer numbers of this participant in use, one bit each; and whether payloads may be written.
    writers: Mutex<Writers>,
    huge_bytes: u64,
    spin: Duration,
    max_loans: u32,
    prefault: bool,
    stream_copies: bool,
}

#[derive(Default)]
struct Writers {
    taken: Vec<u64>,
    payload_writable: bool,
}

impl Writers {
    fn count(&self) -> u32 {
        self.taken.iter().map(|word| word.count_ones()).sum()
    }
}

/// How often those who wait look for the dead, in nanoseconds: they may be waiting for one of them.
pub(crate) const SLICE: u64 = 200_000_000;

/// Copies of so many bytes go around the caches if that was asked for. Smaller ones are read before they leave them.
const STREAM_FROM: usize = 1 << 16;

/// Regions get memory in multiples of this.
const REGION_STEP: u64 = 1 << 16;

/// Writers that one participant may have open: an owner gives a writer 12 bits.
const MAX_WRITERS: u32 = 4096;

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment")
            .field("path", &self.path)
            .field("geometry", &self.geometry)
            .field("participant", &self.participants.own())
            .finish_non_exhaustive()
    }
}

impl Attachment {
    /// Makes a segment in `fd`, which nobody else can see yet, or in private memory.
    pub(crate) fn build(
        fd: Option<OwnedFd>,
        geometry: Geometry,
        options: &Options,
        path: Option<PathBuf>,
    ) -> Result<Attachment> {
        let offsets =
            geometry.offsets().ok_or(Error::about(Code::BadOptions, "slot_capacity times slot_count"))?;
        let map = match &fd {
            Some(fd) => {
                sys::check_room(fd, offsets.fixed_size)?;
                sys::check_memory_limit(offsets.fixed_size)?;
                sys::set_size(fd, offsets.total)?;
                sys::allocate(fd, 0, offsets.fixed_size)?;
                map_file(fd, &offsets, options)?
            }
            None => map_private(&offsets)?,
        };
        let header = geometry.encode(&offsets);
        // SAFETY: the mapping is larger than the header, writable, and no one else's yet.
        unsafe { map.start().as_ptr().copy_from_nonoverlapping(header.as_ptr(), HEADER_SIZE) };
        // Freshly allocated memory is zero, and zero is right for all words but these.
        // SAFETY: the mapping is `offsets.total` bytes of a segment of this geometry.
        let (table, participants) = unsafe { view(&map, &geometry, &offsets) };
        table.hot.tail.0.store(order::FIRST, Ordering::Relaxed);
        vacancy::offer_all(&table);
        participants.begin();
        Attachment::finish(map, table, participants, fd, geometry, offsets, options, path)
    }

    /// Attaches to a file that may hold anything; `None` if it is being replaced.
    pub(crate) fn attach(
        fd: OwnedFd,
        options: &Options,
        path: Option<PathBuf>,
        must_be_sealed: bool,
    ) -> Result<Option<Attachment>> {
        let (geometry, offsets) = Attachment::check_file(&fd, options, must_be_sealed)?;
        let map = map_file(&fd, &offsets, options)?;
        // SAFETY: the file is as long as `offsets.total`, `check_file` made sure. Its owner can cut a named one later;
        // then an access faults, as the header says, which ends the process and corrupts nothing.
        let (table, participants) = unsafe { view(&map, &geometry, &offsets) };
        let inner = Attachment::finish(map, table, participants, Some(fd), geometry, offsets, options, path)?;
        // After the row was taken: see `name::replace`. Who only looks takes none, and sees what was there before.
        let retired = inner.table.hot.life.0.retired.load(Ordering::SeqCst) != 0;
        if retired && !options.look_only {
            return Ok(None);
        }
        if inner.participants.own().is_some() {
            // A segment whose words were spoiled can be attached to as well; then each call tells.
            let _ = inner.recover_some();
        }
        Ok(Some(inner))
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one struct, from two callers")]
    fn finish(
        map: Span,
        table: Table<'static>,
        participants: Rows,
        fd: Option<OwnedFd>,
        geometry: Geometry,
        offsets: Offsets,
        options: &Options,
        path: Option<PathBuf>,
    ) -> Result<Attachment> {
        let mut kept = fd.map(|fd| KeptFd::new(fd, "descriptor # of the segment")).transpose()?;
        if let (true, Some(kept)) = (options.look_only, &mut kept) {
            // Without a row it has no lock.
            kept.mark(MARK_BASE)?;
        }
        let mut inner = Attachment {
            table,
            birth: Birth::of_this_process()?,
            participants: Participants::new(participants, kept),
            map,
            path,
            shareable: AtomicPtr::new(std::ptr::null_mut()),
            geometry,
            offsets,
            recovering: Mutex::new(()),
            next_look: AtomicU64::new(0),
            writers: Mutex::default(),
            huge_bytes: 0,
            // A spinning thread on a single processor only keeps the other side from running.
            spin: if sys::several_processors() { options.spin } else { Duration::ZERO },
            max_loans: options.max_loans,
            prefault: options.prefault,
            stream_copies: options.stream_copies,
        };
        if options.huge_pages {
            inner.huge_bytes = inner.map.collapse(inner.offsets.fixed_size as usize) as u64;
        }
        if !options.look_only {
            inner.take_row()?;
            inner.protect_payload(false)?;
        }
        Ok(inner)
    }

    /// Everything that can be said of a file before it is mapped.
    pub(crate) fn check_file(
        fd: &OwnedFd,
        options: &Options,
        must_be_sealed: bool,
    ) -> Result<(Geometry, Offsets)> {
        let facts = sys::file_facts(fd.as_fd())?;
        if !facts.is_regular {
            return Err(Error::about(Code::NotAFile, "the path"));
        }
        if facts.owner != sys::effective_uid() && !options.any_owner {
            return Err(Error::about(Code::Permission, "another user's segment"));
        }
        if must_be_sealed && !sys::is_size_sealed(fd) {
            return Err(Code::NotSealed.into());
        }
        if facts.size == 0 {
            return Err(Code::Empty.into());
        }
        let mut header = [0; HEADER_SIZE];
        let read = sys::read_at(fd, 0, &mut header)?;
        if read < HEADER_SIZE {
            let known = read.min(layout::MAGIC.len());
            let ours = header.get(..known) == layout::MAGIC.get(..known);
            return Err(if ours { Code::Truncated } else { Code::NotASegment }.into());
        }
        let (geometry, offsets) =
            Geometry::decode(&header).map_err(|code| match layout::version_of(&header) {
                Some(version) if version != LAYOUT_VERSION => other_version(version),
                _ if code == Code::LayoutVersion => {
                    Error::about(code, "another byte order, or a feature that this library does not know")
                }
                _ => code.into(),
            })?;
        if facts.mode & !geometry.mode != 0 && !options.any_owner {
            return Err(Error::about(Code::Permission, "the mode was loosened"));
        }
        match facts.size.cmp(&offsets.total) {
            std::cmp::Ordering::Less => return Err(Code::Truncated.into()),
            std::cmp::Ordering::Equal => {}
            std::cmp::Ordering::Greater => return Err(Error::about(Code::Corrupt, "file too long")),
        }
        if options.type_hash != [0; 16] && options.type_hash != geometry.type_hash {
            return Err(Code::TypeMismatch.into());
        }
        Ok((geometry, offsets))
    }

    /// Takes a row, one of a dead participant if no other is left.
    fn take_row(&mut self) -> Result<()> {
        match self.participants.take() {
            // A dead one's will do. Whoever cleaned up, it may be free now.
            Err(error) if error.code() == Code::NoParticipantSlot => {
                self.participants.enter_anteroom()?;
                let recovered = self.recover();
                self.participants.give_back();
                recovered?;
                self.participants.take()
            }
            taken => taken,
        }
    }

    /// The shared words; not for a forked child, which would use them in its parent's name.
    #[inline(always)]
    pub(crate) fn table(&self) -> std::result::Result<&Table<'_>, Code> {
        if self.birth.is_here() { Ok(&self.table) } else { Err(Code::Forked) }
    }

    /// Cleans up after participants that are dead; how many they were.
    pub(crate) fn recover(&self) -> Result<u32> {
        // Before the lock: in a forked child, another thread may have it for ever.
        self.table()?;
        // The guarded value is empty: a panic cannot have spoiled it.
        let alone = self.recovering.lock().unwrap_or_else(PoisonError::into_inner);
        self.recover_alone(&alone, Look::Whole)
    }

    /// The same after some of them.
    fn recover_some(&self) -> Result<u32> {
        let alone = self.recovering.lock().unwrap_or_else(PoisonError::into_inner);
        self.recover_alone(&alone, Look::Bounded)
    }

    /// The same in a thread that keeps others of this process from it.
    fn recover_alone(&self, _alone: &MutexGuard<'_, ()>, look: Look) -> Result<u32> {
        // Hot calls and waits come here, too.
        let _whole = sys::Uncancelled::new();
        let table = self.table()?;
        let asked = &table.hot.life.0.asked;
        let claimed = self.participants.claim_dead(look, asked, rows::participants(table))?;
        if claimed.dead.count() == 0 {
            return Ok(0);
        }
        recovery::sweep(table, &claimed.dead)?;
        claimed.bury();
        // After the rows: a reader that waits for the end of all writers looks at them.
        recovery::announce(table);
        Ok(claimed.dead.count())
    }

    /// The same for calls that find no way on and would rather look for the dead than fail or sleep; true if it
    /// is worth to try again. Looking takes system calls, so it is done once a millisecond at most, and at most a
    /// sixteenth of the time goes into it.
    pub(crate) fn recover_if_due(&self) -> std::result::Result<bool, Code> {
        let began = sys::monotonic_ns();
        if began < self.next_look.load(Ordering::Relaxed) {
            return Ok(false);
        }
        // Another thread is at it: who does not want to wait does not wait for that either.
        let Ok(alone) = self.recovering.try_lock() else { return Ok(false) };
        let recovered = match self.recover_alone(&alone, Look::Bounded) {
            // Nobody can be found dead any more: whoever waits for that would wait in vain. It is due again at once, so that
            // each call says so.
            Err(error) if error.code() == Code::DescriptorLost => return Err(Code::DescriptorLost),
            // Whatever else goes wrong here is not what the caller asked for.
            recovered => recovered.unwrap_or(0),
        };
        let now = sys::monotonic_ns();
        let pause = (now - began).saturating_mul(16).max(1_000_000);
        // Relaxed: a guess about time; two threads that look at once do no harm.
        self.next_look.store(now.saturating_add(pause), Ordering::Relaxed);
        Ok(recovered > 0)
    }

    /// The same for those who wait: of all that do, one looks, once in [`SLICE`].
    pub(crate) fn recover_each_slice(&self) -> std::result::Result<(), Code> {
        let now = sys::monotonic_ns();
        let looked = &self.table.hot.life.0.looked;
        // Relaxed: a guess about time. Whatever stands there, a look is due again when it is not from the last slice.
        let last = looked.load(Ordering::Relaxed);
        if now.wrapping_sub(last) >= SLICE
            && looked.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.recover_if_due().inspect_err(|_| {
                // Others can look, and this slice is theirs.
                let _ = looked.compare_exchange(now, last, Ordering::Relaxed, Ordering::Relaxed);
            })?;
        }
        Ok(())
    }

    /// Who is attached.
    pub(crate) fn list_participants(&self) -> Result<Vec<Participant>> {
        let table = self.table()?;
        self.participants.list(|participant| rows::rows_of(table, participant))
    }

    /// Whether any process has a writer open.
    pub(crate) fn any_writers(&self) -> bool {
        let opened = &self.table.hot.life.0.opened;
        for _ in 0..RACES {
            // Acquire: pairs with `add_writer`; who sees a count sees the writers that it counts.
            let before = opened.load(Ordering::Acquire);
            if self.participants.any_writers() {
                return true;
            }
            // One may have been opened in a row that was passed already, and only then the last one that was not yet
            // passed closed: who sees that one closed sees the other counted.
            if opened.load(Ordering::Acquire) == before {
                return false;
            }
        }
        // One was opened during each of these looks.
        true
    }

    /// What the protocol must know of the geometry.
    #[inline(always)]
    pub(crate) fn shape(&self) -> &Shape {
        &self.table.shape
    }

    pub(crate) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    pub(crate) fn offsets(&self) -> &Offsets {
        &self.offsets
    }

    /// The file, if it is not private memory; `DescriptorLost` if the program took it away.
    pub(crate) fn fd(&self) -> Result<Option<&OwnedFd>> {
        self.participants.fd().map(KeptFd::proved).transpose()
    }

    /// A descriptor to pass on. Not the one with this participant's lock: who has that keeps the participant alive.
    pub(crate) fn shareable_fd(&self) -> Result<BorrowedFd<'_>> {
        // Acquire: pairs with the release of who made it.
        let mut found = self.shareable.load(Ordering::Acquire);
        if found.is_null() {
            let own =
                self.fd()?.ok_or(Error::about(Code::NotSupported, "a local segment has no descriptor"))?;
            let file = sys::reopen(own.as_fd(), self.participants.own().is_some())?;
            let mut made = KeptFd::new(file, "descriptor # of shmslot_segment_fd")?;
            made.mark_and_pin(MARK_BASE)?;
            let made = Box::into_raw(Box::new(made));
            // Release: who finds it finds it whole.
            let offered = self.shareable.compare_exchange(
                std::ptr::null_mut(),
                made,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            found = match offered {
                Ok(_) => made,
                Err(others) => {
                    // SAFETY: made above, and nobody else has seen it.
                    drop(unsafe { Box::from_raw(made) });
                    others
                }
            };
        }
        // SAFETY: it stays from the moment it stands there until `self` is dropped.
        let shareable = unsafe { &*found };
        Ok(shareable.proved()?.as_fd())
    }

    pub(crate) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    pub(crate) fn huge_bytes(&self) -> u64 {
        self.huge_bytes
    }

    /// Attached processes.
    pub(crate) fn participant_count(&self) -> u32 {
        self.participants.count()
    }

    pub(crate) fn spin(&self) -> Duration {
        self.spin
    }

    pub(crate) fn max_loans(&self) -> u32 {
        self.max_loans
    }

    /// This process's row, if it may change anything.
    #[inline(always)]
    pub(crate) fn writable(&self) -> Result<u32> {
        self.table()?;
        self.own_row()
    }

    /// The same in a call that has the words: it is in its own process.
    #[inline(always)]
    pub(crate) fn own_row(&self) -> Result<u32> {
        self.participants.own().ok_or_else(only_looks)
    }

    /// The payload at a place of this segment.
    #[inline]
    pub(crate) fn payload(&self, place: Place) -> *mut u8 {
        let offset = match place {
            Place::Slot(slot) => self.offsets.payload + u64::from(slot) * self.offsets.payload_stride,
            Place::Region(region) => self.offsets.regions + u64::from(region) * self.offsets.region_stride,
        };
        // Both fit a usize, since their sum of all slots and regions does.
        self.map.start().as_ptr().wrapping_add(offset as usize)
    }

    /// Where the payload of a loan is that was reserved for so many bytes.
    #[inline(always)]
    pub(crate) fn place_of_loan(&self, slot: u32, len: u64) -> Place {
        if len <= self.geometry.slot_capacity { Place::Slot(slot) } else { self.region_of_loan(slot) }
    }

    #[cold]
    fn region_of_loan(&self, slot: u32) -> Place {
        let reserved = self.table.claim(slot).map(|claim| Reserved(claim.aux.load(Ordering::Relaxed)));
        match reserved.map(|reserved| reserved.place(slot)) {
            Ok(Place::Region(region)) if region < self.geometry.region_count => Place::Region(region),
            // Somebody wrote over it. Any region will do, as long as it is one.
            _ => Place::Region(0),
        }
    }

    /// Sees to it that the first `len` bytes of a region that this thread has leased have memory.
    pub(crate) fn provide(&self, region: u32, len: u64) -> Result<()> {
        let row = self.table.regions.get(region as usize).ok_or(Code::Corrupt)?;
        // Relaxed: whoever had the region before noted it before this thread leased it.
        let before = row.allocated.load(Ordering::Relaxed);
        if before >= len {
            return Ok(());
        }
        let _whole = sys::Uncancelled::new();
        let start = self.offsets.regions + u64::from(region) * self.offsets.region_stride;
        let size = len.next_multiple_of(REGION_STEP).min(self.offsets.region_stride);
        if let Some(fd) = self.fd()? {
            let allocate = || {
                sys::check_memory_limit(size.saturating_sub(before))?;
                sys::allocate(fd, start, size)
            };
            let allocated = match allocate() {
                // Free regions may have what this one lacks.
                Err(error) if error.code() == Code::NoMemory => {
                    let _ = self.trim();
                    allocate()
                }
                done => done,
            };
            allocated.inspect_err(|_| {
                // What it got is not left behind; noted first, as in `region::begin_emptying`. The first error is the one to
                // report.
                row.allocated.store(0, Ordering::Relaxed);
                let _ = sys::deallocate(fd, start, size);
            })?;
        }
        if self.prefault {
            self.map.advise(start as usize, size as usize, Advice::Populate);
        }
        row.allocated.store(size, Ordering::Relaxed);
        Ok(())
    }

    /// Gives the memory of all free regions back to the system; how many bytes it was.
    pub(crate) fn trim(&self) -> Result<u64> {
        let participant = self.writable()?;
        let mut given_back = 0;
        for (region, row) in (0u32..).zip(self.table.regions) {
            let allocated = row.allocated.load(Ordering::Relaxed);
            // Also where nothing is noted: who died in between has left memory there.
            if !region::begin_emptying(&self.table, region, participant)? {
                continue;
            }
            let start = self.offsets.regions + u64::from(region) * self.offsets.region_stride;
            let emptied = match self.fd() {
                Err(lost) => Err(lost),
                Ok(Some(fd)) => sys::deallocate(fd, start, self.offsets.region_stride),
                // SAFETY: a whole region of private memory, which nobody uses while it is being emptied.
                Ok(None) => unsafe { self.map.discard(start as usize, self.offsets.region_stride as usize) },
            };
            region::end_emptying(&self.table, region, participant);
            // A writer may have found it taken, and gone to sleep.
            fence(Ordering::SeqCst);
            Bell(&self.table.hot.bells.0.space).ring();
            emptied?;
            given_back += allocated.min(self.offsets.region_stride);
        }
        Ok(given_back)
    }

    /// Memory of all regions, in bytes.
    pub(crate) fn region_bytes(&self) -> u64 {
        let stride = self.offsets.region_stride;
        self.table.regions.iter().map(|row| row.allocated.load(Ordering::Relaxed).min(stride)).sum()
    }

    /// The user header of a slot, or null if there are none.
    #[inline]
    pub(crate) fn user_header(&self, slot: u32) -> *mut u8 {
        if self.offsets.user_header_stride == 0 {
            return std::ptr::null_mut();
        }
        let offset = self.offsets.user_headers + u64::from(slot) * self.offsets.user_header_stride;
        self.map.start().as_ptr().wrapping_add(offset as usize)
    }

    /// Copies to the start of a payload that this process has on loan; false if they are too many.
    pub(crate) fn fill(&self, place: Place, bytes: Bytes<'_>) -> bool {
        let exists = match place {
            Place::Slot(slot) => slot < self.geometry.slot_count,
            Place::Region(region) => region < self.geometry.region_count,
        };
        let fits = exists && self.table.room(place).is_ok_and(|room| bytes.len as u64 <= room);
        if fits && bytes.len > 0 {
            let payload = self.payload(place);
            let apart = payload.addr().abs_diff(bytes.start.addr()) >= bytes.len;
            // SAFETY: readable by the promise of `Bytes`; writable, because a writer is open and a place that exists has
            // room for as much. They may overlap, unless seen not to.
            unsafe {
                if self.stream_copies && bytes.len >= STREAM_FROM && apart {
                    cache::copy_nontemporal(payload, bytes.start, bytes.len);
                } else {
                    payload.copy_from(bytes.start, bytes.len);
                }
            }
        }
        fits
    }

    /// Copies to the start of the user header of a slot that this process has on loan; false if they are too many.
    pub(crate) fn fill_user_header(&self, slot: u32, bytes: Bytes<'_>) -> bool {
        let fits = bytes.len <= self.geometry.user_header_size as usize && slot < self.geometry.slot_count;
        if fits && bytes.len > 0 {
            // SAFETY: as in `fill`; the size is not 0, so there is a header.
            unsafe { self.user_header(slot).copy_from(bytes.start, bytes.len) };
        }
        fits
    }

    /// The slot whose payload starts at this address, and where that is: in a region, if it has that still.
    pub(crate) fn slot_of(&self, payload: *const u8) -> Option<(u32, Place)> {
        let offset = payload.addr().checked_sub(self.map.start().as_ptr().addr())? as u64;
        let nth = |start: u64, stride: u64, count: u32| {
            let distance = offset.checked_sub(start)?;
            let number = u32::try_from(distance / stride).ok()?;
            (distance % stride == 0 && number < count).then_some(number)
        };
        if offset < self.offsets.fixed_size {
            let slot = nth(self.offsets.payload, self.offsets.payload_stride, self.geometry.slot_count)?;
            return Some((slot, Place::Slot(slot)));
        }
        if self.geometry.region_count == 0 {
            return None;
        }
        let region = nth(self.offsets.regions, self.offsets.region_stride, self.geometry.region_count)?;
        Some((region::slot_of(&self.table, region)?, Place::Region(region)))
    }

    /// Gives a new writer its number, and the process write access to payloads.
    pub(crate) fn add_writer(&self) -> Result<u32> {
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        if !writers.payload_writable {
            self.protect_payload(true)?;
            writers.payload_writable = true;
        }
        let number = (0..MAX_WRITERS)
            .find(|n| writers.taken.get(*n as usize / 64).is_none_or(|word| word & 1 << (n % 64) == 0))
            .ok_or(Error::about(Code::NoMemory, "4096 writers are open in this process"))?;
        let word = number as usize / 64;
        if writers.taken.len() <= word {
            writers.taken.resize(word + 1, 0);
        }
        if let Some(word) = writers.taken.get_mut(word) {
            *word |= 1 << (number % 64);
        }
        self.participants.set_writers(writers.count());
        // Release: pairs with `any_writers`.
        self.table.hot.life.0.opened.fetch_add(1, Ordering::Release);
        Ok(number)
    }

    pub(crate) fn remove_writer(&self, number: u32) {
        self.forget_writer(number);
        // Readers may wait for the end of all writers. Pairs with the fence in `Bell::arm`.
        fence(Ordering::SeqCst);
        Bell(&self.table.hot.bells.0.data).ring();
    }

    fn forget_writer(&self, number: u32) {
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(word) = writers.taken.get_mut(number as usize / 64) {
            *word &= !(1 << (number % 64));
        }
        self.participants.set_writers(writers.count());
    }

    /// Payloads and user headers are read-only in a process until it opens a writer: a stray store of a reader
    /// faults instead of spoiling what others read.
    fn protect_payload(&self, writable: bool) -> Result<()> {
        let control = whole_pages(self.offsets.control_size);
        if control >= self.map.len() {
            return Ok(());
        }
        // Access goes only at attach, before any pointer was given out.
        self.map.protect(control, writable)
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let shareable = *self.shareable.get_mut();
        if !shareable.is_null() {
            // SAFETY: made by `shareable_fd` for this attachment alone.
            drop(unsafe { Box::from_raw(shareable) });
        }
        if self.birth.is_here() {
            self.participants.give_back();
        }
    }
}

#[cold]
fn only_looks() -> Error {
    Error::about(Code::NotSupported, "attached only to look")
}

/// What is wrong with a segment of another layout version.
fn other_version(found: u32) -> Error {
    let numbers = [u64::from(LAYOUT_VERSION), u64::from(found), 0];
    Error::with_numbers(
        Code::LayoutVersion,
        "layout version # in this library, version # in the file",
        numbers,
    )
}

fn map_private(offsets: &Offsets) -> Result<Span> {
    let map = Span::new(None, offsets.total, offsets.fixed_size, true)?;
    dump_only_control(&map, offsets);
    Ok(map)
}

fn map_file(fd: &OwnedFd, offsets: &Offsets, options: &Options) -> Result<Span> {
    let map = Span::new(Some(fd.as_fd()), offsets.total, offsets.fixed_size, !options.look_only)?;
    dump_only_control(&map, offsets);
    if !options.look_only {
        // A page touched first in the data path costs as much as 20 to 70 samples. Kernels before 5.14 do not
        // know this advice, and then pages come as they are touched.
        let early = if options.prefault { offsets.fixed_size } else { offsets.control_size };
        map.advise(0, early as usize, Advice::Populate);
    }
    Ok(map)
}

/// Payloads may be anybody's secret and large; and reading the room of regions, as a core dump does, would fill it.
fn dump_only_control(map: &Span, offsets: &Offsets) {
    let control = whole_pages(offsets.control_size);
    map.advise(control, map.len().saturating_sub(control), Advice::DontDump);
}

/// Where the pages of the control part end. They may be larger than the layout's; then the first payloads share one with
/// it.
fn whole_pages(control_size: u64) -> usize {
    (control_size as usize).next_multiple_of(sys::page_size())
}

/// The typed view of a mapped segment.
///
/// # Safety
/// `map` is a shared or private mapping of at least `offsets.total` bytes, which are those of `geometry`, and
/// outlives every use of the result. If it is read-only, only loads are done through the view.
unsafe fn view(map: &Span, geometry: &Geometry, offsets: &Offsets) -> (Table<'static>, Rows) {
    let base = map.start().as_ptr();
    let slots = geometry.slot_count as usize;
    let at = |offset: u64| base.wrapping_add(offset as usize);
    let vacancy_words = layout::vacancy_words(geometry.slot_count) as usize;
    // SAFETY: `Geometry::offsets` lays the parts one behind the other inside `offsets.total`, each aligned for
    // its type from the page-aligned base. Each type consists of atomics alone, for which every bit pattern is
    // valid and which others may change at any time.
    unsafe {
        let table = Table {
            shape: Shape::new(geometry),
            hot: &*at(HOT_OFFSET).cast::<Hot>(),
            lines: std::slice::from_raw_parts(at(offsets.lines).cast::<SlotLine>(), slots),
            claims: std::slice::from_raw_parts(at(offsets.claims).cast::<Claim>(), slots),
            vacancy: std::slice::from_raw_parts(at(offsets.vacancy).cast::<AtomicU64>(), vacancy_words),
            regions: std::slice::from_raw_parts(
                at(offsets.region_rows).cast::<RegionRow>(),
                geometry.region_count as usize,
            ),
            audiences: std::slice::from_raw_parts(at(offsets.audiences).cast::<AtomicU64>(), slots),
            readers: std::slice::from_raw_parts(
                at(layout::READERS_OFFSET).cast::<ReaderRow>(),
                geometry.max_readers as usize,
            ),
        };
        let rows = Rows {
            anteroom: &*at(layout::ANTEROOM_OFFSET).cast::<ParticipantRow>(),
            participants: std::slice::from_raw_parts(
                at(layout::PARTICIPANTS_OFFSET).cast::<ParticipantRow>(),
                geometry.max_participants as usize,
            ),
        };
        (table, rows)
    }
}

/// Readable bytes that may be shared memory: a C caller may well pass a payload.
#[derive(Clone, Copy)]
pub(crate) struct Bytes<'a> {
    start: *const u8,
    len: usize,
    lives: PhantomData<&'a [u8]>,
}

impl<'a> From<&'a [u8]> for Bytes<'a> {
    fn from(bytes: &'a [u8]) -> Bytes<'a> {
        Bytes { start: bytes.as_ptr(), len: bytes.len(), lives: PhantomData }
    }
}

impl Bytes<'_> {
    /// # Safety
    /// `len` bytes at `start` are readable as long as the value is used; if `len` is 0, `start` may be anything.
    pub(crate) unsafe fn from_raw(start: *const u8, len: usize) -> Self {
        Bytes { start, len, lives: PhantomData }
    }

    pub(crate) fn len(self) -> usize {
        self.len
    }
}

/// Copies from a payload or user header that this process has in hand, as many bytes as `buffer` takes.
pub(crate) fn copy_out(payload: *const u8, buffer: &mut [u8]) {
    // SAFETY: callers pass the payload, or the user header, of a sample in hand of at least as many bytes, inside the mapping; a private
    // slice cannot overlap it.
    unsafe { buffer.as_mut_ptr().copy_from_nonoverlapping(payload, buffer.len()) };
}
