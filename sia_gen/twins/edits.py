"""Edits of photographs: misplaced, doubled, missing and exchanged pieces of a part.

No noise moves a screw. A piece of the photograph is edited, and the diffusion model, which starts
from the result, heals the seams.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter

from sia_gen.images.loading import Pixels
from sia_gen.images.squares import Area

# Sides of a piece, as shares of the image's shorter one. Small ones are as frequent as large ones.
PIECE_SIDES = (1 / 16, 1 / 3)
# The most visible of as many edits of one size is taken, because many pieces look alike.
DRAWS = 8
# Standard deviation that smooths what fills a hole, as a share of the side.
FILL_SMOOTHING = 1 / 64

Rng = np.random.Generator
Mask = NDArray[np.bool_]
Box = tuple[slice, slice]


class Piece(NamedTuple):
    """What is drawn once for a sample, so that the most visible edit is not the largest."""

    height: int
    width: int
    doubled: bool


def edit_photographs(
    edits: Sequence[Sequence[str]],
    photographs: Pixels,
    foregrounds: Sequence[Pixels],
    areas: Sequence[Area],
    seeds: Sequence[int],
) -> tuple[list[str], Pixels]:
    """Edits photographs (B, C, H, W), 0 to 255, each by one of its edits, which its seed draws.

    The foregrounds are where the object is in each, (1, H, W), or an empty list; the areas are
    where the pictures are in padded photographs, or an empty list. Padding stays as it is.

    Returns:
        The names of the edits, and the edited photographs.
    """
    names, results = [], []
    for place, (photograph, seed) in enumerate(zip(photographs, seeds, strict=True)):
        # Its numbers differ from those of the sample's noise, but follow from the same seed.
        rng = np.random.default_rng((seed, 2))
        names.append(draw_edit(edits[place], rng))
        area = areas[place] if areas else Area.whole(photograph.shape[-1])
        inside = area.cut(foregrounds[place]) if foregrounds else None
        result = photograph.copy()
        area.cut(result)[:] = edit_photograph(names[-1], area.cut(photograph), inside, rng)
        results.append(result)
    return names, np.stack(results)


def draw_edit(edits: Sequence[str], rng: Rng) -> str:
    """Draws one of some edits."""
    return edits[int(rng.integers(len(edits)))]


def edit_photograph(name: str, image: Pixels, foreground: Pixels | None, rng: Rng) -> Pixels:
    """Returns a photograph (C, H, W), 0 to 255, with a piece of it edited.

    The piece is taken from the foreground (1, H, W), 1 or 0; from anywhere if that is None.
    """
    inside = np.ones(image.shape[-2:], bool) if foreground is None else foreground[0] > 0
    piece = _draw_piece(min(inside.shape), rng)
    candidates = [EDITORS[name](image, inside, piece, rng) for _ in range(DRAWS)]
    changes = [np.abs(one.astype(int) - image).sum() for one in candidates]
    return candidates[int(np.argmax(changes))]


def _shift(image: Pixels, inside: Mask, piece: Piece, rng: Rng) -> Pixels:
    """Moves a piece, or doubles it."""
    box = _box(inside, piece, rng)
    moved = _box(np.ones_like(inside), piece, rng)
    result = image.copy() if piece.doubled else _filled(image, inside, box)
    np.copyto(result[:, *moved], image[:, *box], where=inside[box])
    return result


def _mirror(image: Pixels, inside: Mask, piece: Piece, rng: Rng) -> Pixels:
    """Mirrors a piece in its place, in one direction or both."""
    box = _box(inside, piece, rng)
    axes = [(-1,), (-2,), (-1, -2)][int(rng.integers(3))]
    result = image.copy()
    where = inside[box] & np.flip(inside[box], axes)
    np.copyto(result[:, *box], np.flip(image[:, *box], axes), where=where)
    return result


def _erase(image: Pixels, inside: Mask, piece: Piece, rng: Rng) -> Pixels:
    """Removes a piece."""
    return _filled(image, inside, _box(inside, piece, rng))


def _swap(image: Pixels, inside: Mask, piece: Piece, rng: Rng) -> Pixels:
    """Exchanges two pieces of one size."""
    first, second = _box(inside, piece, rng), _box(inside, piece, rng)
    result = image.copy()
    where = inside[first] & inside[second]
    np.copyto(result[:, *second], image[:, *first], where=where)
    np.copyto(result[:, *first], image[:, *second], where=where)
    return result


EDITORS = {"shift": _shift, "mirror": _mirror, "erase": _erase, "swap": _swap}


def _draw_piece(side: int, rng: Rng) -> Piece:
    """Draws a piece of an image whose shorter side is given."""
    low, high = PIECE_SIDES
    height, width = side * low * (high / low) ** rng.random(2)
    return Piece(max(2, round(height)), max(2, round(width)), doubled=rng.random() < 0.5)


def _box(inside: Mask, piece: Piece, rng: Rng) -> Box:
    """Draws a box around some pixel of the foreground, and inside the image."""
    pixels = np.argwhere(inside)
    centre = pixels[rng.integers(len(pixels))]
    starts = [
        int(np.clip(place - length // 2, 0, side - length))
        for place, length, side in zip(centre, piece[:2], inside.shape, strict=True)
    ]
    top, left = starts
    return slice(top, top + piece.height), slice(left, left + piece.width)


def _filled(image: Pixels, inside: Mask, box: Box) -> Pixels:
    """Fills the foreground in a box with the nearest background, smoothed.

    Where all of the image is foreground, the pixels around the box take its place.
    """
    hole = np.zeros_like(inside)
    hole[box] = inside[box]
    known = ~inside if (~inside).any() else ~hole
    nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
    filling = image[:, *nearest].astype(np.float32)
    sigma = FILL_SMOOTHING * len(inside)
    smooth = gaussian_filter(filling, (0, sigma, sigma), mode="nearest")
    return np.where(hole, smooth.round(), image).astype(np.uint8)
