"""Finds out by which patterns the masks of own photographs are found."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from sia_gen.errors import ImageError
from sia_gen.images.files import literal
from sia_gen.images.mask_files import MaskFinder, defect_of
from sia_gen.images.mask_leftovers import require_no_leftovers
from sia_gen.images.places import MASK_ENDING, Names, Places, meaning_of
from sia_gen.images.words import SPLITS, Role, role_of

# Where the mask of an image may lie in a folder of masks.
FLAT = ("{defect}/{stem}", "{folder}/{stem}", "{stem}")
NESTED = ("{defect}/{path}", "{folder}/{stem}", "{path}", *FLAT)
# Patterns without any of these may find masks of images in other folders.
TELLING = re.compile(r"\{(defect|path|folder|parent)\}")
# Folders that may lie around masks in a folder of masks, as they do around images.
AROUND = (*SPLITS, Role.ANY, Role.BAD, Role.MASKS)
# Patterns of one folder of masks, or of those beside their images.
Candidates = tuple[str, ...]


def find_masks(places: Places, images: Mapping[Path, str]) -> list[str]:
    """Returns the patterns by which the masks of some images are found, the most telling first.

    Args:
        places: Where images and masks lie.
        images: The images, each with the pattern that matched it.

    Raises:
        ImageError: If there are folders of masks, but none has the mask of an image; if an image
            has several masks, or a mask several images; if the name of a mask is nearly that of
            one.
    """
    defects = {image: defect_of(places.root, image, pattern) for image, pattern in images.items()}
    nested = any("/" in path for _, path in defects.values())
    names = {defect for defect, _ in defects.values()}
    groups = _groups(places, NESTED if nested else FLAT, names)
    finders = {group: MaskFinder(places.root, group, "") for group in groups}
    owners: dict[Path, Path] = {}
    used = set[str]()
    for image, (defect, path) in defects.items():
        found = [finder.find_by_pattern(image, defect, path) for finder in finders.values()]
        mask, pattern = _only_mask(image, [one for one in found if one is not None])
        if mask is None:
            continue
        if mask in owners:
            raise ImageError(
                problem=f"{mask} may be the mask of {owners[mask]} or of {image}.",
                fix="Sort the masks into folders with the names of those of the images.",
            )
        owners[mask] = image
        used.add(pattern)
    require_no_leftovers(places, {image: defect for image, (defect, _) in defects.items()}, owners)
    return list(dict.fromkeys(one for group in groups for one in group if one in used))


def _only_mask(image: Path, found: Collection[tuple[Path, str]]) -> tuple[Path | None, str]:
    """Returns the mask of an image and its pattern, of what was found in some folders of masks."""
    telling = [one for one in found if TELLING.search(one[1])]
    masks = dict(telling or found)
    if len(masks) > 1:
        one, other, *_ = masks
        raise ImageError(
            problem=f"{image} has more than one mask: {one} and {other}.",
            fix="Sort the masks into folders with the names of those of the images, or move those "
            "away that do not mark defects.",
        )
    return next(iter(masks.items()), (None, ""))


def _groups(places: Places, insides: Candidates, defects: Collection[str]) -> list[Candidates]:
    """Returns the patterns by which masks may be found, the most telling groups first."""
    beside = tuple(f"{{folder}}/{{stem}}{literal(ending)}.*" for ending in sorted(places.beside))
    groups = [beside, *(_in_folder(places, path, insides, defects) for path in places.masks)]
    tiers = [
        tuple(one for one in group if bool(TELLING.search(one)) is telling)
        for telling in (True, False)
        for group in groups
    ]
    return list(dict.fromkeys(filter(None, tiers)))


def _in_folder(
    places: Places, path: Names, insides: Candidates, defects: Collection[str]
) -> Candidates:
    """Returns what may be the patterns of the masks in a folder of their own, each once."""
    files = places.masks[path]
    matches = [MASK_ENDING.fullmatch(file.stem) for file in files]
    # A folder may have copies of the images too, so the names of masks come first.
    endings = sorted({match[2] if match else "" for match in matches}, key=len, reverse=True)
    folders = dict.fromkeys(
        [_folder_of(path), *_named_after(places, path, defects), "/".join(map(literal, path))]
    )
    insides = (*insides, *_insides_of(places, path, defects))
    bases = [f"{folder}/{inside}" for folder in folders for inside in insides]
    around = {place.path for place in places.images} if len(path) > 1 else set()
    if path[:-1] in around:
        bases.insert(0, f"{{folder}}/{literal(path[-1])}/{{stem}}")
    elif path[:-1] in {one[:-1] for one in around}:
        bases.append(f"{{parent}}/{literal(path[-1])}/{{stem}}")
    candidates = [f"{base}{literal(ending)}.*" for base in bases for ending in endings]
    # An image may have a folder of masks.
    return tuple(dict.fromkeys([*candidates, *bases]))


def _insides_of(places: Places, path: Names, defects: Collection[str]) -> list[str]:
    """Returns where masks lie in a folder that has those of the images again, as `test/scratch`."""
    inside = {
        file.parent.relative_to(places.root).parts[len(path) :] for file in places.masks[path]
    }
    return [
        "/".join(["{defect}" if one in defects else literal(one) for one in names] + ["{stem}"])
        for names in sorted(inside)
        if all(one in defects or role_of(one) in AROUND for one in names) and names
    ]


def _named_after(places: Places, path: Names, defects: Collection[str]) -> list[str]:
    """Returns the pattern of a folder of masks that is named after a defect, as `scratch_mask`."""
    *around, name = map(literal, path)
    if any(place.path[:-1] == path[:-1] for place in places.images):
        around = ["{parent}"]
    parts = [
        name.partition(defect)
        for defect in sorted(map(literal, defects), key=len, reverse=True)
        if defect in name and role_of(name.replace(defect, "", 1)) is Role.MASKS
    ]
    return ["/".join([*around, f"{before}{{defect}}{after}"]) for before, _, after in parts[:1]]


def _folder_of(path: Names) -> str:
    """Returns the pattern of a folder of masks; inside the folder of a defect it has its name."""
    split, role, _ = meaning_of(path[:-1])
    sorted_in = role in (Role.BAD, Role.KIND) or (role is Role.UNKNOWN and split is Role.TEST)
    place = next((place for place, name in enumerate(path) if role_of(name) is role), None)
    names = ["{defect}" if sorted_in and n == place else literal(one) for n, one in enumerate(path)]
    return "/".join(names)
