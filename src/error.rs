//! Every way a call can fail: one table of number, C constant and text.
//!
//! A number is never reused and never changes its meaning. Two failures share a code only when the
//! caller's reaction to them is the same.
#![forbid(unsafe_code)]

use core::ffi::CStr;
use core::fmt;
use core::fmt::Write as _;
use std::path::Path;

/// Gives each code its text, and refuses to compile when the two lists below differ: the enum is
/// spelled out because the header generator reads source text.
macro_rules! codes {
    ($( $name:ident = $number:literal, $what:literal, $advice:literal; )+) => {
        impl Code {
            /// All codes, in the order of their numbers.
            pub const ALL: &'static [Code] = &[$(Code::$name),+];

            /// What happened and what to do, in one line.
            pub const fn text(self) -> &'static str {
                match self { $(Code::$name => concat!($what, "; ", $advice)),+ }
            }

            /// The same for C.
            pub(crate) const fn c_text(self) -> &'static CStr {
                match self {
                    $(Code::$name => {
                        match CStr::from_bytes_with_nul(concat!($what, "; ", $advice, "\0").as_bytes()) {
                            Ok(text) => text,
                            Err(_) => panic!("a text contains a NUL"),
                        }
                    }),+
                }
            }

            /// What happened.
            const fn what(self) -> &'static str {
                match self { $(Code::$name => $what),+ }
            }

            /// What to do.
            const fn advice(self) -> &'static str {
                match self { $(Code::$name => $advice),+ }
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
    /// The other end of a channel is gone, or violated the channel protocol.
    ChannelBroken = -39,
    /// Another process is replacing or unlinking this name, and has not finished.
    NameBusy = -40,
    /// The program closed or replaced a descriptor of the library.
    DescriptorLost = -41,
    /// The existing segment does not give what the options ask for.
    OptionsMismatch = -42,
    /// The segment has lost its name.
    Retired = -43,
    /// This reader holds as many samples as the segment allows.
    HeldLimit = -44,
    /// More readers than one wait takes.
    TooMany = -45,
    /// Another process ended the membership of this reader.
    Expelled = -46,
}

