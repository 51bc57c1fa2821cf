"""The commands that make diffusion models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sia_gen.cli.common import (
    choose_categories,
    load_recipe,
    next_command,
    run_folder,
    runtime,
    say,
    used,
)
from sia_gen.cli.options import (
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
    categories, folder = choose_categories(chosen, category), out or run_folder(chosen, "diffusion")
    from sia_gen.diffusion.training import train_diffusion as train
    from sia_gen.images.listing import data_root

    root = data_root(chosen, data)
    train(chosen, categories, root, folder, runtime(precision, device), resume=resume)
    then = next_command("synthesize", used(recipe, folder), category, model=out)
    say(f"The models are in {folder}. Next: {then}")


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
    guide = None if out is None else out / "model"
    then = next_command("synthesize --guidance-scale 1", recipe, None, classifier=guide)
    say(f"The classifier is in {folder}. Next: {then}")


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
    from sia_gen.diffusion.adm.importing import import_adm as convert

    kind = convert(checkpoint, out, new_classes=new_classes, image_size=image_size)
    say(f"Imported into {out}: a {kind}.")
