//! Segments: made, named, attached, checked, mapped, closed.
//!
//! One of the three places with `unsafe`: here a mapping becomes a typed view, once, after every size in it has
//! been checked against the file.
#![allow(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use memmap2::{Advice, MmapOptions, MmapRaw};

use crate::atomics::{AtomicU32, AtomicU64, Deadline, Ordering, Woken};
use crate::error::{Code, Error, Result};
use crate::layout::{
    self, Claim, Geometry, HEADER_SIZE, HOT_OFFSET, Hot, MAX_TYPE_NAME, Offsets, ParticipantRow, Policy,
    ReaderRow, SlotLine,
};
use crate::protocol::bell::Bell;
use crate::protocol::{Shape, Table, order, vacancy};
use crate::reader::Reader;
use crate::sys;
use crate::writer::Writer;

/// What `create` does when the name belongs to a segment to which nobody is attached any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u32)]
pub enum IfDead {
    /// Take its name for a new segment.
    #[default]
    Replace = 0,
    /// Attach to it, as it is.
    Adopt = 1,
    /// Fail with [`Code::Exists`].
    Refuse = 2,
}

impl IfDead {
    /// The choice of a number that crossed a boundary.
    pub fn from_number(number: u32) -> Option<IfDead> {
        [IfDead::Replace, IfDead::Adopt, IfDead::Refuse].into_iter().find(|c| *c as u32 == number)
    }
}

/// How to make a segment, or how to attach to one. Attaching looks at `type_hash` and at the fields from
/// `prefault` on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Number of slots, 1 to 2^24.
    pub slot_count: u32,
    /// Payload bytes of a slot, 1 to 4 GiB.
    pub slot_capacity: u64,
    /// Alignment of each payload, a power of two from 64 to 4096.
    pub payload_align: u32,
    /// Bytes of user header beside each slot, 0 to 256.
    pub user_header_size: u32,
    /// Readers that may be joined at once, 1 to 63.
    pub max_readers: u32,
    /// Processes that may be attached at once, 1 to 4095.
    pub max_participants: u32,
    /// Samples kept for readers that join later, less than `slot_count`.
    pub history: u32,
    /// What a writer does when nothing is free.
    pub policy: Policy,
    /// One writer at a time; cheaper, and a second one is refused.
    pub single_writer: bool,
    /// Each commit notes the monotonic time; about 25 ns a sample.
    pub timestamps: bool,
    /// Permission bits of a named segment.
    pub mode: u32,
    /// What to do when a dead segment has the name.
    pub if_dead: IfDead,
    /// Identity of the sample type. All zero: none at creation, any at attach.
    pub type_hash: [u8; 16],
    /// Name of the sample type, at most 63 bytes.
    pub type_name: String,
    /// Map all pages now, not at their first use.
    pub prefault: bool,
    /// Ask for huge pages; [`Info::huge_bytes`] says what was obtained.
    pub huge_pages: bool,
    /// Attach to a segment of another user, or whose mode was loosened.
    pub any_owner: bool,
    /// Attach read-only, joining nothing.
    pub look_only: bool,
    /// How long a wait polls before it sleeps.
    pub spin: Duration,
    /// Loans that one writer may have out at once; 0 is no limit.
    pub max_loans: u32,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            slot_count: 64,
            slot_capacity: 4096,
            payload_align: 64,
            user_header_size: 0,
            max_readers: 15,
            max_participants: 64,
            history: 0,
            policy: Policy::Fail,
            single_writer: false,
            timestamps: false,
            mode: 0o600,
            if_dead: IfDead::Replace,
            type_hash: [0; 16],
            type_name: String::new(),
            prefault: false,
            huge_pages: false,
            any_owner: false,
            look_only: false,
            // As long as a wake takes: shorter is wasted, longer burns.
            spin: Duration::from_micros(10),
            max_loans: 0,
        }
    }
}

