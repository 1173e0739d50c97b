//! What is asked of a segment that is there already.
#![forbid(unsafe_code)]

use crate::error::{Code, Error, Result};
use crate::layout::{Geometry, Policy};
use crate::segment::options::Options;

/// Of the numbers whose default is not 0, those that were asked for; 0 where the default was left.
/// [`Options`] alone do not say: in them a default and the same number asked for look alike. In C
/// they do not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) slot_count: u32,
    pub(crate) slot_capacity: u64,
    pub(crate) payload_align: u32,
    pub(crate) max_readers: u32,
    pub(crate) max_participants: u32,
    pub(crate) policy: Option<Policy>,
}

impl Asked {
    /// What differs from the default was asked for.
    pub(crate) fn of(options: &Options) -> Asked {
        let default = Options::default();
        let asked = |value: u32, default: u32| if value == default { 0 } else { value };
        Asked {
            slot_count: asked(options.slot_count, default.slot_count),
            slot_capacity: if options.slot_capacity == default.slot_capacity {
                0
            } else {
                options.slot_capacity
            },
            payload_align: asked(options.payload_align, default.payload_align),
            max_readers: asked(options.max_readers, default.max_readers),
            max_participants: asked(options.max_participants, default.max_participants),
            policy: (options.policy != default.policy).then_some(options.policy),
        }
    }

    /// Whether what was found gives it, and the rest of the options, which are of the same call.
    pub(crate) fn compare(&self, options: &Options, found: &Geometry) -> Result<()> {
        if options.any_geometry {
            return Ok(());
        }
        // Create does not look at it either, if every payload fits its slot.
        let regions = if options.max_payload > options.slot_capacity { options.region_count } else { 0 };
        let largest = found.max_payload.max(found.slot_capacity);
        let not_less = [
            ("slot_count", u64::from(self.slot_count), u64::from(found.slot_count)),
            ("slot_capacity", self.slot_capacity, found.slot_capacity),
            // Both are powers of two: one that is not less is a multiple.
            ("payload_align", u64::from(self.payload_align), u64::from(found.payload_align)),
            ("max_readers", u64::from(self.max_readers), u64::from(found.max_readers)),
            ("max_participants", u64::from(self.max_participants), u64::from(found.max_participants)),
            ("history", u64::from(options.history), u64::from(found.history)),
            ("max_payload", options.max_payload, largest),
            ("region_count", u64::from(regions), u64::from(found.region_count)),
        ];
        let equal = [
            ("user_header_size", u64::from(options.user_header_size), u64::from(found.user_header_size)),
            ("policy", self.policy.map_or(0, |policy| policy as u64), found.policy as u64),
            ("single_writer", u64::from(options.single_writer), u64::from(found.single_writer)),
            ("timestamps", u64::from(options.timestamps), u64::from(found.timestamps)),
            ("ephemeral", u64::from(options.ephemeral), u64::from(found.ephemeral)),
        ];
        let less = not_less.iter().find(|(_, wanted, found)| wanted > found);
        let other = equal.iter().find(|(_, wanted, found)| *wanted != 0 && wanted != found);
        if let Some(&(field, wanted, found)) = less.or(other) {
            return Err(Error::new(Code::OptionsMismatch)
                .about(format_args!("{field}: {wanted} wanted, {found} found"))
                .with_numbers([wanted, found, 0]));
        }
        let name = found.type_name.split(|byte| *byte == 0).next().unwrap_or(&[]);
        if !options.type_name.is_empty() && options.type_name.as_bytes() != name {
            return Err(Error::new(Code::TypeMismatch).about("type_name"));
        }
        Ok(())
    }
}
