"""The commands that train and import diffusion models."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from sia_gen.cli import options
from sia_gen.cli.common import (
    load_inputs,
    next_command,
    run_folder,
    saved_recipe,
    say,
    tile_changes,
)


def train_diffusion(
    recipe: options.OptionalRecipe = None,
    data: options.Data = None,
    non_square: options.NonSquare = None,
    tile: options.Tile = None,
    scale: options.Scale = None,
    ignore: options.Ignore = None,
    category: options.Category = None,
    joint: Annotated[
        bool, Option("--joint", help="One class-conditional model of all categories.")
    ] = False,
    init: Annotated[Path | None, Option(help="Model to start from, instead of the preset.")] = None,
    out: Annotated[Path | None, options.out("diffusion")] = None,
    max_steps: options.MaxSteps = None,
    max_minutes: options.MaxMinutes = None,
    seed: options.Seed = None,
    precision: options.Precision = None,
    device: options.Device = "auto",
    resume: options.Resume = True,
) -> None:
    """Train a diffusion model on normal images, one per category.

    The command estimates the memory it needs, saves previews, and reports when a model is ready.

    Example: sia-gen train-diffusion --recipe elpv --category mono --max-minutes 60
    """
    changes = {
        "seed": seed,
        "data.non_square": non_square,
        **tile_changes(tile, scale),
        "data.ignore": ignore,
        "diffusion.joint": joint or None,
        "diffusion.init": None if init is None else str(init),
        "diffusion.max_steps": max_steps,
        "diffusion.max_minutes": max_minutes,
    }
    steps = {"diffusion": out}
    chosen, categories, root = load_inputs(recipe, data, category, changes, steps)
    folder = out or run_folder(chosen, "diffusion")
    from sia_gen.diffusion.training import train_diffusion as train
    from sia_gen.runtime.device import Runtime

    train(chosen, categories, root, folder, Runtime(precision, device), resume=resume)
    twins = chosen.synthesis.twins
    photographs = data if twins is not None and twins.source == "image" else None
    folders = {"data": photographs, "model": out}
    command = next_command("synthesize", recipe or saved_recipe(folder), category, **folders)
    say(f"The models are in {folder}. Next: {command}")


def train_classifier(
    recipe: options.RecipeName,
    data: options.Data = None,
    out: Annotated[Path | None, options.out("classifier")] = None,
    max_steps: options.MaxSteps = None,
    seed: options.Seed = None,
    precision: options.Precision = None,
    device: options.Device = "auto",
    resume: options.Resume = True,
) -> None:
    """Train a classifier that guides samples towards their category (optional).

    Example: sia-gen train-classifier --recipe mvtec-ad --data mvtec
    """
    changes = {"seed": seed, "classifier.max_steps": max_steps}
    steps = {"classifier": out, "diffusion": None}
    chosen, _, root = load_inputs(recipe, data, None, changes, steps)
    folder = out or run_folder(chosen, "classifier")
    from sia_gen.diffusion.classifier_training import train_classifier as train
    from sia_gen.runtime.device import Runtime

    train(chosen, root, folder, Runtime(precision, device), resume=resume)
    classifier = None if out is None else out / "model"
    command = next_command("synthesize --guidance-scale 1", recipe, None, classifier=classifier)
    say(f"The classifier is in {folder}. Next: {command}")


def import_adm(
    checkpoint: Annotated[
        Path, Argument(metavar="CHECKPOINT", help="A .pt, .pth, .tar or .safetensors file.")
    ],
    out: Annotated[Path, Option(help="Output folder.")],
    new_classes: Annotated[
        int | None, Option(min=1, help="Number of classes of a new class embedding.")
    ] = None,
    image_size: Annotated[
        int | None, Option(min=1, help="Image size (default: the checkpoint's).")
    ] = None,
) -> None:
    """Convert an ADM checkpoint, by OpenAI or the RealNet authors, to a diffusers folder.

    Example: sia-gen import-adm 256x256_diffusion_uncond.pt --out adm
    """
    from sia_gen.diffusion.adm.importing import import_adm as convert

    kind = convert(checkpoint, out, new_classes=new_classes, image_size=image_size)
    say(f"Imported into {out}: a {kind}.")
