"""Which test images a model is evaluated on, and how it takes them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from sia_gen.config.data import NonSquare
from sia_gen.config.recipe import Recipe
from sia_gen.errors import ImageError
from sia_gen.images.counted import check_scopes
from sia_gen.images.layouts import TestImage
from sia_gen.images.learnt import Learnt
from sia_gen.images.loading import ImageSpec
from sia_gen.images.shapes import Header, read_headers, say_shapes, say_tiles, sizes_of
from sia_gen.runtime.progress import notice


def unseen_tests(
    folder: Path, category: str, tests: Sequence[TestImage], root: Path
) -> tuple[Sequence[TestImage], int | None]:
    """Returns the test images that a model did not learn from, and the number of those left out.

    A line on stderr says how many there are; the number is None if the model does not say from
    which images it learnt.

    Raises:
        ImageError: If none of the normal or of the anomalous images is left, or there is a copy of
            an image that the model learnt from.
    """
    learnt = Learnt.read(folder)
    if learnt is None:
        notice(f"warning: {category}: the model does not say from which images it learnt.")
        return tests, None
    unseen = learnt.unseen(tests, root)
    count = len(tests) - len(unseen)
    for label, kind in enumerate(("normal", "anomalous")):
        left, listed = (sum(test.label == label for test in some) for some in (unseen, tests))
        if listed and not left:
            raise ImageError(
                problem=f"the model learnt from all {kind} test images of '{category}'.",
                fix="Add some that it has not seen, or fit it again.",
            )
    if count:
        notice(
            f"{category}: left out {count} of {len(tests)} test images, because the model learnt "
            "from them."
        )
    return unseen, count


def say_shapes_of(tests: Iterable[tuple[Sequence[TestImage], Recipe]]) -> None:
    """Says how the recipes of models take the test images: cut into tiles, or made square.

    Raises:
        ImageError: If a tile is larger than an image, or the region of interest or a mask of what
            to ignore does not fit one.
    """
    whole: dict[NonSquare | None, list[Header | None]] = {}
    for images, recipe in tests:
        paths = [test.path for test in images]
        headers = read_headers(paths)
        check_scopes(sizes_of(paths, headers), ImageSpec.of(recipe, 1))
        if recipe.data.tile is not None:
            say_tiles(paths, headers, recipe)
        else:
            whole.setdefault(recipe.data.non_square, []).extend(headers)
    for rule, some in whole.items():
        say_shapes(some, rule)
