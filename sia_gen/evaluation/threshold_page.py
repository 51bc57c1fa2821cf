"""The page on which a threshold is chosen, and the pictures beside it.

FOLDER/
    threshold.html              a slider that judges all images anew
    threshold/NAME.jpg          a photograph in its own size, or reduced to sides of 8192 pixels
    threshold/NAME.small.jpg    the same, smaller, if it is large
    threshold/NAME.webp         its heat map, transparent where nothing is anomalous
"""

import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import numpy as np
from PIL import Image

from sia_gen.errors import ImageError
from sia_gen.evaluation.predictions import Prediction
from sia_gen.evaluation.results import ScoredImage
from sia_gen.images.files import PAGE_PICTURES
from sia_gen.images.loading import ImageSpec, to_picture, to_pixels
from sia_gen.images.opening import read_image, upright_size
from sia_gen.images.squares import Area
from sia_gen.images.strips import open_strips
from sia_gen.io.files import FileGroups
from sia_gen.realnet.inference import AnomalyMap
from sia_gen.report.pictures import LONGEST, ROWS, reduced_map, veil
from sia_gen.report.threshold_page import JudgedImage, ThresholdPage, write_threshold_page

PAGE, FOLDER = "threshold.html", PAGE_PICTURES
PHOTOGRAPH, SMALL, HEATMAP = ".jpg", ".small.jpg", ".webp"
# Larger sides than this are reduced, which bounds the memory they take, and JPEG has a limit.
LARGEST_SIDE = 8192
# Larger sides than this get a small picture too, in this size.
SMALL_SIDE = 480
JPEG_QUALITY, WEBP_QUALITY = 90, 80


def save_pictures(
    files: FileGroups,
    stem: Path,
    photograph: Path,
    white: int | None,
    size: tuple[int, int],
    anomaly_map: AnomalyMap,
    area: Area,
) -> None:
    """Writes the pictures of a photograph in threads.

    Args:
        files: Writes them.
        stem: Their path without its extension.
        photograph: The file of the photograph.
        white: Its value of white, if it has 16 bits.
        size: Its width and height.
        anomaly_map: The anomaly map of the area, in any size.
        area: Where the model looked.
    """

    def save_photograph(path: Path, side: int | None = None) -> None:
        try:
            image = _reduced(photograph, white, size)
        except ImageError:
            # It may have moved on since it was scored.
            every = _every(size)
            image = Image.new("L", (-(-size[0] // every), -(-size[1] // every)), "grey")
        if side is not None:
            image.thumbnail((side, side))
        image.save(path, format="JPEG", quality=JPEG_QUALITY)

    def save_veil(path: Path) -> None:
        # Not only the area, but the whole has to be small.
        sides = area.right - area.left, area.bottom - area.top
        longest = max(1, LONGEST * max(sides) // max(size))
        picture = _around(veil(reduced_map(anomaly_map, longest)), area, size)
        picture.save(path, format="WEBP", quality=WEBP_QUALITY)

    files.add(stem.with_name(f"{stem.name}{PHOTOGRAPH}"), save_photograph)
    files.add(stem.with_name(f"{stem.name}{HEATMAP}"), save_veil)
    if max(size) > SMALL_SIDE:
        files.add(stem.with_name(f"{stem.name}{SMALL}"), partial(save_photograph, side=SMALL_SIDE))


def _reduced(photograph: Path, white: int | None, size: tuple[int, int]) -> Image.Image:
    """Reads a photograph of some width and height, reduced if a side is long."""
    every = _every(size)
    if every == 1:
        return read_image(photograph, white, large=True)
    strips = open_strips(photograph, ImageSpec("RGB", 1, white=white))
    _, height, _ = strips.shape
    rows = ROWS * every
    bands = (strips.rows(top, min(top + rows, height)) for top in range(0, height, rows))
    return to_picture(
        np.concatenate([to_pixels(to_picture(band).reduce(every)) for band in bands], axis=1)
    )


def _every(size: tuple[int, int]) -> int:
    return -(-max(size) // LARGEST_SIDE)


def _around(picture: Image.Image, area: Area, size: tuple[int, int]) -> Image.Image:
    """Returns a picture of an area with nothing around it, in the shape of the whole.

    The map of a photograph that was stretched is square, and the photograph is not.
    """
    scales = picture.width / (area.right - area.left), picture.height / (area.bottom - area.top)
    width, height = (max(1, round(side * scale)) for side, scale in zip(size, scales, strict=True))
    whole = picture
    if (width, height) != picture.size:
        whole = Image.new("RGBA", (width, height))
        whole.paste(picture, (round(area.left * scales[0]), round(area.top * scales[1])))
    scale = min(max(scales), LONGEST / max(size))
    shape = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    return whole if shape == whole.size else whole.resize(shape)


def judged_tests(scored: Iterable[ScoredImage]) -> list[JudgedImage]:
    """Returns test images for the page; the names of their pictures are numbers in their order."""
    return [
        _judged(
            one.image.name,
            one.score,
            "anomalous" if one.image.label else "normal",
            one.image.defect if one.image.label else "",
            picture_name(number),
            upright_size(one.image.path),
        )
        for number, one in enumerate(scored)
    ]


def judged_photographs(predictions: Iterable[Prediction]) -> list[JudgedImage]:
    """Returns photographs for the page; those that could not be read are left out."""
    return [
        _judged(one.image, one.score, None, "", one.name, one.size)
        for one in predictions
        if one.score is not None and one.size is not None
    ]


def write_page(out: Path, threshold: float, predictions: Iterable[Prediction]) -> None:
    """Writes the page of an output of `predict`."""
    images = judged_photographs(predictions)
    summary = f"{len(images)} photographs. Move the threshold, and see what each becomes."
    write_threshold_page(out / PAGE, ThresholdPage("Predictions", summary, threshold, images))


def picture_name(number: int) -> str:
    """Returns the name of the pictures of a test image."""
    return f"{number:05d}"


def _judged(
    name: str,
    score: float,
    label: Literal["normal", "anomalous"] | None,
    kind: str,
    stem: str,
    size: tuple[int, int],
) -> JudgedImage:
    # The bytes of a file's name need not be text, and some letters mean something in addresses.
    address = quote(os.fsencode(f"{FOLDER}/{stem}"))
    small = SMALL if max(size) > SMALL_SIDE else PHOTOGRAPH
    pictures = (f"{address}{extension}" for extension in (PHOTOGRAPH, small, HEATMAP))
    return JudgedImage(name, score, label, kind, *pictures)
