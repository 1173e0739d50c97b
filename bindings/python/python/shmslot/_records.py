"""What calls say about a segment, as records that do not change."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from ._errors import Code

Policy: TypeAlias = Literal["block", "fail", "drop_oldest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderStats:
    """The samples of one reader at one moment."""

    index: int
    """Its bit in masks of readers."""
    kind: Literal["joined", "left", "named", "expelled"]
    """The use of the index: joined; left and still holding samples; a number of the reference
    operations; expelled and not left."""
    participant: int
    pid: int
    """Its process number in its own pid namespace; 0 for a named reader."""
    alive: bool
    generation: int
    """Tells it from earlier and later readers with its index."""
    next_sequence: int
    """The sequence that it reads next; 0 unless it is joined."""
    lag: int
    """Samples from that one to the newest."""
    unread: int
    held: int
    lost: int
    """Samples that it has found to be lost."""
    oldest_held: int
    """The sequence of the oldest sample that it holds; 0 if it holds none."""
    oldest_held_ns: int
    """When that was committed; 0 if the segment keeps no times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterStats:
    """A writer that has loans."""

    id: int
    participant: int
    pid: int
    alive: bool
    loans: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """The use of a segment at one moment: free, loaned, unread, held and retained are slots, and
    add up to all of them."""

    next_sequence: int
    """The sequence of the next sample."""
    free: int
    loaned: int
    unread: int
    held: int
    retained: int
    """Slots with a sample that only history keeps."""
    regions: int
    """Regions in use."""
    region_bytes: int
    """Memory of all regions."""
    participants: int
    """Attached processes, including those that died and are not recovered yet."""
    dead: int
    """How many of these are dead."""
    recovered: int
    """Dead participants that were recovered so far."""
    retired: bool
    """Whether nobody attaches to it by its name any more."""
    open_writers: int
    """Writers that are open; `writers` has those with loans."""
    readers: tuple[ReaderStats, ...]
    writers: tuple[WriterStats, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """What was decided when a segment was created."""

    segment_id: int
    """A random number that tells it from every other segment."""
    slot_count: int
    slot_capacity: int
    payload_align: int
    user_header_size: int
    max_readers: int
    max_participants: int
    history: int
    max_payload: int
    region_count: int
    max_held: int
    single_writer: bool
    timestamps: bool
    ephemeral: bool
    mode: int
    policy: Policy
    type_hash: bytes
    type_name: str
    total_size: int
    """Bytes of the whole segment."""
    huge_bytes: int
    """Bytes of this mapping that are in huge pages, if these were requested."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Participant:
    """One attached process."""

    index: int
    pid: int
    alive: bool
    writers: int
    """Writers that it has open."""
    readers: int
    """Its readers, reader i as bit i."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """A participant that died while attached."""

    participant: int
    pid: int
    writers: int
    readers: int
    noticed_ns: int
    """When its death was noticed, as time.monotonic_ns() counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentEntry:
    """A segment in a directory."""

    name: str
    size: int
    segment_id: int
    participants: int
    layout_version: int
    owner: int
    """The user that owns it."""
    mode: int
    ephemeral: bool
    state: Literal["alive", "dead", "unknown"]
    """Whether a process is attached to it; unknown if its file may not be opened."""
    refusal: Code | None
    """Why `Segment.attach` would refuse it, as far as this can be seen without attaching."""
