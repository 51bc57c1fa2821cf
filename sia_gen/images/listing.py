"""Lists the images of a data set and decides by a seed which of them serve which purpose."""

import importlib.util
import random
from collections import deque
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from sia_gen.config.data import Layout, TableLayout
from sia_gen.config.recipe import Collection, CorpusRecipe, DatasetCategory, Recipe
from sia_gen.errors import ImageError
from sia_gen.images.copies import find_copies
from sia_gen.images.counted import load_scored
from sia_gen.images.layouts import (
    GOOD,
    TestImage,
    layout_fits,
    layouts_of,
    name_below,
    normal_place,
    read_layout,
)
from sia_gen.images.loading import ImageSpec, find_unreadable
from sia_gen.images.recognition import existing_folder, require_right_root
from sia_gen.io.files import fingerprint, worker_threads


@dataclass(frozen=True)
class CategoryImages:
    """The images of one category in disjoint lists."""

    fit: list[Path]  # normal images to learn from
    validation: list[Path]  # normal images that choose the best weights and the threshold
    test_normal: list[Path]
    test_anomalous: list[TestImage]
    unreadable: frozenset[Path] = frozenset()  # normal images that were left out
    # Files that are the same as one of these, byte for byte: normal images that were left out, and
    # test images.
    copies: Mapping[Path, Path] = field(default_factory=dict)

    @property
    def duplicates(self) -> set[Path]:
        """The normal images that were left out because another one is the same."""
        tests = {*self.test_normal, *(test.path for test in self.test_anomalous)}
        return self.copies.keys() - tests

    @property
    def contradictions(self) -> list[tuple[Path, Path]]:
        """The anomalous test images that are the same as a normal one, each with that one."""
        normal = {self.copies.get(path, path): path for path in self.test_normal}
        anomalous = [test.path for test in self.test_anomalous]
        first = {path: self.copies.get(path, path) for path in anomalous}
        return [(path, normal[first[path]]) for path in anomalous if first[path] in normal]


def data_root(recipe: Recipe, given: Path | None) -> Path:
    """Returns the given folder of images, or that of the recipe's package; else `ImageError`."""
    if given is not None:
        return existing_folder(given)
    if recipe.data.package is None:
        raise ImageError(
            problem=f"recipe '{recipe.name}' does not say where its images are.",
            fix=f"Give their folder with --data; they come from {recipe.source}.",
        )
    return package_folder(recipe.data.package)


def category_root(recipe: CorpusRecipe, category: DatasetCategory, given: Path | None) -> Path:
    """Returns `data_root` of a category; in a collection `given` has a folder per data set."""
    member = category.recipe
    if given is not None and isinstance(recipe, Collection):
        given = given / member.name
    return data_root(member, given)


def package_folder(package: str) -> Path:
    """Returns the folder of an installed Python package without running its code."""
    outermost, *inner = package.split(".")
    folder = None
    # Other names could lead out of the package.
    if all(name.isidentifier() for name in (outermost, *inner)):
        try:
            spec = importlib.util.find_spec(outermost)
        except ValueError:
            # The module has no spec.
            spec = None
        places = spec.submodule_search_locations if spec else None
        folders = [Path(place, *inner) for place in places or ()]
        folder = next((one for one in folders if one.is_dir()), None)
    if folder is None:
        name = package.replace("_", "-")
        raise ImageError(
            problem=f"the package '{name}' is not installed.",
            fix=f"Install it with 'pip install {name}', or give a folder.",
        )
    return folder


def list_images(recipe: Recipe, root: Path, category: str) -> CategoryImages:
    """Returns the images of a category, split by the recipe's seed.

    If the recipe allows it, normal images that cannot be read are left out, and a line on stderr
    reports them. They count in the split, so the purpose of the others does not depend on them.
    Test images are not read.
    """
    images = split_images(recipe, root, category)
    if recipe.data.unreadable == "skip":
        unreadable = find_unreadable(
            [*images.fit, *images.validation],
            category,
            recipe.data.white,
            large=recipe.data.tile is not None,
        )
        images = replace(
            images,
            fit=[path for path in images.fit if path not in unreadable],
            validation=[path for path in images.validation if path not in unreadable],
            unreadable=unreadable,
        )
    if not images.fit or not images.validation:
        count = len(images.fit) + len(images.validation)
        duplicates = len(images.duplicates)
        besides = f", besides {duplicates} duplicates" if duplicates else ""
        raise ImageError(
            problem=f"category '{category}' has too few normal images to fit in {root}: "
            f"{count}{besides}.",
            fix="Besides the test images it needs at least 2: one to learn from and one to keep "
            "back. Add images, or check the recipe's 'data'.",
        )
    return images


