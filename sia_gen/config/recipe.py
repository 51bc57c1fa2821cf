"""The recipe: every fact about a data set and every setting of a run, in one YAML file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from sia_gen.config.data import Data, Foreground
from sia_gen.config.recipe_file import Name, RecipeFile, Seed, find_recipe, read_recipe_file
from sia_gen.config.settings import Classifier, Diffusion, RealNetFit, Synthesis
from sia_gen.config.suggestions import did_you_mean
from sia_gen.errors import RecipeError
from sia_gen.io.locations import Location


class Recipe(RecipeFile):
    """Everything a run needs to know of one data set."""

    # Repeated, so that they stand where a reader of the file looks for them.
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

    @field_validator("synthesis")
    @classmethod
    def _strengths_are_of_categories(cls, synthesis: Synthesis, info: ValidationInfo) -> Synthesis:
        require_categories(synthesis.calibrated, info)
        return synthesis

    @classmethod
    def load(cls, name_or_path: str | Location) -> Recipe:
        """Reads a recipe shipped with sia-gen (by name) or any other (by path).

        Raises:
            RecipeError: If there is no such recipe, or a field of it is wrong.
        """
        path = find_recipe(name_or_path)
        content = read_recipe_file(path)
        if isinstance(content, dict) and "members" in content:
            raise RecipeError(
                problem=f"{path} is a recipe of several data sets; this takes one at a time.",
                fix="Give the recipe of one of them; they stand under 'members'.",
            )
        return cls.parse(content, where=str(path))

    @property
    def dataset(self) -> str:
        """The name of the data set in keys and paths."""
        return self.name.replace("-", "_")

    @property
    def members(self) -> list[Recipe]:
        """The recipes of a corpus made from this one."""
        return [self]


def require_categories(names: Iterable[str], info: ValidationInfo) -> None:
    """Raises ValueError unless all names are categories of the recipe under validation."""
    # Wrong categories are not there, and are an error already.
    categories: list[str] = info.data.get("categories", list(names))
    for name in names:
        if name not in categories:
            msg = f"'{name}' is not among 'categories'{did_you_mean(name, categories)}"
            raise ValueError(msg)
