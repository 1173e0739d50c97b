"""No sequence of statements crashes, or shows bytes of another sample.

A machine of random steps makes, keeps, slices, passes on and drops everything that the package and
numpy give, in any order, on segments so small that a slot is used again at once. A plain model says
what each view must show, whether a slot is free, and which calls must fail.
SHMSLOT_PYTHON_EXAMPLES makes the run longer.
"""

import gc
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import shmslot
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

SLOTS = 3
SIZE = 16

SHOW: dict[str, Callable[[Any], Any]] = {
    "data": lambda of: of.data,
    "slice": lambda of: of.data[2:11],
    "backwards": lambda of: of.data[::-1],
    "cast": lambda of: of.data.cast("H"),
    "exporter": lambda of: of.data.obj,
    "as_array": lambda of: of.as_array(),
    "matrix": lambda of: of.as_array(np.uint16, (2, SIZE // 4)).T,
    "frombuffer": lambda of: np.frombuffer(of.data, np.uint8),
    "ndarray": lambda of: np.ndarray(SIZE, np.uint8, buffer=of.data),
    "part of ndarray": lambda of: np.ndarray(SIZE, np.uint8, buffer=of.data)[3:],
    "released base": lambda of: released_base(of),
}

SHOW_SAMPLE: dict[str, Callable[[Any], Any]] = SHOW | {
    "dlpack": np.from_dlpack,
    "capsule": lambda of: of.__dlpack__(max_version=(1, 0)),
}

AGAIN: dict[str, Callable[[Any], Any]] = {
    "view": memoryview,
    "slice": lambda view: memoryview(view)[1:],
    "array": np.asarray,
    "cast": lambda view: memoryview(view).cast("B"),
    "unwrapped": lambda view: memoryview(view).obj,
}


def released_base(of: Any) -> Any:
    base = of.data
    array = np.ndarray(SIZE, np.uint8, buffer=base)
    base.release()
    return array


def byte_of(number: int) -> int:
    return number % 251 + 1


def values_in(view: Any) -> set[int]:
    """The byte values that a view shows."""
    if type(view).__name__ == "PyCapsule":
        return set()
    try:
        return set(np.asarray(memoryview(view)).tobytes())
    except (ValueError, BufferError):
        return set()  # it was released, or its loan has ended


class Held:
    """A sample in hand, and everything that shows it."""

    def __init__(self, sample: shmslot.Sample, byte: int) -> None:
        self.sample: shmslot.Sample | None = sample
        self.byte = byte
        self.views: list[Any] = []

    def shows_right(self) -> bool:
        return all(values_in(view) <= {self.byte} for view in self.views)

    def drop_a_view(self, at: int) -> None:
        if self.views:
            self.views.pop(at % len(self.views))

    def ends(self) -> bool:
        return not self.views and (self.sample is None or self.sample.released)


class Machine(RuleBasedStateMachine):
    held = Bundle("held")
    loans = Bundle("loans")

    @initialize(policy=st.sampled_from(["fail", "drop_oldest"]), single=st.booleans())
    def begin(self, policy: Any, single: bool) -> None:
        self.segment = shmslot.Segment.create_local(
            slot_count=SLOTS, slot_capacity=SIZE, policy=policy, single_writer=single
        )
        self.writer = self.segment.writer()
        self.reader = self.segment.reader()
        self.lossy = policy == "drop_oldest"
        self.committed: dict[int, int] = {}  # byte of each sequence
        self.last_read = 0
        self.number = 0
        self.all_held: list[Held] = []
        self.all_loans: list[dict[str, Any]] = []

    def next_byte(self) -> int:
        self.number += 1
        return byte_of(self.number)

    @rule()
    def write(self) -> None:
        byte = self.next_byte()
        try:
            self.committed[self.writer.write(bytes([byte]) * SIZE, timeout=0)] = byte
        except shmslot.NoFreeSlot:
            assert self.segment.stats().free == 0

    @rule(target=held)
    def read(self) -> Any:
        sample = self.reader.read(timeout=0)
        if sample is None:
            return multiple()
        assert sample.sequence > self.last_read
        if not self.lossy:
            assert sample.sequence == self.last_read + 1
        self.last_read = sample.sequence
        one = Held(sample, self.committed[sample.sequence])
        self.all_held.append(one)
        return one

    @rule(one=held, kind=st.sampled_from(sorted(SHOW_SAMPLE)))
    def show(self, one: Held, kind: str) -> None:
        if one.sample is None:
            return
        try:
            one.views.append(SHOW_SAMPLE[kind](one.sample))
        except shmslot.Stale:
            assert one.sample.released

    @rule(one=held, kind=st.sampled_from(sorted(AGAIN)), at=st.integers(0, 9))
    def show_again(self, one: Held, kind: str, at: int) -> None:
        if one.views:
            view = one.views[at % len(one.views)]
            try:
                one.views.append(AGAIN[kind](view))
            except (TypeError, ValueError, BufferError):
                pass  # numpy or memoryview refuse some combinations

    @rule(one=held, at=st.integers(0, 9))
    def release_a_memoryview(self, one: Held, at: int) -> None:
        views = [view for view in one.views if isinstance(view, memoryview)]
        if views:
            try:
                views[at % len(views)].release()
            except BufferError:
                pass  # an array has a buffer of it

    @rule(one=held, at=st.integers(0, 9))
    def drop_a_view(self, one: Held, at: int) -> None:
        one.drop_a_view(at)

    @rule(one=held)
    def release(self, one: Held) -> None:
        if one.sample is not None:
            free = one.sample.release()
            assert free or one.views

    @rule(one=held)
    def forget_the_sample(self, one: Held) -> None:
        one.sample = None

    @rule(one=consumes(held))
    def forget_all(self, one: Held) -> None:
        one.sample = None
        one.views.clear()

    @rule(target=loans)
    def reserve(self) -> Any:
        try:
            loan = self.writer.reserve(SIZE, timeout=0)
        except shmslot.NoFreeSlot:
            return multiple()
        byte = self.next_byte()
        with memoryview(loan.data) as view:
            view[:] = bytes([byte]) * SIZE
        one = {"loan": loan, "byte": byte, "views": [], "open": True}
        self.all_loans.append(one)
        return one

    @rule(one=loans, kind=st.sampled_from(sorted(SHOW)))
    def show_loan(self, one: dict[str, Any], kind: str) -> None:
        try:
            one["views"].append(SHOW[kind](one["loan"]))
            assert one["open"]
        except shmslot.Stale:
            assert not one["open"]

    @rule(one=loans, byte=st.integers(1, 255))
    def write_to_a_kept_view(self, one: dict[str, Any], byte: int) -> None:
        """Through whatever was kept, also after the loan was given up: no sample may show it."""
        for view in one["views"]:
            if isinstance(view, np.ndarray):
                view[...] = one["byte"]
            elif isinstance(view, memoryview):
                try:
                    np.asarray(view)[...] = one["byte"]
                except ValueError:
                    pass  # released

    @rule(one=loans)
    def commit(self, one: dict[str, Any]) -> None:
        try:
            sequence = one["loan"].commit()
            assert one["open"] and not one["views"]
            self.committed[sequence] = one["byte"]
            one["open"] = False
        except BufferError:
            assert one["open"] and one["views"]
        except shmslot.Stale:
            assert not one["open"]

    @rule(one=loans)
    def commit_by_with(self, one: dict[str, Any]) -> None:
        if not one["open"]:
            return
        try:
            with one["loan"]:
                pass
            assert not one["views"]
            self.committed[one["loan"].sequence] = one["byte"]
        except BufferError:
            assert one["views"]
        one["open"] = False

    @rule(one=loans, at=st.integers(0, 9))
    def drop_a_view_of_a_loan(self, one: dict[str, Any], at: int) -> None:
        if one["views"]:
            one["views"].pop(at % len(one["views"]))

    @rule(one=loans)
    def discard(self, one: dict[str, Any]) -> None:
        free = one["loan"].discard()
        assert free == (one["open"] and not one["views"])
        one["open"] = False

    @rule()
    def reopen(self) -> None:
        """Closes all handles; what was given out stays valid."""
        self.reader.close()
        self.reader = self.segment.reader()
        self.last_read = self.segment.stats().next_sequence - 1
        self.writer.close()
        if all(not one["open"] and not one["views"] for one in self.all_loans):
            self.all_loans.clear()
            self.writer = self.segment.writer()
        else:
            try:
                self.writer = self.segment.writer()
            except shmslot.WriterExists:
                for one in self.all_loans:
                    one["loan"].discard()
                    one["views"].clear()
                    one["open"] = False
                self.writer = self.segment.writer()

    @rule()
    def collect(self) -> None:
        gc.collect()

    @invariant()
    def nothing_shows_another_sample(self) -> None:
        if not hasattr(self, "segment"):
            return
        assert all(one.shows_right() for one in self.all_held)
        self.all_held = [one for one in self.all_held if not one.ends()]

    @invariant()
    def slots_are_held_and_loaned_as_long_as_something_shows_them(self) -> None:
        if not hasattr(self, "segment"):
            return
        stats = self.segment.stats()
        in_hand = [one for one in self.all_held if not one.ends()]
        assert stats.held <= len(in_hand) + sum(
            1 for one in self.all_held if one.views
        ), "a hold outlives its last view"
        alive = [one for one in self.all_loans if one["open"] or one["views"]]
        assert stats.loaned == len([one for one in alive if one["open"] or self.keeps(one)])

    def keeps(self, one: dict[str, Any]) -> bool:
        """Whether a view of a loan that was given up keeps its memory."""
        return any(not isinstance(view, memoryview) or not is_released(view) for view in one["views"])

    def teardown(self) -> None:
        if hasattr(self, "segment"):
            for held in self.all_held:
                held.sample = None
                held.views.clear()
            for loan in self.all_loans:
                loan["views"].clear()
                loan["loan"].discard()
            stats = self.segment.stats()
            assert (stats.held, stats.loaned) == (0, 0)


def is_released(view: memoryview) -> bool:
    try:
        return view.nbytes < 0
    except ValueError:
        return True


TestAnyOrder = Machine.TestCase
TestAnyOrder.settings = settings(
    max_examples=int(os.environ.get("SHMSLOT_PYTHON_EXAMPLES", "25")),
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