impl Options {
    fn geometry(&self) -> Result<Geometry> {
        let mut type_name = [0; MAX_TYPE_NAME + 1];
        let name = self.type_name.as_bytes();
        match type_name.get_mut(..name.len()) {
            Some(start) if name.len() <= MAX_TYPE_NAME && !name.contains(&0) => start.copy_from_slice(name),
            _ => return Err(Error::about(Code::BadOptions, "type_name")),
        }
        let geometry = Geometry {
            segment_id: sys::random_id()?,
            slot_count: self.slot_count,
            slot_capacity: self.slot_capacity,
            payload_align: self.payload_align,
            user_header_size: self.user_header_size,
            max_readers: self.max_readers,
            max_participants: self.max_participants,
            history: self.history,
            policy: self.policy,
            single_writer: self.single_writer,
            timestamps: self.timestamps,
            mode: self.mode,
            type_hash: self.type_hash,
            type_name,
        };
        if self.look_only {
            return Err(Error::about(Code::BadOptions, "look_only is for attach"));
        }
        geometry.check().map_err(|field| Error::about(Code::BadOptions, field))?;
        Ok(geometry)
    }
}

/// What a segment is made of and how it is used at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// What was decided at creation.
    pub geometry: Geometry,
    /// Bytes of the whole segment.
    pub total_size: u64,
    /// Bytes of this mapping that are in huge pages, as far as they were asked for.
    pub huge_bytes: u64,
    /// The sequence that the next sample gets.
    pub next_sequence: u64,
    /// Joined readers, reader i as bit i.
    pub readers: u64,
    /// Attached processes.
    pub participants: u32,
}

/// Longest name without a directory: with the prefix it must fit a file name.
const MAX_NAME: usize = 200;

/// Where a segment of this name is.
fn path_of(name: &str) -> Result<PathBuf> {
    let bad = |about| Err(Error::about(Code::BadName, about));
    if name.is_empty() {
        return bad("the name is empty");
    }
    if name.contains('\0') {
        return bad("the name contains a NUL");
    }
    if name.starts_with('/') {
        // Longer ones the kernel refuses, too.
        return if name.len() < 4096 && !name.ends_with('/') {
            Ok(PathBuf::from(name))
        } else {
            bad("the path is too long or ends in '/'")
        };
    }
    if name.contains('/') {
        return bad("a relative name contains '/'");
    }
    if name.len() > MAX_NAME {
        return bad("the name is longer than 200 bytes");
    }
    Ok(Path::new(sys::SHM_DIRECTORY).join(format!("shmslot.{name}")))
}

/// A segment, attached to this process. Cheap to clone; any thread. The mapping lives as long as any clone,
/// writer, reader or sample of it.
#[derive(Clone, Debug)]
pub struct Segment {
    inner: Arc<Inner>,
}

/// Attempts of an operation that races with other processes over a name. Each retry means that another process
/// completed a step of its own in between.
const NAME_RACES: u32 = 64;

impl Segment {
    /// Makes a segment and gives it its name in one step: nobody ever sees a half-made one.
    pub fn create(name: &str, options: &Options) -> Result<Segment> {
        Ok(Segment::create_or_adopt(name, options)?.0)
    }

