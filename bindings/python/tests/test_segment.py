"""Segments: their options, what they say of themselves, and their ends."""

import copy
import gc
import os
import pathlib
import pickle

import pytest
import shmslot


def test_open_creates_once(name: str) -> None:
    first = shmslot.Segment.open(name, slot_count=8)
    second = shmslot.Segment.open(name, slot_count=8)
    assert (first.created, second.created) == (True, False)
    assert first.path == second.path == f"/dev/shm/shmslot.{name}"
    with pytest.raises(shmslot.Exists) as caught:
        shmslot.Segment.create(name)
    assert isinstance(caught.value, FileExistsError)
    with pytest.raises(shmslot.OptionsMismatch, match="slot_count: 16 wanted, 8 found") as wrong:
        shmslot.Segment.open(name, slot_count=16)
    assert wrong.value.numbers == (16, 8, 0)


def test_every_option_arrives(name: str) -> None:
    identity = shmslot.type_hash("acme.Pose", 24)
    options = {
        "slot_count": 5,
        "slot_capacity": 1000,
        "payload_align": 128,
        "user_header_size": 16,
        "max_readers": 3,
        "max_participants": 4,
        "history": 2,
        "max_payload": 100_000,
        "region_count": 6,
        "max_held": 7,
        "policy": "drop_oldest",
        "single_writer": True,
        "timestamps": True,
        "ephemeral": True,
        "mode": 0o640,
        "type_hash": identity,
        "type_name": "acme.Pose",
    }
    segment = shmslot.Segment.create(
        name,
        **options,  # type: ignore[arg-type]
        prefault=True,
        huge_pages=True,
        any_owner=True,
        if_orphaned="refuse",
        any_geometry=True,
        spin=0.001,
        max_loans=1,
    )
    info = segment.info()
    assert {field: getattr(info, field) for field in options} == options
    writer = segment.writer()
    loan = writer.reserve(1)
    with pytest.raises(shmslot.LoanLimit) as caught:
        writer.reserve(1)
    assert caught.value.numbers[:2] == (1, 1)
    del loan
    segment.reader(history=0)
    assert writer.write(b"") == 1
    with pytest.raises(shmslot.BadOptions):
        segment.reader(history=3)


def test_wrong_options_are_told(name: str) -> None:
    with pytest.raises(TypeError, match='there is no option "slots"'):
        shmslot.Segment.create(name, slots=4)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match='"slot_count"'):
        shmslot.Segment.attach(name, slot_count=4)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match='one of "block", "fail", "drop_oldest"'):
        shmslot.Segment.create(name, policy="newest")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="3 bytes, and not 16"):
        shmslot.Segment.create(name, type_hash=b"abc")
    with pytest.raises(OverflowError):
        shmslot.Segment.create(name, slot_count=-1)
    with pytest.raises(shmslot.BadOptions, match="slot_capacity") as caught:
        shmslot.Segment.create(name, slot_capacity=1 << 40)
    assert caught.value.numbers == (1 << 40, 1, 1 << 32)
    with pytest.raises(shmslot.BadName):
        shmslot.Segment.create("a/b")


def test_stats_count_slots_readers_and_writers(name: str) -> None:
    segment = shmslot.Segment.create(name, slot_count=8, timestamps=True)
    reader, idle, writer = segment.reader(), segment.reader(), segment.writer()
    for _ in range(3):
        writer.write(b"x")
    sample = reader.read()
    loan = writer.reserve(1)
    look = shmslot.Segment.attach(name, observer=True)
    with pytest.raises(shmslot.NotSupported):
        look.reader()
    stats = look.stats()
    assert (stats.free, stats.loaned, stats.unread, stats.held) == (4, 1, 2, 1)
    assert (stats.next_sequence, stats.open_writers, stats.participants) == (4, 1, 1)
    first, second = sorted(stats.readers, key=lambda one: one.index != reader.index)
    assert (first.kind, first.lag, first.unread, first.held) == ("joined", 2, 2, 1)
    assert (first.pid, first.alive, first.oldest_held) == (os.getpid(), True, sample.sequence)
    assert first.oldest_held_ns == sample.timestamp_ns > 0
    assert (second.index, second.lag, second.held) == (idle.index, 3, 0)
    assert [(w.id, w.loans, w.pid) for w in stats.writers] == [(writer.id, 1, os.getpid())]
    assert sample.writer_id == writer.id
    both = 1 << reader.index | 1 << idle.index
    (self,) = segment.participants()
    assert (self.pid, self.alive, self.writers, self.readers) == (os.getpid(), True, 1, both)
    del loan

    segment.expel(second.index, second.generation)
    with pytest.raises(shmslot.Expelled):
        idle.read()
    with pytest.raises(shmslot.NotFound):
        segment.expel(second.index, second.generation + 1)
    assert segment.recover() == 0
    assert segment.trim() == 0
    assert segment.deaths() == []


