//! A segment seen from outside: an observer joins nothing, takes no row, and can change nothing.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use shmslot::layout::Geometry;
use shmslot::{
    AttachOptions, Counters, Death, Info, Participant, Policy, ReaderCounters, ReaderKind, Segment,
    WriterCounters,
};

use crate::failure::Outcome;
use crate::shell::Shell;
use crate::units::hex;
use crate::{clock, process};

/// The use of a segment at one moment.
pub(crate) struct Look {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// When it was taken, in nanoseconds of the monotonic clock.
    pub(crate) at_ns: u64,
    pub(crate) info: Info,
    pub(crate) counters: Counters,
    pub(crate) participants: Vec<Participant>,
    pub(crate) readers: Vec<ReaderCounters>,
    pub(crate) writers: Vec<WriterCounters>,
    pub(crate) deaths: Vec<Death>,
}

/// Attaches as an observer, whoever owns the segment: it can do no harm.
pub(crate) fn observe(shell: &Shell, name: &str) -> Outcome<Segment> {
    let observer = AttachOptions { observer: true, any_owner: true, ..AttachOptions::default() };
    Ok(Segment::attach(&shell.name(name)?, &observer)?)
}

impl Look {
    pub(crate) fn at(name: &str, segment: &Segment) -> Outcome<Look> {
        Ok(Look {
            name: name.to_owned(),
            path: segment.path().unwrap_or(Path::new("")).to_owned(),
            at_ns: clock::monotonic_ns(),
            info: segment.info()?,
            counters: segment.counters()?,
            participants: segment.participants()?,
            readers: segment.readers()?,
            writers: segment.writers()?,
            deaths: segment.deaths()?,
        })
    }

    /// The name of the program of a participant, where it can be known.
    pub(crate) fn command_of(&self, pid: u32) -> Option<String> {
        process::command(pid, &self.path)
    }

    /// All of it.
    pub(crate) fn to_json(&self) -> Value {
        let (info, counters) = (&self.info, &self.counters);
        let participants = self.participants.iter().map(|one| {
            json!({
                "index": one.index,
                "pid": one.pid,
                "command": self.command_of(one.pid),
                "alive": one.alive,
                "writers": one.writers,
                "readers": bits(one.readers),
            })
        });
        let readers = self.readers.iter().map(|one| {
            json!({
                "index": one.index,
                "kind": kind(one.kind),
                "participant": one.participant,
                "pid": one.pid,
                "alive": one.alive,
                "next_sequence": one.next_sequence,
                "lag": one.lag,
                "unread": one.unread,
                "held": one.held,
                "lost": one.lost,
                "oldest_held": one.oldest_held,
                "oldest_held_age_ns": self.age_of_oldest(one),
            })
        });
        let writers = self.writers.iter().map(|one| {
            json!({
                "id": one.id,
                "participant": one.participant,
                "pid": one.pid,
                "alive": one.alive,
                "loans": one.loans,
            })
        });
        let deaths = self.deaths.iter().map(|one| {
            json!({
                "participant": one.participant,
                "pid": one.pid,
                "writers": one.writers,
                "readers": bits(one.readers),
                "age_ns": self.at_ns.saturating_sub(one.noticed_ns),
            })
        });
        json!({
            "name": self.name,
            "path": self.path.to_string_lossy(),
            "id": id(info.geometry.segment_id),
            "geometry": geometry_to_json(&info.geometry),
            "total_size": info.total_size,
            "next_sequence": counters.next_sequence,
            "retired": counters.retired,
            "slots": {
                "free": counters.free,
                "loaned": counters.loaned,
                "unread": counters.unread,
                "held": counters.held,
                "retained": counters.retained,
            },
            "regions": { "used": counters.regions, "bytes": counters.region_bytes },
            "dead": counters.dead,
            "recovered": counters.recovered,
            "participants": participants.collect::<Value>(),
            "readers": readers.collect::<Value>(),
            "writers_with_loans": writers.collect::<Value>(),
            "deaths": deaths.collect::<Value>(),
        })
    }

    /// How long ago the oldest sample was committed that a reader holds; `None` if it holds none,
    /// or if the segment keeps no times. When the reader took it is not recorded anywhere.
    pub(crate) fn age_of_oldest(&self, reader: &ReaderCounters) -> Option<u64> {
        let committed = Some(reader.oldest_held_ns).filter(|ns| *ns != 0)?;
        Some(self.at_ns.saturating_sub(committed))
    }
}

pub(crate) fn id(segment_id: u64) -> String {
    format!("{segment_id:016x}")
}

/// What was decided at creation. `replay` reads these fields again.
pub(crate) fn geometry_to_json(geometry: &Geometry) -> Value {
    json!({
        "slot_count": geometry.slot_count,
        "slot_capacity": geometry.slot_capacity,
        "payload_align": geometry.payload_align,
        "user_header_size": geometry.user_header_size,
        "max_readers": geometry.max_readers,
        "max_participants": geometry.max_participants,
        "history": geometry.history,
        "max_payload": geometry.max_payload,
        "region_count": geometry.region_count,
        "max_held": geometry.max_held,
        "policy": policy(geometry.policy),
        "single_writer": geometry.single_writer,
        "timestamps": geometry.timestamps,
        "ephemeral": geometry.ephemeral,
        "mode": format!("{:04o}", geometry.mode),
        "type_name": type_name(geometry),
        "type_hash": hex(&geometry.type_hash),
    })
}

/// The name of the sample type; empty if it has none.
pub(crate) fn type_name(geometry: &Geometry) -> String {
    let name = geometry.type_name.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

pub(crate) fn policy(policy: Policy) -> &'static str {
    match policy {
        Policy::Block => "block",
        Policy::Fail => "fail",
        Policy::DropOldest => "drop-oldest",
    }
}

pub(crate) fn kind(kind: ReaderKind) -> &'static str {
    match kind {
        ReaderKind::Joined => "joined",
        ReaderKind::Left => "left",
        ReaderKind::Named => "named",
        ReaderKind::Expelled => "expelled",
    }
}

/// The numbers of the bits that are set.
pub(crate) fn bits(mask: u64) -> Vec<u32> {
    (0..u64::BITS).filter(|bit| mask >> bit & 1 == 1).collect()
}