    /// The segment, and whether it was made rather than adopted.
    fn create_or_adopt(name: &str, options: &Options) -> Result<(Segment, bool)> {
        let path = path_of(name)?;
        let geometry = options.geometry()?;
        for _ in 0..NAME_RACES {
            match make_way(&path, options)? {
                Way::Clear => {}
                Way::Adopted(segment) => return Ok((segment, false)),
            }
            let directory = path.parent().unwrap_or(Path::new("/"));
            let fd = sys::unnamed_file(directory)?;
            sys::set_mode(&fd, geometry.mode)?;
            let inner = Inner::build(Some(fd), geometry.clone(), options, Some(path.clone()))?;
            match inner.fd.as_ref().map_or(Ok(()), |fd| sys::link_file(fd, &path)) {
                Ok(()) => return Ok((Segment { inner: Arc::new(inner) }, true)),
                Err(error) if error.code() == Code::Exists => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::about(Code::Exists, "the name changes hands all the time"))
    }

    /// Makes a segment without a name, in a memfd that is sealed against change of size before anybody can see
    /// it. [`Segment::fd`] is what to pass on.
    pub fn create_anonymous(options: &Options) -> Result<Segment> {
        let mut geometry = options.geometry()?;
        geometry.mode = 0o600;
        // A memfd has no file system whose size would end the allocation before the machine's memory does.
        if geometry.offsets().is_none_or(|offsets| offsets.total > sys::machine_memory()) {
            return Err(Error::about(Code::NoMemory, "the segment is larger than all memory"));
        }
        let fd = sys::anonymous_file(c"shmslot")?;
        let inner = Inner::build(Some(fd), geometry, options, None)?;
        inner.fd.as_ref().map_or(Ok(()), sys::seal_size)?;
        Ok(Segment { inner: Arc::new(inner) })
    }

    /// Makes a segment in this process's private memory: the same calls, for tests and for threads.
    pub fn create_local(options: &Options) -> Result<Segment> {
        let geometry = options.geometry()?;
        Ok(Segment { inner: Arc::new(Inner::build(None, geometry, options, None)?) })
    }

    /// Attaches to the segment of this name.
    pub fn attach(name: &str, options: &Options) -> Result<Segment> {
        let path = path_of(name)?;
        for _ in 0..NAME_RACES {
            let fd = sys::open_file(&path, !options.look_only)?;
            match Inner::attach(fd, options, Some(path.clone()), false)? {
                Some(inner) => return Ok(Segment { inner: Arc::new(inner) }),
                // Its replacer is between two steps.
                None => std::thread::yield_now(),
            }
        }
        Err(Error::about(Code::NotFound, "the segment was being replaced"))
    }

    /// Attaches to the segment behind a descriptor, which stays the caller's.
    pub fn attach_fd(fd: BorrowedFd<'_>, options: &Options) -> Result<Segment> {
        if !sys::file_facts(fd)?.is_regular {
            return Err(Error::about(Code::NotAFile, "the descriptor"));
        }
        // Opened anew, so that the locks of this participant are its own.
        let own = sys::reopen(fd, !options.look_only)?;
        match Inner::attach(own, options, None, true)? {
            Some(inner) => Ok(Segment { inner: Arc::new(inner) }),
            None => Err(Error::about(Code::NotFound, "the segment was replaced")),
        }
    }

    /// Attaches to the segment of this name, or creates it; true if this call created it. Of several processes
    /// that do this at once one creates. If nobody is attached to it any more, `if_dead` decides; to refuse it is to
    /// adopt it here.
    pub fn open(name: &str, options: &Options) -> Result<(Segment, bool)> {
        for _ in 0..NAME_RACES {
            match Segment::create_or_adopt(name, options) {
                Err(error) if error.code() == Code::Exists => {}
                made => return made,
            }
            match Segment::attach(name, options) {
                Err(error) if error.code() == Code::NotFound => {}
                attached => return attached.map(|segment| (segment, false)),
            }
        }
        Err(Error::about(Code::Exists, "the name changes hands all the time"))
    }

    /// Takes the name away. Who is attached stays so; the memory goes with the last of them.
    pub fn unlink(name: &str) -> Result<()> {
        let path = path_of(name)?;
        let fd = sys::open_file(&path, false)?;
        let facts = sys::file_facts(fd.as_fd())?;
        if !facts.is_regular {
            return Err(Error::about(Code::NotAFile, "the path"));
        }
        let mut start = [0; 8];
        if sys::read_start(&fd, &mut start)? < start.len() || start != layout::MAGIC {
            return Err(Code::NotASegment.into());
        }
        sys::unlink_file(&path)
    }

    /// What the segment is made of and how it is used.
    pub fn info(&self) -> Info {
        let inner = &*self.inner;
        let attached = |row: &&ParticipantRow| row.state.load(Ordering::Relaxed) != 0;
        Info {
            geometry: inner.geometry.clone(),
            total_size: inner.offsets.total,
            huge_bytes: inner.huge_bytes,
            next_sequence: order::tail(inner.table()),
            readers: inner.table().hot.active.0.load(Ordering::Relaxed),
            participants: inner.participants.iter().filter(attached).count() as u32,
        }
    }

    /// The descriptor to pass on; `None` for a local segment.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner.fd.as_ref().map(|fd| fd.as_fd())
    }

    /// The path of a named segment.
    pub fn path(&self) -> Option<&Path> {
        self.inner.path.as_deref()
    }

    /// Distance between the payloads of two slots, in bytes.
    pub fn slot_total_size(&self) -> u64 {
        self.inner.offsets.payload_stride
    }

