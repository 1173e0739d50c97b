//! All checks of a file before it is mapped.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};

use crate::error::{Code, Error, Result};
use crate::layout::{self, Geometry, HEADER_SIZE, LAYOUT_VERSION, Offsets};
use crate::segment::options::{AttachOptions, CreateOptions};
use crate::sys;

/// What a file was found to be.
pub(crate) struct Checked {
    pub(crate) geometry: Geometry,
    pub(crate) offsets: Offsets,
    /// Device and inode of the file.
    pub(crate) identity: (u64, u64),
}

/// Makes all checks of a file before it is mapped. `asked` is what its geometry must give.
pub(crate) fn check_file(
    fd: &OwnedFd,
    options: &AttachOptions,
    asked: Option<&CreateOptions>,
    must_be_sealed: bool,
) -> Result<Checked> {
    let facts = sys::file_facts(fd.as_fd())?;
    if !facts.is_regular {
        return Err(Error::new(Code::NotAFile)
            .about(format_args!("it is {}, not a regular file", facts.kind)));
    }
    if facts.owner != sys::effective_uid() && !options.any_owner {
        let (own, owner) = (sys::effective_uid(), facts.owner);
        return Err(Error::new(Code::Permission)
            .about(format_args!(
                "the segment belongs to user {owner}, and this process runs as user {own}"
            ))
            .advice("use SHMSLOT_FLAG_ANY_OWNER if you trust that user")
            .with_numbers([owner.into(), own.into(), 0]));
    }
    if must_be_sealed && !sys::is_size_sealed(fd) {
        return Err(Code::NotSealed.into());
    }
    if facts.size == 0 {
        return Err(Code::Empty.into());
    }
    let mut header = [0; HEADER_SIZE];
    let read = sys::read_at(fd, 0, &mut header)?;
    if read < HEADER_SIZE {
        let known = read.min(layout::MAGIC.len());
        let ours = header.get(..known) == layout::MAGIC.get(..known);
        return Err(if ours { Code::Truncated } else { Code::NotASegment }.into());
    }
    let (geometry, offsets) =
        Geometry::decode(&header).map_err(|code| match layout::version_of(&header) {
            Some(version) if version != LAYOUT_VERSION => other_version(version),
            _ if code == Code::LayoutVersion => Error::new(code).about(
                "the segment has another byte order, or a feature that this library does not know",
            ),
            _ => code.into(),
        })?;
    if facts.mode & !geometry.mode != 0 && !options.any_owner {
        return Err(Error::new(Code::Permission)
            .about(format_args!(
                "the mode is {:#o}, more than the {:#o} of its creation",
                facts.mode, geometry.mode
            ))
            .advice("have the owner set the mode option when it creates it, or use SHMSLOT_FLAG_ANY_OWNER"));
    }
    match facts.size.cmp(&offsets.total) {
        std::cmp::Ordering::Less => {
            return Err(wrong_size(Code::Truncated, facts.size, offsets.total));
        }
        std::cmp::Ordering::Equal => {}
        std::cmp::Ordering::Greater => {
            return Err(wrong_size(Code::Corrupt, facts.size, offsets.total));
        }
    }
    options.compare(&geometry)?;
    if let Some(asked) = asked {
        asked.compare(&geometry)?;
    }
    Ok(Checked { geometry, offsets, identity: facts.identity })
}

fn wrong_size(code: Code, size: u64, stated: u64) -> Error {
    Error::new(code)
        .about(format_args!("the file has {size} bytes, and its header says {stated}"))
        .with_numbers([size, stated, 0])
}

/// The error about a segment of another layout version.
fn other_version(found: u32) -> Error {
    Error::new(Code::LayoutVersion)
        .about(format_args!(
            "this library has layout version {LAYOUT_VERSION}, the segment version {found}"
        ))
        .with_numbers([LAYOUT_VERSION.into(), found.into(), 0])
}
