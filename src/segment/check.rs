//! All checks of a file before it is mapped.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};

use crate::error::{Code, Error, Result};
use crate::layout::{self, Geometry, HEADER_SIZE, LAYOUT_VERSION, Offsets};
use crate::segment::options::{AttachOptions, CreateOptions};
use crate::sys;

/// Makes all checks of a file before it is mapped. `asked` is what its geometry must give.
pub(crate) fn check_file(
    fd: &OwnedFd,
    options: &AttachOptions,
    asked: Option<&CreateOptions>,
    must_be_sealed: bool,
) -> Result<(Geometry, Offsets)> {
    let facts = sys::file_facts(fd.as_fd())?;
    if !facts.is_regular {
        return Err(Error::new(Code::NotAFile).about("the path"));
    }
    if facts.owner != sys::effective_uid() && !options.any_owner {
        return Err(Error::new(Code::Permission).about("another user's segment"));
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
            _ if code == Code::LayoutVersion => Error::new(code)
                .about("the segment has another byte order, or a feature that this library does not know"),
            _ => code.into(),
        })?;
    if facts.mode & !geometry.mode != 0 && !options.any_owner {
        return Err(Error::new(Code::Permission).about("the mode was loosened"));
    }
    match facts.size.cmp(&offsets.total) {
        std::cmp::Ordering::Less => return Err(Code::Truncated.into()),
        std::cmp::Ordering::Equal => {}
        std::cmp::Ordering::Greater => return Err(Error::new(Code::Corrupt).about("file too long")),
    }
    options.compare(&geometry)?;
    if let Some(asked) = asked {
        asked.compare(&geometry)?;
    }
    Ok((geometry, offsets))
}

/// The error about a segment of another layout version.
fn other_version(found: u32) -> Error {
    Error::new(Code::LayoutVersion)
        .about(format_args!("this library has layout version {LAYOUT_VERSION}, the segment version {found}"))
        .with_numbers([LAYOUT_VERSION.into(), found.into(), 0])
}