    /// Opens a writer.
    pub fn writer(&self) -> Result<Writer> {
        Writer::open(Arc::clone(&self.inner))
    }

    /// Joins as a reader, starting with up to `history` retained samples.
    pub fn reader(&self, history: u32) -> Result<Reader> {
        Reader::join(Arc::clone(&self.inner), history)
    }

    /// A number that changes with the next commit, discard or mark after this call.
    pub fn generation(&self) -> Result<u32> {
        self.inner.writable()?;
        Ok(Bell(&self.inner.table().hot.bells.0.change).watch())
    }

    /// Sleeps until the [generation](Segment::generation) is no longer `last`; the new one. `None` waits without
    /// limit.
    pub fn wait_for_change(&self, last: u32, timeout: Option<Duration>) -> Result<u32> {
        self.inner.writable()?;
        let bell = Bell(&self.inner.table().hot.bells.0.change);
        if bell.count() != last {
            return Ok(bell.count());
        }
        if timeout == Some(Duration::ZERO) {
            return Err(Code::Timeout.into());
        }
        let deadline = deadline_of(timeout);
        loop {
            let armed = bell.arm();
            if armed.count() != last {
                return Ok(armed.count());
            }
            if bell.sleep(armed, deadline) == Woken::TimedOut {
                return Err(Code::Timeout.into());
            }
        }
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }
}

/// The moment when a timeout is over.
pub(crate) fn deadline_of(timeout: Option<Duration>) -> Deadline {
    timeout.map(|timeout| sys::monotonic_ns().saturating_add(sys::nanoseconds(timeout)))
}

/// What stands at a name.
enum Way {
    Clear,
    Adopted(Segment),
}

/// Looks at what has the name already, and takes the name of a dead segment away if the options say so.
fn make_way(path: &Path, options: &Options) -> Result<Way> {
    let fd = match sys::open_file(path, true) {
        Ok(fd) => fd,
        Err(error) if error.code() == Code::NotFound => return Ok(Way::Clear),
        Err(error) => return Err(error),
    };
    let (geometry, _) = Inner::check_file(&fd, &Options { type_hash: [0; 16], ..options.clone() }, false)?;
    let rows = Rows { count: geometry.max_participants };
    if rows.any_taken(&fd)? {
        return Err(Error::about(Code::Exists, ""));
    }
    // Somebody has begun to take its name and was stopped.
    let if_dead = if is_retired(&fd)? { IfDead::Replace } else { options.if_dead };
    match if_dead {
        IfDead::Refuse => Err(Error::about(Code::Exists, "nobody is attached to it")),
        IfDead::Adopt => match Inner::attach(fd, options, Some(path.to_owned()), false)? {
            Some(inner) => Ok(Way::Adopted(Segment { inner: Arc::new(inner) })),
            None => Ok(Way::Clear),
        },
        IfDead::Replace => {
            retire(path, &fd, rows)?;
            Ok(Way::Clear)
        }
    }
}

/// Where the word stands that says that a segment is being replaced.
const RETIRED_OFFSET: u64 =
    HOT_OFFSET + std::mem::offset_of!(Hot, life) as u64 + std::mem::offset_of!(layout::Life, retired) as u64;

fn is_retired(fd: &OwnedFd) -> Result<bool> {
    Ok(sys::read_word(fd, RETIRED_OFFSET)? != 0)
}

/// Takes a name from a dead segment. Who attaches locks its row and then looks at the word; this writes the word
/// and then looks at the rows: one of the two sees the other.
fn retire(path: &Path, fd: &OwnedFd, rows: Rows) -> Result<()> {
    if !sys::lock(fd, REPLACER_LOCK, 1)? {
        // Somebody else is at it; the caller looks again.
        return Ok(());
    }
    sys::write_word(fd, RETIRED_OFFSET, 1)?;
    if rows.any_taken(fd)? {
        sys::write_word(fd, RETIRED_OFFSET, 0)?;
        sys::unlock(fd, REPLACER_LOCK, 1);
        return Err(Error::about(Code::Exists, ""));
    }
    // While this lock is held nobody else takes the name from this very file.
    let still_named = sys::named_file_facts(path)
        .is_ok_and(|named| sys::file_facts(fd.as_fd()).is_ok_and(|own| own.identity == named.identity));
    if still_named { sys::unlink_file(path) } else { Ok(()) }
}

