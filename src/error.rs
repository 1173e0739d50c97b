//! Every way a call can fail: one table of number, C constant and text.
//!
//! A number is never reused and never changes its meaning. Two failures share a code only when the
//! caller's reaction to them is the same.
#![forbid(unsafe_code)]

use core::ffi::CStr;
use core::fmt;

/// Gives each code its text, and refuses to compile when the two lists below differ: the enum is spelled
/// out because the header generator reads source text.
macro_rules! codes {
    ($( $name:ident = $number:literal, $text:literal; )+) => {
        impl Code {
            /// All codes, in the order of their numbers.
            pub const ALL: &'static [Code] = &[$(Code::$name),+];

            /// What happened and what to do, in one line.
            pub const fn text(self) -> &'static str {
                match self { $(Code::$name => $text),+ }
            }

            /// The same for C.
            pub(crate) const fn c_text(self) -> &'static CStr {
                match self {
                    $(Code::$name => match CStr::from_bytes_with_nul(concat!($text, "\0").as_bytes()) {
                        Ok(text) => text,
                        Err(_) => panic!("a text contains a NUL"),
                    }),+
                }
            }
        }
        const _: () = { $( assert!(Code::$name as i32 == $number); let _ = Code::$name.c_text(); )+ };
    };
}

/// The kind of a failure: what a call returns, if it is negative. A number is never reused.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// A pointer is NULL or an argument is impossible.
    Invalid = -1,
    /// Memory, or space in the shared-memory file system, is exhausted.
    NoMemory = -2,
    /// A system call failed; `os_errno` tells which.
    Sys = -3,
    /// A live segment, or a listener, already has this name.
    Exists = -4,
    /// No segment has this name, nobody listens there, or the directory does not exist.
    NotFound = -5,
    /// The segment or the other end of a channel belongs to somebody else, or may not be opened.
    Permission = -6,
    /// The file was not made by this library.
    NotASegment = -7,
    /// The segment speaks another layout version, byte order or feature set.
    LayoutVersion = -8,
    /// The segment carries another type than the caller expects.
    TypeMismatch = -9,
    /// The segment contradicts itself.
    Corrupt = -10,
    /// Nothing to read now.
    Again = -11,
    /// The deadline passed.
    Timeout = -12,
    /// The wait was ended by an interrupt call.
    Interrupted = -13,
    /// Every slot, or for a large payload every region, is loaned, held or unread.
    NoFreeSlot = -14,
    /// The payload is larger than max_payload allows, or than the buffer.
    TooLarge = -15,
    /// A token that was used already, belongs to another segment, or was never given out.
    Stale = -16,
    /// As many readers as the segment allows are joined.
    NoReaderSlot = -17,
    /// The operation does not exist for this kind of segment or on this system.
    NotSupported = -18,
    /// A defect in the library was caught; the handle is unusable.
    Panic = -19,
    /// The name of a segment or channel is malformed.
    BadName = -20,
    /// A timeout below -1.
    BadTimeout = -21,
    /// An options field is out of its range.
    BadOptions = -22,
    /// A reader index is out of range or belongs to somebody else.
    BadIndex = -23,
    /// More bytes committed than were reserved.
    BadLength = -24,
    /// The path names a directory, socket, pipe or device.
    NotAFile = -25,
    /// The file is shorter than its header says.
    Truncated = -26,
    /// The file descriptor lacks the seals that make it safe to map.
    NotSealed = -27,
    /// A single-writer segment already has its writer.
    WriterExists = -28,
    /// As many participants as the segment allows are attached.
    NoParticipantSlot = -29,
    /// This reader already holds that sample.
    Held = -30,
    /// The file is empty.
    Empty = -31,
    /// This writer has as many loans out as its limit allows.
    LoanLimit = -32,
    /// The handle was made before a fork, by the parent.
    Forked = -33,
    /// A process that was attached died.
    PeerDead = -34,
    /// No process has a writer open.
    NoWriters = -35,
    /// No region of this number and generation is known.
    UnknownMapping = -36,
    /// A reference reaches beyond the end of its region.
    OutOfBounds = -37,
    /// The sum of an offset and a length is larger than a number can be.
    Overflow = -38,
    /// The other end of a channel is gone, or said what no channel says.
    ChannelBroken = -39,
    /// Another process has begun to take the name away, and has not finished.
    NameBusy = -40,
    /// The program has closed or replaced a descriptor of the library.
    DescriptorLost = -41,
    /// The segment that is there does not give what the options ask for.
    OptionsMismatch = -42,
}

