//! Segments: made, named, found by their names, taken over when nobody is attached any more.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::atomics::{Ordering, fence};
use crate::attachment::Attachment;
use crate::error::{Code, Error, Result};
use crate::layout::{self, Geometry, HOT_OFFSET, Hot};
use crate::options::{IfDead, Options};
use crate::participants::{self, Participant, REPLACER_LOCK};
use crate::protocol::bell::Bell;
use crate::protocol::order;
use crate::reader::Reader;
use crate::sys;
use crate::waiting::{Sleeper, deadline_of};
use crate::writer::Writer;

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
    /// Memory of all regions, in bytes.
    pub region_bytes: u64,
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
    inner: Arc<Attachment>,
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
                Way::Busy => {
                    std::thread::yield_now();
                    continue;
                }
            }
            let directory = path.parent().unwrap_or(Path::new("/"));
            let fd = sys::unnamed_file(directory)?;
            sys::set_mode(&fd, geometry.mode)?;
            let inner = Attachment::build(Some(fd), geometry.clone(), options, Some(path.clone()))?;
            match inner.fd().map_or(Ok(()), |fd| sys::link_file(fd, &path)) {
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
        if geometry.offsets().is_none_or(|offsets| offsets.fixed_size > sys::machine_memory()) {
            return Err(Error::about(Code::NoMemory, "the segment is larger than all memory"));
        }
        let fd = sys::anonymous_file(c"shmslot")?;
        let inner = Attachment::build(Some(fd), geometry, options, None)?;
        inner.fd().map_or(Ok(()), sys::seal_size)?;
        Ok(Segment { inner: Arc::new(inner) })
    }

    /// Makes a segment in this process's private memory: the same calls, for tests and for threads.
    pub fn create_local(options: &Options) -> Result<Segment> {
        let geometry = options.geometry()?;
        Ok(Segment { inner: Arc::new(Attachment::build(None, geometry, options, None)?) })
    }

    /// Attaches to the segment of this name.
    pub fn attach(name: &str, options: &Options) -> Result<Segment> {
        let path = path_of(name)?;
        for _ in 0..NAME_RACES {
            let fd = sys::open_file(&path, !options.look_only)?;
            match Attachment::attach(fd, options, Some(path.clone()), false)? {
                Some(inner) => return Ok(Segment { inner: Arc::new(inner) }),
                // Its replacer is between two steps, or died there.
                None => give_name_back(&path)?,
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
        match Attachment::attach(own, options, None, true)? {
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
        if sys::read_at(&fd, 0, &mut start)? < start.len() || start != layout::MAGIC {
            return Err(Code::NotASegment.into());
        }
        sys::unlink_file(&path)
    }

    /// What the segment is made of and how it is used.
    pub fn info(&self) -> Result<Info> {
        let inner = &*self.inner;
        let table = inner.table()?;
        Ok(Info {
            geometry: inner.geometry().clone(),
            total_size: inner.offsets().total,
            huge_bytes: inner.huge_bytes(),
            next_sequence: order::tail(table),
            readers: table.hot.active.0.load(Ordering::Relaxed),
            participants: inner.participant_count(),
            region_bytes: inner.region_bytes(),
        })
    }

    /// Every process that is attached, and those that died so and were not cleaned up after.
    pub fn participants(&self) -> Result<Vec<Participant>> {
        self.inner.list_participants()
    }

    /// Cleans up after participants that are dead; how many they were.
    ///
    /// Their loans are given back, what they were committing is finished or undone, what they had read or not read comes
    /// free, their rows too, and all sleepers look again. Any participant may do it at any time, several at once. It
    /// also happens by itself: on attach, when a reserve finds nothing free, when a row or the place of a single writer is
    /// taken, and every 200 ms in a wait.
    pub fn recover(&self) -> Result<u32> {
        self.inner.writable()?;
        self.inner.recover()
    }

    /// Gives the memory of all regions that nobody uses back to the system; how many bytes that was. Regions keep their
    /// memory for the next payload otherwise, because new memory costs far more than used one.
    pub fn trim(&self) -> Result<u64> {
        self.inner.trim()
    }

    /// The descriptor to pass on. Whoever has it can attach; it proves nothing about who lives.
    pub fn fd(&self) -> Result<BorrowedFd<'_>> {
        self.inner.shareable_fd()
    }

    /// The path of a named segment.
    pub fn path(&self) -> Option<&Path> {
        self.inner.path()
    }

    /// Distance between the payloads of two slots, in bytes.
    pub fn slot_total_size(&self) -> u64 {
        self.inner.offsets().payload_stride
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
        Ok(Bell(&self.inner.table()?.hot.bells.0.change).watch())
    }

    /// Sleeps until the [generation](Segment::generation) is no longer `last`; the new one. `None` waits without
    /// limit.
    pub fn wait_for_change(&self, last: u32, timeout: Option<Duration>) -> Result<u32> {
        self.inner.writable()?;
        let bell = Bell(&self.inner.table()?.hot.bells.0.change);
        if bell.count() != last {
            return Ok(bell.count());
        }
        if timeout == Some(Duration::ZERO) {
            return Err(Code::Timeout.into());
        }
        let mut sleeper = Sleeper::new(deadline_of(timeout));
        loop {
            let armed = bell.arm();
            if armed.count() != last {
                return Ok(armed.count());
            }
            if sleeper.sleep([&*self.inner], |until| bell.sleep(armed, until)) {
                return Err(Code::Timeout.into());
            }
        }
    }

    pub(crate) fn inner(&self) -> &Arc<Attachment> {
        &self.inner
    }
}

/// What stands at a name.
enum Way {
    Clear,
    Adopted(Segment),
    /// Somebody else is taking the name away.
    Busy,
}

/// Looks at what has the name already, and takes the name of a dead segment away if the options say so.
fn make_way(path: &Path, options: &Options) -> Result<Way> {
    let fd = match sys::open_file(path, true) {
        Ok(fd) => fd,
        Err(error) if error.code() == Code::NotFound => return Ok(Way::Clear),
        Err(error) => return Err(error),
    };
    let (geometry, _) =
        Attachment::check_file(&fd, &Options { type_hash: [0; 16], ..options.clone() }, false)?;
    let rows = geometry.max_participants;
    if participants::anyone_alive(&fd, rows)? {
        return Err(Error::about(Code::Exists, ""));
    }
    // Somebody has begun to take its name and was stopped.
    let if_dead = if is_retired(&fd)? { IfDead::Replace } else { options.if_dead };
    match if_dead {
        IfDead::Refuse => Err(Error::about(Code::Exists, "nobody is attached to it")),
        IfDead::Adopt => match Attachment::attach(fd, options, Some(path.to_owned()), false)? {
            Some(inner) => Ok(Way::Adopted(Segment { inner: Arc::new(inner) })),
            None => Ok(Way::Clear),
        },
        IfDead::Replace => Ok(if retire(path, &fd, rows)? { Way::Clear } else { Way::Busy }),
    }
}

/// Where the word stands that says that a segment is being replaced.
const RETIRED_OFFSET: u64 =
    HOT_OFFSET + std::mem::offset_of!(Hot, life) as u64 + std::mem::offset_of!(layout::Life, retired) as u64;

fn is_retired(fd: &OwnedFd) -> Result<bool> {
    Ok(sys::read_word(fd, RETIRED_OFFSET)? != 0)
}

/// Undoes the work of a replacer that died before it had taken the name away.
fn give_name_back(path: &Path) -> Result<()> {
    let fd = match sys::open_file(path, true) {
        Err(error) if error.code() == Code::NotFound => return Ok(()),
        opened => opened?,
    };
    if !sys::lock(&fd, REPLACER_LOCK, 1)? {
        // It lives.
        std::thread::yield_now();
    } else if is_retired(&fd)? && has_name(path, &fd) {
        sys::write_word(&fd, RETIRED_OFFSET, 0)?;
    }
    Ok(())
}

/// Whether the file has this name still.
fn has_name(path: &Path, fd: &OwnedFd) -> bool {
    sys::named_file_facts(path)
        .is_ok_and(|named| sys::file_facts(fd.as_fd()).is_ok_and(|own| own.identity == named.identity))
}

/// Takes a name from a dead segment. Who attaches takes its row and then looks at the word; this writes the word
/// and then looks at the rows: one of the two sees the other. False if somebody else is at it.
fn retire(path: &Path, fd: &OwnedFd, rows: u32) -> Result<bool> {
    if !sys::lock(fd, REPLACER_LOCK, 1)? {
        return Ok(false);
    }
    sys::write_word(fd, RETIRED_OFFSET, 1)?;
    // The kernel may look at an empty list of locks without taking a lock of its own.
    fence(Ordering::SeqCst);
    if participants::anyone_alive(fd, rows)? {
        sys::write_word(fd, RETIRED_OFFSET, 0)?;
        sys::unlock(fd, REPLACER_LOCK, 1);
        return Err(Error::about(Code::Exists, ""));
    }
    // While this lock is held nobody else takes the name from this very file.
    if has_name(path, fd) {
        sys::unlink_file(path).inspect_err(|_| {
            // It keeps its name, so it can be attached to as before. The first error is the one to report.
            let _ = sys::write_word(fd, RETIRED_OFFSET, 0);
        })?;
    }
    Ok(true)
}
