"""Output folders: each belongs to one recipe, which is saved in it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from sia_gen.config.recipe import CorpusRecipe, Recipe, load_corpus_recipe
from sia_gen.errors import OutputError
from sia_gen.io.files import Location, prepare_output, write_text
from sia_gen.io.locks import settling, working_on

RECIPE = "recipe.yaml"
# How long a training goes on, which does not change what it learns.
LIMITS = ("max_minutes", "max_steps")
# Fields on which every result depends that is made from images.
ALWAYS = ("name", "mode", "seed", "data")
# More steps continue a run, and a learning rate that proved too high may be lowered on the way: the
# log has the rate of every step. The manifest of a corpus has the strength of every shard, and the
# fit of a detector recognises its textures in any place.
_MAY_CHANGE = {
    "classifier.checkpoint_every",
    "classifier.learning_rate",
    "classifier.max_steps",
    "diffusion.checkpoint_every",
    "diffusion.checkpoints_kept",
    "diffusion.gradient_checkpointing",
    "diffusion.learning_rate",
    "diffusion.max_minutes",
    "diffusion.max_steps",
    "diffusion.preview_every",
    "realnet.learning_rate",
    "realnet.max_minutes",
    "realnet.max_steps",
    "realnet.textures",
    "synthesis.calibrated",
}


@contextmanager
def claim_output(
    folder: Location,
    recipe: CorpusRecipe,
    sections: Iterable[str],
    parts: Mapping[str, range],
    *,
    main: bool = True,
    save: bool = True,
    always: Sequence[str] = ALWAYS,
) -> Iterator[None]:
    """Makes an output folder, saves the recipe in it, and holds parts of it for this process.

    Args:
        sections: Fields of the recipe that the result depends on. An `OutputError` says if the
            folder holds the result of a recipe that differs in them.
        parts: The samples to work on, by part, such as a category.
        main: Whether this is the main process; the others do nothing here.
        save: Whether to save the recipe; otherwise `save_recipe` does later.
        always: Fields that the result depends on besides the sections.
    """
    fields = [*always, *sections]
    if not main:
        yield
        return
    _require_same_recipe(folder, recipe, fields)
    prepare_output(folder)
    with ExitStack() as held:
        for name, samples in parts.items():
            held.enter_context(working_on(folder, name, samples))
        if save:
            with settling(folder):
                _save_recipe(folder, recipe, fields)
        yield


def save_recipe(folder: Location, recipe: CorpusRecipe, sections: Iterable[str]) -> None:
    """Saves a recipe in an output folder held by `settling`."""
    _save_recipe(folder, recipe, [*ALWAYS, *sections])


def saved_in(folders: Iterable[Location], name: str) -> Iterator[tuple[Recipe, Location]]:
    """Yields the recipes of a data set that are saved in some outputs, and their files."""
    for path in (folder / RECIPE for folder in folders):
        members = load_corpus_recipe(path).members if path.exists() else []
        yield from ((member, path) for member in members if member.name == name)


def with_limits(saved: Recipe, limits: Recipe) -> Recipe:
    """Returns a saved recipe with the limits of another one: each run has its own."""
    trainings = {
        name: getattr(saved, name).model_copy(
            update={limit: getattr(getattr(limits, name), limit) for limit in LIMITS}
        )
        for name in ("diffusion", "realnet")
    }
    return saved.model_copy(update=trainings)


def _save_recipe(folder: Location, recipe: CorpusRecipe, fields: Iterable[str]) -> None:
    # Another process may have saved another recipe since the folder was claimed.
    _require_same_recipe(folder, recipe, fields)
    write_text(folder / RECIPE, recipe.to_yaml())


def _require_same_recipe(folder: Location, recipe: CorpusRecipe, fields: Iterable[str]) -> None:
    if not (folder / RECIPE).exists():
        return
    old, new = load_corpus_recipe(folder / RECIPE).model_dump(), recipe.model_dump()
    for field in fields:
        difference = _first_difference(field, old.get(field), new.get(field))
        if difference:
            raise OutputError(
                problem=f"{folder} already holds the result of another recipe ({difference}).",
                fix="Choose another folder with --out, or delete it.",
            )


def _first_difference(path: str, old: Any, new: Any) -> str | None:
    """The first field in which two parts of recipes differ, as "field: old, now new"."""
    if path in _MAY_CHANGE:
        return None
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            found = _first_difference(f"{path}.{key}", old.get(key), new.get(key))
            if found:
                return found
        return None
    return None if old == new else f"{path}: {old}, now {new}"