codes! {
    Invalid = -1, "invalid argument: a required pointer is NULL or a value is impossible; check the call against the header";
    NoMemory = -2, "out of memory: the process or the shared-memory file system is full; free space or ask for fewer or smaller slots";
    Sys = -3, "a system call failed; os_errno in the error detail says why";
    Exists = -4, "a live segment already has this name; attach to it, use open, or choose another name";
    NotFound = -5, "no segment has this name; create it first, or check name and directory";
    Permission = -6, "not permitted: the segment belongs to another user or its mode was loosened; have its owner set the mode option, and attach with SHMSLOT_FLAG_ANY_OWNER if you trust that user";
    NotASegment = -7, "not a shmslot segment: the file holds something else; choose another name or remove the file";
    LayoutVersion = -8, "the segment has another layout version, byte order or required feature; build both sides with the same library version; end the processes that use the segment, then create it with SHMSLOT_ORPHANED_REPLACE, or unlink it first";
    TypeMismatch = -9, "the segment carries another type; build both sides from the same type definition, or attach without type_hash to look at it";
    Corrupt = -10, "the segment contradicts itself: a process has written outside its slots; end its users, then create it with SHMSLOT_ORPHANED_REPLACE, or unlink it first";
    Again = -11, "nothing to read now; wait for it with shmslot_wait or try again later";
    Timeout = -12, "the time is over before it happened; wait longer or look at the other side";
    Interrupted = -13, "the wait was ended by an interrupt call from another thread";
    NoFreeSlot = -14, "no free slot or region: all are loaned, unread or held; let the readers named by shmslot_writer_blockers mark theirs, give the segment more slots or regions, or another policy";
    TooLarge = -15, "the payload is larger than max_payload, or than the buffer; split it, or create the segment with a larger max_payload";
    Stale = -16, "stale token: it was committed, discarded or marked already, or is not from this segment or handle; use each loan and each sample once";
    NoReaderSlot = -17, "max_readers readers are joined; let one leave or create the segment with a larger max_readers";
    NotSupported = -18, "not supported: this kind of segment, handle or kernel does not have this operation; the header says which do";
    Panic = -19, "a defect inside the library was caught and this handle is now unusable; close it and report the defect";
    BadName = -20, "bad name: a name is 1 to 200 bytes of UTF-8 without '/' and NUL, or an absolute path";
    BadTimeout = -21, "bad timeout: use nanoseconds from 0 (do not wait) upwards, or -1 for no limit";
    BadOptions = -22, "bad options: a field is out of its range; start from SHMSLOT_OPTIONS_INIT, the error detail names the field";
    BadIndex = -23, "bad reader index: use 0 to max_readers-1, and none that a joined reader has";
    BadLength = -24, "the commit is longer than the reservation; reserve what you will write at most";
    NotAFile = -25, "the path is a directory, pipe, socket or device, not a segment; check the path";
    Truncated = -26, "the file is shorter than its header says: somebody cut it; end its users, then create it with SHMSLOT_ORPHANED_REPLACE, or unlink it first";
    NotSealed = -27, "the descriptor is not sealed against shrinking, growing and unsealing; pass one made by shmslot_segment_create_anonymous";
    WriterExists = -28, "the segment was created for a single writer and has it; close that writer first, or create the segment without SHMSLOT_FLAG_SINGLE_WRITER";
    NoParticipantSlot = -29, "max_participants are attached; let one close or create the segment with a larger max_participants";
    Held = -30, "this reader already holds that sample; mark it first";
    Empty = -31, "the file is empty: its segment was cut, or none was ever made in it; remove the file, then create one";
    LoanLimit = -32, "this writer has max_loans loans out; commit or discard one first";
    Forked = -33, "this handle belongs to the parent process; close it here, and attach anew in the child";
    PeerDead = -34, "a process that was attached died; what it had was given back, go on if you can without it";
    NoWriters = -35, "no process has a writer open, and everything was read; wait for one in another way, or leave";
    UnknownMapping = -36, "unknown region: its descriptor did not come over this channel, or its room was used again since; resolve before the lease is given back, and attach each sender's channel";
    OutOfBounds = -37, "the reference ends beyond its region: the sender is wrong about offset or length; drop the reference";
    Overflow = -38, "offset and length add up to more than 64 bits: the sender is wrong about them; drop the reference";
    ChannelBroken = -39, "the channel is of no use any more: the other end is gone or spoke wrongly; close it and make a new one";
    NameBusy = -40, "another process is replacing or unlinking the segment of this name, and has not finished in half a second; try again, and if that does not help look for a process that was stopped (SIGSTOP, a debugger)";
    DescriptorLost = -41, "the program has closed this descriptor of the library, or put another file in its place (closefrom, dup2 onto a number that it had not opened); close the handle, make it anew, and leave alone what others opened";
    OptionsMismatch = -42, "the segment of this name does not give that; ask for what it has or leave the field at 0, unlink it and create it anew, or take it with SHMSLOT_FLAG_ANY_GEOMETRY";
}

