"""The ground truth of test images: their masks, all of which are checked before any is used."""

import os
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sia_gen.errors import ImageError, one_line
from sia_gen.images.damage import find_damaged, in_one
from sia_gen.images.layouts import TestImage
from sia_gen.images.loading import ImageSpec, size_within
from sia_gen.images.masks import looks_inverted, read_marks, read_mask, within
from sia_gen.images.opening import upright_size
from sia_gen.io.files import worker_threads


def load_mask(image: TestImage, spec: ImageSpec) -> NDArray[np.bool_]:
    """Returns which pixels of an image are anomalous, (size, size); see `read_mask`.

    Of a photograph that is cut into tiles these are its own pixels, (H, W).
    """
    if image.mask is None:
        shape = (spec.size, spec.size)
        if spec.tile is not None:
            shape = size_within(image.path, upright_size(image.path), spec)[::-1]
        return np.broadcast_to(np.False_, shape)
    if spec.tile is not None:
        return within(read_marks(image.mask, of=image.path), spec)
    return read_mask(image.mask, spec, of=image.path)


def check_masks(tests: Sequence[TestImage], category: str) -> None:
    """Raises one `ImageError` about all masks of a category that cannot be used.

    A line on stderr reports masks that seem to show normal pixels in white; if most of them do,
    that is an error too.
    """
    masked = [test for test in tests if test.mask is not None]
    with worker_threads() as pool:
        found = list(pool.map(_problem_of, masked))
    errors = [one for one in found if isinstance(one, ImageError)]
    if errors:
        raise in_one(errors, f"of {len(masked)} masks of '{category}' cannot be used")
    inverted = [test for test, one in zip(masked, found, strict=True) if one]
    if not inverted:
        return
    problem = (
        f"{len(inverted)} of {len(masked)} masks of '{category}' mark most of the image and its "
        f"edge, the first {inverted[0].mask}"
    )
    if 2 * len(inverted) > len(masked):
        raise ImageError(
            problem=f"{problem}.",
            fix="Save them with 0 where the image is normal and 255 where it is not.",
        )
    if os.environ.get("RANK", "0") == "0":
        print(one_line(f"warning: {problem}; look whether they are inverted."), file=sys.stderr)


def check_tests(
    tests: Sequence[TestImage], category: str, white: int | None = None, *, large: bool = False
) -> None:
    """Raises one `ImageError` about all test images of a category that cannot be read.

    Not all of their pixels are decoded; see `find_damaged`. All masks are checked too, see
    `check_masks`.
    """
    damaged = find_damaged([test.path for test in tests], white, large=large)
    with worker_threads() as pool:
        opened = pool.map(_unopened, tests)
        found = [damaged.get(test.path, one) for test, one in zip(tests, opened, strict=True)]
    errors = [error for error in found if error is not None]
    if errors:
        raise in_one(errors, f"of {len(tests)} test images of '{category}' cannot be read")
    check_masks(tests, category)


def _unopened(test: TestImage) -> ImageError | None:
    try:
        upright_size(test.path)
    except ImageError as error:
        return error
    return None


def _problem_of(test: TestImage) -> ImageError | bool:
    """Returns what makes a mask unusable, else whether it looks inverted."""
    if test.mask is None:
        return False
    try:
        return looks_inverted(read_marks(test.mask, of=test.path))
    except ImageError as error:
        return error
