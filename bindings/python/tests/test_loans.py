"""Loans: they are filled in place, and nothing can change a sample after its commit."""

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import shmslot

SINGLE_OR_NOT = pytest.mark.parametrize("single", [False, True], ids=["many writers", "single"])


def make(single: bool, slots: int = 2) -> shmslot.Segment:
    return shmslot.Segment.create_local(
        slot_count=slots, slot_capacity=64, policy="fail", single_writer=single, user_header_size=8
    )


@SINGLE_OR_NOT
def test_with_commits_what_was_written(single: bool) -> None:
    segment = make(single)
    reader, writer = segment.reader(), segment.writer()
    loan = writer.reserve(5)
    with loan as view:
        assert len(view) == 5
        view[:] = b"hello"
    assert loan.sequence == 1
    with pytest.raises(ValueError):
        view[0] = 0  # the view was released
    assert bytes(reader.read()) == b"hello"


@SINGLE_OR_NOT
def test_with_discards_at_an_exception(single: bool) -> None:
    segment = make(single)
    reader, writer = segment.reader(), segment.writer()
    with pytest.raises(KeyError), writer.reserve(5) as view:
        view[:] = b"hello"
        raise KeyError
    assert reader.read(timeout=0) is None
    assert segment.stats().free == 2


@SINGLE_OR_NOT
def test_size_is_what_is_committed(single: bool) -> None:
    segment = make(single)
    reader, writer = segment.reader(), segment.writer()
    loan = writer.reserve(64)
    with loan as view:
        view[:3] = b"abc"
        loan.size = 3
        with pytest.raises(shmslot.BadLength):
            loan.size = 65
    assert bytes(reader.read()) == b"abc"
    with pytest.raises(shmslot.BadLength) as caught:
        writer.reserve(3).commit(4)
    assert caught.value.code == shmslot.Code.BAD_LENGTH
    assert segment.stats().loaned == 0


ARRAYS: dict[str, Callable[[Any], Any]] = {
    "view": lambda loan: loan.data,
    "slice": lambda loan: loan.data[1:3],
    "frombuffer": lambda loan: np.frombuffer(loan.data, np.uint8),
    "ndarray": lambda loan: np.ndarray(4, np.uint8, buffer=loan.data),
    "as_array": lambda loan: loan.as_array(),
    "part of an array": lambda loan: loan.as_array(np.uint16)[1:],
    "exporter": lambda loan: loan.data.obj,
}


@SINGLE_OR_NOT
@pytest.mark.parametrize("kind", ARRAYS)
def test_no_commit_while_something_could_write(single: bool, kind: str) -> None:
    segment = make(single)
    reader, writer = segment.reader(), segment.writer()
    loan = writer.reserve(4)
    kept = ARRAYS[kind](loan)
    with pytest.raises(BufferError, match="still in use"):
        loan.commit()
    assert segment.stats().loaned == 1
    del kept
    loan.as_array()[:] = 7
    assert loan.commit() == 1
    assert bytes(reader.read()) == b"\7\7\7\7"


@SINGLE_OR_NOT
@pytest.mark.parametrize("kind", ARRAYS)
def test_a_with_that_is_outlived_discards_with_the_last_view(single: bool, kind: str) -> None:
    segment = make(single)
    reader, writer = segment.reader(), segment.writer()
    loan = writer.reserve(4)
    with pytest.raises(BufferError, match="still in use"), loan:
        kept = ARRAYS[kind](loan)
    assert segment.stats().loaned == 1
    with pytest.raises(shmslot.Stale):
        loan.commit()
    del kept
    assert segment.stats().loaned == 0
    assert reader.read(timeout=0) is None


def test_an_array_of_the_view_of_the_with_counts() -> None:
    segment = make(False)
    with pytest.raises(BufferError, match="still in use") as caught:
        with segment.writer().reserve(4) as view:
            array = np.frombuffer(view, np.uint8)
    assert array.size == 4
    assert segment.stats().loaned == 1
    del array, caught, view
    gc.collect()
    assert segment.stats().loaned == 0


