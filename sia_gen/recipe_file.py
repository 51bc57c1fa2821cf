"""Recipe files: YAML that is validated as a whole, with errors that name the field.

A recipe is looked up by name (those shipped with sia-gen) or by path. It is saved beside every
output, and its hash stands in every manifest, so that a result always tells how it was made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, Field, ValidationError

from sia_gen.data_settings import Section
from sia_gen.errors import RecipeError
from sia_gen.locations import Location
from sia_gen.shipped import shipped
from sia_gen.suggestions import did_you_mean

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
# NumPy takes no seed of 32 bits or more, and every process adds its rank.
Seed = Annotated[int, Field(ge=0, lt=2**31)]
# Fields of several types: pydantic adds the type it tried to the location of an error.
UNIONS = (["data", "images"], ["synthesis", "strength"], ["realnet", "weights"])


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
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

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
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        problem = " ".join(str(error).split())
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
    if path.is_file():
        return path
    names = recipe_names()
    if str(name_or_path) in names:
        return shipped("recipes") / f"{name_or_path}.yaml"
    raise RecipeError(
        problem=f"there is no recipe '{name_or_path}'{did_you_mean(str(name_or_path), names)}.",
        fix=f"Give the path of a YAML file or one of: {', '.join(names)}.",
    )


def describe(error: ValidationError, kind: type[BaseModel]) -> str:
    """The first problem of a failed validation as one phrase, with the field that has it."""
    problem = error.errors()[0]
    steps = [str(step) for step in problem["loc"]]
    if steps[:2] in UNIONS:
        del steps[2:3]
    if steps[:2] == ["data", "alternatives"]:
        del steps[3:4]
    field = ".".join(steps) or "the recipe"
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{field}'{did_you_mean(steps[-1], sibling_keys(steps, kind))}"
    if problem["type"] == "missing":
        return f"'{field}' is missing"
    message = problem["msg"].removeprefix("Value error, ").rstrip(".")
    return f"'{field}': {message[:1].lower()}{message[1:]}"


def sibling_keys(steps: list[str], kind: type[BaseModel]) -> list[str]:
    """The keys a recipe may have where `steps` leads to one it may not have."""
    for step in steps[:-1]:
        annotation = kind.model_fields[step].annotation if step in kind.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        kind = annotation
    return list(kind.model_fields)
