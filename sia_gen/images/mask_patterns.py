"""Finds out by which patterns the masks of own photographs are found."""

from collections.abc import Mapping
from pathlib import Path

from sia_gen.errors import ImageError
from sia_gen.images.files import literal
from sia_gen.images.mask_files import MaskFinder, defect_of
from sia_gen.images.places import MASK_ENDING, Names, Places, meaning_of
from sia_gen.images.words import Role, role_of

# Where the mask of an image may lie in a folder of masks.
FLAT = ("{defect}/{stem}", "{folder}/{stem}", "{stem}")
NESTED = ("{defect}/{path}", "{folder}/{stem}", "{path}", *FLAT)


def find_masks(places: Places, images: Mapping[Path, str]) -> list[str]:
    """Returns the patterns by which the masks of some images are found, the most telling first.

    Args:
        places: Where images and masks lie.
        images: The images, each with the pattern that matched it.

    Raises:
        ImageError: If there are folders of masks, but none has the mask of an image; if an image
            has several masks, or a mask several images.
    """
    defects = {image: defect_of(places.root, image, pattern) for image, pattern in images.items()}
    nested = any("/" in path for _, path in defects.values())
    candidates = [*_beside(places), *_in_folders(places, NESTED if nested else FLAT)]
    finder = MaskFinder(places.root, candidates, "")
    owners: dict[Path, Path] = {}
    used = set[str]()
    for image, (defect, path) in defects.items():
        mask, pattern = finder.find_by_pattern(image, defect, path) or (None, "")
        if mask is None:
            continue
        if mask in owners:
            raise ImageError(
                problem=f"{mask} may be the mask of {owners[mask]} or of {image}.",
                fix="Sort the masks into folders with the names of those of the images.",
            )
        owners[mask] = image
        used.add(pattern)
    masks = [file for files in places.masks.values() for file in files]
    if masks and not used:
        named = (image for image, (defect, _) in defects.items() if defect == masks[0].parent.name)
        image = next(named, next(reversed(defects)))
        raise ImageError(
            problem=f"none of the masks fits an image: {masks[0]} is a mask, {image} an image "
            "without one.",
            fix=f"Name masks as their images, e.g. {image.stem}_mask.png, in folders of the same "
            "names, or move them away.",
        )
    return [candidate for candidate in candidates if candidate in used]


def _beside(places: Places) -> list[str]:
    endings = sorted({ending for place in places.images for ending in place.endings})
    return [f"{{folder}}/{{stem}}{literal(ending)}.*" for ending in endings]


def _in_folders(places: Places, insides: tuple[str, ...]) -> list[str]:
    """Returns what may be the patterns of masks in folders of their own, each once."""
    holds_images = {place.path for place in places.images}
    candidates = list[str]()
    for path, files in places.masks.items():
        matches = [MASK_ENDING.fullmatch(file.stem) for file in files]
        # A folder may have copies of the images too, so the names of masks come first.
        endings = sorted({match[2] if match else "" for match in matches}, key=len, reverse=True)
        bases = [f"{_folder_of(path)}/{inside}" for inside in insides]
        if len(path) > 1 and path[:-1] in holds_images:
            bases.insert(0, f"{{folder}}/{literal(path[-1])}/{{stem}}")
        candidates += [f"{base}{literal(ending)}.*" for base in bases for ending in endings]
        # An image may have a folder of masks.
        candidates += bases
    return list(dict.fromkeys(candidates))


def _folder_of(path: Names) -> str:
    """Returns the pattern of a folder of masks; inside the folder of a defect it has its name."""
    split, role, _ = meaning_of(path[:-1])
    sorted_in = role in (Role.BAD, Role.KIND) or (role is Role.UNKNOWN and split is Role.TEST)
    place = next((place for place, name in enumerate(path) if role_of(name) is role), None)
    names = ["{defect}" if sorted_in and n == place else literal(one) for n, one in enumerate(path)]
    return "/".join(names)
