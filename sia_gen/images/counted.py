"""Reads images as they are scored, and which of their pixels count.

Padding never counts, nor what a recipe ignores.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sia_gen.errors import ImageError
from sia_gen.images.loading import (
    ImageSpec,
    Pixels,
    as_model_takes,
    as_tiles_are_cut,
    load_area,
    of_interest,
    scaled_size,
    size_within,
    to_picture,
    to_pixels,
)
from sia_gen.images.masks import read_marks, within
from sia_gen.images.opening import read_image, upright_size
from sia_gen.images.squares import Area, to_square
from sia_gen.io.files import worker_threads
from sia_gen.runtime.progress import notice

Counted = NDArray[np.bool_]
# Share of a pixel that counts, but for rounding, if nothing that does not is mixed into it.
ALONE = 0.999


class Scope(NamedTuple):
    """What counts in an image: the area of its picture, and there some pixels or all."""

    area: Area
    counted: Counted | None = None  # (H, W) of the area

    @classmethod
    def of(cls, photograph: Pixels) -> Self:
        """Returns that everything counts in a photograph."""
        return cls(Area(0, photograph.shape[-2], 0, photograph.shape[-1]))


def load_scored(path: Path, spec: ImageSpec) -> tuple[Pixels, Scope]:
    """Reads an image as it is scored, and returns what counts in it; see `as_scored`."""
    return as_scored(read_image(path, spec.white, large=spec.tile is not None), spec, path)


def as_scored(image: Image.Image, spec: ImageSpec, name: str | Path) -> tuple[Pixels, Scope]:
    """Converts an upright image of mode L or RGB to what is scored; returns also what counts in it.

    It is a square image (C, size, size), or a whole photograph (C, H, W) that is cut into tiles.
    `ImageError`s call it by its name, which is its path if it comes from a file.
    """
    counted = counted_of(name, image.size, spec)
    if spec.tile is None:
        if counted is None:
            square, area = as_model_takes(image, spec, str(name))
            return square, Scope(area)
        # Nothing is seen of what does not count, nor mixed into other pixels.
        visible = to_picture(_hidden(to_pixels(of_interest(image, spec, str(name))), counted))
        square, area = as_model_takes(visible, replace(spec, roi=None), str(name))
        return square, Scope(area, _require_some(area.cut(_in_square(counted, spec)), name))
    photograph = as_tiles_are_cut(image, spec, str(name))
    scope = Scope.of(photograph)
    if counted is None:
        return photograph, scope
    counted = _require_some(at_scale(counted, photograph.shape[-2:]), name)
    return _hidden(photograph, counted), scope._replace(counted=counted)


def _require_some(counted: Counted, name: str | Path) -> Counted:
    """Returns which pixels count; `ImageError` if none does."""
    if not counted.any():
        raise ImageError(
            problem=f"what is ignored in {name} leaves nothing at the size that a model sees.",
            fix="Ignore less, or reduce photographs less: --tile, --scale.",
        )
    return counted


def _hidden(photograph: Pixels, counted: Counted) -> Pixels:
    """Returns a photograph in which pixels that do not count have the mean of the others."""
    mean = photograph[:, counted].mean(axis=1) if counted.any() else np.zeros(len(photograph))
    found = np.array(photograph, order="C")
    found[:, ~counted] = mean.round().astype(np.uint8)[:, None]
    return found


def _in_square(counted: Counted, spec: ImageSpec) -> Counted:
    """Returns which pixels of a square image count: none of padding, nor those that show less."""
    picture, box = _ignored(counted), Image.Resampling.BOX
    square = to_square(picture, "mask", spec.size, spec.non_square, resampling=box, padding=1)
    found: Counted = np.asarray(square) == 0
    return found


def _ignored(counted: Counted) -> Image.Image:
    """Returns a picture that is 1 where pixels do not count.

    As numbers without steps, so that whatever reduces it does not lose a single pixel.
    """
    return Image.fromarray((~counted).astype(np.float32))


def load_counted(path: Path, spec: ImageSpec) -> Counted | None:
    """Returns which pixels count where metrics are those of pixels; None if all do.

    Of a photograph that is cut into tiles these are its own, (H, W), else those of the area of the
    picture in its square image. If it is reduced, those beside what is ignored do not count,
    because its map shows both in one pixel.
    """
    if spec.ignore is None:
        return None
    counted = counted_of(path, upright_size(path), spec)
    if counted is None:
        return None
    if spec.tile is not None:
        return _shown_alone(counted, spec)
    found: Counted = load_area(path, spec).cut(_in_square(counted, spec))
    return found


def _shown_alone(counted: Counted, spec: ImageSpec) -> Counted:
    """Returns which pixels of a photograph a map at the scale of its tiles shows without others."""
    height, width = counted.shape
    small = at_scale(counted, scaled_size("it", (width, height), spec)[::-1])
    if small.shape == counted.shape:
        return counted
    picture = Image.fromarray(small.astype(np.float32))
    shown = picture.resize((width, height), Image.Resampling.BILINEAR)
    found: Counted = counted & (np.asarray(shown) > ALONE)
    return found


def counted_of(name: str | Path, size: tuple[int, int], spec: ImageSpec) -> Counted | None:
    """Returns which pixels of a photograph count, (H, W) in its own size; None if all do.

    Args:
        name: Its path, or what errors call it.
        size: Its width and height.
        spec: How it is read.

    Raises:
        ImageError: If the mask is missing, has another size than the photograph, or ignores all.
    """
    mask = mask_of(name, spec)
    if mask is None:
        return None
    try:
        counted: Counted = ~within(read_marks(mask, size=size), spec)
    except ImageError as error:
        # A mask of all photographs does not tell which of them it does not fit.
        raise ImageError(problem=f"{name}: {error.problem}", fix=error.fix) from error
    if not counted.any():
        raise ImageError(
            problem=f"the mask {mask} ignores all of {name}.",
            fix="Save it with 255 only where photographs are to be ignored, and 0 elsewhere.",
        )
    return counted


def mask_of(name: str | Path, spec: ImageSpec) -> Path | None:
    """Returns the mask of what to ignore in a photograph of some name; None if there is none.

    Raises:
        ImageError: If that of all photographs is missing.
    """
    if spec.ignore is None:
        return None
    mask = Path(spec.ignore.format(stem=Path(name).stem))
    if mask.exists():
        return mask
    if "{stem}" in spec.ignore:
        return None
    raise ImageError(
        problem=f"there is no mask {mask} of what to ignore.",
        fix="Give its path with --ignore, or set 'data.ignore' in the recipe.",
    )


def check_scopes(sizes: Mapping[Path, tuple[int, int]], spec: ImageSpec) -> None:
    """Checks that the region of interest and masks of what to ignore fit photographs.

    A line on stderr says if each may have a mask of its own, and none does. No pixel of a
    photograph is read.

    Args:
        sizes: Width and height of each photograph.
        spec: How it is read.

    Raises:
        ImageError: If they do not fit one.
    """
    different = dict[tuple[Path, tuple[int, int]], Path]()
    for path, size in sizes.items():
        size_within(path, size, spec)
        if (mask := mask_of(path, spec)) is not None:
            different.setdefault((mask, size), path)
    with worker_threads() as pool:
        list(pool.map(lambda path: counted_of(path, sizes[path], spec), different.values()))
    if spec.ignore is not None and sizes and not different:
        notice(
            f"warning: there is no mask {spec.ignore} of what to ignore for any of {len(sizes)} "
            "photographs, so everything counts."
        )


def at_scale(counted: Counted, shape: tuple[int, ...]) -> Counted:
    """Returns which pixels count in another height and width: those that show nothing ignored."""
    if counted.shape == shape:
        return counted
    height, width = shape
    small = _ignored(counted).resize((width, height), Image.Resampling.BOX)
    found: Counted = np.asarray(small) == 0
    return found


def load_visible(path: Path, spec: ImageSpec) -> Pixels:
    """Reads an image as a model takes it, or a photograph to be cut, without what is ignored."""
    return load_scored(path, spec)[0]


def counted_square(path: Path, spec: ImageSpec) -> Pixels:
    """Returns which pixels of the square image of a file count, (1, size, size), 1 or 0."""
    plane = np.zeros((1, spec.size, spec.size), np.uint8)
    counted = load_counted(path, spec)
    load_area(path, spec).cut(plane)[:] = 1 if counted is None else counted
    return plane


def counted_plane(pair: tuple[Path, tuple[int, int]], spec: ImageSpec) -> Pixels:
    """Returns which pixels count, (1, H, W), 1 or 0, of a photograph of some height and width."""
    path, shape = pair
    counted = counted_of(path, upright_size(path), spec)
    whole = np.ones(shape, bool) if counted is None else at_scale(counted, shape)
    return whole[None].astype(np.uint8)