/// Locked bytes stand for things, and lie behind every possible content of the file.
const LOCK_BASE: u64 = 1 << 62;
/// Locked by whoever takes a dead segment's name.
const REPLACER_LOCK: u64 = LOCK_BASE - 1;

/// The participant rows as the kernel knows them: byte i is locked by the open file of participant i, as long as
/// it lives.
#[derive(Clone, Copy)]
struct Rows {
    count: u32,
}

impl Rows {
    fn any_taken(self, fd: &OwnedFd) -> Result<bool> {
        sys::is_locked(fd, LOCK_BASE, u64::from(self.count))
    }

    /// Takes a free row for this process.
    fn take(self, fd: Option<&OwnedFd>, rows: &[ParticipantRow]) -> Result<u32> {
        for (index, row) in (0u32..).zip(rows).take(self.count as usize) {
            if row.state.load(Ordering::Acquire) != ROW_FREE {
                continue;
            }
            if let Some(fd) = fd {
                let byte = LOCK_BASE + u64::from(index);
                if !sys::lock(fd, byte, 1)? {
                    continue;
                }
                if row.state.load(Ordering::Acquire) != ROW_FREE {
                    // Its process died in between and left work behind.
                    sys::unlock(fd, byte, 1);
                    continue;
                }
            }
            row.pid.store(sys::process_id(), Ordering::Relaxed);
            // Release: a tool that sees the row taken sees its process.
            row.state.store(ROW_TAKEN, Ordering::Release);
            return Ok(index);
        }
        Err(Code::NoParticipantSlot.into())
    }
}

const ROW_FREE: u32 = 0;
const ROW_TAKEN: u32 = 1;

/// One attachment: the mapping, its checked view, and this process's row.
pub(crate) struct Inner {
    /// Valid as long as `map`; handed out only with the lifetime of `self`.
    table: Table<'static>,
    participants: &'static [ParticipantRow],
    map: MmapRaw,
    /// Holds the participant's lock. Dropped after the row is given back.
    fd: Option<OwnedFd>,
    path: Option<PathBuf>,
    geometry: Geometry,
    offsets: Offsets,
    /// This process's row; `None` when it only looks.
    participant: Option<u32>,
    /// Writer numbers of this participant in use, one bit each; and whether payloads may be written.
    writers: Mutex<Writers>,
    huge_bytes: u64,
    spin: Duration,
    max_loans: u32,
}

#[derive(Default)]
struct Writers {
    taken: Vec<u64>,
    payload_writable: bool,
}

