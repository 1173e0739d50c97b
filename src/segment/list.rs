//! Lists the segments of a directory, and removes those that no process uses.
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

/// Whether a process uses a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentState {
    /// This process may not open the file.
    Unknown,
    /// A process is attached to it.
    Alive,
    /// No process is attached to it.
    Dead,
}

/// A segment in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentEntry {
    /// Its name: in the system's directory the name that other calls take, elsewhere the name of
    /// the file.
    pub name: String,
    /// Bytes of the file.
    pub size: u64,
    /// A random number that tells it from every other segment; 0 if it cannot be read.
    pub segment_id: u64,
    /// Rows that are taken: attached processes, including those that died and are not recovered
    /// yet.
    pub participants: u32,
    /// Its layout version; 0 if it cannot be read.
    pub layout_version: u32,
    /// The user that owns it.
    pub owner: u32,
    /// Permission bits of the file.
    pub mode: u32,
    /// Whether its name is removed with the last participant.
    pub ephemeral: bool,
    /// Whether a process uses it.
    pub state: SegmentState,
    /// Why [`Segment::attach`] would refuse it with default options, as far as this can be found
    /// out without attaching.
    pub refusal: Option<Code>,
}

impl Segment {
    /// The segments of a directory, by default the system's. It attaches to none and changes
    /// nothing. Other files in the directory are left out.
    pub fn list(directory: Option<&Path>) -> Result<Vec<SegmentEntry>> {
        let mut list = Vec::new();
        each_segment(directory, |_, entry| {
            list.push(entry);
            Ok(())
        })?;
        Ok(list)
    }

    /// Removes the name of one segment, under the conditions of [`Segment::unlink_dead`]: it belongs
    /// to this user, and no process is attached to it. Returns whether it did; a name that leads to
    /// anything else, or to nothing, is left alone.
    pub fn unlink_if_dead(name: &str) -> Result<bool> {
        let path = name::path_of(name)?;
        name::unlink_if_dead(&path).map_err(|error| error.at(&path))
    }

    /// Removes the names of all segments of a directory, by default the system's, that belong to
    /// this user and that no process is attached to, of any layout version; returns how many there
    /// were. Their memory is freed. It does not wait: a name that another process is taking away is
    /// left to that process.
    ///
    /// If one cannot be removed, all others are still removed, and the error is that one's.
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

/// Calls `show` for each segment of a directory, with its path.
fn each_segment(
    directory: Option<&Path>,
    mut show: impl FnMut(&Path, SegmentEntry) -> Result<()>,
) -> Result<()> {
    let folder = directory.unwrap_or(Path::new(sys::SHM_DIRECTORY));
    let mut failed = None;
    sys::each_name(folder, |file| {
        let ours = name::short_name(file);
        let name = if directory.is_none() { ours } else { file.to_str() };
        let Some(name) = name else { return Ok(()) };
        let path = folder.join(file);
        match look(&path, file) {
            Ok(Some(entry)) => show(&path, SegmentEntry { name: name.to_owned(), ..entry }),
            Ok(None) => Ok(()),
            // It disappeared, or changed, meanwhile.
            Err(error) if !matches!(error.code(), Code::Sys | Code::NoMemory) => Ok(()),
            // One file that cannot be read does not hide the others.
            Err(error) => {
                failed.get_or_insert(error);
                Ok(())
            }
        }
    })?;
    failed.map_or(Ok(()), Err)
}

/// Examines a regular file that may be a segment. It is examined before it is opened, because
/// opening a pipe or a device may have effects.
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
        // Only its name says that it is a segment.
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
    let geometry = check_file(&fd, &any_owner, None, false).ok().map(|checked| checked.geometry);
    let alive = match &geometry {
        Some(geometry) => participants::anyone_alive(&fd, geometry.max_participants)?,
        // Only their own version knows these rows.
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
        refusal: check_file(&fd, &AttachOptions::default(), None, false)
            .err()
            .map(|error| error.code()),
        ..unknown
    }))
}
