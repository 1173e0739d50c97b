"""Other processes: forked, spawned, killed, and other languages in this one."""

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable

import numpy as np
import pytest
import shmslot


def in_a_fork(call: Callable[[], None]) -> None:
    """Runs a test in a forked child, whose failure it shows."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            call()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.parametrize("single", [False, True], ids=["many writers", "single"])
def test_a_forked_child_is_told(name: str, single: bool) -> None:
    segment = shmslot.Segment.create(name, slot_count=4, single_writer=single)
    reader, writer = segment.reader(), segment.writer()
    writer.write(b"one")
    sample = reader.read()
    loan = writer.reserve(3)
    iterator = iter(reader)
    kept: list[object] = [sample, loan]

    def child() -> None:
        nonlocal sample, loan
        for use in (
            segment.stats,
            segment.writer,
            segment.reader,
            segment.generation,
            reader.read,
            reader.wait,
            reader.latest,
            reader.interrupt,
            lambda: reader.lost,
            lambda: next(iterator),
            lambda: shmslot.wait_any([reader]),
            lambda: writer.write(b"two"),
            lambda: writer.reserve(1),
            writer.wait_readers,
            writer.wait_space,
            writer.interrupt,
            lambda: sample.data,
            sample.as_array,
            sample.tobytes,
            sample.release,
            lambda: loan.data,
            loan.commit,
            loan.discard,
        ):
            with pytest.raises(shmslot.Forked):
                use()
        # Nothing that the child drops ends what the parent has.
        kept.clear()
        del sample, loan
        reader.close()
        writer.close()
        segment.close()
        # It may attach for itself.
        own = shmslot.Segment.attach(name)
        assert own.stats().held == 1
        assert own.stats().loaned == 1

    in_a_fork(child)
    stats = segment.stats()
    assert (stats.held, stats.loaned) == (1, 1)
    assert bytes(sample) == b"one"
    with loan as view:
        view[:] = b"two"
    assert bytes(reader.read()) == b"two"


def test_a_fork_while_other_threads_wait(name: str) -> None:
    """In the child their locks stay taken for ever; nothing may wait for them."""
    segment = shmslot.Segment.create(name, slot_count=1, single_writer=True)
    reader, writer = segment.reader(), segment.writer()
    idle = segment.reader()
    writer.write(b"full")
    waiting = [
        threading.Thread(target=lambda: pytest.raises(shmslot.Invalid, idle_reads)),
        threading.Thread(target=lambda: pytest.raises(shmslot.Invalid, lambda: writer.write(b""))),
    ]

    def idle_reads() -> None:
        while True:
            idle.read()

    for thread in waiting:
        thread.start()
    time.sleep(0.05)

    def child() -> None:
        with pytest.raises(shmslot.Forked):
            idle.read(timeout=0)
        with pytest.raises(shmslot.Forked):
            writer.write(b"", timeout=0)
        idle.close()
        writer.close()

    in_a_fork(child)
    idle.close()
    writer.close()
    for thread in waiting:
        thread.join(100)
        assert not thread.is_alive()
    assert bytes(reader.read()) == b"full"


def sum_frames(segment: shmslot.Segment, results: "multiprocessing.Queue[float]") -> None:
    with segment.reader(end_without_writers=True) as reader:
        results.put(-1.0)  # joined
        for sample in reader:
            results.put(float(sample.as_array(np.float64).sum()))


def test_a_spawned_process_gets_the_segment(name: str) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    segment = shmslot.Segment.create(name, slot_capacity=80)
    writer = segment.writer()
    child = context.Process(target=sum_frames, args=(segment, results))
    child.start()
    assert results.get(timeout=100) == -1.0
    for i in range(10):
        writer.write(np.full(10, float(i)))
    writer.close()
    assert [results.get(timeout=100) for _ in range(10)] == [10.0 * i for i in range(10)]
    child.join(100)
    assert child.exitcode == 0


def hold_and_die(segment: shmslot.Segment, barrier: "multiprocessing.Queue[int]") -> None:
    reader, writer = segment.reader(history=1), segment.writer()
    held = reader.read()
    loan = writer.reserve(1)
    view = loan.data
    barrier.put(held.sequence + len(view))
    barrier.close()
    barrier.join_thread()
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_leaves_nothing(name: str) -> None:
    context = multiprocessing.get_context("spawn")
    segment = shmslot.Segment.create(name, slot_count=4, history=1)
    segment.writer().write(b"x")
    barrier = context.Queue()
    child = context.Process(target=hold_and_die, args=(segment, barrier))
    child.start()
    assert barrier.get(timeout=100) == 2
    child.join(100)
    assert child.exitcode == -signal.SIGKILL
    segment.recover()
    stats = segment.stats()
    assert (stats.held, stats.loaned, stats.retained, stats.recovered) == (0, 0, 1, 1)
    assert [death.pid for death in segment.deaths()] == [child.pid]
