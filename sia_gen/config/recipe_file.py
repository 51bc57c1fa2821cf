"""Recipe files: YAML that is validated as a whole, with errors that name the field.

A recipe is looked up by name (those shipped with sia-gen) or by path. It is saved beside every
output, and its hash stands in every manifest, so that a result always tells how it was made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Self, Union, get_args, get_origin

from pydantic import BaseModel, Field, ValidationError

from sia_gen.config.data import Section
from sia_gen.config.yaml import MOST_BYTES, dump_yaml, parse_yaml
from sia_gen.errors import RecipeError, did_you_mean, one_line
from sia_gen.io.locations import Location, shipped

# Folders and files are named by it, with something before and behind.
LONGEST_NAME = 64
# What is told of a file that may be of anything.
MOST_TOLD = 300
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=LONGEST_NAME)]
# NumPy takes no seed of 32 bits or more, and every process adds its rank.
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class RecipeFile(Section):
    """What every kind of recipe has in common."""

    name: Name
    title: str
    seed: Seed = 0

    @classmethod
    def parse(cls, content: object, where: str) -> Self:
        """Validates the content of a recipe; `where` names its origin in errors."""
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise RecipeError(
                problem=f"{where}: {describe(error, cls)}.",
                fix="'sia-gen recipes NAME' prints a complete example.",
            ) from None

    def override(self, changes: Mapping[str, Any]) -> Self:
        """A copy with some fields replaced, e.g. `{"diffusion.max_steps": 4}`; None is skipped."""
        content = self.model_dump()
        for dotted, value in changes.items():
            *sections, field = dotted.split(".")
            if value is not None:
                target = content
                for section in sections:
                    target = target[section]
                target[field] = value
        return self.parse(content, where="command line")

    def to_yaml(self) -> str:
        """The recipe with every default written out."""
        return dump_yaml(self.model_dump(mode="json"))

    def hash(self) -> str:
        """SHA-256 over the canonical content: equal if and only if the recipes are equal."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


def read_recipe_file(path: Location) -> object:
    """The content of a recipe file, not validated.

    Raises:
        RecipeError: If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return parse_yaml(file.read(MOST_BYTES + 1))
    except (ValueError, OSError) as error:
        problem = shortened(error.strerror if isinstance(error, OSError) else error)
        raise RecipeError(
            problem=f"{path} cannot be read as YAML: {problem}.", fix="Mend the file."
        ) from error


def recipe_names() -> list[str]:
    """Names of the recipes that come with sia-gen."""
    return sorted(path.stem for path in shipped("recipes").glob("*.yaml"))


def find_recipe(name_or_path: str | Location) -> Location:
    """The file of a recipe given by name or path.

    Raises:
        RecipeError: If there is none.
    """
    path = Path(name_or_path) if isinstance(name_or_path, str) else name_or_path
    name, names = shortened(name_or_path), recipe_names()
    try:
        if path.is_file():
            return path
    except OSError as error:
        raise RecipeError(
            problem=f"cannot read the recipe '{name}': {error.strerror}.", fix="Check its path."
        ) from error
    if name in names:
        return shipped("recipes") / f"{name}.yaml"
    raise RecipeError(
        problem=f"there is no recipe '{name}'{did_you_mean(name, names)}.",
        fix=f"Give the path of a YAML file or one of: {', '.join(names)}.",
    )


def describe(error: ValidationError, kind: type[BaseModel]) -> str:
    """A problem of a failed validation as one phrase, with the field that has it."""
    # A misspelt key says more than that the right one is missing.
    problem = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    steps, keys = locate(problem["loc"], kind)
    field = shortened(".".join(steps) or "the recipe")
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{field}'{did_you_mean(steps[-1], keys)}"
    if problem["type"].startswith("union_tag"):
        # In quotation marks.
        field = f"{field}.{problem['ctx']['discriminator'][1:-1]}"
    if problem["type"] == "union_tag_invalid":
        return f"'{field}': input should be one of {problem['ctx']['expected_tags']}"
    if problem["type"] in ("missing", "union_tag_not_found"):
        return f"'{field}' is missing"
    message = shortened(problem["msg"].removeprefix("Value error, ").rstrip("."))
    return f"'{field}': {message[:1].lower()}{message[1:]}"


def shortened(text: object) -> str:
    """What is told of something, on one line that has an end."""
    told = one_line(str(text))
    return told if len(told) <= MOST_TOLD else f"{told[:MOST_TOLD]} ..."


def locate(location: Sequence[str | int], kind: type[BaseModel]) -> tuple[list[str], list[str]]:
    """Where an error is.

    Args:
        location: As pydantic gives it.
        kind: Of what was validated.

    Returns:
        The keys that lead there in the file, and those that may stand where the last of them does.
    """
    path: list[str] = []
    keys: list[str] = []
    here: list[Any] = [kind]
    for step in location:
        if len(here) > 1:
            # Of a field of several types pydantic adds the one it tried: its name or its tag.
            here = [one for one in here if one.__name__.lower().startswith(str(step).lower())]
            continue
        path.append(str(step))
        keys = list(getattr(here[0], "model_fields", {})) if here else []
        here = kinds_inside(here[0], step) if here else []
    return path, keys


def kinds_inside(kind: Any, step: str | int) -> list[Any]:
    """The types that a value in something of a type may have."""
    fields = getattr(kind, "model_fields", {})
    if fields:
        return kinds_of(fields[step].annotation) if step in fields else []
    return [one for argument in get_args(kind)[-1:] for one in kinds_of(argument)]


def kinds_of(annotation: Any) -> list[Any]:
    """The types that it stands for."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kinds_of(arguments[0])
    if origin in (Union, UnionType):
        return [kind for one in arguments for kind in kinds_of(one) if kind is not type(None)]
    return [annotation]
