//! Segments: made, named, found by their names, taken over when nobody is attached any more.
#![forbid(unsafe_code)]

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

use crate::atomics::Ordering;
use crate::error::{Code, Error, Result};
use crate::layout::Geometry;
use crate::protocol::order;
use crate::segment::Participant;
use crate::segment::attachment::Attachment;
use crate::segment::name::{self, Way};
use crate::segment::options::{AttachOptions, CreateOptions};
use crate::sys;

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
    /// Whether a call has taken its name away: processes that look for it by name do not meet those that are attached.
    /// A name that went in another way is noticed by [`Segment::is_named`], and in waits that [`EndWaits::retired`] ends.
    ///
    /// [`EndWaits::retired`]: crate::EndWaits::retired
    pub retired: bool,
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
    pub fn create(name: &str, options: &CreateOptions) -> Result<Segment> {
        Ok(Segment::create_or_adopt(name, options)?.0)
    }

    /// The segment, and whether it was made rather than adopted.
    fn create_or_adopt(name: &str, options: &CreateOptions) -> Result<(Segment, bool)> {
        let path = name::path_of(name)?;
        let geometry = options.geometry()?;
        let mut made = None;
        for _ in 0..NAME_RACES {
            if let Way::Adopted(inner) = name::make_way(&path, options)? {
                return Ok((Segment { inner: Arc::new(*inner) }, false));
            }
            let inner = match made.take() {
                Some(inner) => inner,
                None => {
                    let directory = path.parent().unwrap_or(Path::new("/"));
                    let fd = sys::unnamed_file(directory)?;
                    sys::set_mode(&fd, geometry.mode)?;
                    Attachment::build(Some(fd), geometry.clone(), &options.attaching(), Some(path.clone()))?
                }
            };
            match inner.fd().and_then(|fd| fd.map_or(Ok(()), |fd| sys::link_file(fd, &path))) {
                Ok(()) => return Ok((Segment { inner: Arc::new(inner) }, true)),
                Err(error) if error.code() == Code::Exists => made = Some(inner),
                Err(error) => return Err(error),
            }
        }
        Err(name_in_dispute(Code::Exists))
    }

    /// Makes a segment without a name, in a memfd that is sealed against change of size before anybody can see
    /// it. [`Segment::fd`] is what to pass on.
    pub fn create_anonymous(options: &CreateOptions) -> Result<Segment> {
        let mut geometry = options.nameless_geometry()?;
        geometry.mode = 0o600;
        // A memfd has no file system whose size would end the allocation before the machine's memory does.
        if geometry.offsets().is_none_or(|offsets| offsets.fixed_size > sys::machine_memory()) {
            return Err(Error::new(Code::NoMemory).about("the segment is larger than all memory"));
        }
        let fd = sys::anonymous_file(c"shmslot")?;
        let inner = Attachment::build(Some(fd), geometry, &options.attaching(), None)?;
        inner.fd()?.map_or(Ok(()), sys::seal_size)?;
        Ok(Segment { inner: Arc::new(inner) })
    }

    /// Makes a segment in this process's private memory: the same calls, for tests and for threads.
    pub fn create_local(options: &CreateOptions) -> Result<Segment> {
        let geometry = options.nameless_geometry()?;
        Ok(Segment { inner: Arc::new(Attachment::build(None, geometry, &options.attaching(), None)?) })
    }

    /// Attaches to the segment of this name.
    pub fn attach(name: &str, options: &AttachOptions) -> Result<Segment> {
        Segment::attach_asking(name, options, None)
    }

    fn attach_asking(name: &str, options: &AttachOptions, asked: Option<&CreateOptions>) -> Result<Segment> {
        let path = name::path_of(name)?;
        for _ in 0..NAME_RACES {
            let fd = sys::open_file(&path, !options.observer)?;
            if let Some(inner) = name::attach(&path, fd, options, asked)? {
                return Ok(Segment { inner: Arc::new(inner) });
            }
        }
        Err(name_in_dispute(Code::NotFound))
    }

    /// Attaches to the segment behind a descriptor, which stays the caller's.
    pub fn attach_fd(fd: BorrowedFd<'_>, options: &AttachOptions) -> Result<Segment> {
        if !sys::file_facts(fd)?.is_regular {
            return Err(Error::new(Code::NotAFile).about("the descriptor"));
        }
        // Opened anew, so that the locks of this participant are its own.
        let own = sys::reopen(fd, !options.observer)?;
        match Attachment::attach(own, options, None, None, true)? {
            Some(inner) => Ok(Segment { inner: Arc::new(inner) }),
            None => Err(Error::new(Code::NotFound)
                .about("the segment of the descriptor has been replaced")
                .advice("get a descriptor of the new one")),
        }
    }

    /// Attaches to the segment of this name, or creates it; true if this call created it. Of several processes
    /// that do this at once one creates. What is there already must give what `options` ask for, see
    /// [`CreateOptions`]; else nothing is attached. If nobody is attached to it any more, `if_orphaned`
    /// decides; to refuse it is to adopt it here.
    pub fn open(name: &str, options: &CreateOptions) -> Result<(Segment, bool)> {
        for _ in 0..NAME_RACES {
            match Segment::create_or_adopt(name, options) {
                Err(error) if error.code() == Code::Exists => {}
                made => return made,
            }
            match Segment::attach_asking(name, &options.attaching(), Some(options)) {
                Err(error) if error.code() == Code::NotFound => {}
                attached => return attached.map(|segment| (segment, false)),
            }
        }
        Err(name_in_dispute(Code::Exists))
    }

    /// Takes the name away. Who is attached stays so, and can [notice](Info::retired); the memory goes with the last of
    /// them.
    pub fn unlink(name: &str) -> Result<()> {
        name::unlink(&name::path_of(name)?)
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
            retired: inner.is_retired(),
        })
    }

    /// Whether its name leads to this segment still, however it may have lost it; as this process sees the path.
    pub fn is_named(&self) -> Result<bool> {
        self.inner.is_named()
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

    pub(crate) fn inner(&self) -> &Arc<Attachment> {
        &self.inner
    }
}

fn name_in_dispute(code: Code) -> Error {
    Error::new(code)
        .about(format_args!("other processes kept replacing the segment of this name, {NAME_RACES} times"))
        .advice("try again, or find out who creates and unlinks it all the time")
        .with_numbers([NAME_RACES.into(), 0, 0])
}
