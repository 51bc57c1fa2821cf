"""The command line: options in, one call into a room, nothing else."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sia_gen.errors import OptionError, UserError
from sia_gen.options import (
    CategoryOption,
    DataOption,
    DeviceOption,
    MinutesOption,
    OptionalRecipeOption,
    OutOption,
    PrecisionOption,
    RecipeOption,
    ResumeOption,
    SeedOption,
    StepsOption,
)
from sia_gen.version import __version__

if TYPE_CHECKING:
    from sia_gen.recipe import Recipe

EXIT_DONE, EXIT_OTHER, EXIT_USER = 0, 1, 2
# What newer versions of Typer return instead of raising KeyboardInterrupt or Abort.
INTERRUPTED = 130
# Typer exports this error but not its parent, which all errors of usage have.
UsageError: type[Any] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Output folder.")] = Path("demo"),
    seed: SeedOption = None,
    precision: PrecisionOption = None,
    device: DeviceOption = "auto",
    resume: ResumeOption = True,
) -> None:
    """The whole way on real images in minutes on a CPU, ending in numbers and a page.

    Example: sia-gen demo
    """
    from sia_gen.demo import run_demo

    run_demo(load_recipe("demo", {"seed": seed}), out, runtime(precision, device), resume=resume)


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(help="A recipe to print in full.")] = None,
) -> None:
    """List the recipes, or print one with every default.

    Example: sia-gen recipes elpv > mine.yaml
    """
    from sia_gen.recipe import Recipe, recipe_names

    if name is not None:
        typer.echo(Recipe.load(name).to_yaml(), nl=False)
        return
    for known in recipe_names():
        recipe = Recipe.load(known)
        typer.echo(f"{known:12}  {recipe.title} ({len(recipe.categories)}), {recipe.license}")


@app.command()
def train_diffusion(
    recipe: OptionalRecipeOption = None,
    data: DataOption = None,
    category: CategoryOption = None,
    joint: Annotated[
        bool, typer.Option("--joint", help="One class-conditional model of all categories.")
    ] = False,
    init: Annotated[
        Path | None,
        typer.Option("--init", help="Model to start from; its network replaces the preset."),
    ] = None,
    out: OutOption = None,
    max_steps: StepsOption = None,
    max_minutes: MinutesOption = None,
    seed: SeedOption = None,
    precision: PrecisionOption = None,
    device: DeviceOption = "auto",
    resume: ResumeOption = True,
) -> None:
    """Train a diffusion model of the normal images, one per category.

    It says how much memory it needs, saves previews on the way, and tells when the model is ready.

    Example: sia-gen train-diffusion --recipe elpv --category mono --max-minutes 60
    """
    changes = {
        "seed": seed,
        "diffusion.joint": joint or None,
        "diffusion.init": None if init is None else str(init),
        "diffusion.max_steps": max_steps,
        "diffusion.max_minutes": max_minutes,
    }
    chosen = load_recipe(recipe, changes, data)
    categories, folder = chosen.choose_categories(category), out or run_folder(chosen, "diffusion")
    from sia_gen.diffusion.training import train_diffusion as train
    from sia_gen.images.listing import data_root

    root = data_root(chosen, data)
    train(chosen, categories, root, folder, runtime(precision, device), resume=resume)
    say(f"The models are in {folder}. Next: sia-gen synthesize --recipe {used(recipe, folder)}")


@app.command()
def train_classifier(
    recipe: RecipeOption,
    data: DataOption = None,
    out: OutOption = None,
    max_steps: StepsOption = None,
    seed: SeedOption = None,
    precision: PrecisionOption = None,
    device: DeviceOption = "auto",
    resume: ResumeOption = True,
) -> None:
    """Train the optional classifier that guides samples to their category.

    Example: sia-gen train-classifier --recipe mvtec-ad --data mvtec
    """
    changes = {"seed": seed, "classifier.max_steps": max_steps}
    chosen = load_recipe(recipe, changes)
    folder = out or run_folder(chosen, "classifier")
    from sia_gen.diffusion.classifier_training import train_classifier as train
    from sia_gen.images.listing import data_root

    train(chosen, data_root(chosen, data), folder, runtime(precision, device), resume=resume)
    say(
        f"The classifier is in {folder}. "
        f"Next: sia-gen synthesize --recipe {recipe} --guidance-scale 1"
    )


@app.command()
def import_adm(
    checkpoint: Annotated[Path, typer.Argument(help="A .pt, .pth, .tar or .safetensors file.")],
    out: Annotated[Path, typer.Option("--out", help="Output folder.")],
    new_classes: Annotated[
        int | None,
        typer.Option("--new-classes", min=1, help="Start anew with so many classes."),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option("--image-size", min=1, help="Pixels; the network's own when left out."),
    ] = None,
) -> None:
    """Turn a checkpoint of OpenAI's ADM or of the RealNet authors into a diffusers folder.

    Example: sia-gen import-adm 256x256_diffusion_uncond.pt --out adm
    """
    from sia_gen.diffusion.importing import import_adm as convert

    kind = convert(checkpoint, out, new_classes=new_classes, image_size=image_size)
    say(f"Imported into {out}: a {kind}.")


@app.command()
def synthesize(
    recipe: RecipeOption,
    strength: Annotated[
        str | None,
        typer.Option("--strength", help="0 is normal; one number, or a range such as 0.1:0.2."),
    ] = None,
    images: Annotated[
        int | None, typer.Option("--images", min=1, help="Images per category.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, max=1000, help="Reverse steps per image.")
    ] = None,
    guidance_scale: Annotated[
        float | None,
        typer.Option(
            "--guidance-scale", min=0.0, help="Pull of the classifier to the category; needs one."
        ),
    ] = None,
    category: CategoryOption = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", help="Folder of the diffusion models, one per category."),
    ] = None,
    classifier: Annotated[
        Path | None, typer.Option("--classifier", help="Folder of the classifier that guides.")
    ] = None,
    out: OutOption = None,
    seed: SeedOption = None,
    precision: PrecisionOption = None,
    device: DeviceOption = "auto",
    resume: ResumeOption = True,
) -> None:
    """Make a corpus: shards of synthetic anomalies of a chosen strength.

    Example: sia-gen synthesize --recipe elpv --strength 0.1:0.2 --images 1000
    """
    from sia_gen.strength import Strength

    changes = {
        "seed": seed,
        "synthesis.strength": None if strength is None else str(Strength.parse(strength)),
        "synthesis.images": images,
        "synthesis.steps": steps,
        "synthesis.guidance_scale": guidance_scale,
    }
    chosen = load_recipe(recipe, changes)
    categories, folder = chosen.choose_categories(category), out or run_folder(chosen, "corpus")
    from sia_gen.corpus.generate import synthesize as generate

    models = model or run_folder(chosen, "diffusion")
    guide = classifier or run_folder(chosen, "classifier") / "model"
    on = runtime(precision, device)
    generate(chosen, categories, models, folder, on, classifier=guide, resume=resume)
    say(f"The corpus is in {folder}. Next: sia-gen verify {folder}")


@app.command()
def verify(
    corpus: Annotated[Path, typer.Argument(help="Folder of the corpus.")],
) -> None:
    """Re-read every shard of a corpus and hold it against the manifest.

    Example: sia-gen verify runs/elpv/corpus
    """
    from sia_gen.corpus.verify import verify as check

    typer.echo(check(corpus))


@app.command()
def fit_realnet(
    recipe: OptionalRecipeOption = None,
    data: DataOption = None,
    category: CategoryOption = None,
    corpus: Annotated[
        Path | None, typer.Option("--corpus", help="Folder of the synthetic images.")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", help="Backbone weights, a .safetensors or .pth file."),
    ] = None,
    out: OutOption = None,
    max_steps: StepsOption = None,
    seed: SeedOption = None,
    precision: PrecisionOption = None,
    device: DeviceOption = "auto",
    resume: ResumeOption = True,
) -> None:
    """Fit the detector to normal images and the shards of a corpus.

    Example: sia-gen fit-realnet --recipe elpv --corpus runs/elpv/corpus
    """
    changes = {
        "seed": seed,
        "realnet.max_steps": max_steps,
        "realnet.weights": None if weights is None else str(weights),
    }
    chosen = load_recipe(recipe, changes, data)
    categories, folder = chosen.choose_categories(category), out or run_folder(chosen, "realnet")
    from sia_gen.images.listing import data_root
    from sia_gen.realnet.fitting import fit_realnet as fit

    root, shards = data_root(chosen, data), corpus or run_folder(chosen, "corpus")
    fit(chosen, categories, root, shards, folder, runtime(precision, device), resume=resume)
    options = used(recipe, folder) + (f" --data {data}" if data else "")
    say(f"The models are in {folder}. Next: sia-gen evaluate --recipe {options}")


@app.command()
def evaluate(
    recipe: OptionalRecipeOption = None,
    data: DataOption = None,
    category: CategoryOption = None,
    model: Annotated[
        Path | None, typer.Option("--model", help="Folder of the RealNets, one per category.")
    ] = None,
    out: OutOption = None,
    precision: PrecisionOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Score the test images; write metrics, scores and heat maps.

    Example: sia-gen evaluate --recipe elpv --category mono
    """
    chosen = load_recipe(recipe, {}, data)
    categories = chosen.choose_categories(category)
    from sia_gen.evaluation.evaluate import evaluate as score
    from sia_gen.evaluation.evaluate import metrics_table
    from sia_gen.images.listing import data_root

    root, folder = data_root(chosen, data), out or run_folder(chosen, "evaluation")
    models = model or run_folder(chosen, "realnet")
    summary = score(chosen, categories, root, models, folder, runtime(precision, device))
    say(metrics_table(summary))
    say(f"Metrics, scores and heat maps are in {folder}.")


