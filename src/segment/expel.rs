//! Expelling a reader that lives: what an operator does about one that is stuck.
#![forbid(unsafe_code)]

use crate::error::{Code, Error, Result};
use crate::protocol::expel::{self, Outcome, Target};
use crate::segment::attachment::Attachment;
use crate::segment::counters::ReaderCounters;
use crate::segment::handle::Segment;

impl Segment {
    /// Ends the membership of a reader whose process is alive, for example because it is stuck and
    /// blocks the writers. `reader` is from [`Segment::readers`].
    ///
    /// Its unread samples are released, and nothing more is owed to it. What it holds stays valid
    /// until it is marked, and so does a sample that it is taking at this moment. Its reads and
    /// waits return [`Code::Expelled`] from now on; its index is free when it has left. In a
    /// lossless segment this takes milliseconds, in which all processors pass a fence.
    ///
    /// A reader that was expelled already is expelled again, which releases what an expeller that
    /// died has left. Errors: NOT_FOUND if the reader has left; AGAIN if another process is
    /// expelling it; NOT_SUPPORTED for an observer, and where the kernel has no such fence
    /// (`membarrier`).
    pub fn expel(&self, reader: &ReaderCounters) -> Result<()> {
        self.inner().expel(Target { index: reader.index, generation: reader.generation })
    }
}

impl Attachment {
    pub(crate) fn expel(&self, target: Target) -> Result<()> {
        let own = self.writable()?;
        let table = self.table()?;
        let mut outcome = expel::expel(table, target, own);
        if let Ok(Outcome::Busy(_)) = outcome {
            // It may be dead.
            self.recover()?;
            outcome = expel::expel(table, target, own);
        }
        let Target { index, generation } = target;
        let error = match outcome {
            Ok(Outcome::Expelled) => return Ok(()),
            Ok(Outcome::Gone) => Error::new(Code::NotFound)
                .about(format_args!(
                    "reader {index} of generation {generation} is not joined: it has left, or its \
                     process died"
                ))
                .advice("list the readers again"),
            Ok(Outcome::Busy(other)) => Error::new(Code::Again)
                .about(format_args!("participant {other} is expelling reader {index} now"))
                .advice("try again; if that does not help, look whether that process is stopped"),
            Err(Code::NotSupported) => Error::new(Code::NotSupported)
                .about(format_args!(
                    "reader {index} reads nothing more, but its unread samples stay: this system \
                     refuses membarrier, which shows what a reader holds"
                ))
                .advice("end the process of the reader"),
            Err(Code::BadIndex) => Error::new(Code::BadIndex)
                .about(format_args!(
                    "there is no reader {index}: max_readers is {}",
                    self.geometry().max_readers
                ))
                .advice("use an index that shmslot_segment_readers lists"),
            Err(code) => code.into(),
        };
        Err(error.with_numbers([index.into(), generation.into(), 0]))
    }
}
