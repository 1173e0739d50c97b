"""What the programs of this example share: the segment, and what lies beside each picture."""

import struct
from typing import NamedTuple

import shmslot

WIDTH, HEIGHT = 1920, 1080
SHAPE = (HEIGHT, WIDTH, 3)
FRAME_BYTES = HEIGHT * WIDTH * 3


class About(NamedTuple):
    """The user header of a picture."""

    number: int
    """From 1."""
    time_ns: int
    """Where it belongs in the film."""

    def pack(self) -> bytes:
        return _ABOUT.pack(*self)

    @classmethod
    def of(cls, sample: shmslot.Sample) -> "About":
        return cls(*_ABOUT.unpack(sample.header))


_ABOUT = struct.Struct("<QQ")
_TYPE = "video frame, 1920 x 1080, RGB"


def open_segment(name: str) -> shmslot.Segment:
    """The same options in all programs, so any of them may start first.

    No consumer loses a picture: the camera waits for the slower one.
    """
    return shmslot.Segment.open(
        name,
        slot_count=8,
        slot_capacity=FRAME_BYTES,
        user_header_size=_ABOUT.size,
        single_writer=True,
        ephemeral=True,
        type_name=_TYPE,
        type_hash=shmslot.type_hash(_TYPE, FRAME_BYTES),
    )
