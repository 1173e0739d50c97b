"""motion.py NAME: says how bright each second of the film is, and how much moves in it."""

import argparse
import sys

import numpy as np
from video import SHAPE, About, open_segment


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    options = parser.parse_args()

    before = None
    pictures = 0
    moved: list[float] = []
    with open_segment(options.name).reader(end_without_writers=True) as reader:
        reader.wait()  # a loop would end at once if the camera is not there yet
        for sample in reader:
            pictures += 1
            # Every fourth pixel of every fourth line; a copy, as it is kept for the next turn.
            now = sample.as_array(np.uint8, SHAPE)[::4, ::4].astype(np.int16)
            if before is not None:
                moved.append(float((np.abs(now - before) > 20).any(axis=2).mean()))
            before = now
            if pictures % 60 == 0:
                seconds = About.of(sample).time_ns / 1e9
                print(
                    f"{seconds:5.1f} s: brightness {now.mean():5.1f}, "
                    f"moving {100 * np.mean(moved):4.1f} % of the picture"
                )
                moved.clear()
    print(f"motion: {pictures} pictures", file=sys.stderr)


if __name__ == "__main__":
    main()
