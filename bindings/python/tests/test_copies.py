"""Two copies of the library in one process: that of the wheel, and a shared library."""

import ctypes
import os

import pytest
import shmslot

LIBRARY = os.environ.get("SHMSLOT_LIBRARY", "")

pytestmark = pytest.mark.skipif(
    not LIBRARY, reason="SHMSLOT_LIBRARY is to name the shared library; bindings/python/run does"
)


class CLoan(ctypes.Structure):
    """As `shmslot_loan` in shmslot.h begins; it has room for more."""

    _fields_ = [("data", ctypes.c_void_p), ("rest", ctypes.c_uint64 * 15)]


class CSample(ctypes.Structure):
    """As `shmslot_sample` in shmslot.h begins; it has room for more."""

    _fields_ = [("data", ctypes.c_void_p), ("len", ctypes.c_uint64), ("rest", ctypes.c_uint64 * 14)]


@pytest.fixture(params=[os.RTLD_LOCAL, os.RTLD_GLOBAL], ids=["local", "global"])
def library(request: pytest.FixtureRequest) -> ctypes.CDLL:
    return ctypes.CDLL(LIBRARY, mode=request.param)


def test_both_copies_share_a_segment(library: ctypes.CDLL, name: str) -> None:
    def call(function: str, *arguments: object) -> int:
        result: int = getattr(library, f"shmslot_{function}")(*arguments)
        assert result >= 0, f"{function}: {result}"
        return result

    segment = shmslot.Segment.create(name, slot_count=4)
    handle, c_reader, c_writer = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
    call("segment_attach", name.encode(), None, ctypes.byref(handle), None)
    call("reader_join", handle, 0, ctypes.byref(c_reader), None)
    call("writer_open", handle, ctypes.byref(c_writer), None)
    reader, writer = segment.reader(), segment.writer()
    # Both are participants of their own, of one process.
    assert [one.pid for one in segment.participants()] == [os.getpid()] * 2

    for i in range(20):
        text = b"from Python %d" % i
        writer.write(text)
        sample = CSample()
        call("slot_read", c_reader, ctypes.byref(sample))
        assert ctypes.string_at(sample.data, sample.len) == text
        call("slot_mark", c_reader, ctypes.byref(sample))
        assert bytes(reader.read()) == text

        text = b"from C %d" % i
        loan = CLoan()
        length = ctypes.c_uint64(len(text))
        call("slot_reserve", c_writer, length, ctypes.c_int64(-1), ctypes.byref(loan))
        ctypes.memmove(loan.data, text, len(text))
        call("slot_commit", c_writer, ctypes.byref(loan), length, None)
        assert bytes(reader.read()) == text
        call("slot_read", c_reader, ctypes.byref(sample))
        call("slot_mark", c_reader, ctypes.byref(sample))

    library.shmslot_reader_leave(c_reader)
    library.shmslot_writer_close(c_writer)
    library.shmslot_segment_close(handle)
    # The copy that closed has not taken the locks of the other with it.
    assert [one.alive for one in segment.participants()] == [True]
    assert segment.recover() == 0
    writer.write(b"still here")
    assert bytes(reader.read()) == b"still here"
