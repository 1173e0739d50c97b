"""The rule of holds: a hold ends when the last view or array of it dies, and never earlier."""

import gc
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import shmslot


def held_slots(segment: shmslot.Segment) -> int:
    return segment.stats().held


def one_sample(segment: shmslot.Segment, payload: bytes) -> shmslot.Sample:
    """A sample in hand; reader and writer are gone."""
    with segment.writer() as writer, segment.reader() as reader:
        writer.write(payload)
        return reader.read()


@pytest.fixture
def segment() -> shmslot.Segment:
    # One slot: a hold that ends too early lets the next write in.
    return shmslot.Segment.create_local(slot_count=1, slot_capacity=64, policy="fail")


VIEWS: dict[str, Callable[[Any], Any]] = {
    "view": lambda sample: sample.data,
    "slice": lambda sample: sample.data[3:9],
    "cast": lambda sample: sample.data.cast("I"),
    "view of a view": lambda sample: memoryview(memoryview(sample.data)),
    "as_array": lambda sample: sample.as_array(),
    "reshaped": lambda sample: sample.as_array(np.uint16, (2, 4))[:, 1:].T,
    "frombuffer": lambda sample: np.frombuffer(sample.data, np.uint8),
    "asarray": lambda sample: np.asarray(sample.data),
    "ndarray of a view": lambda sample: np.ndarray(16, np.uint8, buffer=sample.data),
    "ndarray of the exporter": lambda sample: np.ndarray(16, np.uint8, buffer=sample.data.obj),
    "dlpack": lambda sample: np.from_dlpack(sample),
    "capsule": lambda sample: sample.__dlpack__(max_version=(1, 0)),
    "exporter": lambda sample: sample.data.obj,
}


@pytest.mark.parametrize("kind", VIEWS)
def test_whatever_shows_a_payload_holds_it(segment: shmslot.Segment, kind: str) -> None:
    sample = one_sample(segment, bytes(range(16)))
    shown = VIEWS[kind](sample)
    assert not sample.release()
    assert held_slots(segment) == 1
    with pytest.raises(shmslot.NoFreeSlot):
        segment.writer().write(b"too early", timeout=0)
    del sample
    gc.collect()
    assert held_slots(segment) == 1
    del shown
    assert held_slots(segment) == 0
    segment.writer().write(b"now")


def test_bytes_stay_while_a_view_of_a_released_base_lives(segment: shmslot.Segment) -> None:
    sample = one_sample(segment, b"0123456789abcdef")
    base = sample.data
    array = np.ndarray(16, np.uint8, buffer=base)
    base.release()
    sample.release()
    segment.close()
    gc.collect()
    assert array.tobytes() == b"0123456789abcdef"


def test_use_after_release_raises(segment: shmslot.Segment) -> None:
    sample = one_sample(segment, b"payload")
    assert sample.release()
    assert sample.released
    for use in (
        lambda: sample.data,
        lambda: sample.as_array(),
        lambda: sample.tobytes(),
        lambda: bytes(sample),
        lambda: len(sample),
        lambda: sample.header,
        lambda: sample.__dlpack__(max_version=(1, 0)),
    ):
        with pytest.raises(shmslot.Stale, match="released"):
            use()
    assert sample.sequence == 1
    assert sample.release()  # again does nothing


def test_views_are_read_only(segment: shmslot.Segment) -> None:
    sample = one_sample(segment, b"payload")
    with pytest.raises(TypeError):
        sample.data[0] = 1
    assert not sample.as_array().flags.writeable
    with pytest.raises(ValueError):
        sample.as_array().setflags(write=True)
    assert not np.from_dlpack(sample).flags.writeable


def test_a_with_that_is_outlived_warns(segment: shmslot.Segment) -> None:
    with pytest.warns(ResourceWarning, match="sample 1 is still held"):
        with one_sample(segment, b"payload") as sample:
            view = sample.data
    assert bytes(view) == b"payload"
    del view, sample
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with one_sample(segment, b"payload") as sample:
            assert bytes(sample) == b"payload"
    assert held_slots(segment) == 0


def test_objects_are_no_items(segment: shmslot.Segment) -> None:
    sample = one_sample(segment, bytes(16))
    for dtype in (object, [("a", object), ("b", "u8")]):
        with pytest.raises(ValueError):
            sample.as_array(dtype)


def test_arrays_have_dtype_and_shape(segment: shmslot.Segment) -> None:
    values = np.arange(8, dtype=np.float32).reshape(2, 4)
    with segment.writer() as writer, segment.reader() as reader:
        writer.write(values)
        sample = reader.read()
    assert np.array_equal(sample.as_array(np.float32, (2, 4)), values)
    assert sample.as_array("<u2").shape == (16,)
    assert sample.as_array().dtype == np.uint8
    with pytest.raises(TypeError):
        sample.as_array(np.float32, (3, 4))  # more than there is
    with pytest.raises(ValueError, match="whole number"):
        sample.as_array("S5")


def test_an_empty_sample_is_one(segment: shmslot.Segment) -> None:
    sample = one_sample(segment, b"")
    assert len(sample) == 0
    assert bool(sample)
    assert sample.data.nbytes == 0
    assert sample.as_array(np.float64).shape == (0,)
    assert np.from_dlpack(sample).size == 0


def test_dlpack_says_what_it_can(segment: shmslot.Segment) -> None:
    sample = one_sample(segment, b"payload")
    assert sample.__dlpack_device__() == (1, 0)
    with pytest.raises(BufferError, match="read-only"):
        sample.__dlpack__()
    with pytest.raises(BufferError, match="device"):
        sample.__dlpack__(max_version=(1, 0), dl_device=(2, 0))
    copy = np.from_dlpack(sample, copy=True)
    assert sample.release()
    copy[0] = ord("P")
    assert copy.tobytes() == b"Payload"


def test_a_loop_releases_each_sample_at_the_end_of_its_turn() -> None:
    segment = shmslot.Segment.create_local(slot_count=4, max_held=1)
    with segment.reader(end_without_writers=True) as reader:
        with segment.writer() as writer:
            for i in range(4):
                writer.write(b"%d" % i)
        seen = []
        for sample in reader:
            assert held_slots(segment) == 1
            seen.append(sample)
        assert [sample.sequence for sample in seen] == [1, 2, 3, 4]
        assert all(sample.released for sample in seen)


def test_samples_outlive_everything_they_came_from(name: str) -> None:
    segment = shmslot.Segment.create(name)
    sample = one_sample(segment, b"payload")
    array = sample.as_array()
    segment.unlink()
    segment.close()
    del segment
    gc.collect()
    assert array.tobytes() == sample.tobytes() == b"payload"
