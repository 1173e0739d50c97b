//! One descriptor of a reader or a writer for an event loop.
//!
//! It watches the file of the segment. Whoever rings the bell that it is armed on accesses that file
//! once, which makes the descriptors of all who wait readable; and so does the kernel when a process
//! dies and its files are closed. To sleep: read until there is nothing, *drain* the descriptor, arm
//! the bell, look again, and let the loop wait. A descriptor is never armed before it is drained, so
//! a ring that follows the arming is not read away; and nobody sleeps with events in the queue,
//! because the kernel merges an event with an equal one that is there, and then wakes nobody.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd};

use crate::error::{Code, Error, HotResult, Result};
use crate::segment::attachment::Attachment;
use crate::sys::{self, FileWatch};
use crate::wait::WaitFor;

/// When a descriptor is armed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arm {
    /// By each call that finds nothing. The loop needs no rule but to go on until then.
    #[default]
    WhenNothingIsThere,
    /// By a call of its own: for programs that poll, and only sometimes wait for the descriptor.
    OnRequest,
}

/// A descriptor, and when it is armed.
#[derive(Debug)]
pub(crate) struct Descriptor {
    watch: FileWatch,
    arm: Arm,
}

impl Descriptor {
    /// One that is readable: the first turn of the loop arms it.
    pub(crate) fn new(segment: &Attachment, arm: Arm) -> Result<Descriptor> {
        let watch = FileWatch::new()?;
        segment.watch_file(&watch)?;
        // What wakes others must wake this process, too.
        segment.chime();
        if !watch.is_readable() {
            return Err(Error::new(Code::NotSupported)
                .about("this system tells nothing of accesses to the file of the segment")
                .advice("wait with shmslot_wait in a thread"));
        }
        Ok(Descriptor { watch, arm })
    }

    /// Whether calls that find nothing arm it.
    pub(crate) fn arms_itself(&self) -> bool {
        self.arm == Arm::WhenNothingIsThere
    }

    /// Drains it, and arms it for `what`. The caller then looks once more, and what it finds missing
    /// from then on makes the descriptor readable.
    pub(crate) fn drain_and_arm(&self, segment: &Attachment, what: WaitFor) -> HotResult<()> {
        let _whole = sys::Uncancelled::new();
        let (mut closed, mut changed) = (false, false);
        let drained = self.watch.drain(|told| {
            closed |= told.closed;
            changed |= told.changed;
        });
        drained.map_err(|error| error.code())?;
        notice(segment, closed, changed)?;
        what.arm_descriptor(segment)
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }
}

/// Acts on what was told of the file of a segment besides rings.
pub(crate) fn notice(segment: &Attachment, closed: bool, changed: bool) -> HotResult<()> {
    if changed {
        segment.look_at_name_soon();
    }
    if closed {
        // A participant may have died. If its recovery fails, the words are corrupt, which the call
        // will find by itself; but it must be said that nobody can be found dead any more.
        match segment.recover() {
            Err(error) if error.code() == Code::DescriptorLost => return Err(Code::DescriptorLost),
            _ => {}
        }
    }
    Ok(())
}
