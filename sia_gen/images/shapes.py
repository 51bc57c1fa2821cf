"""Looks at the images of a folder before they are read: are they square, how deep are they?

What happens to those that are not square, and what is white in those of 16 bits, is said in one
line each, because neither can be seen in the results.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sia_gen.config.data import NonSquare
from sia_gen.config.outputs import saved_in
from sia_gen.config.recipe import Collection, CorpusRecipe, DatasetCategory, Recipe
from sia_gen.errors import ImageError
from sia_gen.images.listing import category_root, split_images
from sia_gen.images.loading import WIDEST, has_deep_colours, is_deep, open_image, upright
from sia_gen.io.files import Location, worker_threads
from sia_gen.runtime.progress import notice

# What white may be, for cameras of 8, 10, 12, 14 and 16 bits.
WHITES = (255, 1023, 4095, 16383, WIDEST)
HAPPENS = {
    "stretch": "stretched",
    "pad": "padded, and the padding never counts",
    "crop": "cropped, which loses {lost:.0%} of all pixels",
}


class Header(NamedTuple):
    """What the header of an image file says."""

    width: int
    height: int
    deep: bool  # whether it has 16 bits


def settle(
    recipe: Recipe, categories: Sequence[str], root: Path, folders: Iterable[Location]
) -> Recipe:
    """Decides what is white in the normal images of some categories, and says how they are read.

    Args:
        recipe: A recipe, which may say itself what is white.
        categories: Those of its categories that are used.
        root: Folder of the images.
        folders: Outputs of earlier steps; the first whose recipe says what is white decides.

    Returns:
        The recipe with `data.white` if there are images of 16 bits. If images are missing, it is as
        given: the step that needs them says so.
    """
    try:
        listed = [split_images(recipe, root, category) for category in categories]
    except ImageError:
        return recipe
    paths = [path for images in listed for path in (*images.fit, *images.validation)]
    if len(paths) < 2:
        return recipe
    headers = read_headers(paths)
    say_shapes(headers, recipe.data.non_square)
    deep = [path for path, header in zip(paths, headers, strict=True) if header and header.deep]
    if recipe.data.white is not None or not deep:
        return recipe
    settled = _settle_as_saved(recipe, folders)
    if settled.data.white is None:
        white = find_white(deep)
        settled = recipe.override({"data.white": white})
        notice(f"16-bit images use {white.bit_length()} bits: white is {white}.")
    return settled


def settle_corpus(
    recipe: CorpusRecipe,
    categories: Sequence[DatasetCategory],
    data: Path | None,
    folders: Sequence[Path],
) -> CorpusRecipe:
    """Returns the recipe of a corpus with what is white, as the models of its categories learnt it.

    If samples start from photographs, those in `data` tell what the models do not. The folders are
    outputs of earlier steps; for a collection, those of each data set are at `<recipe>/diffusion`.
    """
    twins, members = recipe.synthesis.twins, list[Recipe]()
    for member in recipe.members:
        chosen = [one for one in categories if one.recipe == member]
        names = [one.category for one in chosen]
        outputs = [*folders, *(one / member.name / "diffusion" for one in folders)]
        outputs += [one / name for one in outputs for name in names]
        settled = _settle_as_saved(member, outputs)
        if chosen and twins is not None and twins.source == "image":
            # The step that needs photographs says if there are none.
            with suppress(ImageError):
                settled = settle(settled, names, category_root(recipe, chosen[0], data), ())
        members.append(settled)
    if isinstance(recipe, Collection):
        return recipe.override({"members": [member.model_dump() for member in members]})
    return members[0]


def _settle_as_saved(recipe: Recipe, folders: Iterable[Location]) -> Recipe:
    """Returns a recipe with what is white in its images, as the first output that says it."""
    if recipe.data.white is None:
        for saved, path in saved_in(folders, recipe.name):
            if saved.data.white is not None:
                notice(f"16-bit images: white is {saved.data.white}, as in {path}.")
                return recipe.override({"data.white": saved.data.white})
    return recipe


def read_headers(paths: Sequence[Path]) -> list[Header | None]:
    """Returns what headers say; None for files that are no images, which their reader reports."""
    with worker_threads() as pool:
        return list(pool.map(_read_header, paths))


def say_shapes(headers: Iterable[Header | None], rule: NonSquare | None) -> None:
    """Says in a line on stderr what a rule does to the images that are not square, if any are."""
    sizes = np.array([one[:2] for one in headers if one is not None], np.int64).reshape(-1, 2)
    count = int((sizes[:, 0] != sizes[:, 1]).sum())
    if rule is None or not count:
        return
    lost = 1 - (sizes.min(axis=1) ** 2).sum() / sizes.prod(axis=1).sum()
    happens = HAPPENS[rule].format(lost=lost)
    notice(
        f"{count} of {len(sizes)} images are not square; they are {happens} ('data.non_square')."
    )


def find_white(paths: Sequence[Path]) -> int:
    """Returns the value of white that the largest one in images of 16 bits tells."""
    with worker_threads() as pool:
        largest = max(pool.map(_largest_value, paths))
    return next(white for white in WHITES if white >= largest)


def _read_header(path: Path) -> Header | None:
    try:
        with open_image(path, "image") as file:
            deep = is_deep(file) or has_deep_colours(file)
            return Header(file.width, file.height, deep)
    except ImageError:
        return None


def _largest_value(path: Path) -> int:
    try:
        with open_image(path, "image") as file:
            colours = has_deep_colours(file)
            image = upright(file)
            opaque = [name for name in image.getbands() if name != "A"]
            pixels = np.atleast_3d(np.asarray(image))[..., : len(opaque)]
            largest = int(pixels.max())
    except ImageError:
        return 0
    # Of colours only the upper half of each value is read.
    return largest << 8 | 255 if colours else largest