def split_images(recipe: Recipe, root: Path, category: str) -> CategoryImages:
    """Returns the images of a category, split by the recipe's seed, without decoding any.

    What is there twice, byte for byte, is learnt or held back once. The others of the same bytes
    count in the split, so the purpose of the rest does not depend on them.
    """
    layout = _choose_layout(recipe, root, category)
    name = recipe.data.names.get(category, category)
    normal, validation, test_normal, test_anomalous = read_layout(layout, root, name)
    # The order has to stay the same for ever, and is no secret.
    random.Random(recipe.data.split_seed).shuffle(normal)  # noqa: S311
    tested = list[Path]()
    if test_normal is None:
        has_anomalies = isinstance(layout, TableLayout) or layout.test_anomalous is not None
        cut = int(recipe.data.fit_fraction * len(normal)) if has_anomalies else len(normal)
        normal, tested = normal[:cut], normal[cut:]
    if validation is None:
        held_out = max(1, round(recipe.data.validation_fraction * len(normal)))
        normal, validation = normal[held_out:], normal[:held_out]
    tests = [*(test_normal or tested), *(test.path for test in test_anomalous)]
    _require_apart([*normal, *validation], tests)
    # The larger a list, the better it does without some; those for the test are as they are given.
    copies = find_copies([*validation, *tested, *normal, *tests])
    validation, tested, normal = _once([validation, tested, normal], copies)
    if test_normal is None:
        test_normal = tested
    return CategoryImages(normal, validation, test_normal, test_anomalous, copies=copies)


def _once(lists: Sequence[list[Path]], copies: Container[Path]) -> list[list[Path]]:
    """Leaves out of lists of images what is the same as one before, by its bytes or its path."""
    seen, kept = set[Path](), list[list[Path]]()
    for images in lists:
        kept.append([one for one in dict.fromkeys(images) if not (one in seen or one in copies)])
        seen.update(images)
    return kept


def _require_apart(normal: Iterable[Path], tests: Iterable[Path]) -> None:
    """Raises `ImageError` if an image is both to learn from and to test on."""
    both = sorted(set(normal) & set(tests))
    if both:
        raise ImageError(
            problem=f"{both[0]} is an image to learn from and also a test image.",
            fix="List it once, or correct the patterns in the recipe's 'data.images'.",
        )


def list_test_images(recipe: Recipe, root: Path, category: str) -> list[TestImage]:
    """Returns the test images of a category, normal ones first; there may be no anomalous ones.

    If the recipe allows it, those that cannot be read are left out, and a line on stderr reports
    them. That none of a kind is left is an `ImageError`, and that one is of both kinds.
    """
    listed = split_images(recipe, root, category)
    for test, other in listed.contradictions:
        raise ImageError(
            problem=f"the same image is among the normal and the anomalous test images: {other} "
            f"and {test}.",
            fix="Remove the wrong one.",
        )
    normal = [TestImage(path, name_below(root, path), GOOD) for path in listed.test_normal]
    anomalous = listed.test_anomalous
    if recipe.data.unreadable == "skip":
        paths = [test.path for test in (*normal, *anomalous)]
        unreadable = find_unreadable(
            paths, f"{category}, test", recipe.data.white, large=recipe.data.tile is not None
        )
        normal = [test for test in normal if test.path not in unreadable]
        anomalous = [test for test in anomalous if test.path not in unreadable]
    if not normal:
        raise _without(category, "normal", root)
    if listed.test_anomalous and not anomalous:
        raise _without(category, "anomalous", root)
    return [*normal, *anomalous]


def list_labelled_images(recipe: Recipe, root: Path, category: str) -> list[TestImage]:
    """Returns the test images of a category as `list_test_images` does, of both kinds."""
    tests = list_test_images(recipe, root, category)
    if not any(test.label for test in tests):
        raise _without(category, "anomalous", root)
    return tests


def _without(category: str, kind: str, root: Path) -> ImageError:
    return ImageError(
        problem=f"category '{category}' has no {kind} test images in {root}.",
        fix="Add 'test_normal' and 'test_anomalous' to the recipe's 'data.images', "
        "or check --data.",
    )


def describe_photographs(listed: Iterable[CategoryImages]) -> dict[str, Any]:
    """Returns a fingerprint of the normal images of some categories, without reading any."""
    return fingerprint([path for one in listed for path in (*one.fit, *one.validation)])


def require_readable(recipe: Recipe, listed: Iterable[CategoryImages]) -> None:
    """Decodes all normal images once, so that an `ImageError` comes before hours of work."""
    if recipe.data.unreadable == "skip":
        # They have been decoded already.
        return
    paths = [path for images in listed for path in (*images.fit, *images.validation)]
    with worker_threads() as pool:
        deque(pool.map(partial(load_scored, spec=ImageSpec.of(recipe, 1)), paths), maxlen=0)


def _choose_layout(recipe: Recipe, root: Path, category: str) -> Layout:
    """Returns the first layout that fits; ImageError if the root looks like something else."""
    name, layouts = recipe.data.names.get(category, category), layouts_of(recipe.data)
    for layout in layouts:
        if layout_fits(layout, root, name):
            return layout
    require_right_root(recipe, root, category)
    if len(layouts) == 1:
        # Its reader raises the more precise error.
        return layouts[0]
    places = ", nor ".join(str(root / normal_place(layout, name)) for layout in layouts)
    raise ImageError(
        problem=f"no images of category '{category}' at {places}.",
        fix=f"Check --data: recipe '{recipe.name}' reads images from one of these places.",
    )
