"""Scores a photograph tile by tile with an exported detector, without PyTorch or sia-gen.

    python docs/onnx_tiles.py gears.onnx photograph.png --tile 256:64 --retrieval

The tiles, the blending of their maps and the score are those of `sia-gen predict`. `--retrieval` is
for detectors with `architecture: retrieval`, whose maps are blended before they become
probabilities, and `--places model.safetensors`, in the folder of the model, for those with
`position`. Tiles have the size that the detector takes; `tile` in its JSON file has that, their
overlap, and the scale to which `--scale` reduces the photograph first.
"""

from __future__ import annotations

import argparse
from functools import partial
from itertools import pairwise

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image, ImageOps
from safetensors import safe_open

Values = NDArray[np.float64]
WINDOW, BATCH = 16, 16
# Deviations of normal pixels at which a pixel counts as anomalous rather than normal.
EVEN_ODDS = 6.0


def read(path: str, mode: str, scale: float) -> NDArray[np.float32]:
    """Returns a photograph (C, H, W) in [0, 1], upright and reduced, rows before columns."""
    picture = ImageOps.exif_transpose(Image.open(path)).convert(mode)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    for size in ((width, picture.height), (width, height)):
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    return np.atleast_3d(np.asarray(picture, np.float32)).transpose(2, 0, 1) / np.float32(255)


def starts_along(length: int, side: int, overlap: int) -> list[int]:
    """Returns where tiles begin along an axis; the last one ends at the edge."""
    return [*range(0, length - side, side - overlap), length - side]


def weights_along(starts: list[int], side: int) -> Values:
    """Returns the weights of tiles along an axis, (tiles, side), which add up to one."""
    weights, total = np.ones((len(starts), side)), np.zeros(starts[-1] + side)
    for number, (start, after) in enumerate(pairwise(starts)):
        shared = start + side - after
        places = (np.arange(shared) + 0.5) / shared
        rise = np.sin(np.pi / 2 * (2 * places - 0.5).clip(0, 1)) ** 2
        weights[number + 1, :shared] *= rise
        weights[number, side - shared :] *= rise[::-1]
    for start, some in zip(starts, weights, strict=True):
        total[start : start + side] += some
    return np.stack([w / total[s : s + side] for s, w in zip(starts, weights, strict=True)])


def blended_map(
    session: onnxruntime.InferenceSession, image: NDArray[np.float32], overlap: int, retrieval: bool
) -> Values:
    """Returns the blended values (H, W) of an image (C, H, W) in [0, 1]."""
    side = session.get_inputs()[0].shape[-1]
    tops, lefts = (starts_along(length, side, overlap) for length in image.shape[1:])
    rows, columns = weights_along(tops, side), weights_along(lefts, side)
    places = [(row, column) for row in range(len(tops)) for column in range(len(lefts))]
    blended = np.zeros(image.shape[1:])
    for first in range(0, len(places), BATCH):
        some = places[first : first + BATCH]
        here = [
            (slice(tops[row], tops[row] + side), slice(lefts[column], lefts[column] + side))
            for row, column in some
        ]
        tiles = np.stack([image[:, vertical, across] for vertical, across in here])
        maps = session.run(["anomaly_map"], {"images": tiles})[0][:, 0].astype(np.float64)
        if retrieval:
            maps = np.sinh(np.log(maps) - np.log1p(-maps))
        for (row, column), place, one in zip(some, here, maps, strict=True):
            blended[place] += rows[row][:, None] * columns[column] * one
    return blended


def place(values: Values, weights: str) -> Values:
    """Puts values in units of normal pixels at each place of a photograph, above even odds."""
    lower, median, upper = np.quantile(values, (0.25, 0.5, 0.75))
    values = (values - median) / max(upper - lower, 1e-3)
    with safe_open(weights, "np") as file:
        grids = [file.get_tensor(f"places.{name}") for name in ("means", "deviations")]
    mean, deviation = (enlarged(grid.astype(np.float64), values.shape) for grid in grids)
    placed: Values = (values - mean) / deviation - EVEN_ODDS
    return placed


def enlarged(grid: Values, shape: tuple[int, ...]) -> Values:
    """Interpolates between the centres of places."""
    for axis, length in enumerate(shape):
        count = grid.shape[axis]
        where = (np.arange(length) + 0.5) * count / length - 0.5
        grid = np.apply_along_axis(partial(np.interp, where, np.arange(count)), axis, grid)
    return grid


def probability(values: Values, retrieval: bool) -> Values:
    """Returns the probability of an anomaly for blended values or their means."""
    return 1 / (1 + np.exp(-np.arcsinh(values))) if retrieval else values


def highest_mean(values: Values, window: int) -> np.float64:
    """Returns the highest mean over a square."""
    sums = np.pad(values, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    squares = sums[window:, window:] - sums[:-window, window:]
    squares += sums[:-window, :-window] - sums[window:, :-window]
    highest: np.float64 = squares.max() / window**2
    return highest


def main() -> None:
    """Prints the score, and writes the map as a grey picture, `map.png`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("detector")
    parser.add_argument("photograph")
    parser.add_argument("--tile", default="256:64")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--mode", choices=["L", "RGB"], default="L")
    parser.add_argument("--retrieval", action="store_true")
    parser.add_argument("--places")
    options = parser.parse_args()
    session = onnxruntime.InferenceSession(options.detector, providers=["CPUExecutionProvider"])
    size, overlap = map(int, options.tile.split(":"))
    if size != session.get_inputs()[0].shape[-1]:
        parser.error("tiles have another size than the detector takes")
    image = read(options.photograph, options.mode, options.scale)
    values = blended_map(session, image, overlap, options.retrieval)
    if options.places is not None:
        values = place(values, options.places)
    score = probability(np.array(highest_mean(values, WINDOW)), options.retrieval)
    print(f"{score:.6f}")
    shown = (255 * probability(values, options.retrieval)).round().astype(np.uint8)
    Image.fromarray(shown).save("map.png")


if __name__ == "__main__":
    main()
