"""Measures the Python binding beside C, iceoryx2 and the standard library.

bench.py [--quick] [--frames-c PROGRAM]

All sides of a comparison run in turns, in many short blocks. Each table has the median of the
blocks, and the ratio of the medians, because the speed of a machine varies. `benches/run` builds
the C program and starts this.
"""

import argparse
import ctypes
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np
import shmslot

SIZES = {"64 B": 64, "4 KiB": 4096, "1 MiB": 1 << 20}
PATIENT = 100.0
SPAWN = multiprocessing.get_context("spawn")


def name_of(what: str) -> str:
    return f"python-bench-{what}-{os.getpid()}"


def medians(sides: dict[str, Callable[[], float]], blocks: int) -> dict[str, float]:
    """The median of each side, of blocks that take turns."""
    seen: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(blocks):
        for side, block in sides.items():
            seen[side].append(block())
    return {side: statistics.median(values) for side, values in seen.items()}


# ---- frames: numpy beside C ----


def read_frames(name: str, count: int, size: int) -> int:
    frame = np.empty(size, np.uint8)
    reader = shmslot.Segment.attach(name).reader()
    start = 0
    for i in range(count):
        with reader.read() as sample:
            if i == 0:
                start = time.monotonic_ns()
            np.copyto(frame, sample.as_array())
        assert frame[0] == i % 256
    return time.monotonic_ns() - start


def write_frames(name: str, count: int, size: int) -> None:
    frame = np.full(size, 7, np.uint8)
    writer = shmslot.Segment.attach(name).writer()
    writer.wait_readers(1)
    for i in range(count):
        frame[0] = i % 256
        with writer.reserve(size) as view:
            np.copyto(np.asarray(view), frame)


def frames(program: str, blocks: int, count: int) -> None:
    size = 1 << 20
    name = name_of("frames")
    with shmslot.Segment.create(
        name, slot_count=8, slot_capacity=size, single_writer=True, prefault=True
    ) as segment:

        def block(command: Callable[[str], list[str]]) -> float:
            reader = subprocess.Popen(command("read"), stdout=subprocess.PIPE, text=True)
            writer = subprocess.Popen(command("write"))
            took = int(reader.communicate(timeout=PATIENT)[0])
            assert (reader.wait(), writer.wait(PATIENT)) == (0, 0)
            return took / (count - 1)

        def in_c(job: str) -> list[str]:
            return [program, job, name, str(count), str(size)]

        def in_python(job: str) -> list[str]:
            return [sys.executable, __file__, "--frames", job, name, str(count), str(size)]

        try:
            took = medians({"C": lambda: block(in_c), "numpy": lambda: block(in_python)}, blocks)
        finally:
            segment.unlink()
    print("\n| frames of 1 MiB, written and read | µs per frame | frames/s beside C |\n|---|---|---|")
    for side, ns in took.items():
        print(f"| {side} | {ns / 1e3:.1f} | {took['C'] / ns:.2f} |")


# ---- a round in one thread: iceoryx2's package ----


class Payload(ctypes.Structure):
    """64 bytes, for iceoryx2."""

    _fields_ = [("data", ctypes.c_uint8 * 64)]


def shmslot_round(count: int) -> Iterator[Callable[[], float]]:
    payload = bytes(range(64))
    name = name_of("round")
    with shmslot.Segment.create(name, slot_count=8, slot_capacity=64) as segment:
        writer, reader = segment.writer(), segment.reader()
        segment.unlink()

        def block() -> float:
            start = time.perf_counter_ns()
            for _ in range(count):
                writer.write(payload)
                sample = reader.read()
                seen = sample.data[63]
                sample.release()
            took = time.perf_counter_ns() - start
            assert seen == 63
            return took / count

        yield block


def iceoryx2_round(count: int) -> Iterator[Callable[[], float]]:
    import iceoryx2 as iox2  # type: ignore[import-untyped, import-not-found, unused-ignore]

    iox2.set_log_level(iox2.LogLevel.Error)
    node = iox2.NodeBuilder.new().create(iox2.ServiceType.Ipc)
    service = (
        node.service_builder(iox2.ServiceName.new(name_of("iceoryx2")))
        .publish_subscribe(Payload)
        .open_or_create()
    )
    publisher = service.publisher_builder().create()
    subscriber = service.subscriber_builder().create()
    payload = Payload((ctypes.c_uint8 * 64)(*range(64)))

    def block() -> float:
        start = time.perf_counter_ns()
        for _ in range(count):
            publisher.loan_uninit().write_payload(payload).send()
            sample = subscriber.receive()
            seen = sample.payload().contents.data[63]
            sample.delete()
        took = time.perf_counter_ns() - start
        assert seen == 63
        return took / count

    yield block


def rounds(blocks: int, count: int) -> None:
    ours = next(own := shmslot_round(count))
    sides = {"shmslot": ours}
    try:
        sides["iceoryx2"] = next(theirs := iceoryx2_round(count))
    except ImportError:
        print("\niceoryx2 is not installed: its round is left out")
    took = medians(sides, blocks)
    print("\n| a round of 64 B in one thread | ns | shmslot beside it |\n|---|---|---|")
    for side, ns in took.items():
        print(f"| {side} | {ns:.0f} | {took['shmslot'] / ns:.2f} |")
    del own
    if "iceoryx2" in sides:
        del theirs