codes! {
    Invalid = -1,
        "an argument is NULL or out of range",
        "compare the call with its comment in shmslot.h";
    NoMemory = -2,
        "out of memory: the process or the shared-memory file system is full",
        "free some, or ask for fewer or smaller slots";
    Sys = -3,
        "a system call failed",
        "os_errno says why";
    Exists = -4,
        "a live segment or a listener has this name",
        "attach to it, use open, or choose another name";
    NotFound = -5,
        "nothing has this name",
        "create it first, or check the name and its directory";
    Permission = -6,
        "permission denied: it belongs to another user, or its mode was loosened",
        "have its owner set the mode option, and use SHMSLOT_FLAG_ANY_OWNER if you trust that user";
    NotASegment = -7,
        "the file is not a shmslot segment",
        "choose another name, or remove the file";
    LayoutVersion = -8,
        "the segment has another layout version, byte order or feature set",
        "use one version of shmslot on both sides; to replace the segment, end its users, then create \
         it with SHMSLOT_ORPHANED_REPLACE or unlink it";
    TypeMismatch = -9,
        "the segment carries another type",
        "build both sides from one type definition, or attach without a type to inspect the segment";
    Corrupt = -10,
        "the segment contradicts itself: a process wrote outside its slots",
        "end its users, then create it with SHMSLOT_ORPHANED_REPLACE or unlink it";
    Again = -11,
        "nothing is there yet",
        "wait with a timeout, or try again later";
    Timeout = -12,
        "timed out",
        "wait longer, or find out what the other side is doing";
    Interrupted = -13,
        "the wait was ended by an interrupt call or a signal",
        "wait again, or stop";
    NoFreeSlot = -14,
        "no slot or region is free: all are loaned, unread or held",
        "ask shmslot_writer_explain who has them, then mark samples sooner, add slots, or choose \
         another policy";
    TooLarge = -15,
        "the payload is larger than max_payload, or than the buffer",
        "split it, or create the segment with a larger max_payload";
    Stale = -16,
        "stale token: its loan or sample has ended, or another segment or handle gave it out",
        "use each loan and each sample once, with the handle that gave it out";
    NoReaderSlot = -17,
        "max_readers readers have joined",
        "let one leave, or create the segment with a larger max_readers";
    NotSupported = -18,
        "this kind of segment, handle or kernel does not support the operation",
        "compare the call with its comment in shmslot.h";
    Panic = -19,
        "the library caught a defect of its own, and the handle is unusable",
        "close the handle and report the defect";
    BadName = -20,
        "malformed name",
        "use 1 to 200 bytes of UTF-8 without '/' and NUL, or an absolute path";
    BadTimeout = -21,
        "the timeout is less than -1",
        "use nanoseconds, 0 not to wait, or -1 for no limit";
    BadOptions = -22,
        "an option is out of range",
        "start from SHMSLOT_OPTIONS_INIT, and change only what you need";
    BadIndex = -23,
        "the reader index is out of range, or a joined reader has it",
        "use 0 to max_readers - 1, and none that a joined reader has";
    BadLength = -24,
        "the commit is longer than the reservation",
        "reserve as many bytes as you may write";
    NotAFile = -25,
        "the path is not a regular file",
        "check the path";
    Truncated = -26,
        "the file is shorter than its header says: somebody truncated it",
        "end its users, then create it with SHMSLOT_ORPHANED_REPLACE or unlink it";
    NotSealed = -27,
        "the descriptor is not sealed against shrinking, growing and unsealing",
        "pass one made by shmslot_segment_create_anonymous";
    WriterExists = -28,
        "the segment allows a single writer and has it",
        "close that writer first, or create the segment without SHMSLOT_FLAG_SINGLE_WRITER";
    NoParticipantSlot = -29,
        "max_participants processes are attached",
        "let one close, or create the segment with a larger max_participants";
    Held = -30,
        "this reader already holds that sample",
        "mark it first";
    Empty = -31,
        "the file is empty: its segment was truncated, or never made",
        "remove the file, then create the segment";
    LoanLimit = -32,
        "this writer has max_loans loans",
        "commit or discard one first";
    Forked = -33,
        "the handle belongs to the parent process",
        "close it here, and attach anew in the child";
    PeerDead = -34,
        "a process that was attached died, and what it had was released",
        "continue if you can do without it";
    NoWriters = -35,
        "no process has a writer open, and every sample was read",
        "wait without SHMSLOT_END_NO_WRITERS for the next writer, or leave";
    UnknownMapping = -36,
        "unknown region: its descriptor did not come over this channel, or its room has been reused",
        "resolve before the lease is released, and attach the channel of each sender";
    OutOfBounds = -37,
        "the reference ends beyond its region",
        "drop the reference: its sender is wrong about offset or length";
    Overflow = -38,
        "offset and length add up to more than 64 bits",
        "drop the reference: its sender is wrong about offset or length";
    ChannelBroken = -39,
        "the channel is broken: the other end is gone or violated the protocol",
        "close the channel and make a new one";
    NameBusy = -40,
        "another process has been replacing or unlinking this name for half a second",
        "try again; if that does not help, look for a stopped process (SIGSTOP, a debugger)";
    DescriptorLost = -41,
        "the program closed a descriptor of the library, or put another file in its place",
        "make the handle anew, and close only what you opened (closefrom, dup2)";
    OptionsMismatch = -42,
        "the segment of this name does not give what the options ask for",
        "ask for what it has or leave the field at 0, unlink it and create it anew, or use \
         SHMSLOT_FLAG_ANY_GEOMETRY";
    Retired = -43,
        "the name of the segment was taken away, or leads to another segment",
        "close this segment, and open or attach by name anew";
    HeldLimit = -44,
        "this reader holds max_held samples",
        "mark one first";
    TooMany = -45,
        "more readers than one wait takes: at most 128",
        "wait for fewer, or with several threads";
    Expelled = -46,
        "this reader was expelled: another process ended its membership",
        "mark what it holds, leave, and join anew if it should read on";
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

/// A failure: its [`Code`], the kernel's error number where there is one, and a text that says what
/// was wanted, what was found and what to do.
#[derive(Debug, PartialEq, Eq)]
pub struct Error {
    code: Code,
    os_errno: i32,
    /// A box of one: an array, because only an array can be boxed without an abort when memory
    /// fails.
    detail: Option<Box<[Detail]>>,
}

/// What an error says beyond the text of its code. Only errors of calls that may take their time
/// have one.
#[derive(Debug, PartialEq, Eq, Default)]
struct Detail {
    /// What happened; empty for the text of the code.
    about: String,
    /// What to do, where the text of the code does not fit.
    advice: Option<&'static str>,
    numbers: [u64; 3],
}

/// `Result` with this crate's [`Error`].
pub type Result<T> = core::result::Result<T, Error>;

/// What the hot calls return inside: it fits two registers.
pub(crate) type HotResult<T> = core::result::Result<T, Code>;

/// A sequence or a code in one number, for calls that are not compiled into their callers: of a
/// [`HotResult`] with a sequence they would return the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packed(i64);

impl Packed {
    /// A sequence of 2^63 and more, which only a corrupt order has, becomes the largest one.
    #[inline(always)]
    pub(crate) fn sequence(number: u64) -> Packed {
        Packed(i64::try_from(number).unwrap_or(i64::MAX))
    }

    /// Numbers of codes are negative.
    #[cold]
    pub(crate) fn code(code: Code) -> Packed {
        Packed(code.number().into())
    }

    #[inline(always)]
    pub(crate) fn unpack(self) -> HotResult<u64> {
        u64::try_from(self.0).map_err(|_| self.to_code())
    }

    /// A number that was kept elsewhere.
    pub(crate) fn of_number(number: i64) -> Packed {
        Packed(number)
    }

    /// The code, of a number that is not a sequence.
    #[cold]
    #[inline(never)]
    pub(crate) fn to_code(self) -> Code {
        i32::try_from(self.0).ok().and_then(Code::from_number).unwrap_or(Code::Corrupt)
    }
}

impl From<HotResult<u64>> for Packed {
    #[inline(always)]
    fn from(result: HotResult<u64>) -> Packed {
        match result {
            Ok(number) => Packed::sequence(number),
            Err(code) => Packed::code(code),
        }
    }
}

impl Error {
    /// An error with the text of its code.
    pub(crate) const fn new(code: Code) -> Error {
        Error { code, os_errno: 0, detail: None }
    }

    /// Adds the kernel's error number.
    pub(crate) fn errno(self, os_errno: i32) -> Error {
        Error { os_errno, ..self }
    }

    /// Says what happened, in place of the text of the code; what to do still follows. If there is
    /// no memory for it, the text of the code remains.
    pub(crate) fn about(self, what: impl fmt::Display) -> Error {
        let mut text = FallibleText(String::new());
        match write!(text, "{what}") {
            Ok(()) => self.change(|detail| detail.about = text.0),
            Err(_) => self,
        }
    }

    /// Names the file that it is about, unless the text does.
    pub(crate) fn at(self, path: &Path) -> Error {
        let what = self.what();
        // The end tells more than the beginning, and the text has little room.
        let name = path.to_string_lossy();
        let end =
            (name.len().saturating_sub(200)..).find_map(|start| name.get(start..)).unwrap_or("");
        let cut = if end.len() < name.len() { "..." } else { "" };
        if what.contains(end) {
            return self;
        }
        let mut text = FallibleText(String::new());
        match write!(text, "\"{cut}{}\": {what}", end.escape_debug()) {
            Ok(()) => self.change(|detail| detail.about = text.0),
            Err(_) => self,
        }
    }

    /// Says what to do, in place of the text of the code.
    pub(crate) fn advice(self, what_to_do: &'static str) -> Error {
        self.change(|detail| detail.advice = Some(what_to_do))
    }

    /// Adds the numbers of the text, for programs.
    pub(crate) fn with_numbers(self, numbers: [u64; 3]) -> Error {
        self.change(|detail| detail.numbers = numbers)
    }

    /// The same failure with another code.
    pub(crate) fn with_code(self, code: Code) -> Error {
        Error { code, ..self }
    }

    fn change(mut self, change: impl FnOnce(&mut Detail)) -> Error {
        if self.detail.is_none() {
            self.detail = boxed(Detail::default());
        }
        if let Some([detail]) = self.detail.as_deref_mut() {
            change(detail);
        }
        self
    }

    /// What happened.
    fn what(&self) -> &str {
        let about = self.detail().map(|detail| detail.about.as_str());
        about.filter(|about| !about.is_empty()).unwrap_or(self.code.what())
    }

    fn detail(&self) -> Option<&Detail> {
        self.detail.as_deref().and_then(<[Detail]>::first)
    }

    /// The kind of failure.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// The kernel's error number, or 0.
    pub const fn os_errno(&self) -> i32 {
        self.os_errno
    }

    /// The numbers in the text, in their order; 0 for what is not there. The guide says which they
    /// are for each code.
    pub fn numbers(&self) -> [u64; 3] {
        self.detail().map_or([0; 3], |detail| detail.numbers)
    }
}

fn boxed(detail: Detail) -> Option<Box<[Detail]>> {
    let mut one = Vec::new();
    one.try_reserve_exact(1).ok()?;
    one.push(detail);
    Some(one.into_boxed_slice())
}

/// A text whose writing fails when memory does.
struct FallibleText(String);

impl fmt::Write for FallibleText {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        self.0.try_reserve(part.len()).map_err(|_| fmt::Error)?;
        self.0.push_str(part);
        Ok(())
    }
}

