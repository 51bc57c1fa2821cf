"""The recipe: every fact about a data set and every setting of a run, in one validated YAML file.

A recipe is looked up by name (those shipped with sia-gen) or by path. It is saved beside every
output, and its hash stands in every manifest, so that a result always tells how it was made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from sia_gen.errors import OptionError, RecipeError
from sia_gen.shipped import shipped
from sia_gen.strength import Strength
from sia_gen.suggestions import did_you_mean

Fraction = Annotated[float, Field(gt=0, lt=1)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
# NumPy takes no seed of 32 bits or more, and every process adds its rank.
Seed = Annotated[int, Field(ge=0, lt=2**31)]
# Fields of several types: pydantic adds the type it tried to the location of an error.
UNIONS = (["data", "images"], ["synthesis", "strength"], ["realnet", "weights"])


class Section(BaseModel):
    """A part of a recipe: unknown keys are errors, and nothing changes after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PackageFile(Section):
    """A file that an installed Python package brings along."""

    package: str
    file: str


class FolderLayout(Section):
    """Images sorted into folders; each entry is a glob below the root, with `{category}` in it.

    Without `test_normal`, a part of the normal images is held out for the test.
    """

    layout: Literal["folder"] = "folder"
    normal: str
    test_normal: str | None = None
    test_anomalous: str | None = None


class TableLayout(Section):
    """Images listed in a text file, one per line, with their label and category."""

    layout: Literal["table"]
    table: str
    columns: list[str]
    image: str
    category: str
    label: str
    normal: str
    anomalous: str

    @model_validator(mode="after")
    def _columns_exist(self) -> Self:
        for column in (self.image, self.category, self.label):
            if column not in self.columns:
                msg = f"column '{column}' is not among 'columns'"
                raise ValueError(msg)
        return self


class Data(Section):
    """Where the images are and which of them are used for what.

    Attributes:
        package: A Python package that contains the images, used when no `--data` is given.
        images: How the images are arranged below the root.
        fit_fraction: Share of the shuffled normal images used to fit, when the data set has no
            test split of its own.
        validation_fraction: Share of those kept back to choose the best weights and the threshold.
        split_seed: Seeds the shuffle.
        non_square: What to do with images that are not square; without it they are an error.
    """

    package: str | None = None
    images: Annotated[FolderLayout | TableLayout, Field(discriminator="layout")]
    fit_fraction: Fraction = 0.7
    validation_fraction: Fraction = 0.1
    split_seed: int = 0
    non_square: Literal["crop", "stretch"] | None = None


class Diffusion(Section):
    """Training of the diffusion model. See `sia_gen.diffusion`."""

    preset: str = "small"
    image_size: Annotated[int, Field(ge=8)] = 256
    batch_size: Annotated[int, Field(ge=1)] = 16
    max_steps: Annotated[int, Field(ge=1)] = 20_000
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    decay_from: Annotated[float, Field(ge=0, le=1)] = 1.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.9999
    horizontal_flip: bool = False
    vertical_flip: bool = False
    checkpoint_every: Annotated[int, Field(ge=1)] = 1000


class Synthesis(Section):
    """What a corpus holds. See `sia_gen.corpus`."""

    images: Annotated[int, Field(ge=1)] = 10_000
    strength: str | float = "0.1:0.2"
    steps: Annotated[int, Field(ge=1, le=1000)] = 20
    batch_size: Annotated[int, Field(ge=1)] = 16
    shard_size: Annotated[int, Field(ge=1)] = 2000
    format: Literal["png", "webp", "jpg"] = "png"

    @field_validator("strength")
    @classmethod
    def _strength_parses(cls, value: str | float) -> str | float:
        try:
            Strength.parse(value)
        except OptionError as error:
            raise ValueError(error.problem) from error
        return value


class RealNetFit(Section):
    """Fitting of RealNet. See `sia_gen.realnet`; the defaults are the paper's."""

    backbone: str = "wide_resnet50_2"
    weights: PackageFile | str | None = None
    standardise: bool = False
    image_size: Annotated[int, Field(ge=32)] = 256
    strides: list[int] = [4, 8, 16, 32]
    channels_kept: list[Annotated[int, Field(ge=1)]] = [256, 512, 512, 256]
    num_max: Annotated[int, Field(ge=1)] = 256
    num_mean: Annotated[int, Field(ge=1)] = 256
    afs_batches: Annotated[int, Field(ge=1)] = 64
    opacity: tuple[float, float] = (0.5, 1.0)
    anomalous_fraction: Fraction = 0.5
    batch_size: Annotated[int, Field(ge=1)] = 16
    max_steps: Annotated[int, Field(ge=1)] = 10_000
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    decay_from: Annotated[float, Field(ge=0, le=1)] = 1.0
    horizontal_flip: bool = False
    vertical_flip: bool = False
    validate_every: Annotated[int, Field(ge=1)] = 500

    @model_validator(mode="after")
    def _one_count_per_layer(self) -> Self:
        if len(self.channels_kept) != len(self.strides):
            msg = "'channels_kept' needs one number per entry of 'strides'"
            raise ValueError(msg)
        return self


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
    diffusion: Diffusion = Diffusion()
    synthesis: Synthesis = Synthesis()
    realnet: RealNetFit = RealNetFit()

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


def describe(error: ValidationError, content: object) -> str:
    """The first problem of a failed validation as one phrase, with the field that has it."""
    problem = error.errors()[0]
    steps = [str(step) for step in problem["loc"]]
    if steps[:2] in UNIONS:
        del steps[2:3]
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
