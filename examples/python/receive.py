"""receive.py NAME FILE: writes to a file what examples/c/send.c streams through the segment NAME,
and reports how fast it arrived."""

import sys
import time

import shmslot


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit("usage: receive.py NAME FILE")
    name, path = sys.argv[1:]
    latencies: list[int] = []
    start = size = 0
    with open(path, "wb") as file:
        # The sender may start later than this program.
        reader = shmslot.Segment.attach(name, timeout=10).reader()
        while True:
            sample = reader.read(timeout=30)  # a sender that was killed sends no end
            if sample is None:
                sys.exit("receive.py: nothing came for 30 seconds")
            latencies.append(time.monotonic_ns() - sample.timestamp_ns)
            start = start or sample.timestamp_ns
            with sample:
                if len(sample) == 0:
                    break
                # The file takes the bytes from shared memory.
                size += file.write(sample.data)
    seconds = (time.monotonic_ns() - start) / 1e9
    latencies.sort()
    last = len(latencies) - 1  # there is always the empty sample
    print(
        f"Python receiver: {size / 1e6:.1f} MB in {len(latencies)} samples, {seconds:.2f} s: "
        f"{size / 1e6 / seconds:.0f} MB/s, {len(latencies) / seconds:.0f} samples/s, "
        f"latency p50 {latencies[last // 2] / 1e3:.1f} us, "
        f"p99 {latencies[last - last // 100] / 1e3:.1f} us, "
        f"max {latencies[last] / 1e3:.1f} us, lost = {reader.lost}"
    )


if __name__ == "__main__":
    main()
