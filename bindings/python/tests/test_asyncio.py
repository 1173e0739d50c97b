"""`async for` over a reader: it sleeps in the event loop, and not in a thread."""

import asyncio
import threading

import pytest
import shmslot


def test_async_for_gets_every_sample(name: str) -> None:
    segment = shmslot.Segment.create(name, slot_count=4)
    reader = segment.reader(end_without_writers=True)
    writer = segment.writer()

    def write() -> None:
        for i in range(200):
            writer.write(b"%d" % i)
        writer.close()

    async def main() -> list[bytes]:
        threads = threading.active_count()
        seen = []
        async for sample in reader:
            assert threading.active_count() <= threads
            assert segment.stats().held <= 1
            seen.append(bytes(sample))
        return seen

    writing = threading.Thread(target=write)
    writing.start()
    assert asyncio.run(main()) == [b"%d" % i for i in range(200)]
    writing.join()


def test_the_loop_runs_others_while_a_task_waits() -> None:
    segment = shmslot.Segment.create_anonymous()
    reader, writer = segment.reader(), segment.writer()

    async def main() -> bytes:
        async def first() -> bytes:
            async for sample in reader:
                return bytes(sample)
            raise AssertionError

        waiting = asyncio.create_task(first())
        for _ in range(10):
            await asyncio.sleep(0.001)
        assert not waiting.done()
        writer.write(b"there")
        return await waiting

    assert asyncio.run(main()) == b"there"


def test_tasks_share_a_reader_and_may_be_cancelled() -> None:
    segment = shmslot.Segment.create_anonymous()
    reader, writer = segment.reader(), segment.writer()

    async def main() -> None:
        seen: list[int] = []

        async def take() -> None:
            async for sample in reader:
                seen.append(sample.sequence)

        tasks = [asyncio.create_task(take()) for _ in range(3)]
        await asyncio.sleep(0.01)
        tasks[0].cancel()
        for _ in range(30):
            writer.write(b"x")
            await asyncio.sleep(0)
        while len(seen) < 30:
            await asyncio.sleep(0.001)
        assert sorted(seen) == list(range(1, 31))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Nobody waits any more.
        assert not asyncio.get_running_loop().remove_reader(reader.fileno())

    asyncio.run(main())


def test_a_closed_reader_is_told() -> None:
    reader = shmslot.Segment.create_anonymous().reader()
    reader.close()

    async def main() -> None:
        async for _ in reader:
            pass

    with pytest.raises(shmslot.Invalid, match="closed"):
        asyncio.run(main())
