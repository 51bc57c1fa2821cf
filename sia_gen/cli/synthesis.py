"""The command that makes corpora."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from sia_gen.cli import options
from sia_gen.cli.common import run_folder, say, twin_changes, twin_settings
from sia_gen.errors import OptionError

if TYPE_CHECKING:
    from sia_gen.config.recipe import CorpusRecipe, DatasetCategory
    from sia_gen.twins.maker import TwinMaker

parts = partial(Option, rich_help_panel="Parts of a corpus")

Strength = Annotated[
    str | None, Option(help="A number, a range such as 0.1:0.2, or auto. 0 is normal.")
]
Images = Annotated[int | None, Option(help="Images per category.")]
Steps = Annotated[int | None, Option(help="Reverse steps per image.")]
GuidanceScale = Annotated[float | None, Option(help="Scale of the classifier guidance.")]
Shards = Annotated[str | None, parts(metavar="A:B", help="Make only shards A to B-1.")]
Only = Annotated[str | None, parts(metavar="KEY", help="Make a single sample again.")]
Plan = Annotated[bool, parts("--plan", help="Estimate bytes and hours; write nothing.")]
Photographs = Annotated[Path | None, options.about_twins(help="Photographs for --source image.")]
MaskWeights = Annotated[Path | None, options.about_twins(help="Backbone weights for the masks.")]


def synthesize(
    recipe: options.RecipeName,
    category: options.Category = None,
    strength: Strength = None,
    perturbation: options.Perturbation = None,
    images: Images = None,
    steps: Steps = None,
    guidance_scale: GuidanceScale = None,
    model: options.Model = None,
    classifier: options.Classifier = None,
    out: Annotated[str | None, options.out("corpus")] = None,
    seed: options.Seed = None,
    shards: Shards = None,
    only: Only = None,
    plan: Plan = False,
    twins: options.WithTwins = False,
    source: options.Source = None,
    start: options.Start = None,
    invert: options.Invert = False,
    edit: options.Edit = None,
    region: options.Region = None,
    tiles: options.Tiles = None,
    data: Photographs = None,
    weights: MaskWeights = None,
    precision: options.Precision = None,
    device: options.Device = "auto",
    compiled: options.Compile = None,
    channels_last: options.ChannelsLast = None,
    resume: options.Resume = True,
) -> None:
    """Make a corpus of synthetic anomalies.

    Perturbation 'white' is the paper's noise; 'pink' makes stains, 'blobs' spots, 'streaks'
    scratches and 'cracks' cracks, at about a tenth of the strength. Of several kinds every image
    draws one.

    Example: sia-gen synthesize --recipe elpv --strength 0.1:0.2 --images 1000
    """
    from sia_gen.config.recipe import choose_categories, load_corpus_recipe
    from sia_gen.images.shapes import settle_corpus

    if only is not None:
        _require_absent({"shards": shards, "category": category, "plan": plan})
    changes = {
        "seed": seed,
        "synthesis.strength": strength,
        "synthesis.perturbation": perturbation,
        "synthesis.images": images,
        "synthesis.steps": steps,
        "synthesis.guidance_scale": guidance_scale,
    }
    settings = twin_settings(source, start, invert, edit, region, tiles)
    inputs = [name for name, value in {"data": data, "weights": weights}.items() if value]
    chosen = load_corpus_recipe(recipe)
    chosen = chosen.override(changes | twin_changes(chosen, twins, settings, *inputs))
    models, guide = _model_folders(chosen, model, classifier)
    earlier = [Path(out or run_folder(chosen, "corpus")), models]
    chosen = settle_corpus(chosen, choose_categories(chosen, category), data, earlier)
    categories = choose_categories(chosen, category)
    from sia_gen.corpus.estimate import estimate
    from sia_gen.runtime.device import Runtime

    runtime = Runtime(precision, device, compiled, channels_last)
    given: dict[str, Any] = {"models": models, "runtime": runtime, "classifier": guide}
    if plan:
        say(estimate(chosen, categories, shards=shards, **given))
        return
    given["maker"] = _twin_maker(chosen, categories, data, weights)
    if only is not None:
        _remake(chosen, only, out, given)
    else:
        _make(chosen, categories, out, given | {"shards": shards, "resume": resume})


def _remake(recipe: CorpusRecipe, key: str, out: str | None, inputs: dict[str, Any]) -> None:
    from sia_gen.corpus.generate import remake
    from sia_gen.io.files import location

    place = location(out or run_folder(recipe, "samples"))
    say("\n".join(str(path) for path in remake(recipe, key, out=place, **inputs)))


def _make(
    recipe: CorpusRecipe, categories: list[DatasetCategory], out: str | None, inputs: dict[str, Any]
) -> None:
    from sia_gen.corpus.generate import synthesize as generate
    from sia_gen.io.files import location

    corpus = location(out or run_folder(recipe, "corpus"))
    generate(recipe, categories, out=corpus, **inputs)
    masks = inputs["maker"].mask_summary() if inputs["maker"] is not None else None
    if masks is not None:
        say(f"{masks}.")
    say(f"The corpus is in {corpus}. Next: sia-gen verify {corpus}")


def _twin_maker(
    recipe: CorpusRecipe, categories: list[DatasetCategory], data: Path | None, weights: Path | None
) -> TwinMaker | None:
    if recipe.synthesis.twins is None:
        return None
    from sia_gen.twins.maker import TwinMaker

    return TwinMaker(recipe, categories, data, weights)


def _model_folders(
    recipe: CorpusRecipe, model: Path | None, classifier: Path | None
) -> tuple[Path, Path | None]:
    """Fills in default folders; a collection finds those of each data set below `runs`."""
    from sia_gen.config.recipe import Collection

    if isinstance(recipe, Collection):
        return model or Path("runs"), classifier
    models = model or run_folder(recipe, "diffusion")
    return models, classifier or run_folder(recipe, "classifier") / "model"


def _require_absent(others: dict[str, Any]) -> None:
    for name, value in others.items():
        if value:
            raise OptionError(
                problem=f"--only makes a single sample, so --{name} does not apply.",
                fix=f"Leave out --{name} or --only.",
            )
