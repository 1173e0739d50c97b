//! How a segment is made, or attached to.
#![forbid(unsafe_code)]

use std::fmt;
use std::time::Duration;

use crate::error::{Code, Error, Result};
use crate::layout::{BadGeometry, Geometry, MAX_TYPE_NAME, NUMBERS, Policy, Rule};
use crate::sys;

/// What `create` does when the name belongs to a segment to which nobody is attached any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum IfOrphaned {
    /// Take its name for a new segment.
    #[default]
    Replace,
    /// Attach to it as it is, if it gives what is asked: see [`CreateOptions`].
    Adopt,
    /// Fail with [`Code::Exists`].
    Refuse,
}

/// How to attach to a segment. Zero, `None`, `false` and an empty name are the default of each
/// field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttachOptions {
    /// Identity that the sample type must have. All zero: any.
    pub type_hash: [u8; 16],
    /// Name that the sample type must have. Empty: any.
    pub type_name: String,
    /// Map all pages now, not at their first use.
    pub prefault: bool,
    /// Request huge pages; [`Info::huge_bytes`](crate::Info::huge_bytes) says what was obtained.
    pub huge_pages: bool,
    /// Copies of payloads of 64 KiB and more bypass the caches, as in [`CreateOptions`].
    pub stream_copies: bool,
    /// Attach to a segment of another user, or one whose mode was loosened.
    pub any_owner: bool,
    /// Attach read-only, without a row.
    pub observer: bool,
    /// How long a wait polls before it sleeps; default 10 µs.
    pub spin: Option<Duration>,
    /// Most loans of one writer at one time; default no limit.
    pub max_loans: u32,
}

/// How to make a segment. Zero, `None`, `false` and an empty name are the default of each field.
///
/// [`Segment::open`](crate::Segment::open), and create with [`IfOrphaned::Adopt`], compare the
/// options with an existing segment: its numbers must not be less than those asked for; `policy`,
/// `user_header_size`, `max_held`, `single_writer`, `timestamps`, `ephemeral` and the type must be
/// equal. Otherwise the error is [`Code::OptionsMismatch`], or [`Code::TypeMismatch`]. A field that
/// is left at its default is not compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateOptions {
    /// Number of slots, 1 to 2^24; default 64.
    pub slot_count: u32,
    /// Payload bytes of a slot, 1 to 4 GiB; default 4096.
    pub slot_capacity: u64,
    /// Alignment of each payload, a power of two from 64 to 4096; default 64.
    pub payload_align: u32,
    /// Bytes of user header beside each slot, 0 to 256.
    pub user_header_size: u32,
    /// Readers that may be joined at once, 1 to 63; default 15.
    pub max_readers: u32,
    /// Processes that may be attached at once, 1 to 4095; default 64.
    pub max_participants: u32,
    /// Samples kept for readers that join later, less than `slot_count`.
    pub history: u32,
    /// Largest payload of all; default `slot_capacity`. Payloads larger than `slot_capacity` go to
    /// regions.
    pub max_payload: u64,
    /// Most payloads in regions at one time, on loan, unread, held or retained: more than
    /// `history`, at most 63. Default 8, or two more than `history`.
    pub region_count: u32,
    /// Most samples that one reader may hold, read or peeked and not marked: at this limit the next
    /// read or peek returns [`Code::HeldLimit`]. Default no limit.
    pub max_held: u32,
    /// What a writer does when nothing is free; default [`Policy::Block`].
    pub policy: Option<Policy>,
    /// One writer at a time: commits cost less, and a second writer is refused.
    pub single_writer: bool,
    /// Each commit stores the monotonic time, which takes about 25 ns.
    pub timestamps: bool,
    /// The name is removed with the last participant: when it closes; or, if it was killed, by the
    /// next call that attaches to the name, opens it, or [removes what is
    /// dead](crate::Segment::unlink_dead).
    pub ephemeral: bool,
    /// Permission bits of a named segment; default 0600.
    pub mode: u32,
    /// What to do when a dead segment has the name.
    pub if_orphaned: IfOrphaned,
    /// Accept an existing segment with any numbers, policy and flags. Only the type is compared, as
    /// [`Segment::attach`](crate::Segment::attach) does.
    pub any_geometry: bool,
    /// Identity of the sample type; all zero is none.
    pub type_hash: [u8; 16],
    /// Name of the sample type, at most 63 bytes.
    pub type_name: String,
    /// Map all pages now, not at their first use.
    pub prefault: bool,
    /// Request huge pages; [`Info::huge_bytes`](crate::Info::huge_bytes) says what was obtained.
    pub huge_pages: bool,
    /// Copies of 64 KiB and more into payloads bypass the caches. That takes less than half the
    /// time if writer and reader do not share a cache, and more than twice the time if they do.
    pub stream_copies: bool,
    /// Accept an existing segment of another user, or one whose mode was loosened.
    pub any_owner: bool,
    /// How long a wait polls before it sleeps; default 10 µs.
    pub spin: Option<Duration>,
    /// Most loans of one writer at one time; default no limit.
    pub max_loans: u32,
}

/// As long as a wake takes: a shorter time is useless, a longer one wastes processor time.
const DEFAULT_SPIN: Duration = Duration::from_micros(10);

impl AttachOptions {
    pub(crate) fn spin(&self) -> Duration {
        self.spin.unwrap_or(DEFAULT_SPIN)
    }

