"""Recipes with something in every field, and all that a field may not hold."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sia_gen.config.recipe import Collection, Recipe
from tests.conftest import recipe_content

Path_ = tuple[str | int, ...]
# What is wrong in place of a value of each type.
WRONG: dict[Any, list[Any]] = {
    int: ["much", 1.5, [], {}, True],
    float: ["much", float("nan"), float("inf"), [], {}, True],
    str: [1, 1.5, [], {}, True],
    bool: ["maybe", 2, [], {}],
    Literal: ["no such", 7, [], {}],
    list: [3, "text", {"a": 1}],
    tuple: [3, "text", {"a": 1}, [1], [0.1, 0.2, 0.3]],
    dict: [3, "text", [1]],
    BaseModel: [3, "text", [1]],
}
TABLE = {
    "layout": "table",
    "table": "labels.csv",
    "columns": ["path", "part", "label", "mask", "split"],
    "image": "path",
    "category": "part",
    "label": "label",
    "normal": "good",
    "anomalous": "bad",
    "mask": "mask",
    "split": "split",
}


def everything() -> dict[str, Any]:
    """A recipe with something in every field."""
    content: dict[str, Any] = Recipe.parse(recipe_content(), where="test").model_dump(mode="json")
    content["data"]["images"]["mask"] = "{category}/{defect}/{stem}.png"
    content["data"] |= {"alternatives": [TABLE], "names": {"disc": "Disc"}, "non_square": "crop"}
    content["foreground"] = {"disc": {"method": "otsu"}}
    content["synthesis"]["calibrated"] = {"disc": {"white": "0.1:0.2"}}
    return content


def members() -> dict[str, Any]:
    """A collection of that recipe and of one that is shipped."""
    synthesis = {"images": 3, "strength": "0.1"}
    some = [everything(), "elpv"]
    return {"name": "all", "title": "All", "seed": 0, "members": some, "synthesis": synthesis}


KINDS = {"a recipe": (Recipe, everything), "a collection": (Collection, members)}


def kinds_of(annotation: Any) -> list[Any]:
    """The types that an annotation stands for."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kinds_of(arguments[0])
    if origin in (Union, UnionType):
        return [kind for one in arguments for kind in kinds_of(one) if kind is not type(None)]
    return [annotation]


def walk(annotation: Any, value: Any, path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """All that a recipe can hold, with its type, wherever there is an example of it."""
    yield path, annotation
    for kind in kinds_of(annotation):
        origin, arguments = get_origin(kind), get_args(kind)
        if origin in (list, tuple) and isinstance(value, list):
            yield from walk(arguments[0], value[0], (*path, 0))
        elif origin is dict and isinstance(value, dict):
            for key, inside in value.items():
                yield from walk(arguments[1], inside, (*path, key))
        elif isinstance(value, dict) and set(value) <= set(getattr(kind, "model_fields", {})):
            for key, field in kind.model_fields.items():
                hint = Annotated[(field.annotation, field)]
                yield from walk(hint, value.get(key), (*path, key))


def wrong_types(annotation: Any) -> list[Any]:
    """What no type of a field takes."""
    kinds = [get_origin(kind) or kind for kind in kinds_of(annotation)]
    names = [BaseModel if hasattr(kind, "model_fields") else kind for kind in kinds]
    wrong = [value for value in WRONG[names[0]] if all(refused(value, name) for name in names)]
    return wrong if "None" in str(annotation) else [*wrong, None]


def refused(value: Any, kind: Any) -> bool:
    return any(value is one or repr(value) == repr(one) for one in WRONG[kind])


def out_of_range(annotation: Any) -> Iterator[Any]:
    """What is too small, too large, too short, too long or not of the pattern."""
    if get_origin(annotation) is Annotated:
        for limit in get_args(annotation)[1:]:
            limits = limit.metadata if isinstance(limit, FieldInfo) else [limit]
            for one in limits:
                yield from beyond(one)
    if get_origin(annotation) not in (list, tuple, dict):
        for inside in get_args(annotation):
            if get_origin(inside) is Annotated:
                yield from out_of_range(inside)


def beyond(limit: Any) -> Iterator[Any]:
    values: dict[str, Callable[[Any], Any]] = {
        "ge": lambda bound: bound - 1,
        "gt": lambda bound: bound,
        "le": lambda bound: 2 * bound + 1,
        "lt": lambda bound: bound,
        "min_length": lambda _: [],
        "max_length": lambda bound: "x" * (bound + 1),
        "pattern": lambda _: "../No name",
    }
    for name, value in values.items():
        bound = getattr(limit, name, None)
        if bound is not None:
            yield value(bound)


def holder(content: Any, path: Path_) -> Any:
    """The mapping or list that a path ends in."""
    for step in path[:-1]:
        content = content[step]
    return content


def with_value(content: Any, path: Path_, value: Any) -> Any:
    changed = copy.deepcopy(content)
    holder(changed, path)[path[-1]] = value
    return changed
