//! The segment that a channel is played into.

use std::collections::BTreeMap;
use std::time::Duration;

use mcap::records::Channel;
use shmslot::{Code, CreateOptions, Interrupter, Policy, Segment, Writer};

use crate::failure::{Failure, Outcome};
use crate::shell::Shell;
use crate::units::from_hex;

pub(super) struct Target {
    topic: String,
    name: String,
    is_own: bool,
    header_size: usize,
    writer: Writer,
    segment: Segment,
}

/// The largest message of a file that says nothing of its segments. A segment takes memory for such
/// a message only when there is one.
const FOREIGN_PAYLOAD: u64 = 256 << 20;

/// The longest name of a type.
const TYPE_NAME: usize = 63;

/// The name of the segment of a topic: a name has no slashes.
pub(super) fn name_of(topic: &str) -> String {
    let name = topic.trim_matches('/').replace('/', ".");
    if name.is_empty() { "topic".to_owned() } else { name }
}

impl Target {
    /// Makes the segment as it was recorded, or attaches to one that gives as much.
    pub(super) fn open(
        shell: &Shell,
        name: &str,
        channel: &Channel,
        type_name: &str,
    ) -> Outcome<Target> {
        let full_name = shell.name(name)?;
        let options = options(&channel.metadata, type_name);
        let (segment, is_own) = Segment::open(&full_name, &options)?;
        Ok(Target {
            topic: channel.topic.clone(),
            name: full_name,
            is_own,
            header_size: segment.info()?.geometry.user_header_size as usize,
            writer: segment.writer()?,
            segment,
        })
    }

    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    pub(super) fn segment(&self) -> &Segment {
        &self.segment
    }

    pub(super) fn interrupter(&self) -> Interrupter {
        self.writer.interrupter()
    }

    /// False if a signal came first.
    pub(super) fn wait_readers(&self, count: u32, timeout: Option<Duration>) -> Outcome<bool> {
        match self.writer.wait_readers(count, timeout) {
            Err(error) if error.code() == Code::Interrupted => Ok(false),
            waited => Ok(waited.map(|()| true)?),
        }
    }

    /// False if a signal came first.
    pub(super) fn write(&self, payload: &[u8], header: &[u8]) -> Outcome<bool> {
        let mut loan = match self.writer.reserve(payload.len(), None) {
            Err(error) if error.code() == Code::Interrupted => return Ok(false),
            // Where the policy is FAIL, a reserve does not wait: a message that finds no slot is
            // left out, as by any writer.
            Err(error) if error.code() == Code::NoFreeSlot => return Ok(true),
            Err(error) => return Err(self.writer.explain(error.code(), payload.len()).into()),
            Ok(loan) => loan,
        };
        if header.len() == self.header_size {
            loan.write_user_header(header)?;
        }
        loan.copy_from(payload)?;
        loan.commit(payload.len())?;
        Ok(true)
    }

    /// Closes the segment, and removes its name if it was made here and nobody else uses it.
    pub(super) fn close(self, keep: bool) -> Outcome {
        let Target { name, is_own, writer, segment, .. } = self;
        drop((writer, segment));
        if is_own && !keep {
            Segment::unlink_if_dead(&name).map_err(Failure::from)?;
        }
        Ok(())
    }
}

/// The options that a recording of this command has; what is not there, or makes no sense, is left
/// at a default that takes messages of any size.
fn options(metadata: &BTreeMap<String, String>, type_name: &str) -> CreateOptions {
    let text = |field: &str| metadata.get(&format!("shmslot.{field}")).map(String::as_str);
    if text("slot_count").is_none() {
        return CreateOptions {
            max_payload: FOREIGN_PAYLOAD,
            type_name: shortened(type_name),
            ..CreateOptions::default()
        };
    }
    let number = |field: &str| text(field).and_then(|text| text.parse().ok()).unwrap_or(0_u64);
    let small = |field: &str| u32::try_from(number(field)).unwrap_or(0);
    let is_set = |field: &str| text(field) == Some("true");
    let hash = text("type_hash").and_then(from_hex).and_then(|hash| hash.try_into().ok());
    CreateOptions {
        slot_count: small("slot_count"),
        slot_capacity: number("slot_capacity"),
        payload_align: small("payload_align"),
        user_header_size: small("user_header_size"),
        max_readers: small("max_readers"),
        max_participants: small("max_participants"),
        history: small("history"),
        max_payload: number("max_payload"),
        region_count: small("region_count"),
        max_held: small("max_held"),
        policy: match text("policy") {
            Some("fail") => Some(Policy::Fail),
            Some("drop-oldest") => Some(Policy::DropOldest),
            _ => Some(Policy::Block),
        },
        single_writer: is_set("single_writer"),
        timestamps: is_set("timestamps"),
        ephemeral: is_set("ephemeral"),
        type_hash: hash.unwrap_or_default(),
        type_name: shortened(text("type_name").unwrap_or_default()),
        ..CreateOptions::default()
    }
}

fn shortened(type_name: &str) -> String {
    let mut end = type_name.len().min(TYPE_NAME);
    while !type_name.is_char_boundary(end) {
        end -= 1;
    }
    type_name[..end].replace('\0', "?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_become_names_and_types_are_cut_between_characters() {
        let names = [("camera", "camera"), ("/ros/image_raw", "ros.image_raw"), ("/", "topic")];
        for (topic, name) in names {
            assert_eq!(name_of(topic), name);
        }
        let long = format!("{}é", "x".repeat(62));
        assert_eq!(shortened(&long), "x".repeat(62));
        assert_eq!(shortened("sensor_msgs/msg/Image"), "sensor_msgs/msg/Image");
    }
}
