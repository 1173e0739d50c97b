//! One process's attachment to a segment: from an arbitrary file to a checked, typed view.
#![allow(unsafe_code)] // Writes the header of a new segment, and makes the view of a mapping.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicPtr};
use std::time::Duration;

use crate::atomics::{AtomicU64, Ordering};
use crate::error::{Code, Error, Result};
use crate::layout::{Geometry, HEADER_SIZE, Offsets};
use crate::protocol::attention::Outlook;
use crate::protocol::shape::Shape;
use crate::protocol::table::Table;
use crate::protocol::{order, rows, vacancy};
use crate::segment::check::{Checked, check_file};
use crate::segment::deaths::Death;
use crate::segment::mapping::{MappedSegment, map_file, map_private};
use crate::segment::options::{AttachOptions, CreateOptions};
use crate::segment::participants::{self, MARK_BASE, Membership, Participant, Participants};
use crate::segment::writers::Writers;
use crate::sys::mapping::Advice;
use crate::sys::{self, ForkGuard, KeptFd, Unseen};

/// Whose descriptor it is, in errors.
const OF_SEGMENT: &str = "of the segment";

/// One attachment: the mapping, its checked view, and this process's row.
pub(crate) struct Attachment {
    pub(super) mapped: MappedSegment,
    /// The process that it belongs to. A forked child has the mapping, too, and must not use it.
    pub(super) birth: ForkGuard,
    /// This process's row, and the file with its lock.
    pub(super) membership: Membership,
    pub(super) path: Option<PathBuf>,
    /// Made on request; null before. It is not a lock, because a forked child, which may ask as
    /// well, would find a lock taken by a thread that it does not have.
    pub(super) shareable: AtomicPtr<KeptFd>,
    /// The file that is watched instead, if the memory is private; made on request. Only calls in
    /// the process of the attachment come here.
    pub(super) watched: Mutex<Option<KeptFd>>,
    pub(super) geometry: Geometry,
    pub(super) offsets: Offsets,
    /// Held by the thread that recovers the dead.
    pub(super) recovering: Mutex<()>,
    /// When the next look for the dead is due, in nanoseconds of the monotonic clock.
    pub(super) next_look: AtomicU64,
    /// When the next check of the name is due.
    pub(super) next_name_look: AtomicU64,
    /// How often the kernel has told that the name may have changed.
    pub(super) name_changes: AtomicU64,
    /// The kernel has told of a close that is not dealt with.
    pub(super) close_pending: AtomicBool,
    /// Whether signals end waits for a change, and whether the loss of the name does.
    pub(super) end_at_signals: AtomicBool,
    pub(super) end_at_retirement: AtomicBool,
    /// Writer numbers of this participant in use, one bit each; and whether payloads may be
    /// written.
    pub(super) writers: Mutex<Writers>,
    pub(super) huge_bytes: u64,
    pub(super) spin: Duration,
    pub(super) max_loans: u32,
    pub(super) prefault: bool,
    pub(super) stream_copies: bool,
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment")
            .field("path", &self.path)
            .field("geometry", &self.geometry)
            .field("participant", &self.membership.own())
            .finish_non_exhaustive()
    }
}

impl Attachment {
    /// Makes a segment in a new file, which no other process can see yet, or in private memory.
    pub(crate) fn build(
        file: Option<Unseen>,
        geometry: Geometry,
        options: &AttachOptions,
        path: Option<PathBuf>,
    ) -> Result<Attachment> {
        let offsets = geometry
            .offsets()
            .ok_or_else(|| Error::new(Code::BadOptions).about("slot_capacity times slot_count"))?;
        let map = match &file {
            Some(Unseen { fd, .. }) => {
                sys::check_memory_limit(offsets.fixed_size)?;
                sys::set_size(fd, offsets.fixed_size, offsets.total)?;
                // A file with a name cannot be sealed.
                if path.is_none() {
                    sys::seal_size(fd)?;
                }
                map_file(fd, &offsets, options, Advice::Populate)?
            }
            None => map_private(&offsets)?,
        };
        let header = geometry.encode(&offsets);
        // SAFETY: the mapping is larger than the header, writable, and not shared yet.
        unsafe { map.start().as_ptr().copy_from_nonoverlapping(header.as_ptr(), HEADER_SIZE) };
        let mapped = MappedSegment::new(map, &geometry, &offsets)?;
        // Newly allocated memory is zero, which is right for all words except these.
        mapped.table().hot.tail.0.store(order::FIRST, Ordering::Relaxed);
        if !mapped.table().shape.receipts || !sys::register_for_fences() {
            mapped.table().hot.attention.0.store(Outlook::PINNED.word(), Ordering::Relaxed);
        }
        vacancy::offer_all(mapped.table());
        mapped.rows().begin();
        let kept = file.map(|file| KeptFd::known(file.fd, file.identity, OF_SEGMENT));
        Attachment::finish(mapped, kept, geometry, offsets, options, path)
    }

