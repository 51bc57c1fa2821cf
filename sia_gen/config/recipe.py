"""The recipe: every fact about a data set and every setting of a run, in one YAML file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from sia_gen.config.data import Data, Foreground
from sia_gen.config.recipe_file import Name, RecipeFile, Seed, read_recipe_file
from sia_gen.config.settings import Classifier, Diffusion, RealNetFit, Synthesis
from sia_gen.errors import RecipeError, did_you_mean
from sia_gen.io.files import Location

# The name of a model of all categories, which no category can have.
JOINT = "_joint"


class Recipe(RecipeFile):
    """A data set, and how to train on it, synthesise anomalies and detect them."""

    name: Name
    """Short name, in lower case."""
    title: str
    """Name for people."""
    license: str
    """Licence of the images, for the card of a corpus; `other` if it has no short name."""
    source: str
    """Where the images come from, for example a URL."""
    categories: list[Name] = Field(min_length=1)
    """Categories of the data set."""
    mode: Literal["L", "RGB"] = "RGB"
    """Mode of the images: `L` for grey, `RGB` for colour."""
    seed: Seed = 0
    """Seed of everything random."""
    data: Data
    """Where the images are."""
    foreground: dict[str, Foreground] = Field(default={})
    """Where anomalies may be pasted, by category; everywhere for the categories left out."""
    diffusion: Diffusion = Diffusion()
    """Training of the diffusion model."""
    classifier: Classifier = Classifier()
    """Training of the classifier."""
    synthesis: Synthesis = Synthesis()
    """Contents of the corpus."""
    realnet: RealNetFit = RealNetFit()
    """Training of the detector."""

    @field_validator("data", "foreground", "synthesis")
    @classmethod
    def _names_are_categories(cls, value: Any, info: ValidationInfo) -> Any:
        inside = {"data": "names", "synthesis": "calibrated"}.get(info.field_name or "")
        names = getattr(value, inside) if inside else value
        # If the categories themselves are wrong, that is the error to report.
        categories: list[str] = info.data.get("categories", list(names))
        for name in names:
            if name not in categories:
                msg = f"'{name}' is not among 'categories'{did_you_mean(name, categories)}"
                raise ValueError(msg)
        return value

    @field_validator("foreground")
    @classmethod
    def _channels_exist(cls, rules: Any, info: ValidationInfo) -> Any:
        for category, rule in rules.items():
            if rule.channel != "grey" and info.data.get("mode") == "L":
                msg = f"'{category}' asks for channel '{rule.channel}', but 'mode' is L"
                raise ValueError(msg)
        return rules

    @model_validator(mode="after")
    def _places_are_in_photographs(self) -> Self:
        if self.realnet.position and self.data.tile is None:
            msg = "'realnet.position' needs photographs that are cut into tiles, 'data.tile'"
            raise ValueError(msg)
        return self

    @classmethod
    def load(cls, name_or_path: str | Location) -> Recipe:
        """Reads a recipe shipped with sia-gen (by name) or any other (by path).

        Raises:
            RecipeError: If there is no such recipe, it has a wrong field, or is a collection.
        """
        path, content = read_recipe_file(name_or_path)
        if isinstance(content, dict) and "members" in content:
            raise RecipeError(
                problem=f"{path} is a recipe of several data sets; only one is possible here.",
                fix="Give the recipe of one of them, which are listed under 'members'.",
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


def _load_named(member: Any) -> Any:
    if not isinstance(member, str):
        return member
    try:
        return Recipe.load(member)
    except RecipeError as error:
        raise ValueError(error.problem) from error


class Collection(RecipeFile):
    """Several data sets in one corpus; the recipes of its members say how to train and evaluate."""

    name: Name
    """Short name, in lower case."""
    title: str
    """Name for people."""
    members: list[Annotated[Recipe, BeforeValidator(_load_named)]] = Field(min_length=1)
    """Recipes of the data sets, each by name, by path or in full."""
    seed: Seed = 0
    """Seed of the corpus."""
    synthesis: Synthesis = Synthesis()
    """Contents of the corpus. Of the members' own `synthesis` only `calibrated` is used."""

    @field_validator("synthesis")
    @classmethod
    def _calibration_is_the_members(cls, synthesis: Synthesis) -> Synthesis:
        if synthesis.calibrated:
            msg = "'calibrated' belongs in the recipes of the members"
            raise ValueError(msg)
        return synthesis

    @model_validator(mode="after")
    def _members_go_together(self) -> Self:
        if len({member.mode for member in self.members}) > 1:
            msg = "the members differ in 'mode', but the images of a corpus are all L or all RGB"
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
    """A category of a data set, which one model learns."""

    recipe: Recipe
    category: str

    @property
    def name(self) -> str:
        """Its name in a corpus, `<dataset>.<category>`."""
        return f"{self.recipe.dataset}.{self.category}"


def load_corpus_recipe(name_or_path: str | Location) -> CorpusRecipe:
    """Reads the recipe of a corpus: of one data set or of several.

    Raises:
        RecipeError: If there is no such recipe, or it has a wrong field.
    """
    path, content = read_recipe_file(name_or_path)
    if isinstance(content, dict) and "members" in content:
        return Collection.parse(content, where=str(path))
    return Recipe.parse(content, where=str(path))


def all_categories(recipe: CorpusRecipe) -> list[DatasetCategory]:
    """Returns every category of every data set, in the recipe's order."""
    return [
        DatasetCategory(member, category)
        for member in recipe.members
        for category in member.categories
    ]


def choose_categories(recipe: CorpusRecipe, wanted: Sequence[str] | None) -> list[DatasetCategory]:
    """Returns the wanted categories in the recipe's order, all of them if none are named.

    Args:
        recipe: The recipe of the corpus.
        wanted: A category, `bottle`; with its data set, `mvtec_ad.bottle`; or a data set.

    Raises:
        RecipeError: If the recipe lacks one of them, or two data sets have it.
    """
    known = all_categories(recipe)
    if not wanted:
        return known
    chosen = [match for name in wanted for match in _matches(recipe, known, name)]
    return [category for category in known if category in chosen]


def _matches(
    recipe: CorpusRecipe, known: Sequence[DatasetCategory], name: str
) -> list[DatasetCategory]:
    """The categories that a user means by a name."""
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