def test_segments_of_a_directory(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "mine"
    segment = shmslot.Segment.create(str(path))
    (entry,) = shmslot.list_segments(tmp_path)
    assert (entry.name, entry.state, entry.refusal, entry.mode) == ("mine", "alive", None, 0o600)
    assert entry.segment_id == segment.info().segment_id
    assert shmslot.unlink_dead(str(tmp_path)) == 0
    segment.close()
    (entry,) = shmslot.list_segments(tmp_path)
    assert entry.state == "dead"
    assert shmslot.unlink_dead(tmp_path) == 1
    assert shmslot.list_segments(tmp_path) == []


def test_an_anonymous_segment_goes_by_its_descriptor() -> None:
    segment = shmslot.Segment.create_anonymous(slot_count=4)
    assert segment.path is None
    other = shmslot.Segment.attach_fd(segment.fileno())
    reader = other.reader()
    segment.writer().write(b"through the descriptor")
    assert bytes(reader.read()) == b"through the descriptor"
    with pytest.raises(shmslot.NotAFile) as caught:
        shmslot.Segment.attach_fd(os.open(os.devnull, os.O_RDONLY))
    assert isinstance(caught.value, OSError)
    with pytest.raises(ValueError):
        shmslot.Segment.attach_fd(-1)
    with pytest.raises(shmslot.NotSupported):
        segment.unlink()


def test_closed_things_say_so(name: str) -> None:
    segment = shmslot.Segment.create(name)
    reader, writer = segment.reader(), segment.writer()
    for handle in (segment, reader, writer):
        assert not handle.closed
        with handle:
            pass
        assert handle.closed
        assert "closed" in repr(handle)
        handle.close()
    for use in (
        segment.stats,
        segment.reader,
        segment.fileno,
        lambda: reader.read(timeout=0),
        reader.latest,
        reader.interrupt,
        lambda: reader.lost,
        lambda: next(iter(reader)),
        lambda: writer.write(b""),
        lambda: writer.reserve(0),
        writer.interrupt,
        lambda: writer.id,
    ):
        with pytest.raises(shmslot.Invalid, match="closed") as caught:
            use()
        assert isinstance(caught.value, ValueError)


def test_handles_may_go_in_any_order(name: str) -> None:
    segment = shmslot.Segment.create(name)
    reader, writer = segment.reader(), segment.writer()
    del segment
    gc.collect()
    writer.write(b"one")
    writer.write(b"two")
    sample = reader.read()
    reader.close()
    assert bytes(sample) == b"one"
    del reader, sample, writer
    gc.collect()
    assert [entry.state for entry in shmslot.list_segments() if entry.name == name] == ["dead"]


def test_latest_and_history() -> None:
    segment = shmslot.Segment.create_local(history=2, policy="drop_oldest")
    writer = segment.writer()
    for i in range(5):
        writer.write(b"%d" % i)
    reader = segment.reader(history=2)
    latest = reader.latest()
    assert latest is not None and bytes(latest) == b"4"
    latest.release()
    assert [bytes(reader.read()) for _ in range(2)] == [b"3", b"4"]
    assert segment.reader().latest() is not None  # retained


def test_lost_samples_are_counted() -> None:
    segment = shmslot.Segment.create_local(slot_count=4, policy="drop_oldest")
    reader, writer = segment.reader(), segment.writer()
    for i in range(10):
        writer.write(b"%d" % i)
    assert bytes(reader.read()) == b"6"
    assert reader.lost == 6


def test_held_limit_is_told() -> None:
    segment = shmslot.Segment.create_local(max_held=2)
    reader, writer = segment.reader(), segment.writer()
    for _ in range(3):
        writer.write(b"")
    held = [reader.read(), reader.read()]
    with pytest.raises(shmslot.HeldLimit) as caught:
        reader.read()
    assert caught.value.numbers[:2] == (2, 2)
    held.pop()
    assert reader.read().sequence == 3


def test_pickling(name: str) -> None:
    segment = shmslot.Segment.create(name, ephemeral=True)
    again = pickle.loads(pickle.dumps(segment))
    reader = again.reader()
    segment.writer().write(b"the same")
    assert bytes(reader.read()) == b"the same"
    assert not again.created
    observer = pickle.loads(pickle.dumps(shmslot.Segment.attach(name, observer=True)))
    with pytest.raises(shmslot.NotSupported):
        observer.writer()
    for refused in (reader, segment.writer(), shmslot.Segment.create_local()):
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(refused)
    with pytest.raises(TypeError):
        pickle.dumps(segment.writer().reserve(1))
    with pytest.raises(TypeError):
        copy.copy(reader)


def test_nothing_private_can_be_made() -> None:
    for hidden in ("_Payload", "_Room", "_Samples"):
        kind = getattr(__import__("shmslot")._shmslot, hidden)
        with pytest.raises(TypeError):
            kind()
        with pytest.raises(TypeError):
            type("Sub", (kind,), {})
    for public in (shmslot.Segment, shmslot.Reader, shmslot.Writer, shmslot.Sample, shmslot.Loan):
        with pytest.raises(TypeError):
            public()  # each is made by a call


def test_no_object_becomes_one_of_another_kind() -> None:
    """Python lets objects change their class where the layouts agree, and these must not."""
    segment = shmslot.Segment.create_local()
    reader, writer = segment.reader(), segment.writer()
    writer.write(b"x")
    sample, loan = reader.read(), writer.reserve(1)
    objects = [segment, reader, writer, sample, loan, sample.data.obj, loan.data.obj, iter(reader)]

    class Own:
        pass

    for one in objects:
        for kind in [type(other) for other in objects if other is not one] + [Own]:
            with pytest.raises(TypeError):
                one.__class__ = kind
        with pytest.raises(TypeError):
            object.__new__(type(one))
        with pytest.raises(TypeError):
            type(one).__new__(type(one))
