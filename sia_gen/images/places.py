"""Looks where images and masks lie in a folder of own photographs, and what the names say."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path

from sia_gen.images.files import folders_below, images_below, in_order, is_image
from sia_gen.images.words import (
    SPLITS,
    Role,
    is_beside,
    is_time,
    mentions_defects,
    role_of,
    roles_of,
    words_of,
)

# The end of the name of a mask that lies beside its image, or among others.
MASK_ENDING = re.compile(
    r"(.+?)([ _.-](?:masks?|gt|labels?|ground_?truth|seg|segmentation|maske|masque|mascara|"
    r"maschera))",
    re.I,
)
TELLING = (*SPLITS, Role.GOOD, Role.BAD, Role.KIND)
# Number of folders that an error names.
MOST_DESCRIBED = 8
CONTRADICTIONS = ({Role.GOOD, Role.BAD}, {Role.GOOD, Role.KIND})
Names = tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """A folder that directly holds images, and what its path says of them.

    `named` is the number of the first names of the path that say it; the others are names of days,
    of kinds of defects, and the like. The masks beside the images have the `endings`.
    """

    path: Names
    images: tuple[Path, ...]
    split: Role | None
    role: Role | None
    named: int
    endings: frozenset[str]

    @property
    def top(self) -> Names:
        """The part of the path that says what its images are."""
        return self.path if self.role is None else self.path[: self.named]


@dataclass(frozen=True)
class Places:
    """The folders below a root that hold images, and the outermost folders of masks and of copies.

    Copies are pictures that were made from photographs, such as previews and heat maps. `beside`
    has a mask among images for each ending of their names. The other files are those that are not
    hidden.
    """

    root: Path
    images: list[Place]
    masks: dict[Names, list[Path]]
    copies: dict[Names, list[Path]]
    beside: dict[str, Path]
    others: list[Path]

    def of(self, split: Role | None, *roles: Role | None) -> list[Place]:
        """Returns the places of a split and of some roles."""
        return [one for one in self.images if one.split is split and one.role in roles]

    def excluded(self) -> list[str]:
        """Returns the names of masks, and of folders of masks or copies, that lie among images."""
        folders = {path[-1] for path in (*self.masks, *self.copies) if len(path) > 1}
        beside = sorted(f"*{escape(ending)}.*" for ending in self.beside)
        return [*sorted(map(escape, folders)), *beside]


def find_places(root: Path) -> Places:
    """Returns all places of images below a root, sorted."""
    images = list[Place]()
    apart: dict[Role, dict[Names, list[Path]]] = {
        role: defaultdict(list) for role in (Role.MASKS, Role.COPIES)
    }
    beside, others = dict[str, Path](), list[Path]()
    for folder in sorted(folders_below(root)):
        path = folder.relative_to(root).parts
        inside = in_order(file for file in folder.iterdir() if not file.name.startswith("."))
        files = [file for file in inside if is_image(file)]
        others += [file for file in inside if not is_image(file) and file.is_file()]
        roles = [role_of(name) for name in path]
        depth, role = next(
            ((depth, role) for depth, role in enumerate(roles, 1) if role in apart), (0, None)
        )
        if files and role is not None:
            apart[role][path[:depth]] += files
        elif files:
            masks = _masks_beside(files)
            beside |= {ending: file for file, ending in masks.items() if ending not in beside}
            alone = tuple(file for file in files if file not in masks)
            images.append(Place(path, alone, *meaning_of(path), frozenset(masks.values())))
    images = _with_kinds(_without_masks(images, beside))
    return Places(root, images, apart[Role.MASKS], apart[Role.COPIES], beside, others)


def _without_masks(places: list[Place], endings: Collection[str]) -> list[Place]:
    """Returns places without images whose names end as those of the masks beside others."""

    def is_mask(image: Path) -> bool:
        match = MASK_ENDING.fullmatch(image.stem)
        return match is not None and match[2] in endings

    kept = (
        replace(one, images=tuple(image for image in one.images if not is_mask(image)))
        for one in places
    )
    return [one for one in kept if one.images]


def photographs_below(folder: Path) -> tuple[list[Path], list[Path]]:
    """Returns the photographs anywhere below a folder, and the masks of some of them, each sorted.

    A mask lies beside its photograph, or in a folder of masks and has its name.
    """
    apart, masks = list[Path](), list[Path]()
    for inside in folders_below(folder):
        files = [file for file in inside.iterdir() if is_image(file)]
        if Role.MASKS in map(role_of, inside.relative_to(folder).parts):
            apart += files
        else:
            masks += _masks_beside(files)
    others = {*apart, *masks}
    photographs = [path for path in images_below(folder) if path not in others]
    stems = {path.stem for path in photographs}
    for path in apart:
        match = MASK_ENDING.fullmatch(path.stem)
        fits = path.stem in stems or (match is not None and match[1] in stems)
        (masks if fits else photographs).append(path)
    return in_order(photographs), in_order(masks)


def _with_kinds(places: list[Place]) -> list[Place]:
    """Returns places in which names to test on tell kinds of defects, or are unclear.

    If there are good images to test on, any number or unknown name beside them is a kind, unless it
    is that of a view or of a time. Else such names might be those of good images too.
    """
    good = any(one.split is Role.TEST and one.role is Role.GOOD for one in places)

    def with_kind(one: Place) -> Place:
        name = "" if one.role is None else one.top[-1]
        number = one.role is Role.UNCLEAR and not words_of(name)
        if one.split is not Role.TEST or not (one.role is Role.UNKNOWN or number):
            return one
        kind = good and not is_beside(name)
        return replace(one, role=Role.UNKNOWN if kind else Role.UNCLEAR)

    return [with_kind(one) for one in places]


def meaning_of(path: Names) -> tuple[Role | None, Role | None, int]:
    """Returns the split and the role of a folder, and the number of names that say so.

    A split may stand before or after the role, and times before both. Names that contradict each
    other are unclear.
    """
    split, role, named = None, None, 0
    for depth, name in enumerate(path, 1):
        if role is None and _is_time_of_others(path, depth):
            continue
        for found in roles_of(name):
            if role is Role.UNKNOWN and (found in SPLITS or found is Role.GOOD):
                # The folder of one of several products, or of a day.
                return (None, role, named) if split is None else (split, Role.UNCLEAR, depth)
            if found in SPLITS:
                if split not in (None, found):
                    return split, Role.UNCLEAR, depth
                split, named = found, depth
            elif role is None and found is not Role.ANY:
                role, named = found, depth
            elif {role, found} in CONTRADICTIONS or _is_doubted(name, role, found):
                return split, Role.UNCLEAR, depth
    return split, role, named


def _is_doubted(name: str, role: Role | None, found: Role) -> bool:
    """Whether a folder of good parts has one such as `maybe_bad` in it."""
    return role is Role.GOOD and found is Role.UNCLEAR and mentions_defects(name)


def _is_time_of_others(path: Names, depth: int) -> bool:
    """Whether a name is a time, or the day or month of one, and those below it say something."""
    *before, name = path[:depth]
    part = name.isdecimal() and bool(before) and all(map(is_time, before[:1]))
    below = {role for one in path[depth:] for role in roles_of(one)}
    return (is_time(name) or part) and not below.isdisjoint(TELLING)


def described(places: Iterable[Place]) -> str:
    """Describes places with the numbers of their images, such as `good (12), bad (3)`.

    Of many it names the first few.
    """
    counts: dict[str, int] = defaultdict(int)
    for place in places:
        counts["/".join(place.top) or "the folder itself"] += len(place.images)
    named = [f"{name} ({count})" for name, count in counts.items()]
    more = f" and {len(named) - MOST_DESCRIBED} more" if len(named) > MOST_DESCRIBED else ""
    return f"{', '.join(named[:MOST_DESCRIBED])}{more}"


def _masks_beside(files: list[Path]) -> dict[Path, str]:
    """Returns the files that are masks of others in the same folder, and how their names end."""
    stems = {file.stem for file in files}
    found = {file: MASK_ENDING.fullmatch(file.stem) for file in files}
    return {file: match[2] for file, match in found.items() if match and match[1] in stems}
