//! Other processes, as `/proc` of this machine shows them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::{Uid, User};

/// The name of the program of a process that is attached to a segment.
///
/// A process number counts in the pid namespace of its process, and may mean another process here.
/// So the name is given only if the process has the file of the segment mapped, as far as it may be
/// looked at.
pub(crate) fn command(pid: u32, file: &Path) -> Option<String> {
    let inode = fs::metadata(file).ok()?.ino().to_string();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    // The inode is the fifth word of a line.
    let is_mapped = maps.lines().any(|line| line.split_whitespace().nth(4) == Some(&*inode));
    if !is_mapped {
        return None;
    }
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    // A process chooses its name, and may put control characters into it.
    Some(name.trim_end().chars().map(|c| if c.is_control() { '?' } else { c }).collect())
}

/// The name of a user, or the number if it has none.
pub(crate) fn user(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    }
}

pub(crate) fn own_uid() -> u32 {
    Uid::effective().as_raw()
}
