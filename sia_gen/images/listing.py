"""Lists the images of a data set and decides, from a seed, which are used for what."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import random
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from sia_gen.config.data import Layout, TableLayout
from sia_gen.config.recipe import Collection, CorpusRecipe, DatasetCategory, Recipe
from sia_gen.errors import ImageError
from sia_gen.images.layouts import fits, layouts_of, place_of, read_layout
from sia_gen.images.loading import ImageSpec, find_unreadable, load_image
from sia_gen.images.recognition import require_right_root
from sia_gen.io.files import fingerprint, worker_threads


@dataclass(frozen=True)
class CategoryImages:
    """The images of one category, each list disjoint from the others.

    Attributes:
        fit: Normal images to learn from.
        validation: Normal images that choose the best weights and the threshold.
        test_normal: Normal images for the evaluation.
        test_anomalous: Anomalous images for the evaluation.
        defects: What the defect of each of these is called.
        masks: The ground truth of each, None where there is none.
        unreadable: Normal images that were left out.
    """

    fit: list[Path]
    validation: list[Path]
    test_normal: list[Path]
    test_anomalous: list[Path]
    defects: list[str]
    masks: list[Path | None]
    unreadable: frozenset[Path] = frozenset()


def data_root(recipe: Recipe, given: Path | None) -> Path:
    """The folder of the images: the given one, or that of the package the recipe names.

    Raises:
        ImageError: If there is neither.
    """
    if given is not None:
        return existing_folder(given)
    if recipe.data.package is None:
        raise ImageError(
            problem=f"recipe '{recipe.name}' does not say where its images are.",
            fix=f"Give their folder with --data; they come from {recipe.source}.",
        )
    return package_folder(recipe.data.package)


def category_root(recipe: CorpusRecipe, category: DatasetCategory, given: Path | None) -> Path:
    """The folder of the images of a category; of a collection, that of its data set in `given`.

    Raises:
        ImageError: If nobody says where it is, or it is not there.
    """
    member = category.recipe
    if given is not None and isinstance(recipe, Collection):
        given = given / member.name
    return data_root(member, given)


def existing_folder(folder: Path) -> Path:
    """The folder itself.

    Raises:
        ImageError: If it is not there.
    """
    if not folder.is_dir():
        raise ImageError(
            problem=f"there is no image folder {folder}.", fix="Check the path of --data."
        )
    return folder


def package_folder(package: str) -> Path:
    """The folder of an installed Python package, which is not imported: that would run its code.

    Raises:
        ImageError: If it is not installed.
    """
    outermost, *inner = package.split(".")
    try:
        spec = importlib.util.find_spec(outermost)
        for name in inner:
            inside = spec.submodule_search_locations if spec else None
            spec = importlib.machinery.PathFinder.find_spec(name, inside) if inside else None
    except (ImportError, ValueError):
        # Of an empty name, or of a module that has no spec.
        spec = None
    if spec is None or not spec.submodule_search_locations:
        name = package.replace("_", "-")
        raise ImageError(
            problem=f"the package '{name}' is not installed.",
            fix=f"Install it with 'pip install {name}', or give a folder.",
        )
    return Path(spec.submodule_search_locations[0])


def list_images(recipe: Recipe, root: Path, category: str) -> CategoryImages:
    """The images of a category, split by the recipe's seed; those of the test are only listed.

    If the recipe says so, normal images that cannot be read are left out, which a line on stderr
    reports. They count in the split, so that the others are used as they are without them.

    Raises:
        ImageError: If there are too few normal images, or the layout does not fit the folder.
    """
    images = split_images(recipe, root, category)
    if recipe.data.unreadable == "skip":
        unreadable = find_unreadable([*images.fit, *images.validation], category)
        images = replace(
            images,
            fit=[path for path in images.fit if path not in unreadable],
            validation=[path for path in images.validation if path not in unreadable],
            unreadable=unreadable,
        )
    if not images.fit or not images.validation:
        count = len(images.fit) + len(images.validation)
        raise ImageError(
            problem=f"category '{category}' has too few normal images to fit in {root}: {count}.",
            fix="It takes at least 2 besides those of the test: one to learn from and one to keep "
            "back. Add images, or check the recipe's 'data'.",
        )
    return images


def split_images(recipe: Recipe, root: Path, category: str) -> CategoryImages:
    """The images of a category, split by the recipe's seed; none of them is read.

    Raises:
        ImageError: If the layout does not fit the folder.
    """
    layout = choose_layout(recipe, root, category)
    found = read_layout(layout, root, recipe.data.names.get(category, category))
    normal = shuffled(found.normal, recipe.data.split_seed)
    test_normal = found.test_normal
    if test_normal is None:
        has_anomalies = isinstance(layout, TableLayout) or layout.test_anomalous is not None
        cut = int(recipe.data.fit_fraction * len(normal)) if has_anomalies else len(normal)
        normal, test_normal = normal[:cut], normal[cut:]
    held_out = max(1, round(recipe.data.validation_fraction * len(normal)))
    return CategoryImages(
        fit=normal[held_out:],
        validation=normal[:held_out],
        test_normal=test_normal,
        test_anomalous=[image.path for image in found.test_anomalous],
        defects=[image.defect for image in found.test_anomalous],
        masks=[image.mask for image in found.test_anomalous],
    )


def describe_photographs(listed: Iterable[CategoryImages]) -> dict[str, Any]:
    """The normal images of some categories, to distinguish them from others; none is read."""
    return fingerprint([path for one in listed for path in (*one.fit, *one.validation)])


def require_readable(recipe: Recipe, listed: Iterable[CategoryImages]) -> None:
    """Decodes normal images and keeps none: what is wrong with them is known before hours of work.

    Those that a recipe allows to skip have been decoded already.

    Raises:
        ImageError: If one cannot be read.
    """
    if recipe.data.unreadable == "skip":
        return
    paths = [path for images in listed for path in (*images.fit, *images.validation)]
    read = partial(load_image, spec=ImageSpec.of(recipe, 1))
    with worker_threads() as pool:
        deque(pool.map(read, paths), maxlen=0)


def choose_layout(recipe: Recipe, root: Path, category: str) -> Layout:
    """The first of the recipe's layouts that has images of a category below the root.

    Raises:
        ImageError: If none has; it says which layout the root looks like.
    """
    name, layouts = recipe.data.names.get(category, category), layouts_of(recipe.data)
    for layout in layouts:
        if fits(layout, root, name):
            return layout
    require_right_root(recipe, root, category)
    if len(layouts) == 1:
        # Its reader knows best what is missing.
        return layouts[0]
    places = ", nor ".join(str(root / place_of(layout, name)) for layout in layouts)
    raise ImageError(
        problem=f"no images of category '{category}' at {places}.",
        fix=f"Check --data: recipe '{recipe.name}' reads images from one of these.",
    )


def shuffled(paths: Sequence[Path], seed: int) -> list[Path]:
    """The paths in an order that depends on the seed and their number alone."""
    order = list(paths)
    # Nothing is secret here, and the same seed has to give the same order for ever.
    random.Random(seed).shuffle(order)  # noqa: S311
    return order