    /// Attaches to an arbitrary file; `None` if it has lost its name, or is losing it.
    pub(crate) fn attach(
        fd: OwnedFd,
        options: &AttachOptions,
        asked: Option<&CreateOptions>,
        path: Option<PathBuf>,
        must_be_sealed: bool,
    ) -> Result<Option<Attachment>> {
        let Checked { geometry, offsets, identity } =
            check_file(&fd, options, asked, must_be_sealed)?;
        let may_be_over = geometry.ephemeral && path.is_some() && !options.observer;
        if may_be_over && !participants::anyone_alive(&fd, geometry.max_participants)? {
            return Ok(None);
        }
        let map = map_file(&fd, &offsets, options, Advice::PopulateKnown)?;
        // `check_file` made sure that the file is as long as `offsets.total`. The owner of a named
        // one can truncate it later; then an access faults, as the header says, which ends the
        // process and corrupts nothing.
        let mapped = MappedSegment::new(map, &geometry, &offsets)?;
        let kept = Some(KeptFd::known(fd, identity, OF_SEGMENT));
        let inner = Attachment::finish(mapped, kept, geometry, offsets, options, path)?;
        // After the row was taken: see `Right::take_from_dead`. An observer takes no row, and sees what was
        // there before.
        let retired = inner.mapped.table().hot.lifecycle.0.retired.load(Ordering::SeqCst) != 0;
        if retired && !options.observer {
            return Ok(None);
        }
        if inner.membership.own().is_some() {
            // A process can also attach to a segment whose words are corrupt; then each call says
            // so.
            let _ = inner.recover_some();
        }
        Ok(Some(inner))
    }

    fn finish(
        mapped: MappedSegment,
        mut kept: Option<KeptFd>,
        geometry: Geometry,
        offsets: Offsets,
        options: &AttachOptions,
        path: Option<PathBuf>,
    ) -> Result<Attachment> {
        if let (true, Some(kept)) = (options.observer, &mut kept) {
            // Without a row it has no lock.
            kept.mark(MARK_BASE)?;
        }
        if let Some(kept) = &kept {
            mapped.chime().set(kept.number());
        }
        let mut inner = Attachment {
            mapped,
            birth: ForkGuard::of_this_process()?,
            membership: Membership::new(kept),
            path,
            shareable: AtomicPtr::new(std::ptr::null_mut()),
            watched: Mutex::default(),
            geometry,
            offsets,
            recovering: Mutex::new(()),
            next_look: AtomicU64::new(0),
            next_name_look: AtomicU64::new(0),
            name_changes: AtomicU64::new(0),
            close_pending: AtomicBool::new(false),
            end_at_signals: AtomicBool::new(false),
            end_at_retirement: AtomicBool::new(false),
            writers: Mutex::default(),
            huge_bytes: 0,
            // On a single processor, a spinning thread only keeps the other side from running.
            spin: if sys::several_processors() { options.spin() } else { Duration::ZERO },
            max_loans: options.max_loans,
            prefault: options.prefault,
            stream_copies: options.stream_copies,
        };
        if options.huge_pages {
            inner.huge_bytes =
                inner.mapped.span().collapse(inner.offsets.fixed_size as usize) as u64;
        }
        if !options.observer {
            inner.take_row()?;
            if inner.shape().receipts && !sys::register_for_fences() {
                inner.mapped.table().attention().pin();
            }
            inner.protect_payload(false)?;
        }
        Ok(inner)
    }

    /// Takes a row, or that of a dead participant if no other is left.
    fn take_row(&mut self) -> Result<()> {
        match self.membership.take(self.mapped.rows()) {
            // A dead participant's row will do. It may be free now, whoever recovered it.
            Err(error) if error.code() == Code::NoParticipantSlot => {
                self.membership.enter_anteroom(self.mapped.rows())?;
                let recovered = self.recover();
                self.membership.give_back(self.mapped.rows());
                // The last of the others may have left the name to this participant.
                if recovered.is_err() && self.geometry.ephemeral {
                    self.give_up_name();
                }
                recovered?;
                // The recovery may have taken long.
                self.fd()?;
                self.membership.take(self.mapped.rows())
            }
            taken => taken,
        }
    }

