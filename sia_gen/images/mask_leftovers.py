"""Masks that fit an image only nearly, or are none: what is left out is never left in silence."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from sia_gen.errors import ImageError
from sia_gen.images.masks import read_marks
from sia_gen.images.opening import read_image
from sia_gen.images.places import MASK_ENDING, Places

# The end of the name of one of several masks of an image, as in `000_mask_1` or `000 (2)`.
NUMBERED = re.compile(r"(.+?)(?:[ _.-]*mask)?(?:[ _.-]+\d+| ?\(\d+\)|(?<=mask)\d+)", re.I)
BINARY = "Save masks with 0 where the image is normal and 255 where it is not."


def require_no_leftovers(
    places: Places, defects: Mapping[Path, str], owners: Mapping[Path, Path]
) -> None:
    """Raises `ImageError` if folders of masks have some that nearly fit an image, or if none fits.

    Args:
        places: Where images and masks lie.
        defects: The images that may have masks, and the names of their defects.
        owners: The masks that were found, or their folders, and the image of each.
    """
    masks = [file for files in places.masks.values() for file in files]
    left = [file for file in masks if owners.keys().isdisjoint((file, *file.parents))]
    _require_no_spelling(left, defects.keys() - {*owners.values()}, defects)
    stems = {image.stem: image for image in defects}
    named = {image.stem for place in places.images for image in place.images}
    for mask in left:
        match = NUMBERED.fullmatch(mask.stem)
        if match and match[1] in stems and mask.stem not in named:
            raise ImageError(
                problem=f"{mask} may be one of several masks of {stems[match[1]]}.",
                fix="Put the masks of each image into a folder of its name, such as "
                f"{mask.parent / match[1] / mask.name}.",
            )
    if masks and not owners:
        alike = (image for image, defect in defects.items() if defect == masks[0].parent.name)
        image = next(alike, next(iter(defects)))
        raise ImageError(
            problem=f"none of the masks fits an image: {masks[0]} is a mask, {image} an image "
            "without one.",
            fix=f"Name masks as their images, e.g. {image.stem}_mask.png, in folders of the same "
            "names, or move them away.",
        )


def require_masks(places: Places) -> None:
    """Raises `ImageError` if folders or files that are named as masks are photographs.

    Such as those of the folder `solder_mask`, which may be a kind of defect, or `bottle_label.png`.
    """
    for path, files in places.masks.items():
        # Beside a mask there may be a copy of the image.
        if all(map(_is_photograph, files[:2])):
            raise ImageError(
                problem=f"the folder {places.root / Path(*path)} is named as one of masks, but "
                f"{files[0].name} has as many levels as a photograph.",
                fix=f"Rename the folder if it has photographs. {BINARY}",
            )
    for ending, file in places.beside.items():
        if _is_photograph(file):
            raise ImageError(
                problem=f"{file} is named as the mask of an image, but has as many levels as a "
                "photograph.",
                fix=f"Rename it without '{ending}' if it is one. {BINARY}",
            )


def _is_photograph(path: Path) -> bool:
    """Whether a file can be read as an image, but not as a mask."""
    try:
        read_image(path)
    except ImageError:
        # Whoever needs it says so.
        return False
    try:
        read_marks(path)
    except ImageError:
        return True
    return False


def _require_no_spelling(
    masks: Iterable[Path], images: Iterable[Path], defects: Mapping[Path, str]
) -> None:
    """Raises `ImageError` if only capitals or the spelling of accents tell a mask from an image."""
    by_name: dict[str, list[Path]] = defaultdict(list)
    for image in sorted(images):
        by_name[_folded(image.stem)].append(image)
    for mask in masks:
        match = MASK_ENDING.fullmatch(mask.stem)
        stem = match[1] if match else mask.stem
        for image in by_name[_folded(stem)]:
            folder, defect = mask.parent.name, defects[image]
            alike = folder != defect and _folded(folder) == _folded(defect)
            if image.stem != stem or alike:
                raise ImageError(
                    problem=f"the names of the mask {mask} and of the image {image} differ in "
                    "capitals or in how accents are stored.",
                    fix="Give both, and their folders, the same names.",
                )


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()
