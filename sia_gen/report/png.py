"""Writes PNG files of which some rows come at a time, so no picture is in memory as a whole."""

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sia_gen.images.png_chunks import END, HEADER, PIXELS, SIGNATURE, chunk

# Kinds of colour by the number of channels.
KINDS = {1: 0, 3: 2}
# Photographs hardly get smaller by more effort.
EFFORT = 1
# What stands before a row of which each value is stored as the difference from the pixel before.
DIFFERENCES = 1


def write_png(path: Path, shape: tuple[int, int, int], bands: Iterable[NDArray[np.uint8]]) -> None:
    """Writes a picture (H, W, C) of 8 bits, grey (C = 1) or of red, green and blue (C = 3).

    The bands are its rows (h, W, C), from the first to the last.
    """
    height, width, channels = shape
    header = struct.pack(">IIBBBBB", width, height, 8, KINDS[channels], 0, 0, 0)
    compressor = zlib.compressobj(EFFORT)
    with path.open("wb") as file:
        file.write(SIGNATURE + chunk(HEADER, header))
        for rows in bands:
            stored = np.full((len(rows), 1 + width * channels), DIFFERENCES, np.uint8)
            before = np.pad(rows[:, :-1], [(0, 0), (1, 0), (0, 0)])
            stored[:, 1:] = (rows - before).reshape(len(rows), -1)
            file.write(chunk(PIXELS, compressor.compress(stored.data)))
        file.write(chunk(PIXELS, compressor.flush()) + chunk(END, b""))
