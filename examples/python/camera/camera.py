"""camera.py NAME [--file VIDEO] [--frames N]: films into shared memory, 60 pictures per second.

A file is decoded with the package av (PyPI). Without a file, it films a test picture.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from itertools import count, islice

import numpy as np
import numpy.typing as npt
from video import HEIGHT, SHAPE, WIDTH, About, open_segment

PER_SECOND = 60
Picture = npt.NDArray[np.uint8]


def test_pictures() -> Iterator[Picture]:
    """Bars of colour, a grey scale below them, and a ball that bounces before both."""
    bars = np.array(
        [[235, 235, 235], [235, 235, 16], [16, 235, 235], [16, 235, 16], [235, 16, 235],
         [235, 16, 16], [16, 16, 235], [16, 16, 16]], np.uint8,
    )  # fmt: skip
    backdrop = np.empty(SHAPE, np.uint8)
    backdrop[:] = bars[np.arange(WIDTH) * len(bars) // WIDTH]
    backdrop[HEIGHT * 3 // 4 :] = (np.arange(WIDTH) * 256 // WIDTH).astype(np.uint8)[:, None]
    radius = 90
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    ball = x * x + y * y <= radius * radius
    shade = np.clip(255 - np.hypot(x + radius / 3, y + radius / 3) * 1.4, 0, 255).astype(np.uint8)
    for number in count():
        seconds = number / PER_SECOND
        left = int(abs((seconds * 700) % (2 * (WIDTH - 2 * radius - 1)) - (WIDTH - 2 * radius - 1)))
        top = int((HEIGHT - 2 * radius - 1) * (1 - abs(np.sin(seconds * 2.5))))
        picture = backdrop.copy()
        place = picture[top : top + 2 * radius + 1, left : left + 2 * radius + 1]
        place[ball] = shade[ball, None]
        yield picture


def pictures_of(path: str) -> Iterator[Picture]:
    """The pictures of a film, scaled to the size of the segment."""
    import av  # type: ignore[import-not-found, unused-ignore]

    with av.open(path) as film:
        for frame in film.decode(video=0):
            picture: Picture = frame.reformat(WIDTH, HEIGHT, "rgb24").to_ndarray()
            yield picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--file")
    parser.add_argument("--frames", type=int, default=600)
    parser.add_argument("--consumers", type=int, default=2, help="wait for so many first")
    options = parser.parse_args()

    pictures = pictures_of(options.file) if options.file else test_pictures()
    segment = open_segment(options.name)
    with segment.writer() as writer:
        writer.wait_readers(options.consumers)
        start = time.monotonic()
        number = late = 0
        for number, picture in enumerate(islice(pictures, options.frames), 1):
            due = start + (number - 1) / PER_SECOND
            pause = due - time.monotonic()
            late += pause < 0
            if pause > 0:
                time.sleep(pause)
            loan = writer.reserve(picture.nbytes)  # waits for the slower consumer
            loan.set_header(About(number, (number - 1) * 10**9 // PER_SECOND).pack())
            with loan as view:
                # An array of the view must be gone at the end of the with: this one has no name.
                np.copyto(np.asarray(view).reshape(SHAPE), picture)
        seconds = time.monotonic() - start
    print(f"camera: {number} pictures in {seconds:.1f} s, {late} late", file=sys.stderr)


if __name__ == "__main__":
    main()