/// Writers that one participant may have open: an owner gives a writer 12 bits.
const MAX_WRITERS: u32 = 4096;

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment")
            .field("path", &self.path)
            .field("geometry", &self.geometry)
            .field("participant", &self.participant)
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// Makes a segment in `fd`, which nobody else can see yet, or in private memory.
    fn build(
        fd: Option<OwnedFd>,
        geometry: Geometry,
        options: &Options,
        path: Option<PathBuf>,
    ) -> Result<Inner> {
        let offsets =
            geometry.offsets().ok_or(Error::about(Code::BadOptions, "slot_capacity times slot_count"))?;
        let map = match &fd {
            Some(fd) => {
                sys::allocate(fd, offsets.total)?;
                map_file(fd, &offsets, options)?
            }
            None => MmapOptions::new()
                .len(length(&offsets)?)
                .map_anon()
                .map(MmapRaw::from)
                .map_err(|error| os_error(&error, "private memory"))?,
        };
        let header = geometry.encode(&offsets);
        // SAFETY: the mapping is larger than the header, writable, and no one else's yet.
        unsafe { map.as_mut_ptr().copy_from_nonoverlapping(header.as_ptr(), HEADER_SIZE) };
        // Freshly allocated memory is zero, and zero is right for all words but these.
        // SAFETY: the mapping is `offsets.total` bytes of a segment of this geometry.
        let (table, participants) = unsafe { view(&map, &geometry, &offsets) };
        table.hot.tail.0.store(order::FIRST, Ordering::Relaxed);
        vacancy::offer_all(&table);
        Inner::finish(map, table, participants, fd, geometry, offsets, options, path)
    }

    /// Attaches to a file that may hold anything; `None` if it is being replaced.
    fn attach(
        fd: OwnedFd,
        options: &Options,
        path: Option<PathBuf>,
        must_be_sealed: bool,
    ) -> Result<Option<Inner>> {
        let (geometry, offsets) = Inner::check_file(&fd, options, must_be_sealed)?;
        let map = map_file(&fd, &offsets, options)?;
        // SAFETY: the file is as long as `offsets.total`, `check_file` made sure. Its owner can cut a named one later;
        // then an access faults, as the header says, which ends the process and corrupts nothing.
        let (table, participants) = unsafe { view(&map, &geometry, &offsets) };
        let inner = Inner::finish(map, table, participants, Some(fd), geometry, offsets, options, path)?;
        // After the row was locked: see `retire`.
        let retired = inner.table().hot.life.0.retired.load(Ordering::SeqCst) != 0;
        Ok((!retired).then_some(inner))
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one struct, from two callers")]
    fn finish(
        map: MmapRaw,
        table: Table<'static>,
        participants: &'static [ParticipantRow],
        fd: Option<OwnedFd>,
        geometry: Geometry,
        offsets: Offsets,
        options: &Options,
        path: Option<PathBuf>,
    ) -> Result<Inner> {
        let mut inner = Inner {
            table,
            participants,
            map,
            fd,
            path,
            geometry,
            offsets,
            participant: None,
            writers: Mutex::default(),
            huge_bytes: 0,
            // A spinning thread on a single processor only keeps the other side from running.
            spin: if sys::processors() > 1 { options.spin } else { Duration::ZERO },
            max_loans: options.max_loans,
        };
        if options.huge_pages {
            // SAFETY: the whole mapping.
            inner.huge_bytes = unsafe { sys::collapse(inner.base(), inner.map.len()) } as u64;
        }
        if !options.look_only {
            let rows = Rows { count: inner.geometry.max_participants };
            inner.participant = Some(rows.take(inner.fd.as_ref(), inner.participants)?);
            inner.protect_payload(false)?;
        }
        Ok(inner)
    }

    /// Everything that can be said of a file before it is mapped.
    fn check_file(fd: &OwnedFd, options: &Options, must_be_sealed: bool) -> Result<(Geometry, Offsets)> {
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
        let read = sys::read_start(fd, &mut header)?;
        if read < HEADER_SIZE {
            let ours = header.starts_with(&layout::MAGIC);
            return Err(if ours { Code::Truncated } else { Code::NotASegment }.into());
        }
        let (geometry, offsets) = Geometry::decode(&header)?;
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

    /// The shared words.
    #[inline(always)]
    pub(crate) fn table(&self) -> &Table<'_> {
        &self.table
    }

    pub(crate) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    pub(crate) fn spin(&self) -> Duration {
        self.spin
    }

    pub(crate) fn max_loans(&self) -> u32 {
        self.max_loans
    }

    /// This process's row, if it may change anything.
    pub(crate) fn writable(&self) -> Result<u32> {
        self.participant.ok_or(Error::about(Code::NotSupported, "attached only to look"))
    }

    fn base(&self) -> NonNull<u8> {
        NonNull::new(self.map.as_mut_ptr()).unwrap_or(NonNull::dangling())
    }

    /// The payload of a slot of this segment.
    #[inline]
    pub(crate) fn payload(&self, slot: u32) -> *mut u8 {
        let offset = self.offsets.payload + u64::from(slot) * self.offsets.payload_stride;
        // Both fit a usize, since their sum of all slots does.
        self.map.as_mut_ptr().wrapping_add(offset as usize)
    }

    /// The user header of a slot, or null if there are none.
    #[inline]
    pub(crate) fn user_header(&self, slot: u32) -> *mut u8 {
        if self.offsets.user_header_stride == 0 {
            return std::ptr::null_mut();
        }
        let offset = self.offsets.user_headers + u64::from(slot) * self.offsets.user_header_stride;
        self.map.as_mut_ptr().wrapping_add(offset as usize)
    }

    /// Copies to the start of a payload that this process has on loan; false if they are too many.
    pub(crate) fn fill(&self, slot: u32, bytes: Bytes<'_>) -> bool {
        let fits = bytes.len as u64 <= self.geometry.slot_capacity && slot < self.geometry.slot_count;
        if fits && bytes.len > 0 {
            // SAFETY: readable by the promise of `Bytes`; writable, because a writer is open and the payload of a slot
            // that exists has room for the capacity. They may overlap.
            unsafe { self.payload(slot).copy_from(bytes.start, bytes.len) };
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

    /// The slot whose payload starts at this address.
    pub(crate) fn slot_of(&self, payload: *const u8) -> Option<u32> {
        let first = self.payload(0).addr();
        let distance = payload.addr().checked_sub(first)? as u64;
        let slot = u32::try_from(distance / self.offsets.payload_stride).ok()?;
        (distance.is_multiple_of(self.offsets.payload_stride) && slot < self.geometry.slot_count)
            .then_some(slot)
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
        Ok(number)
    }

    pub(crate) fn remove_writer(&self, number: u32) {
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(word) = writers.taken.get_mut(number as usize / 64) {
            *word &= !(1 << (number % 64));
        }
    }

    /// Payloads and user headers are read-only in a process until it opens a writer: a stray store of a reader
    /// faults instead of spoiling what others read.
    fn protect_payload(&self, writable: bool) -> Result<()> {
        // Pages may be larger than the layout's; then the first payloads share one with the control part.
        let control = (self.offsets.control_size as usize).next_multiple_of(sys::page_size());
        if control >= self.map.len() {
            return Ok(());
        }
        let start = self.base().as_ptr().wrapping_add(control);
        let Some(start) = NonNull::new(start) else { return Ok(()) };
        // SAFETY: from a page border inside the mapping to its end. Access goes only at attach, before any
        // pointer was given out.
        unsafe { sys::protect(start, self.map.len() - control, writable) }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(row) = self.participant.and_then(|row| self.participants.get(row as usize)) {
            // Release: who takes the row sees everything done before. The lock goes after this, with the fd.
            row.state.store(ROW_FREE, Ordering::Release);
        }
    }
}

fn length(offsets: &Offsets) -> Result<usize> {
    usize::try_from(offsets.total).map_err(|_| Code::NoMemory.into())
}

fn os_error(error: &std::io::Error, about: &'static str) -> Error {
    let errno = error.raw_os_error().unwrap_or(0);
    let code = if errno == libc::ENOMEM { Code::NoMemory } else { Code::Sys };
    Error::with_errno(code, errno, about)
}

fn map_file(fd: &OwnedFd, offsets: &Offsets, options: &Options) -> Result<MmapRaw> {
    let mut mapping = MmapOptions::new();
    mapping.len(length(offsets)?);
    let map = if options.look_only { mapping.map_raw_read_only(fd) } else { mapping.map_raw(fd) }
        .map_err(|error| os_error(&error, "mapping the segment"))?;
    if !options.look_only {
        // A page touched first in the data path costs as much as 20 to 70 samples. Kernels before 5.14 do not
        // know this advice, and then pages come as they are touched.
        let early = if options.prefault { map.len() } else { offsets.control_size as usize };
        let _ = map.advise_range(Advice::PopulateWrite, 0, early);
    }
    Ok(map)
}

/// The typed view of a mapped segment.
///
/// # Safety
/// `map` is a shared or private mapping of at least `offsets.total` bytes, which are those of `geometry`, and
/// outlives every use of the result. If it is read-only, only loads are done through the view.
unsafe fn view(
    map: &MmapRaw,
    geometry: &Geometry,
    offsets: &Offsets,
) -> (Table<'static>, &'static [ParticipantRow]) {
    let base = map.as_mut_ptr();
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
            readers: std::slice::from_raw_parts(
                at(layout::READERS_OFFSET).cast::<ReaderRow>(),
                geometry.max_readers as usize,
            ),
        };
        let participants = std::slice::from_raw_parts(
            at(layout::PARTICIPANTS_OFFSET).cast::<ParticipantRow>(),
            geometry.max_participants as usize,
        );
        (table, participants)
    }
}

/// The single-writer word of a segment.
pub(crate) fn writer_word(inner: &Inner) -> &AtomicU32 {
    &inner.table().hot.life.0.writer
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
