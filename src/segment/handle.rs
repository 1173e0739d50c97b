//! Segments: created, found by their names, and taken over when nobody is attached any more.
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
use crate::segment::deaths::Death;
use crate::segment::name::{self, Way};
use crate::segment::options::{AttachOptions, CreateOptions};
use crate::sys;

/// The geometry of a segment, and its use at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// What was decided at creation.
    pub geometry: Geometry,
    /// Bytes of the whole segment.
    pub total_size: u64,
    /// Bytes of this mapping that are in huge pages, if these were requested.
    pub huge_bytes: u64,
    /// The sequence of the next sample.
    pub next_sequence: u64,
    /// Joined readers, reader i as bit i.
    pub readers: u64,
    /// Attached processes.
    pub participants: u32,
    /// Memory of all regions, in bytes.
    pub region_bytes: u64,
    /// Whether a call has taken its name away: a process that looks for the name does not find this
    /// segment any more. If the name disappeared in another way, [`Segment::is_named`] notices it,
    /// and so do waits that [`EndWaits::retired`] ends.
    ///
    /// [`EndWaits::retired`]: crate::EndWaits::retired
    pub retired: bool,
}

/// A segment, attached to this process. Cheap to clone; any thread. The mapping lives as long as
/// any clone, writer, reader or sample of it.
#[derive(Clone, Debug)]
pub struct Segment {
    inner: Arc<Attachment>,
}

/// How often an operation is tried that races with other processes for a name. Each retry means
/// that another process completed a step in between.
const NAME_RACES: u32 = 64;

impl Segment {
    /// Creates a segment and gives it its name in one step: no process ever sees an incomplete one.
    pub fn create(name: &str, options: &CreateOptions) -> Result<Segment> {
        Ok(Segment::create_or_adopt(&name::path_of(name)?, options)?.0)
    }

    /// The segment, and whether it was created rather than adopted.
    fn create_or_adopt(path: &Path, options: &CreateOptions) -> Result<(Segment, bool)> {
        let geometry = options.geometry()?;
        Segment::take_name(path, geometry, options).map_err(|error| error.at(path))
    }

    fn take_name(
        path: &Path,
        geometry: Geometry,
        options: &CreateOptions,
    ) -> Result<(Segment, bool)> {
        let mut made = None;
        for _ in 0..NAME_RACES {
            if let Way::Adopted(inner) = name::make_way(path, options)? {
                return Ok((Segment { inner: Arc::new(*inner) }, false));
            }
            let inner = match made.take() {
                Some(inner) => inner,
                None => {
                    let directory = path.parent().unwrap_or(Path::new("/"));
                    Attachment::build(
                        Some(sys::unnamed_file(directory, geometry.mode)?),
                        geometry.clone(),
                        &options.attaching(),
                        Some(path.to_owned()),
                    )?
                }
            };
            match inner.fd().and_then(|fd| fd.map_or(Ok(()), |fd| sys::link_file(fd, path))) {
                Ok(()) => return Ok((Segment { inner: Arc::new(inner) }, true)),
                Err(error) if error.code() == Code::Exists => made = Some(inner),
                Err(error) => return Err(error),
            }
        }
        Err(name_in_dispute(Code::Exists))
    }

    /// Creates a segment without a name, in a memfd that is sealed against changes of its size
    /// before any other process can see it. Pass on [`Segment::fd`].
    pub fn create_anonymous(options: &CreateOptions) -> Result<Segment> {
        let mut geometry = options.nameless_geometry()?;
        geometry.mode = 0o600;
        let size = geometry.offsets().map_or(u64::MAX, |offsets| offsets.fixed_size);
        let memory = if size > sys::PIECE { sys::machine_memory() } else { u64::MAX };
        // A memfd has no file system whose size would end the allocation before the machine's
        // memory does. A single piece fits every machine.
        if size > memory {
            return Err(Error::new(Code::NoMemory)
                .about(format_args!("{size} bytes are needed, and the machine has {memory}"))
                .with_numbers([size, memory, 0]));
        }
        let made = sys::anonymous_file(c"shmslot")?;
        // Without /proc it wakes no event loops, and can do all else.
        let (file, tells) = made.opened_again_if_possible()?;
        let inner = Attachment::build(Some(file), geometry, &options.attaching(), None)?;
        if !tells {
            inner.leave_chimes_to_others();
        }
        Ok(Segment { inner: Arc::new(inner) })
    }

    /// Creates a segment in this process's private memory: with the same calls, for tests and
    /// threads.
    pub fn create_local(options: &CreateOptions) -> Result<Segment> {
        let geometry = options.nameless_geometry()?;
        Ok(Segment {
            inner: Arc::new(Attachment::build(None, geometry, &options.attaching(), None)?),
        })
    }

    /// Attaches to the segment with this name.
    pub fn attach(name: &str, options: &AttachOptions) -> Result<Segment> {
        Segment::attach_asking(&name::path_of(name)?, options, None)
    }