def test_force_commits_and_keeps_the_memory_mapped(name: str) -> None:
    segment = shmslot.Segment.create(name, slot_count=2)
    reader, writer = segment.reader(), segment.writer()
    loan = writer.reserve(4)
    array = loan.as_array()
    exporter = loan.data.obj
    array[:] = 1
    loan.commit(force=True)
    with pytest.raises(BufferError, match="ended"):
        memoryview(exporter)
    assert bytes(reader.read()) == b"\1\1\1\1"
    segment.unlink()
    for handle in (reader, writer, segment):
        handle.close()
    del reader, writer, segment, loan, exporter
    gc.collect()
    assert array.sum() == 4


@SINGLE_OR_NOT
def test_a_loan_ends_once(single: bool) -> None:
    segment = make(single)
    segment.reader()
    writer = segment.writer()
    committed, discarded = writer.reserve(1), writer.reserve(1)
    committed.commit()
    assert discarded.discard()
    for loan in (committed, discarded):
        for use in (loan.commit, lambda: loan.data, loan.as_array, loan.__enter__):
            with pytest.raises(shmslot.Stale):
                use()
        with pytest.raises(shmslot.Stale):
            loan.set_header(b"")
        assert not loan.discard()


@SINGLE_OR_NOT
def test_a_dropped_loan_is_discarded(single: bool) -> None:
    segment = make(single)
    writer = segment.writer()
    loan = writer.reserve(1)
    writer.close()
    assert segment.stats().loaned == 1
    del loan
    assert segment.stats().loaned == 0
    if single:
        del writer
        segment.writer()  # its place is free


@SINGLE_OR_NOT
def test_headers_travel_with_their_samples(single: bool) -> None:
    segment = make(single)
    reader, writer = segment.reader(), segment.writer()
    writer.write(b"one", header=b"header-1")
    loan = writer.reserve(3)
    loan.set_header(b"header-2")
    loan.commit()
    assert [reader.read().header for _ in range(2)] == [b"header-1", b"header-2"]
    with pytest.raises(shmslot.TooLarge, match="9 bytes of user header"):
        writer.write(b"three", header=bytes(9))
    assert segment.stats().loaned == 0


@pytest.mark.parametrize(
    "data",
    [
        b"bytes",
        bytearray(b"bytearray"),
        memoryview(b"a view")[2:],
        np.arange(6.0),
        np.zeros((2, 3), np.uint8),
        b"",
    ],
    ids=["bytes", "bytearray", "slice", "floats", "two dimensions", "nothing"],
)
def test_write_takes_what_has_contiguous_bytes(data: Any) -> None:
    segment = make(False)
    reader, writer = segment.reader(), segment.writer()
    writer.write(data)
    assert bytes(reader.read()) == memoryview(data).tobytes()


def test_write_refuses_what_has_gaps() -> None:
    segment = make(False)
    with pytest.raises((BufferError, ValueError)):
        segment.writer().write(np.arange(8, dtype=np.uint8)[::2])
    with pytest.raises(TypeError):
        segment.writer().write("text")  # type: ignore[arg-type]
    assert segment.stats().free == 2


def test_payloads_beyond_a_slot_go_to_regions() -> None:
    segment = shmslot.Segment.create_local(slot_capacity=64, max_payload=3 << 20, region_count=2)
    reader, writer = segment.reader(), segment.writer()
    values = np.arange(3 << 17, dtype=np.uint64)
    writer.write(values)
    assert np.array_equal(reader.read().as_array(np.uint64), values)
    assert segment.stats().regions == 0
    with pytest.raises(shmslot.TooLarge) as caught:
        writer.reserve((3 << 20) + 1)
    assert caught.value.numbers[:2] == ((3 << 20) + 1, 3 << 20)
