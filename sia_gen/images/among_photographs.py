"""What lies among photographs and is none, such as masks and heat maps: never learnt or scored."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from sia_gen.errors import ImageError
from sia_gen.images.masks import looks_like_mask
from sia_gen.images.places import Place
from sia_gen.images.words import OF_MASKS, ROLES, Role, words_of

# Words of names that no photograph has, unless all have them.
TELLING = OF_MASKS | {word for word, role in ROLES.items() if role is Role.COPIES}
# Formats of masks, which have few values.
LOSSLESS = {".png", ".bmp", ".tif", ".tiff", ".gif"}
# Number of files that are read.
MOST_READ = 32


def require_photographs(used: Sequence[Place], places: Sequence[Place]) -> None:
    """Raises `ImageError` if some images seem to be masks, or made from photographs.

    Args:
        used: The folders of the images that are learnt or scored.
        places: All folders of images, of which others may have their masks.
    """
    images = [image for place in used for image in place.images]
    _require_names(images)
    known, stems = {*images}, {image.stem for image in images}
    others = [image for place in places for image in place.images if image.stem in stems]
    _require_values(images, [image for image in others if image not in known])
    _require_one_format(images)


def _require_names(images: Sequence[Path]) -> None:
    """Raises `ImageError` if some names, but not all, are those of no photograph."""
    named = {image for image in images if TELLING & {*words_of(image.stem)}}
    if named and len(named) < len(images):
        first = min(named)
        other = _nearest(first, [image for image in images if image not in named])
        raise ImageError(
            problem=f"{first} lies among photographs such as {other.name}, but its name is that of "
            "a mask, or of a picture that was made from one.",
            fix="Move masks, named as their images, to a folder 'masks', and other such pictures "
            "to 'previews', where they are passed over.",
        )


def _require_values(images: Sequence[Path], others: Sequence[Path]) -> None:
    """Raises `ImageError` if some images, or others of the same names, have the values of masks.

    Of files whose names differ only in numbers, one is read. If all have such values, that says
    nothing.
    """
    examples = _examples([*images, *others])
    read = [image for image in examples if image.suffix.lower() in LOSSLESS][:MOST_READ]
    masks = [image for image in read if looks_like_mask(image)] if examples[1:] else []
    if not masks or len(masks) == len(examples):
        return
    mask = masks[0]
    other = _nearest(mask, [image for image in images if image not in masks] or images)
    looks = f"a mask, but lies among photographs such as {other.name}."
    if other.with_suffix("") == mask.with_suffix(""):
        looks = f"the mask of {other.name}, but has the same name."
    raise ImageError(
        problem=f"{mask} looks like {looks}",
        fix=f"Name masks as their images, such as {other.stem}_mask{mask.suffix}, or move them to "
        "'masks'.",
    )


def _examples(images: Iterable[Path]) -> list[Path]:
    """Returns an image of each kind of name, evenly chosen if they are many."""
    by_name: dict[tuple[Path, str], Path] = {}
    formats: dict[Path, list[Path]] = defaultdict(list)
    for image in images:
        by_name.setdefault((image.parent, re.sub(r"\d+", "0", image.name)), image)
        formats[image.with_suffix("")].append(image)
    twins: list[Path] = next((found for found in formats.values() if len(found) > 1), [])
    examples = [*by_name.values()]
    return list(dict.fromkeys([*twins, *examples[:: -(-len(examples) // MOST_READ)]]))


def _require_one_format(images: Iterable[Path]) -> None:
    """Raises `ImageError` if most images are there in several formats."""
    by_name: dict[Path, list[Path]] = defaultdict(list)
    for image in images:
        by_name[image.with_suffix("")].append(image)
    several = [found for found in by_name.values() if len(found) > 1]
    if 1 < len(several) > len(by_name) / 2:
        one, other, *_ = several[0]
        raise ImageError(
            problem=f"{one} and {other.name} have the same name, and so have others: they may show "
            "the same part.",
            fix="Move the files of one format away, or to a folder of their own if they do not.",
        )


def _nearest(mask: Path, others: Sequence[Path]) -> Path:
    """Returns the image whose folder and name are nearest to those of a mask."""

    def alike(one: Path) -> tuple[int, bool]:
        return len(one.stem) if one.stem in mask.stem else 0, one.parent == mask.parent

    return max(others, key=alike)