def load_recipe(name: str | None, changes: dict[str, Any], data: Path | None = None) -> Recipe:
    """A recipe, or that of a folder of own images, with the options of the command line on top."""
    from sia_gen.recipe import Recipe

    if name is not None:
        return Recipe.load(name).override(changes)
    if data is None:
        raise OptionError(
            problem="it takes a recipe or a folder of images.",
            fix="Give --recipe, e.g. one that 'sia-gen recipes' lists, or --data.",
        )
    from sia_gen.images.own_folder import recipe_for_folder

    return recipe_for_folder(data).override(changes)


def used(recipe: str | None, folder: Path) -> str:
    """The recipe for the next step: the one given, else the one that a step saved in a folder."""
    from sia_gen.outputs import RECIPE

    return recipe or str(folder / RECIPE)


def run_folder(recipe: Recipe, step: str) -> Path:
    """Where a step writes, and the next one reads, when nothing else is said."""
    return Path("runs") / recipe.name / step


def say(text: str) -> None:
    """Prints a result once, however many processes made it."""
    if os.environ.get("RANK", "0") == "0":
        typer.echo(text)


def runtime(precision: Any, device: Any) -> Any:
    """What to run on."""
    from sia_gen.runtime import Runtime

    return Runtime(precision, device)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    """Learn from images of good parts, synthesise anomalies, and detect real ones."""
    if version:
        typer.echo(f"sia-gen {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """Runs a command and turns what goes wrong into one line and an exit code."""
    debug = os.environ.get("SIA_GEN_DEBUG") == "1"
    if not debug:
        warnings.filterwarnings("ignore")
    try:
        code = app(standalone_mode=False)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        sys.exit(code or EXIT_DONE)
    except UsageError as error:
        fail(error.format_message(), EXIT_USER)
    except UserError as error:
        if debug:
            traceback.print_exc()
        fail(str(error), EXIT_USER)
    except (KeyboardInterrupt, typer.Abort):
        fail("stopped. Run the same command again to go on.", EXIT_OTHER)


def fail(message: str, code: int) -> None:
    """Prints one line and exits."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