    fn attach_asking(
        path: &Path,
        options: &AttachOptions,
        asked: Option<&CreateOptions>,
    ) -> Result<Segment> {
        for _ in 0..NAME_RACES {
            let attached = sys::open_file(path, !options.observer)
                .and_then(|fd| name::attach(path, fd, options, asked))
                .map_err(|error| error.at(path))?;
            if let Some(inner) = attached {
                return Ok(Segment { inner: Arc::new(inner) });
            }
        }
        Err(name_in_dispute(Code::NotFound).at(path))
    }

    /// Attaches to the segment behind a descriptor, which the caller keeps.
    pub fn attach_fd(fd: BorrowedFd<'_>, options: &AttachOptions) -> Result<Segment> {
        let facts = sys::file_facts(fd)?;
        if !facts.is_regular {
            return Err(Error::new(Code::NotAFile)
                .about(format_args!("the descriptor is {}, not a regular file", facts.kind))
                .advice("check which descriptor it is"));
        }
        // Opened again, so that the locks of this participant are its own.
        let own = sys::reopen(fd, !options.observer)?;
        match Attachment::attach(own, options, None, None, true)? {
            Some(inner) => Ok(Segment { inner: Arc::new(inner) }),
            None => Err(Error::new(Code::NotFound)
                .about("the segment of the descriptor has been replaced")
                .advice("get a descriptor of the new one")),
        }
    }

    /// Attaches to the segment with this name, or creates it; true if this call created it. If
    /// several processes call this at once, one of them creates the segment. An existing segment
    /// must give what `options` ask for, see [`CreateOptions`]; otherwise the call does not attach.
    /// If nobody is attached to it any more, `if_orphaned` decides; here
    /// [`Refuse`](crate::IfOrphaned::Refuse) means the same as `Adopt`.
    pub fn open(name: &str, options: &CreateOptions) -> Result<(Segment, bool)> {
        let path = name::path_of(name)?;
        for _ in 0..NAME_RACES {
            match Segment::create_or_adopt(&path, options) {
                Err(error) if error.code() == Code::Exists => {}
                made => return made,
            }
            match Segment::attach_asking(&path, &options.attaching(), Some(options)) {
                Err(error) if error.code() == Code::NotFound => {}
                attached => return attached.map(|segment| (segment, false)),
            }
        }
        Err(name_in_dispute(Code::Exists).at(&path))
    }

    /// Removes the name. Attached processes stay attached, and can [notice it](Info::retired); the
    /// memory is freed with the last of them.
    pub fn unlink(name: &str) -> Result<()> {
        let path = name::path_of(name)?;
        name::unlink(&path).map_err(|error| error.at(&path))
    }

    /// The geometry of the segment, and its use.
    pub fn info(&self) -> Result<Info> {
        let inner = &*self.inner;
        let table = inner.table()?;
        Ok(Info {
            geometry: inner.geometry().clone(),
            total_size: inner.offsets().total,
            huge_bytes: inner.huge_bytes(),
            next_sequence: order::next_sequence(table),
            readers: table.hot.active.0.load(Ordering::Relaxed),
            participants: inner.participant_count(),
            region_bytes: inner.region_bytes(),
            retired: inner.is_retired(),
        })
    }

    /// Whether its name still leads to this segment, however it was lost; as this process sees the
    /// path.
    pub fn is_named(&self) -> Result<bool> {
        self.inner.is_named()
    }

    /// Every attached process, including those that died and are not recovered yet.
    pub fn participants(&self) -> Result<Vec<Participant>> {
        self.inner.list_participants()
    }

    /// The participants that died while attached, the last one that was noticed first: for each
    /// participant index the last death. Works on an [observer](crate::AttachOptions::observer),
    /// too.
    pub fn deaths(&self) -> Result<Vec<Death>> {
        self.inner().deaths()
    }

    /// Recovers dead participants, and returns how many there were.
    ///
    /// It gives back their loans, completes or undoes their commits, releases their held and unread
    /// samples and their rows, and wakes all sleepers, which check again. Any participant may call
    /// it at any time, several at once. It also happens automatically: on attach, when a reserve
    /// finds nothing free, when a row or the place of a single writer is taken, and every 200 ms in
    /// a wait.
    pub fn recover(&self) -> Result<u32> {
        self.inner.writable()?;
        self.inner.recover()
    }

    /// Gives the memory of all unused regions back to the system, and returns how many bytes that
    /// was. Otherwise regions keep their memory for the next payload, because new memory costs far
    /// more.
    pub fn trim(&self) -> Result<u64> {
        self.inner.trim()
    }

    /// The descriptor to pass on. A process that has it can attach; it does not show who is alive.
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
        .about(format_args!(
            "other processes kept replacing the segment of this name, {NAME_RACES} times"
        ))
        .advice("try again, or find out who creates and unlinks it all the time")
        .with_numbers([NAME_RACES.into(), 0, 0])
}
