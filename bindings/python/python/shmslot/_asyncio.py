"""Loops of asyncio over a reader.

An event loop has one callback for a descriptor, and several tasks may wait for one reader. So the
callback wakes all tasks that wait, and each of them looks again.
"""

import asyncio
from typing import Any
from weakref import WeakKeyDictionary

from ._errors import NoWriters
from ._shmslot import Reader, Sample

_Waiters = dict[int, list["asyncio.Future[None]"]]

_waiting: "WeakKeyDictionary[asyncio.AbstractEventLoop, _Waiters]" = WeakKeyDictionary()


def _wake(waiters: "list[asyncio.Future[None]]") -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)


async def _readable(fd: int) -> None:
    """Waits until the descriptor is readable; any number of tasks may wait for it."""
    loop = asyncio.get_running_loop()
    of_loop = _waiting.setdefault(loop, {})
    waiters = of_loop.get(fd)
    if waiters is None:
        waiters = of_loop[fd] = []
        loop.add_reader(fd, _wake, waiters)
    waiter: asyncio.Future[None] = loop.create_future()
    waiters.append(waiter)
    try:
        await waiter
    finally:
        waiters.remove(waiter)
        if not waiters:
            del of_loop[fd]
            loop.remove_reader(fd)


async def read(reader: Reader) -> Sample:
    """The next sample of a reader."""
    fd = reader.fileno()
    while True:
        # Found nothing, a read arms the descriptor.
        sample = reader.read(timeout=0)
        if sample is not None:
            return sample
        await _readable(fd)


class AsyncSamples:
    """What `async for` takes from a reader. Each sample is released at the end of its turn."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._last: Sample | None = None

    def __aiter__(self) -> "AsyncSamples":
        return self

    async def __anext__(self) -> Sample:
        if self._last is not None:
            self._last.release()
            self._last = None
        try:
            self._last = await read(self._reader)
        except NoWriters:
            raise StopAsyncIteration from None  # asked for by end_without_writers
        return self._last

    def __reduce__(self) -> Any:
        raise TypeError("a loop over a Reader belongs to its process and cannot be pickled")
