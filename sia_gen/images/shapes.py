"""Looks at the images of a folder before they are read: are they square, how deep are they?

What happens to those that are not square, how photographs are cut into tiles, and what is white in
those of 16 bits, is said in one line each, because none can be seen in the results.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sia_gen.config.data import NonSquare, Tile
from sia_gen.config.outputs import saved_in
from sia_gen.config.recipe import Collection, CorpusRecipe, DatasetCategory, Recipe
from sia_gen.errors import ImageError
from sia_gen.images.counted import check_scopes
from sia_gen.images.grid import Grid
from sia_gen.images.listing import category_root, split_images
from sia_gen.images.loading import ImageSpec, scaled_size, size_within
from sia_gen.images.opening import (
    WIDEST,
    has_deep_colours,
    is_deep,
    open_image,
    upright,
    upright_size_of,
)
from sia_gen.io.files import Location, worker_threads
from sia_gen.runtime.progress import in_percent, notice

# What white may be, for cameras of 8, 10, 12, 14 and 16 bits.
WHITES = (255, 1023, 4095, 16383, WIDEST)
HAPPENS = {
    "stretch": "stretched",
    "pad": "padded, and the padding never counts",
    "crop": "cropped, which loses {lost} of all pixels",
}
# Pixels of a photograph that are cut into tiles without being asked for: some 100 tiles of 256.
MOST_PIXELS = 8_000_000


class Header(NamedTuple):
    """What the header of an image file says of the image when it is upright."""

    width: int
    height: int
    deep: bool  # whether it has 16 bits


def settle(
    recipe: Recipe, categories: Sequence[str], root: Path, folders: Iterable[Location]
) -> Recipe:
    """Decides how the normal images of some categories are read, and says it.

    Args:
        recipe: A recipe, which may say itself what is white.
        categories: Those of its categories that are used.
        root: Folder of the images.
        folders: Outputs of earlier steps; the first whose recipe says what is white decides.

    Returns:
        The recipe with `data.white` if there are images of 16 bits, and with the scale of tiles if
        it asks for tiles. If images are missing, it is as given: the step that needs them says so.

    Raises:
        ImageError: If a tile is larger than an image, or the region of interest or a mask of what
            to ignore does not fit one.
    """
    try:
        listed = [split_images(recipe, root, category) for category in categories]
    except ImageError:
        return recipe
    paths = [path for images in listed for path in (*images.fit, *images.validation)]
    if len(paths) < 2:
        return recipe
    headers = read_headers(paths)
    check_scopes(sizes_of(paths, headers), ImageSpec.of(recipe, 1))
    if recipe.data.tile is None:
        # A region of interest has a shape of its own.
        say_shapes(headers if recipe.data.roi is None else [], recipe.data.non_square)
    else:
        recipe = _settle_tiles(recipe, recipe.data.tile, paths, headers, folders)
    deep = [path for path, header in zip(paths, headers, strict=True) if header and header.deep]
    if recipe.data.white is not None or not deep:
        return recipe
    settled = _settle_as_saved(recipe, folders)
    if settled.data.white is None:
        white = find_white(deep, large=recipe.data.tile is not None)
        settled = recipe.override({"data.white": white})
        notice(f"16-bit images use {white.bit_length()} bits: white is {white}.")
    return settled


def settle_corpus(
    recipe: CorpusRecipe,
    categories: Sequence[DatasetCategory],
    data: Path | None,
    folders: Sequence[Path],
) -> CorpusRecipe:
    """Returns the recipe of a corpus with what the models of its categories learnt of photographs.

    That is what is white in them, and how they are cut into tiles.

    If samples start from photographs, those in `data` tell what the models do not. The folders are
    outputs of earlier steps; for a collection, those of each data set are at `<recipe>/diffusion`.
    """
    twins, members = recipe.synthesis.twins, list[Recipe]()
    for member in recipe.members:
        chosen = [one for one in categories if one.recipe == member]
        names = [one.category for one in chosen]
        outputs = [*folders, *(one / member.name / "diffusion" for one in folders)]
        outputs += [one / name for one in outputs for name in names]
        settled = _cut_as_saved(_settle_as_saved(member, outputs), outputs)
        if chosen and twins is not None and twins.source == "image":
            # The step that needs photographs says if there are none.
            with suppress(ImageError):
                settled = settle(settled, names, category_root(recipe, chosen[0], data), outputs)
        members.append(settled)
    if isinstance(recipe, Collection):
        return recipe.override({"members": [member.model_dump() for member in members]})
    return members[0]


def _settle_tiles(
    recipe: Recipe,
    tile: Tile,
    paths: Sequence[Path],
    headers: Sequence[Header | None],
    folders: Iterable[Location],
) -> Recipe:
    """Returns a recipe with the scale of its tiles, and says how photographs are cut."""
    spec = ImageSpec.of(recipe, 1)
    pairs = sizes_of(paths, headers).items()
    sizes = np.array([size_within(path, size, spec) for path, size in pairs], np.int64)
    if not len(sizes):
        return recipe
    scale = tile.scale or _saved_scale(recipe, folders) or find_scale(sizes, tile.size)
    settled = recipe.override({"data.tile.scale": scale})
    say_tiles(paths, headers, settled)
    return settled


def say_tiles(paths: Sequence[Path], headers: Sequence[Header | None], recipe: Recipe) -> None:
    """Says in a line on stderr how photographs are cut; `ImageError` if a tile is larger than one.

    The recipe has tiles, and the headers are those of the paths.
    """
    spec = ImageSpec.of(recipe, 1)
    tile, counts = spec.tile, list[int]()
    if tile is None:
        return
    for path, size in sizes_of(paths, headers).items():
        width, height = scaled_size(path, size_within(path, size, spec), spec)
        grid = Grid.of((height, width), tile)
        # With a large overlap their places would take gigabytes.
        counts.append(len(grid.tops) * len(grid.lefts))
    if counts:
        reduced = "" if tile.scale in (None, 1) else f", reduced to a scale of {tile.scale:g},"
        notice(
            f"{len(counts)} photographs{reduced} are cut into tiles of {tile.size} pixels that "
            f"share {tile.overlap}: {round(np.median(counts))} tiles each ('data.tile')."
        )


def _saved_scale(recipe: Recipe, folders: Iterable[Location]) -> float | None:
    """Returns the scale of tiles that the first output with one tells."""
    saved = (one.data.tile for one, _ in saved_in(folders, recipe.name))
    return next((tile.scale for tile in saved if tile is not None and tile.scale), None)


def find_scale(sizes: NDArray[np.int64], side: int) -> float:
    """Returns the scale at which photographs of these widths and heights, (N, 2), are cut.

    It is 1, or halved until they have `MOST_PIXELS`, as long as tiles fit in the smallest one.
    """
    scale, pixels = 1.0, float(np.median(sizes.prod(axis=1)))
    while pixels * scale**2 > MOST_PIXELS and sizes.min() * scale / 2 >= side:
        scale /= 2
    return scale


def _settle_as_saved(recipe: Recipe, folders: Iterable[Location]) -> Recipe:
    """Returns a recipe with what is white in its images, as the first output that says it."""
    if recipe.data.white is None:
        for saved, path in saved_in(folders, recipe.name):
            if saved.data.white is not None:
                notice(f"16-bit images: white is {saved.data.white}, as in {path}.")
                return recipe.override({"data.white": saved.data.white})
    return recipe


def _cut_as_saved(recipe: Recipe, folders: Iterable[Location]) -> Recipe:
    """Returns a recipe that cuts photographs as the first output does that cuts them."""
    for saved, path in saved_in(folders, recipe.name):
        if recipe.data.tile is None and saved.data.tile is not None:
            notice(f"Photographs are cut into tiles of {saved.data.tile.size}, as in {path}.")
            cut = saved.data.model_dump(include={"tile", "roi", "ignore"})
            return recipe.override({f"data.{name}": value for name, value in cut.items()})
    return recipe


def read_headers(paths: Sequence[Path]) -> list[Header | None]:
    """Returns what headers say; None for files that are no images, which their reader reports."""
    with worker_threads() as pool:
        return list(pool.map(_read_header, paths))


def sizes_of(
    paths: Sequence[Path], headers: Sequence[Header | None]
) -> dict[Path, tuple[int, int]]:
    """Returns width and height of the files that are images."""
    pairs = zip(paths, headers, strict=True)
    return {path: one[:2] for path, one in pairs if one is not None}


def say_shapes(headers: Iterable[Header | None], rule: NonSquare | None) -> None:
    """Says in a line on stderr what a rule does to the images that are not square, if any are."""
    sizes = np.array([one[:2] for one in headers if one is not None], np.int64).reshape(-1, 2)
    count = int((sizes[:, 0] != sizes[:, 1]).sum())
    if rule is None or not count:
        return
    lost = 1 - (sizes.min(axis=1) ** 2).sum() / sizes.prod(axis=1).sum()
    happens = HAPPENS[rule].format(lost=in_percent(lost))
    notice(
        f"{count} of {len(sizes)} images are not square; they are {happens} ('data.non_square')."
    )


def find_white(paths: Sequence[Path], *, large: bool = False) -> int:
    """Returns the value of white that the largest one in images of 16 bits tells."""
    with worker_threads() as pool:
        largest = max(pool.map(partial(_largest_value, large=large), paths))
    return next(white for white in WHITES if white >= largest)


def _read_header(path: Path) -> Header | None:
    try:
        with open_image(path, "image", large=True) as file:
            deep = is_deep(file) or has_deep_colours(file)
            return Header(*upright_size_of(file), deep)
    except ImageError:
        return None


def _largest_value(path: Path, *, large: bool) -> int:
    try:
        with open_image(path, "image", large=large) as file:
            colours = has_deep_colours(file)
            image = upright(file)
            opaque = [name for name in image.getbands() if name != "A"]
            pixels = np.atleast_3d(np.asarray(image))[..., : len(opaque)]
            largest = int(pixels.max())
    except ImageError:
        return 0
    # Of colours only the upper half of each value is read.
    return largest << 8 | 255 if colours else largest