    /// Checks that the sample type of a segment is the one asked for.
    pub(crate) fn compare(&self, found: &Geometry) -> Result<()> {
        let name = padded(&self.type_name)?;
        let other_hash = self.type_hash != [0; 16] && self.type_hash != found.type_hash;
        let other_name = !self.type_name.is_empty() && name != found.type_name;
        if other_hash || other_name {
            let wanted = Type(&name, &self.type_hash);
            let found = Type(&found.type_name, &found.type_hash);
            return Err(Error::new(Code::TypeMismatch)
                .about(format_args!("its type is {found}, and not {wanted}")));
        }
        Ok(())
    }
}

/// The error for a number that is out of its range.
pub(crate) fn out_of_range(field: &str, value: u64, lowest: u64, highest: u64) -> Error {
    Error::new(Code::BadOptions)
        .about(format_args!("{field} is {value}, and not from {lowest} to {highest}"))
        .with_numbers([value, lowest, highest])
}

/// Name and hash of a type, in the text of an error.
struct Type<'t>(&'t [u8; MAX_TYPE_NAME + 1], &'t [u8; 16]);

impl fmt::Display for Type<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Type(name, hash) = self;
        match name.split(|byte| *byte == 0).next() {
            Some(name @ [_, ..]) => write!(f, "{:?}", String::from_utf8_lossy(name))?,
            _ => f.write_str("without a name")?,
        }
        match u128::from_be_bytes(**hash) {
            0 => f.write_str(", without a hash"),
            hash => write!(f, ", hash {hash:032x}"),
        }
    }
}

/// The name of a type in the form of the header.
fn padded(type_name: &str) -> Result<[u8; MAX_TYPE_NAME + 1]> {
    let mut padded = [0; MAX_TYPE_NAME + 1];
    let name = type_name.as_bytes();
    match padded.get_mut(..name.len()) {
        Some(start) if name.len() <= MAX_TYPE_NAME && !name.contains(&0) => {
            start.copy_from_slice(name)
        }
        _ => {
            return Err(Error::new(Code::BadOptions)
                .about("type_name: longer than 63 bytes, or with a NUL"));
        }
    }
    Ok(padded)
}

impl CreateOptions {
    /// How the process that creates or opens the segment attaches to it.
    pub(crate) fn attaching(&self) -> AttachOptions {
        AttachOptions {
            type_hash: self.type_hash,
            type_name: self.type_name.clone(),
            prefault: self.prefault,
            huge_pages: self.huge_pages,
            stream_copies: self.stream_copies,
            any_owner: self.any_owner,
            observer: false,
            spin: self.spin,
            max_loans: self.max_loans,
        }
    }

    /// What is asked for; a number is 0 where it was left at its default.
    fn asked(&self) -> Result<Geometry> {
        Ok(Geometry {
            segment_id: 0,
            slot_count: self.slot_count,
            slot_capacity: self.slot_capacity,
            payload_align: self.payload_align,
            user_header_size: self.user_header_size,
            max_readers: self.max_readers,
            max_participants: self.max_participants,
            history: self.history,
            max_payload: self.max_payload,
            region_count: self.region_count,
            max_held: self.max_held,
            policy: self.policy.unwrap_or_default(),
            single_writer: self.single_writer,
            timestamps: self.timestamps,
            ephemeral: self.ephemeral,
            mode: if self.mode == 0 { 0o600 } else { self.mode },
            type_hash: self.type_hash,
            type_name: padded(&self.type_name)?,
        })
    }

    /// The geometry of a new segment.
    pub(crate) fn geometry(&self) -> Result<Geometry> {
        let geometry = Geometry { segment_id: sys::random_id()?, ..self.asked()?.complete() };
        geometry.check().map_err(|bad| match bad {
            BadGeometry::OutOfRange { field, value, lowest, highest } => {
                out_of_range(field, value, lowest, highest)
            }
            BadGeometry::Other(about) => Error::new(Code::BadOptions).about(about),
        })?;
        Ok(geometry)
    }

    /// The geometry of a new segment without a name, for which there can be no existing segment.
    pub(crate) fn nameless_geometry(&self) -> Result<Geometry> {
        let unused = [
            (self.ephemeral, "ephemeral: there is no name that could go"),
            (self.any_owner, "any_owner: without a name nothing is there already"),
            (self.any_geometry, "any_geometry: without a name nothing is there already"),
        ];
        match unused.into_iter().find(|(set, _)| *set) {
            Some((_, about)) => Err(Error::new(Code::BadOptions).about(about)),
            None => self.geometry(),
        }
    }

    /// Checks that an existing segment gives what is asked for.
    pub(crate) fn compare(&self, found: &Geometry) -> Result<()> {
        if self.any_geometry {
            return Ok(());
        }
        let mut asked = self.asked()?;
        if asked.clone().complete().region_count == 0 {
            // Create ignores it, too, if every payload fits its slot.
            asked.region_count = 0;
        }
        let found = Geometry { max_payload: found.largest_payload(), ..found.clone() };
        let numbers = NUMBERS
            .iter()
            .map(|number| (number.rule, number.name, (number.of)(&asked), (number.of)(&found)));
        let policy = self.policy.map_or(0, |policy| policy as u64);
        let choices = [
            (Rule::Same, "policy", policy, found.policy as u64),
            (Rule::Same, "single_writer", self.single_writer.into(), found.single_writer.into()),
            (Rule::Same, "timestamps", self.timestamps.into(), found.timestamps.into()),
            (Rule::Same, "ephemeral", self.ephemeral.into(), found.ephemeral.into()),
        ];
        match numbers.chain(choices).find(|(rule, _, wanted, is)| !rule.is_kept(*wanted, *is)) {
            Some((_, name, wanted, is)) => Err(Error::new(Code::OptionsMismatch)
                .about(format_args!("{name}: {wanted} wanted, {is} found"))
                .with_numbers([wanted, is, 0])),
            None => Ok(()),
        }
    }
}
