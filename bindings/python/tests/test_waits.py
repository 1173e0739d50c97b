"""Waits: they let other threads run, end when asked to, and let signal handlers run at once."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest
import shmslot

PATIENT = 100.0
"""Seconds: longer than anything takes, so that a hanging test fails."""

TICK = 0.05
"""Seconds: long enough that another thread is probably in its wait. Nothing depends on it."""


class Background:
    """A call in another thread, and its result."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._thread = threading.Thread(target=self._run, args=(call,), daemon=True)
        self._thread.start()

    def _run(self, call: Callable[[], object]) -> None:
        try:
            self._result: object = call()
        except BaseException as error:
            self._result = error

    def result(self) -> object:
        self._thread.join(PATIENT)
        assert not self._thread.is_alive()
        return self._result

    def error(self) -> BaseException:
        result = self.result()
        assert isinstance(result, BaseException), result
        return result


@pytest.fixture(params=[False, True], ids=["many writers", "single"])
def segment(request: pytest.FixtureRequest) -> shmslot.Segment:
    return shmslot.Segment.create_local(slot_count=1, slot_capacity=8, single_writer=request.param)


def test_timeouts(segment: shmslot.Segment) -> None:
    reader, writer = segment.reader(), segment.writer()
    start = time.monotonic()
    assert reader.read(timeout=0) is None
    assert reader.read(timeout=TICK) is None
    assert not reader.wait(timeout=TICK)
    assert writer.wait_space(timeout=0)
    assert not writer.wait_readers(2, timeout=TICK)
    writer.write(b"full")
    assert not writer.wait_space(timeout=TICK)
    with pytest.raises(shmslot.NoFreeSlot) as caught:
        writer.write(b"more", timeout=TICK)
    assert time.monotonic() - start >= 5 * TICK
    assert caught.value.code is shmslot.Code.NO_FREE_SLOT
    assert caught.value.numbers == (1, 0, 1 << reader.index)  # in use, own loans, who holds up
    assert reader.wait(timeout=0)
    generation = segment.generation()
    assert segment.wait_for_change(generation, timeout=TICK) is None
    for wrong in (-1.0, float("nan")):
        with pytest.raises(shmslot.BadTimeout):
            reader.read(timeout=wrong)
    assert reader.read(timeout=float("inf")).data == b"full"  # type: ignore[union-attr]


def test_a_wait_lets_other_threads_run(segment: shmslot.Segment) -> None:
    reader, writer = segment.reader(), segment.writer()
    waiting = Background(lambda: bytes(reader.read()))
    time.sleep(TICK)
    writer.write(b"sample")
    assert waiting.result() == b"sample"

    writer.write(b"full")
    reserving = Background(lambda: writer.write(b"next"))
    time.sleep(TICK)
    assert bytes(reader.read()) == b"full"
    assert reserving.result() == 3

    generation = segment.generation()
    watching = Background(lambda: segment.wait_for_change(generation))
    time.sleep(TICK)
    assert bytes(reader.read()) == b"next"
    assert watching.result() != generation


def test_interrupt_ends_one_wait(segment: shmslot.Segment) -> None:
    reader, writer = segment.reader(), segment.writer()
    waits: list[tuple[shmslot.Reader | shmslot.Writer, Callable[[], object]]] = [
        (reader, reader.read),
        (reader, reader.wait),
        (reader, lambda: next(iter(reader))),
        (reader, lambda: shmslot.wait_any([reader])),
        (writer, lambda: writer.wait_readers(2)),
    ]
    for handle, wait in waits:
        waiting = Background(wait)
        time.sleep(TICK)
        handle.interrupt()
        assert isinstance(waiting.error(), shmslot.Interrupted)
    writer.write(b"full")
    reserving = Background(lambda: writer.reserve(1))
    time.sleep(TICK)
    writer.interrupt()
    assert isinstance(reserving.error(), shmslot.Interrupted)


