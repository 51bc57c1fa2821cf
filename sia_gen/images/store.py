"""Opens the images that a model learns from, and where the object is in each.

They are in memory if they fit, else they are read from their files whenever they are needed.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from PIL import Image
from scipy.ndimage import grey_closing, grey_opening
from skimage.filters import threshold_otsu, threshold_triangle

from sia_gen.config.data import Foreground, Tile
from sia_gen.images.by_number import Images, Latest, Padded, Streamed, Tiles, numbers_of
from sia_gen.images.counted import counted_plane, counted_square, load_visible
from sia_gen.images.loading import (
    ImageSpec,
    Pixels,
    load_area,
    load_images,
    scaled_size,
    size_within,
    to_picture,
)
from sia_gen.images.opening import upright_size
from sia_gen.io.files import worker_threads

# Bytes for all images of a model, in each process.
MEMORY = 2 << 30
THRESHOLDS: dict[str, Any] = {"otsu": threshold_otsu, "triangle": threshold_triangle}
# Image size for which recipes give the sides of kernels.
REFERENCE_SIZE = 256


def open_images(
    groups: Sequence[Sequence[Path]],
    spec: ImageSpec,
    rules: Sequence[Foreground | None] | None = None,
) -> list[Images]:
    """Opens each group of images of a model, in memory if all take at most `MEMORY` bytes together.

    Memory must suffice for the foregrounds that the rule of each group finds as well.
    """
    if spec.tile is not None:
        return _open_tiles(groups, spec, spec.tile, rules)
    ignores = spec.ignore is not None
    padded = spec.non_square == "pad" or ignores
    extra = [padded or _finds_objects(rule) for rule in _each(groups, rules)]
    layers = [len(spec.mode) + one + ignores for one in extra]
    planes = sum(len(paths) * count for paths, count in zip(groups, layers, strict=True))
    images: list[Images]
    if planes * spec.size**2 > MEMORY:
        images = [Streamed(list(paths), partial(load_visible, spec=spec)) for paths in groups]
    else:
        images = [load_images(paths, spec, load_visible) for paths in groups]
    if not padded:
        return images
    with worker_threads() as pool:
        areas = [list(pool.map(partial(load_area, spec=spec), paths)) for paths in groups]
    counted = [_counted(paths, one, spec) for paths, one in zip(groups, images, strict=True)]
    return list(map(Padded, images, areas, counted))


def _counted(paths: Sequence[Path], images: Images, spec: ImageSpec) -> Images | None:
    """Returns which pixels of square images count, in memory if the images are."""
    if spec.ignore is None:
        return None
    found = Streamed(list(paths), partial(counted_square, spec=spec))
    return found if isinstance(images, Streamed) else [found[n] for n in range(len(found))]


def load_some(paths: Sequence[Path], spec: ImageSpec, most: int) -> tuple[list[Path], Pixels]:
    """Loads at most so many images into memory, (N, C, size, size), and says of which file each is.

    Tiles are evenly spaced over those of all photographs.
    """
    if spec.tile is None:
        chosen = list(paths[:most])
        return chosen, load_images(chosen, spec, load_visible)
    (tiles,) = open_images([paths], spec)
    places = np.unique(np.linspace(0, len(tiles) - 1, most).round().astype(int))
    shown = numbers_of(tiles)[places].tolist()
    return [paths[number] for number in shown], np.stack([tiles[place] for place in places])


def _open_tiles(
    groups: Sequence[Sequence[Path]],
    spec: ImageSpec,
    tile: Tile,
    rules: Sequence[Foreground | None] | None,
) -> list[Images]:
    """Opens the tiles of each group of photographs; these are in memory if they fit."""
    shapes = [_shapes_of(paths, spec) for paths in groups]
    ignores = spec.ignore is not None
    planes = [len(spec.mode) + (ignores or _finds_objects(rule)) for rule in _each(groups, rules)]
    pixels = [sum(height * width for height, width in some) for some in shapes]
    fit = sum(np.multiply(planes, pixels)) <= MEMORY

    def opened(items: Sequence[Any], read: Callable[[Any], Pixels]) -> Any:
        return list(map(read, items)) if fit else Latest(Streamed(items, read))

    tiles = list[Images]()
    for paths, some in zip(groups, shapes, strict=True):
        photographs = opened(list(paths), partial(load_visible, spec=spec))
        pairs = list(zip(paths, some, strict=True))
        counted = opened(pairs, partial(counted_plane, spec=spec)) if ignores else None
        tiles.append(Tiles.of(photographs, some, tile, spec.size, counted))
    return tiles


def _shapes_of(paths: Sequence[Path], spec: ImageSpec) -> list[tuple[int, int]]:
    """Returns height and width of each photograph at the scale of the tiles."""
    with worker_threads() as pool:
        sizes = list(pool.map(upright_size, paths))
    shapes = []
    for path, size in zip(paths, sizes, strict=True):
        width, height = scaled_size(path, size_within(path, size, spec), spec)
        shapes.append((height, width))
    return shapes


def _each(
    groups: Sequence[Any], rules: Sequence[Foreground | None] | None
) -> Sequence[Foreground | None]:
    return rules or [None] * len(groups)


def open_foregrounds(images: Images, rule: Foreground | None) -> Images | None:
    """Returns masks (1, H, W), 1 on the object in each image, in memory if the images are.

    None if the whole of every image is the object. Padding never is. Objects are found in whole
    photographs, also if the images are tiles of them.
    """
    if isinstance(images, Tiles):
        found: Any = open_foregrounds(images.photographs, rule)
        if images.counted is not None:
            both = Streamed(range(len(images.counted)), partial(_both, found, images.counted))
            # Those that count are in memory if the photographs are.
            found = Latest(both)
            if isinstance(images.counted, list):
                found = [both[number] for number in range(len(both))]
        if found is None:
            return None
        return replace(images, photographs=found, resampling=Image.Resampling.NEAREST)
    if isinstance(images, Padded):
        find = partial(_foreground_within, images, rule=rule)
        if isinstance(images.images, np.ndarray):
            return np.stack([find(index) for index in range(len(images))])
        return Streamed(range(len(images)), find)
    if not _finds_objects(rule):
        return None
    if isinstance(images, np.ndarray):
        return np.stack([foreground_mask(image, rule) for image in images])
    if isinstance(images, list):
        return [foreground_mask(image, rule) for image in images]
    found = Streamed(images, partial(foreground_mask, rule=rule))
    return Latest(found) if isinstance(images, Latest) else found


def _both(foregrounds: Images | None, counted: Images, index: int) -> Pixels:
    """Returns the pixels of the object that count."""
    return counted[index] if foregrounds is None else foregrounds[index] * counted[index]


def _foreground_within(images: Padded, index: int, rule: Foreground | None) -> Pixels:
    """Finds the object in the picture of a padded image."""
    area, image = images.areas[index], images.images[index]
    mask = area.only(np.ones_like(image[:1]))
    if _finds_objects(rule):
        area.cut(mask)[:] = foreground_mask(area.cut(image), rule)
    return mask if images.counted is None else mask * images.counted[index]


def foreground_mask(image: Pixels, rule: Foreground) -> Pixels:
    """Finds the object in an image (C, H, W), 0 to 255, as the authors' code does (section 3.1).

    Returns (1, H, W), 1 on the object. If the rule finds none, as in an image of one colour, the
    whole image is the object.
    """
    if rule.method == "none":
        return np.ones_like(image[:1])
    picture = to_picture(image)
    # A grey image is its own luminance, whichever channel the rule names.
    named = picture.mode == "RGB" and rule.channel != "grey"
    band = picture.getchannel(rule.channel[0].upper()) if named else picture.convert("L")
    values = np.asarray(band)
    bright = values > THRESHOLDS[rule.method](values)
    mask: Pixels = (bright if rule.polarity == "bright" else ~bright).astype(np.uint8)
    for smooth, side in ((grey_closing, rule.close), (grey_opening, rule.open)):
        if side:
            # These mirror the image at its edges, so an object may touch them.
            scaled = max(1, round(side * max(mask.shape) / REFERENCE_SIZE))
            mask = smooth(mask, size=(scaled, scaled))
    return mask[None] if mask.any() else np.ones_like(mask)[None]


def _finds_objects(rule: Foreground | None) -> TypeGuard[Foreground]:
    return rule is not None and rule.method != "none"
