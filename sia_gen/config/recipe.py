"""The recipe: every fact about a data set and every setting of a run, in one YAML file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from sia_gen.config.data import Data, Foreground
from sia_gen.config.recipe_file import Name, RecipeFile, Seed, find_recipe, read_recipe_file
from sia_gen.config.settings import Classifier, Diffusion, RealNetFit, Synthesis
from sia_gen.errors import RecipeError, did_you_mean
from sia_gen.io.locations import Location

# Stands for a category in the folders of a model of all categories.
JOINT = "_joint"


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


def load_named(member: Any) -> Any:
    """A member of a collection: a recipe in full, or the name of one."""
    if not isinstance(member, str):
        return member
    try:
        return Recipe.load(member)
    except RecipeError as error:
        raise ValueError(error.problem) from error


class Collection(RecipeFile):
    """Several data sets in one corpus; the recipes of its members say how to train and evaluate.

    Attributes:
        members: The recipes of the data sets, by name or in full.
        synthesis: How the corpus is made; that of the members does not count, but for the
            calibrated strengths.
    """

    name: Name
    title: str
    members: list[Annotated[Recipe, BeforeValidator(load_named)]] = Field(min_length=1)
    seed: Seed = 0
    synthesis: Synthesis = Synthesis()

    @field_validator("synthesis")
    @classmethod
    def _calibration_is_the_members(cls, synthesis: Synthesis) -> Synthesis:
        if synthesis.calibrated:
            msg = "'calibrated' belongs into the recipes of the members"
            raise ValueError(msg)
        return synthesis

    @model_validator(mode="after")
    def _members_go_together(self) -> Self:
        if len({member.mode for member in self.members}) > 1:
            msg = "the members differ in 'mode'; the images of a corpus are all L or all RGB"
            raise ValueError(msg)
        if len({member.dataset for member in self.members}) < len(self.members):
            msg = "two members have the same name"
            raise ValueError(msg)
        return self

    @property
    def mode(self) -> Literal["L", "RGB"]:
        """The mode of all images."""
        return self.members[0].mode


CorpusRecipe = Recipe | Collection


class DatasetCategory(NamedTuple):
    """A category of a data set: what one model makes."""

    recipe: Recipe
    category: str

    @property
    def name(self) -> str:
        """Its name in a corpus, `<dataset>.<category>`."""
        return f"{self.recipe.dataset}.{self.category}"


def load_corpus_recipe(name_or_path: str | Location) -> CorpusRecipe:
    """Reads the recipe of a corpus: of one data set or of several.

    Raises:
        RecipeError: If there is no such recipe, or a field of it is wrong.
    """
    path = find_recipe(name_or_path)
    content = read_recipe_file(path)
    if isinstance(content, dict) and "members" in content:
        return Collection.parse(content, where=str(path))
    return Recipe.parse(content, where=str(path))


def all_categories(recipe: CorpusRecipe) -> list[DatasetCategory]:
    """Every category of every data set, in the recipe's order."""
    return [
        DatasetCategory(member, category)
        for member in recipe.members
        for category in member.categories
    ]


def choose_categories(recipe: CorpusRecipe, wanted: Sequence[str] | None) -> list[DatasetCategory]:
    """The wanted categories in the recipe's order, all of them when none are named.

    Args:
        recipe: The recipe of the corpus.
        wanted: A category, `bottle`; with its data set, `mvtec_ad.bottle`; or a data set.

    Raises:
        RecipeError: If the recipe lacks one of them, or two data sets have it.
    """
    known = all_categories(recipe)
    if not wanted:
        return known
    chosen = [match for name in wanted for match in matches(recipe, known, name)]
    return [category for category in known if category in chosen]


def matches(
    recipe: CorpusRecipe, known: Sequence[DatasetCategory], name: str
) -> list[DatasetCategory]:
    """The categories a user means by a name."""
    of_dataset = [one for one in known if name in (one.recipe.name, one.recipe.dataset)]
    found = [one for one in known if name in (one.category, one.name)]
    if len(found) > 1:
        full = " or ".join(one.name for one in found)
        raise RecipeError(
            problem=f"recipe '{recipe.name}' has '{name}' in several data sets.",
            fix=f"Give --category {full}.",
        )
    if not found and not (of_dataset and isinstance(recipe, Collection)):
        names = [one.category for one in known]
        raise RecipeError(
            problem=f"recipe '{recipe.name}' has no category '{name}'{did_you_mean(name, names)}.",
            fix=f"Its categories are: {', '.join(names)}.",
        )
    return found or of_dataset
