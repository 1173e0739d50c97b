"""sheet.py NAME PNG [--tiles N] [--every N]: makes a contact sheet of what the camera films."""

import argparse
import sys

import numpy as np
from PIL import Image, ImageDraw
from video import HEIGHT, SHAPE, WIDTH, About, open_segment

COLUMNS = 4
SHRINK = 6
TILE_WIDTH, TILE_HEIGHT = WIDTH // SHRINK, HEIGHT // SHRINK
GAP = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("png")
    parser.add_argument("--tiles", type=int, default=16)
    parser.add_argument("--every", type=int, default=36, help="one tile of so many pictures")
    options = parser.parse_args()

    rows = -(-options.tiles // COLUMNS)
    sheet = Image.new(
        "RGB",
        (COLUMNS * (TILE_WIDTH + GAP) + GAP, rows * (TILE_HEIGHT + GAP) + GAP),
        (24, 24, 24),
    )
    pen = ImageDraw.Draw(sheet)
    tiles = pictures = 0
    with open_segment(options.name).reader(end_without_writers=True) as reader:
        reader.wait()  # a loop would end at once if the camera is not there yet
        for sample in reader:
            pictures += 1
            about = About.of(sample)
            if (about.number - 1) % options.every or tiles == options.tiles:
                continue
            # The mean of each block of pixels, read where the camera wrote them.
            blocks = sample.as_array(np.uint8, SHAPE).reshape(
                TILE_HEIGHT, SHRINK, TILE_WIDTH, SHRINK, 3
            )
            small = blocks.mean(axis=(1, 3)).astype(np.uint8)
            del blocks  # it would hold the picture beyond its turn
            left = GAP + tiles % COLUMNS * (TILE_WIDTH + GAP)
            top = GAP + tiles // COLUMNS * (TILE_HEIGHT + GAP)
            sheet.paste(Image.fromarray(small), (left, top))
            text = f"{about.number}  {about.time_ns / 1e9:.2f} s"
            pen.rectangle((left, top, left + 8 + pen.textlength(text), top + 16), fill=(0, 0, 0))
            pen.text((left + 4, top + 2), text, fill=(255, 255, 255))
            tiles += 1
    sheet.save(options.png)
    print(f"sheet: {pictures} pictures, {tiles} tiles", file=sys.stderr)


if __name__ == "__main__":
    main()
