//! Which segments a directory has, and removing those that nobody uses.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::Path;

use crate::error::{Code, Result};
use crate::segment::Segment;
use crate::segment::check::check_file;
use crate::segment::name;
use crate::segment::options::AttachOptions;
use crate::segment::participants;
use crate::sys;

/// Whether somebody uses a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum SegmentState {
    /// This process may not open the file.
    Unknown = 0,
    /// A process is attached to it.
    Alive = 1,
    /// No process is attached to it.
    Dead = 2,
}

/// A segment as it is found in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentEntry {
    /// Its name: in the system's directory what other calls take, elsewhere the file's own.
    pub name: String,
    /// Bytes of the file.
    pub size: u64,
    /// Random number that tells it from every other; 0 if it cannot be read.
    pub segment_id: u64,
    /// Rows that are taken: attached processes, and those that died so and were not cleaned up
    /// after.
    pub participants: u32,
    /// Version of its bytes; 0 if it cannot be read.
    pub layout_version: u32,
    /// Its user.
    pub owner: u32,
    /// Permission bits of the file.
    pub mode: u32,
    /// Whether its name goes with the last participant.
    pub ephemeral: bool,
    /// Whether somebody uses it.
    pub state: SegmentState,
    /// Why [`Segment::attach`] would refuse it, with default options and as far as can be told
    /// without attaching.
    pub refusal: Option<Code>,
}

impl Segment {
    /// The segments of a directory, by default the system's. Nothing is attached to, and nothing
    /// changed. Whatever else is in the directory is left out.
    pub fn list(directory: Option<&Path>) -> Result<Vec<SegmentEntry>> {
        let mut list = Vec::new();
        each_segment(directory, |_, entry| {
            list.push(entry);
            Ok(())
        })?;
        Ok(list)
    }

    /// Removes the names of all segments of a directory, by default the system's, that belong to
    /// this user and that no process is attached to, of whatever layout version; how many they
    /// were. Their memory is freed. Nothing waits: a name that another process is just taking away
    /// is left to it.
    ///
    /// If one cannot be removed, all others are, and then the error is that one's.
    pub fn unlink_dead(directory: Option<&Path>) -> Result<u32> {
        let (mut removed, mut failed) = (0, None);
        let own = sys::effective_uid();
        each_segment(directory, |path, entry| {
            if entry.state == SegmentState::Dead && entry.owner == own {
                match name::unlink_if_dead(path) {
                    Ok(taken) => removed += u32::from(taken),
                    Err(error) => failed = failed.take().or(Some(error)),
                }
            }
            Ok(())
        })?;
        failed.map_or(Ok(removed), Err)
    }
}

/// Shows each segment of a directory, and its path.
fn each_segment(
    directory: Option<&Path>,
    mut show: impl FnMut(&Path, SegmentEntry) -> Result<()>,
) -> Result<()> {
    let folder = directory.unwrap_or(Path::new(sys::SHM_DIRECTORY));
    sys::each_name(folder, |file| {
        let ours = name::short_name(file);
        let name = if directory.is_none() { ours } else { file.to_str() };
        let Some(name) = name else { return Ok(()) };
        let path = folder.join(file);
        match look(&path, file) {
            Ok(Some(entry)) => show(&path, SegmentEntry { name: name.to_owned(), ..entry }),
            Ok(None) => Ok(()),
            // It went, or changed, while it was looked at.
            Err(error) if !matches!(error.code(), Code::Sys | Code::NoMemory) => Ok(()),
            Err(error) => Err(error),
        }
    })
}

/// A regular file, as far as it is a segment. Looked at before it is opened: to open a pipe or a
/// device may have effects.
fn look(path: &Path, file: &OsStr) -> Result<Option<SegmentEntry>> {
    let facts = sys::named_file_facts(path)?;
    if !facts.is_regular {
        return Ok(None);
    }
    let unknown = SegmentEntry {
        name: String::new(),
        size: facts.size,
        segment_id: 0,
        participants: 0,
        layout_version: 0,
        owner: facts.owner,
        mode: facts.mode,
        ephemeral: false,
        state: SegmentState::Unknown,
        refusal: Some(Code::Permission),
    };
    let fd = match sys::open_file(path, false) {
        // All that tells it is its name.
        Err(error) if error.code() == Code::Permission => {
            return Ok(name::short_name(file).map(|_| unknown));
        }
        opened => opened?,
    };
    let facts = sys::file_facts(fd.as_fd())?;
    if !name::is_ours(path, &fd, facts)? {
        return Ok(None);
    }
    let any_owner = AttachOptions { any_owner: true, ..AttachOptions::default() };
    let geometry = check_file(&fd, &any_owner, None, false).ok().map(|(geometry, _)| geometry);
    let alive = match &geometry {
        Some(geometry) => participants::anyone_alive(&fd, geometry.max_participants)?,
        // Whose rows these are only their own version knows.
        None => participants::any_lock(&fd)?,
    };
    let rows = geometry.as_ref().map_or(0, |geometry| geometry.max_participants);
    Ok(Some(SegmentEntry {
        size: facts.size,
        segment_id: geometry.as_ref().map_or(0, |geometry| geometry.segment_id),
        participants: participants::count_taken(&fd, rows)?,
        layout_version: name::version_of(&fd)?.unwrap_or(0),
        owner: facts.owner,
        mode: facts.mode,
        ephemeral: geometry.is_some_and(|geometry| geometry.ephemeral),
        state: if alive { SegmentState::Alive } else { SegmentState::Dead },
        refusal: check_file(&fd, &AttachOptions::default(), None, false).err().map(|error| error.code()),
        ..unknown
    }))
}
