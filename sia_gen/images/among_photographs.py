"""What lies among photographs and is none, such as masks and heat maps: never learnt or scored."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

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


def require_photographs(places: Sequence[Place]) -> None:
    """Raises `ImageError` if some images seem to be masks, or made from photographs.

    Their names tell it, or their few values, unless those of all images do. Of files whose names
    differ only in numbers, one is read.
    """
    images = [image for place in places for image in place.images]
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
    examples = _examples(images)
    read = [image for image in examples if image.suffix.lower() in LOSSLESS][:MOST_READ]
    masks = {image: None for image in read if looks_like_mask(image)} if examples[1:] else {}
    if masks and len(masks) < len(examples):
        _refuse(next(iter(masks)), [one for one in images if one not in masks])


def _examples(images: Iterable[Path]) -> list[Path]:
    """Returns an image of each kind of name, evenly chosen if they are many."""
    by_name: dict[tuple[Path, str], Path] = {}
    formats: dict[Path, set[str]] = defaultdict(set)
    for image in images:
        by_name.setdefault((image.parent, re.sub(r"\d+", "0", image.name)), image)
        formats[image.with_suffix("")].add(image.suffix)
    twins = next((stem for stem, found in formats.items() if len(found) > 1), None)
    examples = [*by_name.values()]
    chosen = examples[:: -(-len(examples) // MOST_READ)]
    if twins is not None:
        chosen = [*(twins.with_name(f"{twins.name}{one}") for one in formats[twins]), *chosen]
    return list(dict.fromkeys(chosen))


def _refuse(mask: Path, others: Sequence[Path]) -> NoReturn:
    other = _nearest(mask, others)
    looks = f"a mask, but lies among photographs such as {other.name}."
    if other.with_suffix("") == mask.with_suffix(""):
        looks = f"the mask of {other.name}, but has the same name."
    raise ImageError(
        problem=f"{mask} looks like {looks}",
        fix=f"Name masks as their images, such as {other.stem}_mask{mask.suffix}, or move them to "
        "'masks'.",
    )


def _nearest(mask: Path, others: Sequence[Path]) -> Path:
    """Returns the image whose folder and name are nearest to those of a mask."""

    def alike(one: Path) -> tuple[int, bool]:
        return len(one.stem) if one.stem in mask.stem else 0, one.parent == mask.parent

    return max(others, key=alike)
