"""The Python peer of tests/languages.rs, which has the jobs and ways: peer JOB WAY COUNT NAME."""

import faulthandler
import sys
from collections.abc import Callable

import numpy as np
import shmslot

PATIENT = 100.0
"""Seconds: longer than anything takes, so that a hanging program ends."""

CAPACITY = 64
LARGEST = 3 << 20


def say(line: object) -> None:
    print(f"> {line}", flush=True)


def hear(expected: str) -> None:
    assert sys.stdin.readline().rstrip("\n") == expected


def large_len(i: int) -> int:
    step = i * 7 % 20
    return 100 + (LARGEST - 100) * step * step // (19 * 19)


def sample_len(i: int) -> int:
    return large_len(i // 100) if i % 100 == 0 else i * 16 % 80


def bytes_of(i: int, length: int) -> np.ndarray:
    at = np.arange(length, dtype=np.uint64)
    return (i * 31 + at + (at >> 12)).astype(np.uint8)


def segment_by(way: str, name: str) -> shmslot.Segment:
    if way == "create":
        segment = shmslot.Segment.create(
            name,
            slot_count=7,
            slot_capacity=CAPACITY,
            user_header_size=8,
            policy="block",
            max_payload=LARGEST,
            region_count=3,
        )
    else:
        assert way == "attach", way
        segment = shmslot.Segment.attach(name)
    info = segment.info()
    assert (info.slot_capacity, info.max_payload) == (CAPACITY, LARGEST)
    return segment


def read_all(way: str, count: int, name: str) -> None:
    reader = segment_by(way, name).reader(end_at_peer_death=True)
    say("ready")
    for i in range(1, count + 1):
        sample = reader.read(timeout=PATIENT)
        assert sample is not None, i
        assert (sample.sequence, len(sample)) == (i, sample_len(i))
        assert np.array_equal(sample.as_array(), bytes_of(i, len(sample))), i
        assert int.from_bytes(sample.header, sys.byteorder) == i
        assert sample.release()


def write_all(way: str, count: int, name: str) -> None:
    writer = segment_by(way, name).writer()
    say("ready")
    hear("go")
    for i in range(1, count + 1):
        loan = writer.reserve(sample_len(i), timeout=PATIENT)
        with loan as view:
            np.asarray(view)[:] = bytes_of(i, len(view))
            loan.set_header(i.to_bytes(8, sys.byteorder))
        assert loan.sequence == i


def occupy(name: str) -> None:
    segment = shmslot.Segment.create(
        name,
        single_writer=True,
        slot_count=2,
        max_readers=1,
        max_participants=2,
        type_hash=shmslot.type_hash("languages.Probe", 8),
    )
    with segment.writer(), segment.reader():
        say("ready")
        hear("go")


def tell(what: str, call: Callable[[], object]) -> None:
    try:
        result = call()
    except shmslot.ShmslotError as error:
        say(f"{what} {error.code}")
    else:
        # No sample is no error here; the other languages return this code.
        say(f"{what} {shmslot.Code.AGAIN if result is None or result is False else 0}")


def fail_all(name: str) -> None:
    missing = f"{name}-missing"
    probe = shmslot.type_hash("languages.Probe", 8)
    tell("missing", lambda: shmslot.Segment.attach(missing))
    tell("name", lambda: shmslot.Segment.attach("a/b"))
    tell("exists", lambda: shmslot.Segment.create(name))
    for what, other in (("size", ("languages.Probe", 16)), ("type", ("languages.Other", 8))):
        hash_of_other = shmslot.type_hash(*other)
        tell(what, lambda: shmslot.Segment.attach(name, type_hash=hash_of_other))
    with shmslot.Segment.attach(name, type_hash=probe) as segment:
        tell("crowded", lambda: shmslot.Segment.attach(name, type_hash=probe))
        tell("writer", segment.writer)
        tell("reader", segment.reader)
        tell("history", lambda: segment.reader(history=1))
    looking = shmslot.Segment.attach(name, observer=True)
    tell("look", looking.writer)
    tell("unlink", lambda: shmslot.unlink(missing))

    own = shmslot.Segment.create_local(
        policy="fail", slot_count=2, slot_capacity=CAPACITY, max_payload=LARGEST, region_count=3
    )
    writer, reader = own.writer(), own.reader()
    tell("empty", lambda: reader.read(timeout=0))
    tell("wait", lambda: reader.wait(timeout=0))
    tell("large", lambda: writer.reserve(LARGEST + 1, timeout=0))
    loans = [writer.reserve(1, timeout=0) for _ in range(2)]
    tell("full", lambda: writer.reserve(1, timeout=0))
    tell("long", lambda: loans[0].commit(2))
    reader.interrupt()
    tell("interrupt", reader.wait)


def main() -> None:
    faulthandler.dump_traceback_later(PATIENT, exit=True)
    job, way, count, name = sys.argv[1:]
    if job == "read":
        read_all(way, int(count), name)
    elif job == "write":
        write_all(way, int(count), name)
    elif job == "occupy":
        occupy(name)
    else:
        assert job == "fail", job
        fail_all(name)


main()