def test_close_ends_waits(segment: shmslot.Segment) -> None:
    reader, writer = segment.reader(), segment.writer()
    reading = Background(reader.read)
    time.sleep(TICK)
    reader.close()
    assert isinstance(reading.error(), shmslot.Invalid)
    other = segment.reader()
    writer.write(b"full")
    reserving = Background(lambda: writer.reserve(1))
    time.sleep(TICK)
    writer.close()
    assert isinstance(reserving.error(), shmslot.Invalid)
    assert bytes(other.read()) == b"full"


def test_threads_take_turns_at_one_reader() -> None:
    segment = shmslot.Segment.create_local(slot_count=8, slot_capacity=8)
    reader, writer = segment.reader(end_without_writers=True), segment.writer()

    def work() -> list[int]:
        return [sample.sequence for sample in reader]

    workers = [Background(work) for _ in range(4)]
    for i in range(400):
        writer.write(b"%d" % i)
    writer.close()
    seen: list[int] = []
    for worker in workers:
        result = worker.result()
        assert isinstance(result, list), result
        assert result == sorted(result)
        seen += result
    assert sorted(seen) == list(range(1, 401))
    assert reader.lost == 0


@pytest.mark.parametrize("single", [False, True], ids=["many writers", "single"])
def test_threads_share_one_writer(single: bool) -> None:
    segment = shmslot.Segment.create_local(slot_count=3, slot_capacity=8, single_writer=single)
    reader, writer = segment.reader(), segment.writer()

    def work() -> bool:
        for i in range(200):
            if i % 3 == 0:
                writer.write(b"a")
            else:
                loan = writer.reserve(1)
                loan.data[0] = ord("a")
                if i % 3 == 1:
                    loan.commit()
                del loan
        return True

    workers = [Background(work) for _ in range(3)]
    committed = 3 * sum(1 for i in range(200) if i % 3 != 2)
    for _ in range(committed):
        sample = reader.read(timeout=PATIENT)
        assert sample is not None
        assert bytes(sample) == b"a"
    assert [worker.result() for worker in workers] == [True] * 3
    assert segment.stats().loaned == 0


def test_a_loan_that_another_thread_drops_ends_the_wait_of_its_writer() -> None:
    segment = shmslot.Segment.create_local(slot_count=1, single_writer=True)
    writer = segment.writer()
    loans = [writer.reserve(1)]
    reserving = Background(lambda: writer.reserve(1).discard())
    time.sleep(TICK)
    loans.clear()
    assert reserving.result() is True


def test_wait_any_tells_which(name: str) -> None:
    segments = [shmslot.Segment.create_local() for _ in range(3)]
    readers = [segment.reader() for segment in segments]
    assert shmslot.wait_any(readers, timeout=TICK) is None
    waiting = Background(lambda: shmslot.wait_any(readers))
    time.sleep(TICK)
    segments[1].writer().write(b"there")
    assert waiting.result() is readers[1]
    with pytest.raises(shmslot.Invalid):
        shmslot.wait_any([])
    with pytest.raises(ValueError, match="twice"):
        shmslot.wait_any([readers[0], readers[0]])
    readers[0].close()
    with pytest.raises(shmslot.Invalid, match="closed"):
        shmslot.wait_any(readers)


def test_attach_waits_for_a_name(name: str) -> None:
    with pytest.raises(shmslot.NotFound):
        shmslot.Segment.attach(name)
    with pytest.raises(shmslot.Timeout):
        shmslot.Segment.attach(name, timeout=TICK)
    attaching = Background(lambda: shmslot.Segment.attach(name, timeout=None))
    time.sleep(TICK)
    segment = shmslot.Segment.create(name)
    attached = attaching.result()
    assert isinstance(attached, shmslot.Segment), attached
    assert attached.path == segment.path


class Handled(Exception):
    """Raised by a signal handler."""


