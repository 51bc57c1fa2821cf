"""Describes the arrangement of own photographs as a layout, or asks what it means."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, NoReturn

from sia_gen.config.data import FolderLayout
from sia_gen.errors import ImageError
from sia_gen.images.among_photographs import require_photographs
from sia_gen.images.file_names import require_no_verdicts
from sia_gen.images.files import literal
from sia_gen.images.label_files import ask_for_images, require_formats, require_no_labels
from sia_gen.images.layouts import images_of
from sia_gen.images.mask_files import MaskFinder, defect_of
from sia_gen.images.mask_leftovers import require_masks
from sia_gen.images.mask_patterns import find_masks
from sia_gen.images.places import (
    TELLING,
    Names,
    Place,
    Places,
    described,
    find_places,
    meaning_of,
)
from sia_gen.images.words import SPLITS, Role, is_beside, role_of, roles_of

DEFECTS = (Role.BAD, Role.KIND)
UNSETTLED = (Role.UNKNOWN, Role.UNCLEAR)
# Number of folders that an error names.
LISTED = 3


def own_layout(root: Path) -> FolderLayout:
    """Returns the layout of a folder of own photographs.

    Raises:
        ImageError: If there are no images of good parts, or names could mean several things.
    """
    places = find_places(root)
    normal = _normal(places)
    tested = places.of(Role.TEST, Role.GOOD, *DEFECTS, Role.UNKNOWN)
    _require_clear(places, normal, tested)
    anomalous = (
        [one for one in tested if one.role is not Role.GOOD]
        or places.of(None, *DEFECTS)
        or places.of(Role.TRAIN, *DEFECTS)
    )
    validation, test_normal = _validation(places, normal), places.of(Role.TEST, Role.GOOD)
    require_masks(places)
    require_photographs([*normal, *validation, *test_normal, *anomalous], places.images)
    layout: dict[str, Any] = {
        "layout": "folder",
        "normal": _patterns(places, normal),
        "validation": _patterns(places, validation),
        "test_normal": _patterns(places, test_normal),
        "test_anomalous": _defect_patterns(places, anomalous),
    }
    if anomalous:
        images, good = (
            images_of(root, layout[name], "", places.excluded())
            for name in ("test_anomalous", "test_normal")
        )
        defective = {image: images[image] for image in images if image not in good}
        layout["mask"] = find_masks(places, defective)
    else:
        _require_no_defects(places)
        by_masks = _labelled_by_masks(places, normal, layout)
        if normal[0].role is None and not by_masks:
            require_no_labels(places)
            require_no_verdicts(places, normal)
        layout |= by_masks
    layout["exclude"] = places.excluded()
    return FolderLayout.model_validate(
        {key: _plain(value) for key, value in layout.items() if value}
    )


def _normal(places: Places) -> list[Place]:
    """Returns the places of the images to learn from."""
    learned = places.of(Role.TRAIN, Role.GOOD) or places.of(Role.TRAIN, None)
    good = places.of(None, Role.GOOD)
    beside = places.of(None, None)
    for one, other in ((learned, good), (beside[:1], beside[1:] if not learned + good else [])):
        if one and other:
            raise ImageError(
                problem=f"{places.root} has images that may all be good parts in {described(one)} "
                f"and in {described(other)}.",
                fix="Put them into one of these folders, or move the others away.",
            )
    return learned or good or beside or _masked(places) or _ask_for_good(places)


def _masked(places: Places) -> list[Place]:
    """Returns places of any name if masks beside all of them tell which images are defective."""
    said = {role for one in places.images for name in one.path for role in roles_of(name)}
    only_masks_tell = said.isdisjoint(TELLING) and all(one.endings for one in places.images)
    return [replace(one, role=None) for one in places.images] if only_masks_tell else []


def _validation(places: Places, normal: Sequence[Place]) -> list[Place]:
    """Returns the places of the normal images that are set apart to choose the best weights."""
    good = places.of(Role.VALIDATION, Role.GOOD)
    # If folders for learning and for validation are not divided, both have only good parts.
    alike = normal[0].split is Role.TRAIN and normal[0].role is None
    return good or (places.of(Role.VALIDATION, None) if alike else [])


def _labelled_by_masks(
    places: Places, normal: Sequence[Place], layout: dict[str, Any]
) -> dict[str, Any]:
    """Returns what a layout needs if only masks tell which images are anomalous, else nothing."""
    tested, held_out, learned = (
        _patterns(places, [one for one in group if one.role is None])
        for group in (places.of(Role.TEST, None), places.of(Role.VALIDATION, None), normal)
    )
    images = images_of(places.root, [*tested, *held_out, *learned], "", places.excluded())
    mask = find_masks(places, images) if images else []
    if not mask:
        return {}
    finder, test = MaskFinder(places.root, mask, ""), dict[str, Any]()
    for image, pattern in images.items():
        if pattern in tested and finder.find(image, *defect_of(places.root, image, pattern)):
            test = {"test_normal": [*layout["test_normal"], *tested], "test_anomalous": tested}
            break
    return {"test_anomalous": learned, "mask": mask, "labels": "masks"} | test


def _patterns(places: Places, group: Sequence[Place]) -> list[str]:
    """Returns patterns of exactly the images of some places."""
    found = []
    for top, members in groupby(group, key=lambda one: one.top):
        nested = any(one.path != top for one in members)
        if nested:
            _require_alone(places, group, top)
        found.append(_joined(top, "**/*" if nested else "*"))
    return found


def _defect_patterns(places: Places, group: Sequence[Place]) -> list[str]:
    """Returns patterns of anomalous images by which each has the name of its defect."""
    found, rest = list[str](), list[Place]()
    for top, members in groupby(group, key=lambda one: one.top):
        inside = list(members)
        kinds = {one.path[len(top)] for one in inside if one.path != top}
        sorted_in = kinds and Role.ANY not in map(role_of, kinds) and not all(map(is_beside, kinds))
        if role_of(top[-1]) is Role.BAD and sorted_in:
            _require_alone(places, group, top)
            deep = any(len(one.path) > len(top) + 1 for one in inside)
            direct = ["*"] if any(one.path == top for one in inside) else []
            ends = [*direct, "*/**/*" if deep else "*/*"]
            found += [_joined(top, end) for end in ends]
        else:
            rest += inside
    parents = {one.top[:-1] for one in rest}
    parent = min(parents, default=())
    folded = parent and rest[0].split is Role.TEST and len(parents) == 1
    others = [one for one in places.of(Role.TEST, None) if len(one.path) > len(parent)]
    if folded and not others and role_of(rest[0].top[-1]) is rest[0].role:
        nested = any(one.path != one.top for one in rest)
        return [*found, _joined(parent, "*/**/*" if nested else "*/*")]
    for top, members in groupby(rest, key=lambda one: one.top):
        found.append(_defect_pattern(places, group, top, list(members)))
    return found


def _defect_pattern(
    places: Places, group: Sequence[Place], top: Names, members: Sequence[Place]
) -> str:
    """Returns the pattern of one kind of defect, whose name stands before `**` if it has one."""
    named = (depth for depth, name in enumerate(top, 1) if role_of(name) is members[0].role)
    # The kind of a defect may be a number, which alone says nothing.
    depth = next(named, len(top))
    nested = any(one.path != top for one in members)
    if nested:
        _require_alone(places, group, top)
    # The name of a split may follow, as in `bad/test`.
    end = "**/*" if nested else "*"
    return _joined(top[:depth], f"**/{_joined(top[depth:], end)}" if top[depth:] else end)


def _joined(path: Names, end: str) -> str:
    """Returns a pattern below a folder, the names of which stand for themselves."""
    return "/".join([*map(literal, path), end])


def _plain(value: list[str] | str) -> list[str] | str:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _require_clear(places: Places, normal: Sequence[Place], tested: Sequence[Place]) -> None:
    """Raises `ImageError` if the names of some folders leave open what their images are."""
    root, test = places.root, places.of(Role.TEST, Role.UNCLEAR)
    if test:
        *around, kind = test[0].top
        raise ImageError(
            problem=f"{root} has images to evaluate on in {described(test)}, which may be good or "
            "defective.",
            fix="Name the folder of good ones 'good', and move defects to "
            f"'{'/'.join([*around, 'bad', kind])}'.",
        )
    split, role = normal[0].split, normal[0].role
    open_ = list[Place]()
    if split is Role.TRAIN and (role is None or not tested):
        open_ = places.of(Role.TRAIN, *UNSETTLED)
    elif role is Role.GOOD and not tested:
        open_ = places.of(None, *UNSETTLED)
    if open_:
        first, name, place = "/".join(open_[0].top), open_[0].top[-1], "/".join(normal[0].top)
        good = f"{first} to '{place}/{name}'"
        if role is None:
            good = f"all good parts to '{place}/good'"
        elif open_[0].top[:-1] == normal[0].top:
            good = f"good parts to '{place}'"
        # Defects beside 'test' would not be looked at.
        tops = ["test"] if any(one.split is Role.TEST for one in places.images) else []
        bad = "/".join([*tops, "bad", *([] if role_of(name) is Role.BAD else [name])])
        raise ImageError(
            problem=f"{root} has images of good parts in {described(normal)}, and others in "
            f"{described(open_)}, which may be good parts too, or defects.",
            fix=f"Move {good}, or defects to '{bad}', or others out of this folder.",
        )


def _require_no_defects(places: Places) -> None:
    """Raises `ImageError` if the only images of defects are not for the test."""
    found = places.of(Role.VALIDATION, *DEFECTS, Role.UNKNOWN)
    if found:
        raise ImageError(
            problem=f"{places.root} has images of defects in {described(found)}, where they are "
            "for validation, which takes only good parts, or for the test.",
            fix=f"Rename '{found[0].top[0]}' to 'test' to evaluate on them, or move them away.",
        )
    inside = [
        one
        for one in places.of(None, Role.UNKNOWN)
        if not {*DEFECTS}.isdisjoint(role for name in one.path for role in roles_of(name))
    ]
    if inside:
        raise ImageError(
            problem=f"{places.root} has images of defects in {described(inside)}, which may be for "
            "the test.",
            fix=f"Rename '{'/'.join(inside[0].top)}' to 'test' to evaluate on them, or move them "
            "away.",
        )


def _require_alone(places: Places, group: Sequence[Place], top: Names) -> None:
    """Raises `ImageError` if a folder has, at any depth, images of another purpose."""
    others = [one for one in places.images if one not in group and one.path[: len(top)] == top]
    if others:
        raise ImageError(
            problem=f"{places.root / Path(*top)} has images of one kind, but inside it "
            f"{described(others)} may be another.",
            fix=f"Move {'/'.join(others[0].path)} out of it.",
        )


def _ask_for_good(places: Places) -> NoReturn:
    """Raises `ImageError`, because no folder says that it has good parts."""
    root, defects = places.root, places.of(None, *DEFECTS) + places.of(Role.TEST, *DEFECTS)
    others = [one for one in places.images if one not in defects]
    if others:
        require_no_labels(places)
    products = {_product_of(one.path): one.path for one in reversed(others)}
    products.pop((), None)
    if products:
        _ask_for_product(root, products)
    if others:
        fix = "Put folders of good parts into 'good', and those of defects into 'bad'."
        if len(others) == 1:
            folder = shlex.quote(str(root / Path(*others[0].path)))
            fix = f"Name the folder of good parts 'good', or give it with --data {folder}."
        raise ImageError(
            problem=f"no images in {root} are said to be good parts: it has {described(others)}.",
            fix=fix,
        )
    require_formats(places)
    if defects:
        raise ImageError(
            problem=f"{root} has only images of defects: {described(defects)}.",
            fix="Put images of good parts, to learn from, into a folder 'good' beside them.",
        )
    ask_for_images(places)


def _product_of(path: Names) -> Names:
    """Returns the first names of a path below which it says that its images are good parts."""
    meanings = ((path[:depth], meaning_of(path[depth:])) for depth in range(1, len(path)))
    return next((first for first, found in meanings if {Role.GOOD, Role.TRAIN} & {*found}), ())


def _ask_for_product(root: Path, products: dict[Names, Names]) -> NoReturn:
    """Raises `ImageError`, because folders inside have good parts, perhaps of several products.

    Each has the path of some of its good parts.
    """
    names = ["/".join(one) for one in reversed(products)]
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    first, path = next(reversed(products.items()))
    data = f"--data {shlex.quote(str(root / Path(*first)))}"
    fix = f"Give it with {data}."
    if len(names) > 1:
        fix = f"Put the good parts of all into '{root / 'good'}', or give one folder, e.g. {data}"
        # Views may lie in folders of days.
        pattern = f"**/{'/'.join(path[len(first) - 1 :])}/*"
        fix += f", or a recipe with 'normal: {pattern}'." if len(first) > 1 else "."
    if len(first) > 1 and role_of(first[0]) in SPLITS:
        inside = "/".join([path[1], path[0], *path[2:]])
        fix = f"Put all folders of a product into one, such as '{inside}', and give it with --data."
    raise ImageError(
        problem=f"no images in {root} itself, but good parts in its folder"
        f"{'s' if len(names) > 1 else ''} {', '.join(names[:LISTED])}{more}.",
        fix=fix,
    )
