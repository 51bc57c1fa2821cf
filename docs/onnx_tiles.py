"""Scores a photograph tile by tile with an exported detector, without PyTorch or sia-gen.

    python docs/onnx_tiles.py gears.onnx photograph.png
    python docs/onnx_tiles.py gears.onnx photograph.png --places model.safetensors

The exported file says itself how photographs are cut. The tiles, the blending of their maps and the
score are those of `sia-gen predict`. A detector with `position` needs `--places`, the weights in
the folder of the model.
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from math import isqrt
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image, ImageOps
from safetensors import SafetensorError, safe_open

Values = NDArray[np.float64]
Pixels = NDArray[np.uint8]
BATCH = 16
# Deviations of normal pixels at which a pixel counts as anomalous rather than normal.
EVEN_ODDS = 6.0
# About as many pixels of a map as its quartiles are taken from.
SAMPLED = 1_000_000


def opened(detector: str) -> tuple[onnxruntime.InferenceSession, dict[str, Any]]:
    """Returns an exported detector and what its file says about it."""
    session = onnxruntime.InferenceSession(detector, providers=["CPUExecutionProvider"])
    stored = session.get_modelmeta().custom_metadata_map
    return session, {name: json.loads(value) for name, value in stored.items()}


def read(path: str, about: dict[str, Any]) -> Pixels:
    """Returns a photograph (C, H, W), upright and reduced, rows before columns.

    Raises:
        ValueError: If its pixels are of a kind whose white is unknown, or it is too small.
    """
    picture = eight_bits(ImageOps.exif_transpose(Image.open(path)), about["white"] or 65535)
    if about["roi"] is not None:
        if any(end > side for end, side in zip(about["roi"][2:], picture.size, strict=True)):
            msg = f"the region of interest {about['roi']} is not in its {picture.size} pixels"
            raise ValueError(msg)
        picture = picture.crop(about["roi"])
    picture = picture.convert(about["mode"])
    scale = about["tile"]["scale"] or 1
    width, height = (max(1, round(side * scale)) for side in picture.size)
    if min(width, height) < about["tile"]["size"]:
        msg = f"a tile of {about['tile']['size']} pixels is larger than {width} x {height}"
        raise ValueError(msg)
    for size in ((width, picture.height), (width, height)):
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    return np.atleast_3d(np.asarray(picture)).transpose(2, 0, 1)


def eight_bits(picture: Image.Image, white: int) -> Image.Image:
    """Returns a picture without its 16 bits, of which some value is white, or its transparency."""
    if picture.mode in ("I", "F"):
        msg = "its range of values is unknown; save it with 8 bits, or as PNG or TIFF with 16"
        raise ValueError(msg)
    if picture.mode.startswith("I;16"):
        wide = np.asarray(picture).astype(np.uint32).clip(max=white)
        return Image.fromarray(((wide * 255 + white // 2) // white).astype(np.uint8))
    if picture.has_transparency_data:
        black = Image.new("RGBA", picture.size, "black")
        return Image.alpha_composite(black, picture.convert("RGBA")).convert("RGB")
    return picture


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
    session: onnxruntime.InferenceSession, image: Pixels, about: dict[str, Any]
) -> Values:
    """Returns the blended values (H, W) of a photograph (C, H, W)."""
    side, overlap = about["tile"]["size"], about["tile"]["overlap"]
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
        tiles = [seen(image[:, down, across], about["image_size"]) for down, across in here]
        maps = session.run(["anomaly_map"], {"images": np.stack(tiles)})[0][:, 0]
        for (row, column), place, one in zip(some, here, maps.astype(np.float64), strict=True):
            values = averaged(one, about["retrieval"])
            blended[place] += np.outer(rows[row], columns[column]) * enlarged(values, (side, side))
    return blended


def seen(tile: Pixels, side: int) -> NDArray[np.float32]:
    """Returns a tile (C, H, W) as the detector takes it, (C, side, side) in [0, 1]."""
    planes = [Image.fromarray(one).resize((side, side), Image.Resampling.BICUBIC) for one in tile]
    return np.stack([np.asarray(plane, np.float32) for plane in planes]) / np.float32(255)


def averaged(probabilities: Values, retrieval: bool) -> Values:
    """Returns what maps are blended as: probabilities, or the deviations of a retrieval."""
    if not retrieval:
        return probabilities
    # A probability of one is that of no finite deviation.
    inside = probabilities.clip(2.0**-100, 1 - 2.0**-25)
    return np.sinh(np.log(inside) - np.log1p(-inside))


def read_places(weights: str) -> list[Values]:
    """Returns mean and deviation of normal pixels at each place of a photograph."""
    with safe_open(weights, "np") as file:
        grids = [file.get_tensor(f"places.{name}") for name in ("means", "deviations")]
    return [grid.astype(np.float64) for grid in grids]


def placed(values: Values, grids: list[Values]) -> Values:
    """Puts values in units of normal pixels at each place of a photograph, above even odds."""
    every = max(1, isqrt(values.size // SAMPLED))
    lower, median, upper = np.quantile(values[::every, ::every], (0.25, 0.5, 0.75))
    values = (values - median) / max(upper - lower, 1e-3)
    mean, deviation = (enlarged(grid, values.shape) for grid in grids)
    return (values - mean) / deviation - EVEN_ODDS


def enlarged(values: Values, shape: tuple[int, ...]) -> Values:
    """Interpolates values (h, w) between their centres, to another height and width."""
    down, across = (between(*lengths) for lengths in zip(values.shape, shape, strict=True))
    return down @ values @ across.T


def between(count: int, length: int) -> Values:
    """Returns the weights of `count` values at each of `length` places, (length, count)."""
    where = ((np.arange(length) + 0.5) * count / length - 0.5).clip(0, count - 1)
    return (1 - np.abs(where[:, None] - np.arange(count))).clip(0)


def probability(values: Values, retrieval: bool) -> Values:
    """Returns the probability of an anomaly for blended values or their means."""
    return 1 / (1 + np.exp(-np.arcsinh(values))) if retrieval else values


def highest_mean(values: Values, about: dict[str, Any]) -> np.float64:
    """Returns the highest mean over a square, whose side is in pixels that the detector sees."""
    window = round(about["score_window"] * about["tile"]["size"] / about["image_size"])
    window = min(max(1, window), *values.shape)
    sums = np.pad(values, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    squares = sums[window:, window:] - sums[:-window, window:]
    squares += sums[:-window, :-window] - sums[window:, :-window]
    highest: np.float64 = squares.max() / window**2
    return highest


def main() -> None:
    """Prints score and verdict, and writes the map as a grey picture, `map.png`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("detector")
    parser.add_argument("photograph")
    parser.add_argument("--places")
    options = parser.parse_args()
    try:
        session, about = opened(options.detector)
    # ONNX Runtime has many kinds of errors of its own.
    except Exception as error:
        parser.error(f"cannot read the detector {options.detector}: {error}")
    if not {"retrieval", "position", "tile"} <= about.keys():
        parser.error("an earlier version of sia-gen made the detector; export it again")
    if about["tile"] is None:
        parser.error("the detector takes photographs as a whole; see docs/deploy.md")
    if about["position"] != (options.places is not None):
        parser.error("--places is for detectors with 'position', and these need it")
    try:
        image = read(options.photograph, about)
        grids = read_places(options.places) if about["position"] else None
    except (OSError, ValueError, Image.DecompressionBombError, SafetensorError) as error:
        parser.error(f"cannot read what was given: {error}")
    values = blended_map(session, image, about)
    if grids is not None:
        values = placed(values, grids)
    score = probability(np.array(highest_mean(values, about)), about["retrieval"])
    print(f"{score:.6f}", "anomalous" if score > about["threshold"] else "normal")
    shown = (255 * probability(values, about["retrieval"])).round().astype(np.uint8)
    Image.fromarray(shown).save("map.png")


if __name__ == "__main__":
    main()
