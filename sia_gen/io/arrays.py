"""Large arrays: made row by row, in memory or in a file, and measured in parts."""

import math
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryFile, gettempdir
from typing import IO

import numpy as np
from numpy.typing import NDArray

from sia_gen.errors import OptionError
from sia_gen.io.refusals import writing

# Bytes of an array that is kept in memory.
LARGEST = 1 << 27
# Values that are counted at a time.
PART = 1 << 22
HALF = 1 << 16


def joined_rows(rows: Iterable[NDArray[np.float32]], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Returns rows (h, W), from the first to the last, as one array (H, W).

    A large one lies in a temporary file, which is gone with the array. The system keeps as much of
    it in memory as there is room for. Changes stay in memory.

    Raises:
        OSError: If there is no space for the file.
        OptionError: If there is no folder for it.
    """
    if 4 * math.prod(shape) <= LARGEST:
        found, done = np.empty(shape, np.float32), 0
        for some in rows:
            found[done : done + len(some)] = some
            done += len(some)
        return found
    # Written before it is mapped: a mapped file that finds no space ends the process.
    with _temporary_file() as file:
        for some in rows:
            with writing(Path(gettempdir())):
                file.write(np.ascontiguousarray(some, "<f4").data)
        with writing(Path(gettempdir())):
            file.flush()
        return np.memmap(file, "<f4", "c", shape=shape)


def _temporary_file() -> IO[bytes]:
    try:
        return TemporaryFile()
    except FileNotFoundError as error:
        raise OptionError(
            problem="there is no folder for the temporary file of a large map.",
            fix="Set the environment variable TMPDIR to one with room, not in memory.",
        ) from error


def median_of(values: NDArray[np.float32]) -> float:
    """Returns the median of values that are not negative, as `numpy.median`, without a copy."""
    flat = values.reshape(-1)
    middle = {(flat.size - 1) // 2, flat.size // 2}
    return float(np.mean(np.array([_in_order(flat, place) for place in middle], np.float32)))


def _in_order(values: NDArray[np.float32], place: int) -> np.float32:
    """Returns the value at a place of the ascending order: first its upper half, then the lower."""
    # Of numbers that are not negative, the bits are in the order of the values.
    bits, upper = values.view(np.uint32), np.zeros(HALF, np.int64)
    parts = [bits[start : start + PART] for start in range(0, bits.size, PART)]
    for part in parts:
        upper += np.bincount(part >> 16, minlength=HALF)
    first = int(np.searchsorted(upper.cumsum(), place, side="right"))
    place -= int(upper[:first].sum())
    lower = np.zeros(HALF, np.int64)
    for part in parts:
        lower += np.bincount(part[part >> 16 == first] & (HALF - 1), minlength=HALF)
    second = int(np.searchsorted(lower.cumsum(), place, side="right"))
    found: np.float32 = np.uint32(first << 16 | second).view(np.float32)
    return found