    /// The shared words; an error in a forked child, which would use them in its parent's name.
    #[inline(always)]
    pub(crate) fn table(&self) -> std::result::Result<&Table<'_>, Code> {
        if self.birth.same_process() { Ok(self.mapped.table()) } else { Err(Code::Forked) }
    }

    /// The participants of the segment.
    pub(super) fn participants(&self) -> Participants<'_> {
        Participants::new(self.mapped.rows(), &self.membership)
    }

    /// The attached participants.
    pub(crate) fn list_participants(&self) -> Result<Vec<Participant>> {
        let table = self.table()?;
        self.participants().list(|participant| rows::rows_of(table, participant))
    }

    /// The recorded deaths.
    pub(crate) fn deaths(&self) -> Result<Vec<Death>> {
        self.table()?;
        Ok(self.mapped.rows().deaths())
    }

    /// The part of the geometry that the protocol uses.
    #[inline(always)]
    pub(crate) fn shape(&self) -> &Shape {
        &self.mapped.table().shape
    }

    pub(crate) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    pub(crate) fn offsets(&self) -> &Offsets {
        &self.offsets
    }

    /// The file, if the memory is not private; `DescriptorLost` if the program closed the
    /// descriptor.
    pub(crate) fn fd(&self) -> Result<Option<&OwnedFd>> {
        self.kept().map(KeptFd::proved).transpose()
    }

    /// The file, if the memory is not private.
    pub(super) fn kept(&self) -> Option<&KeptFd> {
        self.membership.fd()
    }

    /// A descriptor to pass on. It is not the one with this participant's lock, because a process
    /// that has that one keeps the participant alive.
    pub(crate) fn shareable_fd(&self) -> Result<BorrowedFd<'_>> {
        // Acquire: pairs with the release of the thread that made it.
        let found = self.shareable.load(Ordering::Acquire);
        if !found.is_null() {
            // SAFETY: once stored, it stays until `self` is dropped.
            return Ok(unsafe { &*found }.proved()?.as_fd());
        }
        let own = self.kept().ok_or_else(|| {
            Error::new(Code::NotSupported)
                .about("a local segment has no descriptor")
                .advice("make an anonymous or a named one")
        })?;
        let file = sys::reopen(own.proved()?.as_fd(), self.membership.own().is_some())?;
        // The same file, opened once more.
        let mut made = KeptFd::known(file, own.identity(), "of shmslot_segment_fd");
        made.mark_and_pin(MARK_BASE)?;
        let made = Box::into_raw(Box::new(made));
        // Release: a thread that finds it finds it complete.
        let offered = self.shareable.compare_exchange(
            std::ptr::null_mut(),
            made,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        let found = match offered {
            Ok(_) => made,
            Err(others) => {
                // SAFETY: made above, and not seen by any other thread.
                drop(unsafe { Box::from_raw(made) });
                others
            }
        };
        // SAFETY: once stored, it stays until `self` is dropped.
        Ok(unsafe { &*found }.unproved().as_fd())
    }

    pub(crate) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    pub(crate) fn huge_bytes(&self) -> u64 {
        self.huge_bytes
    }

    /// Attached processes.
    pub(crate) fn participant_count(&self) -> u32 {
        self.mapped.rows().count()
    }

    /// Relaxed, as the loads: nothing else depends on it.
    pub(crate) fn end_waits(&self, at_signals: bool, at_retirement: bool) {
        self.end_at_signals.store(at_signals, Ordering::Relaxed);
        self.end_at_retirement.store(at_retirement, Ordering::Relaxed);
    }

    pub(crate) fn ends_at_retirement(&self) -> bool {
        self.end_at_retirement.load(Ordering::Relaxed)
    }

    pub(crate) fn ends_at_signals(&self) -> bool {
        self.end_at_signals.load(Ordering::Relaxed)
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

    /// As above, in a call that already has the words and so is in its own process.
    #[inline(always)]
    pub(crate) fn own_row(&self) -> Result<u32> {
        self.membership.own().ok_or_else(only_looks)
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let shareable = *self.shareable.get_mut();
        if !shareable.is_null() {
            // SAFETY: made by `shareable_fd` for this attachment alone.
            drop(unsafe { Box::from_raw(shareable) });
        }
        if self.birth.same_process() {
            let was_attached = self.membership.own().is_some();
            self.membership.give_back(self.mapped.rows());
            if was_attached && self.geometry.ephemeral {
                self.give_up_name();
            }
        }
    }
}

#[cold]
fn only_looks() -> Error {
    Error::new(Code::NotSupported)
        .about("an observer can change nothing")
        .advice("attach without SHMSLOT_FLAG_OBSERVER")
}
