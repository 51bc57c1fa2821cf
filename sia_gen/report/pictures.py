"""Pictures to look at: heat maps, the anomaly map over the image, and contact sheets."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sia_gen.images.loading import to_picture
from sia_gen.images.strips import Picture, rows_of

# From transparent over yellow to red, which colour-blind people can tell apart too, also on grey.
# Pixels that are more likely anomalous than normal get the strongest red.
PROBABILITIES = (0.0, 0.2, 0.5)
COLOURS = ((255, 237, 160), (254, 178, 76), (189, 0, 38))
STRONGEST_OPACITY = 0.75
# Longest side of a heat map in pixels.
LONGEST = 4096
# Rows of a picture that are coloured at a time, which bounds the memory it takes.
ROWS = 64
# Sides on a contact sheet in pixels.
CELL, GAP, TITLE_WIDTH = 96, 4, 110


def overlay(image: NDArray[np.uint8], anomaly_map: NDArray[np.float32]) -> Image.Image:
    """Colours an image (C, H, W), 0 to 255, by its anomaly map (H, W) in [0, 1].

    The picture of mode RGB is unchanged where the map is 0, and red where it is 0.5 or more.
    """
    return Image.fromarray(np.concatenate(list(coloured(image, anomaly_map))))


def veil(anomaly_map: NDArray[np.float32]) -> Image.Image:
    """Returns what `overlay` lays over an image, a picture of mode RGBA."""
    bands = []
    for _, some in _bands(anomaly_map):
        colours, opacity = _colours_of(some)
        bands.append(np.dstack([colours, 255 * opacity]).round().astype(np.uint8))
    return Image.fromarray(np.concatenate(bands))


def _colours_of(
    anomaly_map: NDArray[np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns colours (H, W, 3), 0 to 255, and their opacity (H, W, 1) for a map (H, W)."""
    channels = [
        np.interp(anomaly_map, PROBABILITIES, values) for values in zip(*COLOURS, strict=True)
    ]
    opacity = STRONGEST_OPACITY * np.interp(anomaly_map, (0.0, PROBABILITIES[-1]), (0.0, 1.0))
    return np.stack(channels, axis=-1), opacity[..., None]


def coloured(picture: Picture, anomaly_map: NDArray[np.float32]) -> Iterator[NDArray[np.uint8]]:
    """Yields the rows (h, W, 3) of a picture (C, H, W), coloured by its map (H, W) as by `overlay`.

    Where the map is NaN, because nobody looked there, the picture is half as bright.
    """
    for top, some in _bands(anomaly_map):
        image = np.broadcast_to(rows_of(picture, top, top + len(some)), (3, *some.shape))
        colours, opacity = _colours_of(np.nan_to_num(some))
        mixed = (1 - opacity) * image.transpose(1, 2, 0) + opacity * colours
        pixels = mixed.round().astype(np.uint8)
        pixels[np.isnan(some)] //= 2
        yield pixels


def _bands(
    anomaly_map: NDArray[np.float32], every: int = 1
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yields `ROWS` rows of a map at a time, or `every` times as many, and the first's number."""
    for top in range(0, len(anomaly_map), ROWS * every):
        yield top, anomaly_map[top : top + ROWS * every]


def save_heatmap(path: Path, image: NDArray[np.uint8], anomaly_map: NDArray[np.float32]) -> None:
    """Writes the image and its heat map side by side, as PNG; large ones are reduced."""
    image, anomaly_map = within_limit(image, anomaly_map)
    both = [np.asarray(to_picture(image).convert("RGB")), np.asarray(overlay(image, anomaly_map))]
    Image.fromarray(np.hstack(both)).save(path, format="PNG")


def within_limit(
    picture: Picture, anomaly_map: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Reduces a picture (C, H, W) and its map (H, W) until their longer side is `LONGEST`.

    A pixel then has the highest probability of those that it stands for, so no defect is lost.
    """
    every = _every(anomaly_map.shape)
    bands = [
        rows_of(picture, top, top + len(some))[:, ::every, ::every]
        for top, some in _bands(anomaly_map, every)
    ]
    return np.concatenate(bands, axis=1), reduced_map(anomaly_map)


def reduced_map(
    anomaly_map: NDArray[np.float32], longest: int | None = None
) -> NDArray[np.float32]:
    """Reduces a map (H, W) as `within_limit` does, or until its longer side is `longest`."""
    every = _every(anomaly_map.shape, longest)
    if every == 1:
        return anomaly_map
    return np.concatenate([_highest(some, every) for _, some in _bands(anomaly_map, every)])


def _highest(anomaly_map: NDArray[np.float32], every: int) -> NDArray[np.float32]:
    """Returns the highest value of each square of some pixels."""
    padded = np.pad(anomaly_map, [(0, -side % every) for side in anomaly_map.shape])
    rows, columns = (side // every for side in padded.shape)
    highest: NDArray[np.float32] = padded.reshape(rows, every, columns, every).max(axis=(1, 3))
    return highest


def _every(shape: tuple[int, ...], longest: int | None = None) -> int:
    return -(-max(shape) // (longest or LONGEST))


def contact_sheet(
    rows: Sequence[Sequence[Image.Image]], titles: Sequence[str] = (), *, side: int = CELL
) -> Image.Image:
    """Returns pictures as squares of `side` pixels in rows on white, mode RGB.

    Pictures that fit a whole number of times are enlarged without smoothing, so that their pixels
    stay visible. If there are titles, one per row, they stand on the left.
    """
    left, step = TITLE_WIDTH if titles else 0, side + GAP
    width = left + max(len(row) for row in rows) * step - GAP
    sheet = Image.new("RGB", (width, len(rows) * step - GAP), "white")
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            fits = side % max(picture.size) == 0
            resampling = Image.Resampling.NEAREST if fits else Image.Resampling.LANCZOS
            cell = picture.convert("RGB").resize((side, side), resampling)
            sheet.paste(cell, (left + column * step, row * step))
    draw = ImageDraw.Draw(sheet)
    for row, title in enumerate(titles):
        draw.text((GAP, row * step + side / 2), title, fill="black", anchor="lm")
    return sheet