impl Clone for Error {
    fn clone(&self) -> Error {
        let copy = Error { code: self.code, os_errno: self.os_errno, detail: None };
        match self.detail() {
            None => copy,
            Some(detail) => copy.about(&detail.about).change(|to| {
                to.advice = detail.advice;
                to.numbers = detail.numbers;
            }),
        }
    }
}

impl From<Code> for Error {
    /// Out of line: the two halves of its first word, where it is compiled into a hot call, would
    /// also split the words of what that call returns otherwise.
    #[cold]
    #[inline(never)]
    fn from(code: Code) -> Error {
        Error::new(code)
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
        f.write_str(self.what())?;
        if self.os_errno != 0 {
            let reason = std::io::Error::from_raw_os_error(self.os_errno).to_string();
            // Without " (os error N)", which Rust puts at its end.
            let reason = reason.split(" (os error").next().unwrap_or_default();
            write!(f, " (errno {}: {reason})", self.os_errno)?;
        }
        match self.detail().and_then(|detail| detail.advice).unwrap_or(self.code.advice()) {
            "" => Ok(()),
            advice => write!(f, "; {advice}"),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_result_is_what_it_was() {
        for code in Code::ALL {
            assert_eq!(Packed::from(Err(*code)).unpack(), Err(*code));
        }
        for sequence in [0, 1, u64::from(u32::MAX), i64::MAX as u64] {
            assert_eq!(Packed::from(Ok(sequence)).unpack(), Ok(sequence));
        }
        // Of a corrupt order: not a code.
        assert_eq!(Packed::sequence(u64::MAX).unpack(), Ok(i64::MAX as u64));
        // No honest call makes such a number.
        assert_eq!(Packed::of_number(i64::MIN).unpack(), Err(Code::Corrupt));
    }
}
