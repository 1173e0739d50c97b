"""The exceptions: one for each reaction, as the codes of the library are."""

import enum


class Code(enum.IntEnum):
    """The kind of a failure, with the number that it has in all languages."""

    INVALID = -1
    NO_MEMORY = -2
    SYS = -3
    EXISTS = -4
    NOT_FOUND = -5
    PERMISSION = -6
    NOT_A_SEGMENT = -7
    LAYOUT_VERSION = -8
    TYPE_MISMATCH = -9
    CORRUPT = -10
    AGAIN = -11
    TIMEOUT = -12
    INTERRUPTED = -13
    NO_FREE_SLOT = -14
    TOO_LARGE = -15
    STALE = -16
    NO_READER_SLOT = -17
    NOT_SUPPORTED = -18
    PANIC = -19
    BAD_NAME = -20
    BAD_TIMEOUT = -21
    BAD_OPTIONS = -22
    BAD_INDEX = -23
    BAD_LENGTH = -24
    NOT_A_FILE = -25
    TRUNCATED = -26
    NOT_SEALED = -27
    WRITER_EXISTS = -28
    NO_PARTICIPANT_SLOT = -29
    HELD = -30
    EMPTY = -31
    LOAN_LIMIT = -32
    FORKED = -33
    PEER_DEAD = -34
    NO_WRITERS = -35
    UNKNOWN_MAPPING = -36
    OUT_OF_BOUNDS = -37
    OVERFLOW = -38
    CHANNEL_BROKEN = -39
    NAME_BUSY = -40
    DESCRIPTOR_LOST = -41
    OPTIONS_MISMATCH = -42
    RETIRED = -43
    HELD_LIMIT = -44
    TOO_MANY = -45
    EXPELLED = -46


class ShmslotError(Exception):
    """A failure of the library: its text says what was wanted, what was found and what to do."""

    code: Code
    """The kind of the failure."""
    os_errno: int = 0
    """The kernel's error number, or 0."""
    numbers: tuple[int, int, int] = (0, 0, 0)
    """The numbers in the text, in their order; docs/guide.md says which they are."""


class Invalid(ShmslotError, ValueError):
    """Something was closed, or an argument is impossible."""


class NoMemory(ShmslotError, MemoryError):
    """Memory, or space in the shared-memory file system, is exhausted."""


class Sys(ShmslotError, OSError):
    """A system call failed; `os_errno` tells why."""


class Exists(ShmslotError, FileExistsError):
    """A live segment has this name."""


class NotFound(ShmslotError, FileNotFoundError):
    """No segment has this name."""


class Permission(ShmslotError, PermissionError):
    """It belongs to another user, or may not be opened."""


class NotASegment(ShmslotError):
    """The file was not made by this library."""


class LayoutVersion(ShmslotError):
    """The segment has another layout version, byte order or feature set."""


class TypeMismatch(ShmslotError, TypeError):
    """The segment carries another type."""


class Corrupt(ShmslotError):
    """The segment contradicts itself."""


class Again(ShmslotError, BlockingIOError):
    """Nothing is there yet."""


class Timeout(ShmslotError, TimeoutError):
    """The time is over."""


class Interrupted(ShmslotError, InterruptedError):
    """The wait was ended by interrupt()."""


class NoFreeSlot(ShmslotError, BlockingIOError):
    """Every slot, or for a large payload every region, is loaned, held or unread."""


class TooLarge(ShmslotError, ValueError):
    """The payload is larger than max_payload allows."""


class Stale(ShmslotError, ValueError):
    """A loan or a sample was used after its end."""


class NoReaderSlot(ShmslotError):
    """max_readers readers have joined."""


class NotSupported(ShmslotError):
    """This kind of segment, handle or kernel does not support the operation."""


class Panic(ShmslotError, RuntimeError):
    """The library caught a defect of its own."""


class BadName(ShmslotError, ValueError):
    """The name is malformed."""


class BadTimeout(ShmslotError, ValueError):
    """The timeout is negative."""


class BadOptions(ShmslotError, ValueError):
    """An option is out of its range."""


class BadIndex(ShmslotError, IndexError):
    """The reader index is out of range, or a joined reader has it."""


class BadLength(ShmslotError, ValueError):
    """More bytes were committed than reserved."""


class NotAFile(ShmslotError, OSError):
    """It is no regular file."""


class Truncated(ShmslotError):
    """The file is shorter than its header says."""


class NotSealed(ShmslotError):
    """The descriptor lacks the seals that make it safe to map."""


class WriterExists(ShmslotError):
    """A single-writer segment already has its writer."""


class NoParticipantSlot(ShmslotError):
    """max_participants processes are attached."""


class Held(ShmslotError):
    """This reader already holds that sample."""


class Empty(ShmslotError):
    """The file is empty."""


class LoanLimit(ShmslotError):
    """This writer has max_loans loans."""


class Forked(ShmslotError, RuntimeError):
    """The object belongs to the parent process."""


class PeerDead(ShmslotError, ConnectionError):
    """A process that was attached died."""


class NoWriters(ShmslotError, EOFError):
    """No process has a writer open, and every sample was read."""


class UnknownMapping(ShmslotError, LookupError):
    """No region of this number and generation is known."""


class OutOfBounds(ShmslotError, IndexError):
    """A reference reaches beyond the end of its region."""


class Overflow(ShmslotError, OverflowError):
    """Offset and length add up to more than a number can be."""


class ChannelBroken(ShmslotError, BrokenPipeError):
    """The other end of a channel is gone, or violated the protocol."""


class NameBusy(ShmslotError):
    """Another process is replacing or unlinking this name."""


class DescriptorLost(ShmslotError):
    """The program closed or replaced a descriptor of the library."""


class OptionsMismatch(ShmslotError):
    """The existing segment does not give what the options ask for."""


class Retired(ShmslotError):
    """The segment has lost its name."""


class HeldLimit(ShmslotError):
    """This reader holds max_held samples."""


class TooMany(ShmslotError, ValueError):
    """More readers than one wait takes."""


class Expelled(ShmslotError):
    """Another process ended the membership of this reader."""


def class_of(code: Code) -> type[ShmslotError]:
    """The exception of a code: its name in capitals, without the underscores."""
    found: object = globals()["".join(word.capitalize() for word in code.name.split("_"))]
    assert isinstance(found, type) and issubclass(found, ShmslotError)
    return found


_CLASSES = {code: class_of(code) for code in Code}


def make(number: int, os_errno: int, numbers: tuple[int, int, int], text: str) -> ShmslotError:
    """The exception of a failed call."""
    code = Code(number)
    error = _CLASSES[code](text)
    error.code = code
    error.os_errno = os_errno
    error.numbers = numbers
    if isinstance(error, OSError) and os_errno:
        error.errno = os_errno
    return error
