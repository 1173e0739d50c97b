//! Why a call of a reader has failed, in numbers. The hot calls return a code alone.
#![forbid(unsafe_code)]

use crate::error::{Code, Error};
use crate::protocol::order;
use crate::reader::core::{Core, Hold, SampleToken};

impl Core {
    pub(crate) fn explain(&self, code: Code) -> Error {
        match code {
            Code::HeldLimit => {
                let (held, most) = (self.held_count(), self.segment().geometry().max_held);
                Error::new(code)
                    .about(format_args!("this reader holds {held} samples, and max_held is {most}"))
                    .with_numbers([held.into(), most.into(), 0])
            }
            _ => code.into(),
        }
    }

    /// Why this sample is stale; `None` is one that no reader of this segment can have got.
    pub(crate) fn explain_stale(&self, token: Option<SampleToken>) -> Error {
        let Some(token) = token else {
            return stale().about("the sample is of another segment, or was never given out");
        };
        let sequence = token.sequence();
        let error = match self.segment().table() {
            Err(code) => return code.into(),
            // One that a peek took may be ahead of what the reader has read.
            Ok(table) if sequence == 0 || sequence >= order::next_sequence(table) => {
                stale().about(format_args!("no sample {sequence} was committed yet"))
            }
            Ok(_) if token.hold() == Hold::Owed && sequence >= self.next_sequence() => {
                stale().about(format_args!("this reader has not read sample {sequence} yet"))
            }
            Ok(_) => stale().about(format_args!(
                "this reader does not hold sample {sequence}: it has marked it, or another reader \
                 got it"
            )),
        };
        error.with_numbers([sequence, self.next_sequence(), 0])
    }
}

fn stale() -> Error {
    Error::new(Code::Stale).advice("mark each sample once, with the reader that gave it out")
}