def reserve_two(writer: shmslot.Writer) -> object:
    return [writer.reserve(1), writer.reserve(1)]  # of one slot


SIGNALLED: dict[str, Callable[[shmslot.Segment, str], object]] = {
    "read": lambda segment, name: segment.reader().read(),
    "loop": lambda segment, name: next(iter(segment.reader())),
    "wait": lambda segment, name: segment.reader().wait(),
    "wait_any": lambda segment, name: shmslot.wait_any([segment.reader(), segment.reader()]),
    "reserve": lambda segment, name: reserve_two(segment.writer()),
    "wait_readers": lambda segment, name: segment.writer().wait_readers(1),
    "wait_for_change": lambda segment, name: segment.wait_for_change(segment.generation()),
    "attach": lambda segment, name: shmslot.Segment.attach(name, timeout=None),
}


@pytest.mark.parametrize("call", SIGNALLED)
def test_signal_handlers_run_and_may_end_a_wait(
    segment: shmslot.Segment, name: str, call: str
) -> None:
    ran: list[int] = []

    def handler(number: int, frame: object) -> None:
        ran.append(number)
        if len(ran) == 2:
            raise Handled

    before = signal.signal(signal.SIGUSR1, handler)
    try:

        def send() -> None:
            for handled in range(2):
                time.sleep(TICK)
                os.kill(os.getpid(), signal.SIGUSR1)
                while len(ran) == handled:
                    time.sleep(0.001)

        sending = Background(send)
        # After the first signal the wait goes on.
        with pytest.raises(Handled):
            SIGNALLED[call](segment, name)
        assert len(ran) == 2
        sending.result()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_ctrl_c_ends_a_program_that_waits() -> None:
    program = """
import shmslot, signal
# A shell starts programs in the background with an ignored SIGINT.
signal.signal(signal.SIGINT, signal.default_int_handler)
reader = shmslot.Segment.create_local().reader()
print("waiting", flush=True)
try:
    for sample in reader:
        pass
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == "waiting\n"
            time.sleep(TICK)
            child.send_signal(signal.SIGINT)
            assert child.communicate(timeout=PATIENT)[0] == "interrupted\n"
            assert child.returncode == 0
        finally:
            child.kill()


def kill_later() -> None:
    time.sleep(TICK)
    os.kill(os.getpid(), signal.SIGUSR1)


def test_a_handler_may_use_what_is_waited_on(segment: shmslot.Segment) -> None:
    reader, writer = segment.reader(), segment.writer()
    before = signal.signal(signal.SIGUSR1, lambda number, frame: writer.write(b"%d" % reader.lost))
    try:
        sending = Background(kill_later)
        assert bytes(reader.read()) == b"0"
        sending.result()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_what_ends_waits_besides_samples(name: str) -> None:
    segment = shmslot.Segment.create(name)
    reader = segment.reader(end_without_writers=True)
    with segment.writer() as writer:
        writer.write(b"last")
    assert [bytes(sample) for sample in reader] == [b"last"]
    with pytest.raises(shmslot.NoWriters) as caught:
        reader.read()
    assert isinstance(caught.value, EOFError)

    retiring = segment.reader(end_when_retired=True)
    waiting = Background(retiring.read)
    time.sleep(TICK)
    segment.unlink()
    assert isinstance(waiting.error(), shmslot.Retired)

    other = shmslot.Segment.create(name)
    mourning = other.reader(end_at_peer_death=True)
    program = (
        f"import os, shmslot; segment = shmslot.Segment.attach({name!r}); "
        "writer = segment.writer(); os.kill(os.getpid(), 9)"
    )
    victim = Background(lambda: subprocess.run([sys.executable, "-c", program]).returncode)
    with pytest.raises(shmslot.PeerDead):
        mourning.read(timeout=PATIENT)
    assert victim.result() == -9
    assert [death.writers for death in other.deaths()] == [1]