impl Code {
    /// The number that the C ABI returns.
    pub const fn number(self) -> i32 {
        self as i32
    }

    /// The code of a number, if there is one.
    pub fn from_number(number: i32) -> Option<Code> {
        Code::ALL.iter().copied().find(|code| code.number() == number)
    }
}

/// A failure: its [`Code`], the kernel's error number where there is one, and which thing it was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    code: Code,
    os_errno: i32,
    about: &'static str,
    /// What stands for each '#' of `about`.
    numbers: [u64; 3],
}

/// `Result` with this crate's [`Error`].
pub type Result<T> = core::result::Result<T, Error>;

/// What the hot calls return inside: it fits two registers.
pub(crate) type HotResult<T> = core::result::Result<T, Code>;

impl Error {
    pub(crate) const fn about(code: Code, about: &'static str) -> Error {
        Error::with_errno(code, 0, about)
    }

    pub(crate) const fn with_errno(code: Code, os_errno: i32, about: &'static str) -> Error {
        Error { code, os_errno, about, numbers: [0; 3] }
    }

    /// What it was about has numbers in it: each '#' is the next of them.
    pub(crate) const fn with_numbers(code: Code, about: &'static str, numbers: [u64; 3]) -> Error {
        Error { code, os_errno: 0, about, numbers }
    }

    /// The same thing, with numbers.
    pub(crate) const fn and_numbers(self, numbers: [u64; 3]) -> Error {
        Error { numbers, ..self }
    }

    /// The same thing, of another kind.
    pub(crate) const fn as_code(self, code: Code) -> Error {
        Error { code, ..self }
    }

    /// The kind of failure.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// The kernel's error number, or 0.
    pub const fn os_errno(&self) -> i32 {
        self.os_errno
    }

    /// The numbers in the text, in their order; 0 for what is not there. The guide says which they are for each code.
    pub const fn numbers(&self) -> [u64; 3] {
        self.numbers
    }
}

impl From<Code> for Error {
    fn from(code: Code) -> Error {
        Error::about(code, "")
    }
}

/// Without the detail: what it was about, and the kernel's number.
impl From<Error> for Code {
    fn from(error: Error) -> Code {
        error.code
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.about.is_empty() {
            let mut parts = self.about.split('#');
            f.write_str(parts.next().unwrap_or(""))?;
            for (part, number) in parts.zip(self.numbers) {
                write!(f, "{number}{part}")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(self.code.text())?;
        if self.os_errno != 0 {
            write!(f, " ({})", std::io::Error::from_raw_os_error(self.os_errno))?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