# ---- there and back between two processes: the standard library ----


def echo_by_shmslot(there: str, back: str) -> None:
    reader = shmslot.Segment.attach(there).reader()
    writer = shmslot.Segment.attach(back).writer()
    writer.wait_readers(1)
    for sample in reader:
        if len(sample) == 0:
            return
        writer.write(int(sample.as_array().max()).to_bytes(8, "little"))


def by_shmslot(size: int, count: int) -> Iterator[Callable[[], float]]:
    names = name_of("there"), name_of("back")
    there = shmslot.Segment.create(names[0], slot_count=8, slot_capacity=size, prefault=True)
    back = shmslot.Segment.create(names[1], slot_count=8, slot_capacity=64)
    child = SPAWN.Process(target=echo_by_shmslot, args=names, daemon=True)
    child.start()
    writer, reader = there.writer(), back.reader()
    payload = np.full(size, 5, np.uint8)
    writer.wait_readers(1, PATIENT)

    def block() -> float:
        start = time.perf_counter_ns()
        for _ in range(count):
            writer.write(payload)
            assert reader.read().tobytes()[0] == 5
        return (time.perf_counter_ns() - start) / count

    yield block
    writer.write(b"")
    child.join(PATIENT)
    there.unlink()
    back.unlink()


def echo_by_pipe(pipe: Connection) -> None:
    while payload := pipe.recv_bytes():
        pipe.send_bytes(int(np.frombuffer(payload, np.uint8).max()).to_bytes(8, "little"))


def by_pipe(size: int, count: int) -> Iterator[Callable[[], float]]:
    pipe, far = SPAWN.Pipe()
    child = SPAWN.Process(target=echo_by_pipe, args=(far,), daemon=True)
    child.start()
    payload = np.full(size, 5, np.uint8)

    def block() -> float:
        start = time.perf_counter_ns()
        for _ in range(count):
            pipe.send_bytes(payload.data)
            assert pipe.recv_bytes()[0] == 5
        return (time.perf_counter_ns() - start) / count

    yield block
    pipe.send_bytes(b"")
    child.join(PATIENT)


def echo_by_queue(name: str, size: int, there: Any, back: Any) -> None:
    memory = SharedMemory(name)
    slots = np.ndarray((8, size), np.uint8, buffer=memory.buf)
    while (slot := there.get()) is not None:
        back.put(int(slots[slot].max()))
    del slots
    memory.close()


def by_queue(size: int, count: int) -> Iterator[Callable[[], float]]:
    memory = SharedMemory(create=True, size=8 * size)
    there, back = SPAWN.Queue(), SPAWN.Queue()
    child = SPAWN.Process(target=echo_by_queue, args=(memory.name, size, there, back), daemon=True)
    child.start()
    payload = np.full(size, 5, np.uint8)
    slots = np.ndarray((8, size), np.uint8, buffer=memory.buf)

    def block() -> float:
        start = time.perf_counter_ns()
        for i in range(count):
            slots[i % 8] = payload
            there.put(i % 8)
            assert back.get() == 5
        return (time.perf_counter_ns() - start) / count

    yield block
    there.put(None)
    child.join(PATIENT)
    del slots
    memory.close()
    memory.unlink()


@contextmanager
def running(sides: dict[str, Iterator[Callable[[], float]]]) -> Iterator[dict[str, Any]]:
    """The blocks of sides, which are begun first and ended last."""
    blocks = {side: next(steps) for side, steps in sides.items()}
    yield blocks
    for steps in sides.values():
        next(steps, None)


def there_and_back(blocks: int, count: int) -> None:
    print(
        "\n| there and back between two processes | shmslot, µs | Pipe | shared_memory and Queue |"
        "\n|---|---|---|---|"
    )
    for label, size in SIZES.items():
        sides = {
            "shmslot": by_shmslot(size, count),
            "Pipe": by_pipe(size, count),
            "Queue": by_queue(size, count),
        }
        with running(sides) as ready:
            for block in ready.values():
                block()  # the first one starts processes and touches memory
            took = medians(ready, blocks)
        ours = took["shmslot"]
        print(
            f"| {label}, written and read | {ours / 1e3:.1f} | {took['Pipe'] / ours:.1f} x "
            f"| {took['Queue'] / ours:.1f} x |"
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a short pass")
    parser.add_argument("--frames-c", help="the program of frames.c")
    parser.add_argument("--frames", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.frames:
        job, name, count, size = options.frames
        if job == "read":
            print(read_frames(name, int(count), int(size)))
        else:
            write_frames(name, int(count), int(size))
        return
    blocks = 5 if options.quick else 25
    if options.frames_c:
        frames(options.frames_c, blocks, 300 if options.quick else 1000)
    rounds(blocks, 2000 if options.quick else 20000)
    there_and_back(blocks, 100 if options.quick else 500)


if __name__ == "__main__":
    main()
