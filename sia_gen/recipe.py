"""The recipe: every fact about a data set and every setting of a run, in one validated YAML file.

A recipe is looked up by name (those shipped with sia-gen) or by path. It is saved beside every
output, and its hash stands in every manifest, so that a result always tells how it was made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator

from sia_gen.data_settings import Data, Foreground, Section
from sia_gen.errors import RecipeError
from sia_gen.settings import Classifier, Diffusion, RealNetFit, Synthesis
from sia_gen.shipped import shipped
from sia_gen.suggestions import did_you_mean

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
# NumPy takes no seed of 32 bits or more, and every process adds its rank.
Seed = Annotated[int, Field(ge=0, lt=2**31)]
# Fields of several types: pydantic adds the type it tried to the location of an error.
UNIONS = (["data", "images"], ["synthesis", "strength"], ["realnet", "weights"])


class Recipe(Section):
    """Everything a run needs to know. `Recipe.load` reads one, `save` writes it."""

    name: Name
    title: str
    license: str
    source: str
    categories: list[Name] = Field(min_length=1)
    mode: Literal["L", "RGB"] = "RGB"
    seed: Seed = 0
    data: Data
    foreground: dict[str, Foreground] = Field(default={})
    diffusion: Diffusion = Diffusion()
    classifier: Classifier = Classifier()
    synthesis: Synthesis = Synthesis()
    realnet: RealNetFit = RealNetFit()

    @field_validator("data")
    @classmethod
    def _names_are_of_categories(cls, data: Data, info: ValidationInfo) -> Data:
        require_categories(data.names, info)
        return data

    @field_validator("foreground")
    @classmethod
    def _rules_are_of_categories(
        cls, rules: dict[str, Foreground], info: ValidationInfo
    ) -> dict[str, Foreground]:
        require_categories(rules, info)
        for category, rule in rules.items():
            if rule.channel != "grey" and info.data.get("mode") == "L":
                msg = f"'{category}' asks for channel '{rule.channel}', but 'mode' is L"
                raise ValueError(msg)
        return rules

    @classmethod
    def load(cls, name_or_path: str | Path) -> Recipe:
        """Reads a recipe shipped with sia-gen (by name) or any other (by path).

        Raises:
            RecipeError: If there is no such recipe, or a field of it is wrong.
        """
        path = find_recipe(name_or_path)
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
            problem = " ".join(str(error).split())
            raise RecipeError(
                problem=f"{path} cannot be read as YAML: {problem}.", fix="Mend the file."
            ) from error
        return cls.parse(content, where=str(path))

    @classmethod
    def parse(cls, content: object, where: str) -> Recipe:
        """Validates the content of a recipe; `where` names its origin in errors."""
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise RecipeError(
                problem=f"{where}: {describe(error, content)}.",
                fix="'sia-gen recipes NAME' prints a complete example.",
            ) from None

    def override(self, changes: Mapping[str, Any]) -> Recipe:
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

    def choose_categories(self, wanted: Iterable[str] | None) -> list[str]:
        """The wanted categories, all of the recipe's when none are named.

        Raises:
            RecipeError: If the recipe does not have one of them.
        """
        chosen = list(wanted or self.categories)
        for category in chosen:
            if category not in self.categories:
                raise RecipeError(
                    problem=f"recipe '{self.name}' has no category '{category}'"
                    f"{did_you_mean(category, self.categories)}.",
                    fix=f"Its categories are: {', '.join(self.categories)}.",
                )
        return chosen


def recipes_folder() -> Path:
    """The folder of the recipes that come with sia-gen, installed or in a checkout."""
    return shipped("recipes")


def recipe_names() -> list[str]:
    """Names of the recipes that come with sia-gen."""
    return sorted(path.stem for path in recipes_folder().glob("*.yaml"))


def find_recipe(name_or_path: str | Path) -> Path:
    """The file of a recipe given by name or path."""
    if Path(name_or_path).is_file():
        return Path(name_or_path)
    names = recipe_names()
    if str(name_or_path) in names:
        return recipes_folder() / f"{name_or_path}.yaml"
    raise RecipeError(
        problem=f"there is no recipe '{name_or_path}'{did_you_mean(str(name_or_path), names)}.",
        fix=f"Give the path of a YAML file or one of: {', '.join(names)}.",
    )


def require_categories(names: Iterable[str], info: ValidationInfo) -> None:
    """Raises ValueError unless all names are categories of the recipe under validation."""
    # Wrong categories are not there, and are an error already.
    categories: list[str] = info.data.get("categories", list(names))
    for name in names:
        if name not in categories:
            msg = f"'{name}' is not among 'categories'{did_you_mean(name, categories)}"
            raise ValueError(msg)


def describe(error: ValidationError, content: object) -> str:
    """The first problem of a failed validation as one phrase, with the field that has it."""
    problem = error.errors()[0]
    steps = [str(step) for step in problem["loc"]]
    if steps[:2] in UNIONS:
        del steps[2:3]
    if steps[:2] == ["data", "alternatives"]:
        del steps[3:4]
    field = ".".join(steps) or "the recipe"
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{field}'{did_you_mean(steps[-1], sibling_keys(steps))}"
    if problem["type"] == "missing":
        return f"'{field}' is missing"
    message = problem["msg"].removeprefix("Value error, ").rstrip(".")
    return f"'{field}': {message[:1].lower()}{message[1:]}"


def sibling_keys(steps: list[str]) -> list[str]:
    """The keys a recipe may have where `steps` leads to one it may not have."""
    model: type[BaseModel] = Recipe
    for step in steps[:-1]:
        annotation = model.model_fields[step].annotation if step in model.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)
