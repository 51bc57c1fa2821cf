"""Options and arguments that several commands share."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Argument, Option

execution = partial(Option, rich_help_panel="Execution")
about_twins = partial(Option, rich_help_panel="Twins")


def out(step: str) -> Any:
    """Returns the `--out` option of a step that writes to `runs/RECIPE/STEP` by default."""
    return Option(help=f"Output folder (default: runs/RECIPE/{step}).")


RecipeName = Annotated[str, Option(help="Recipe name or YAML file; see 'sia-gen recipes'.")]
OptionalRecipe = Annotated[
    str | None, Option(help="Recipe name or YAML file. Not needed for your own --data.")
]
Data = Annotated[
    Path | None, Option(help="Image folder. Not needed if the recipe names a package.")
]
NonSquare = Annotated[
    Literal["stretch", "pad", "crop"] | None,
    Option(help="What to do with images that are not square; overrides the recipe."),
]
Tile = Annotated[
    str | None,
    Option(metavar="SIZE[:OVERLAP]", help="Cut photographs into tiles of so many pixels."),
]
Scale = Annotated[
    float | None,
    Option(help="Reduce photographs before they are cut (default: chosen by their size)."),
]
Ignore = Annotated[
    str | None,
    Option(metavar="MASK", help="Mask of what never counts, '{stem}' for one of each image."),
]
Category = Annotated[
    list[str] | None, Option(metavar="<str>", help="Category; repeatable (default: all).")
]
Model = Annotated[
    Path | None,
    Option(help="Diffusion models (default: runs/RECIPE/diffusion; for a collection, runs)."),
]
Classifier = Annotated[
    Path | None, Option(help="Guidance classifier (default: that of the recipe in runs/).")
]
Corpus = Annotated[str | None, Option(help="Corpus folder or URL (default: runs/RECIPE/corpus).")]
CorpusArgument = Annotated[str, Argument(metavar="CORPUS", help="Corpus folder or URL.")]
Detector = Annotated[Path, Argument(metavar="MODEL", help="Folder of a RealNet.")]
Weights = Annotated[Path | None, Option(help="Backbone weights, .safetensors or .pth.")]
Perturbation = Annotated[
    str | None,
    Option(metavar="KIND,...", help="Kinds of noise to add: white, pink, blobs, streaks, cracks."),
]
WithTwins = Annotated[bool, about_twins("--twins", help="Add normal twins and masks.")]
Source = Annotated[
    Literal["noise", "image"] | None, about_twins(help="Start from noise, or from photographs.")
]
Start = Annotated[
    float | None, about_twins(help="How far to take photographs back to noise, up to 1.")
]
Invert = Annotated[bool, about_twins("--invert", help="Use DDIM inversion instead of noise.")]
Edit = Annotated[
    str | None,
    about_twins(
        metavar="EDIT,...", help="Edit each photograph first: shift, mirror, erase or swap pieces."
    ),
]
Region = Annotated[
    str | None,
    about_twins(
        help="Where to perturb: everywhere, natural, perlin, box, foreground, or a mask file."
    ),
]
Tiles = Annotated[
    int | None,
    about_twins(
        help="Make whole photographs with up to this many disturbed tiles; needs --source image."
    ),
]
MaxSteps = Annotated[int | None, Option(help="Training steps; overrides the recipe.")]
MaxMinutes = Annotated[
    float | None,
    Option(help="Limit per model, without image loading and compilation. Run again to continue."),
]
Seed = Annotated[int | None, Option(help="Random seed; overrides the recipe.")]
Precision = Annotated[
    Literal["fp32", "bf16", "fp16"] | None,
    execution(metavar="<str>", help="fp32, bf16 or fp16 (default: bf16 where supported)."),
]
Device = Annotated[
    Literal["auto", "cpu", "cuda", "mps"],
    execution(metavar="<str>", help="auto, cpu, cuda or mps."),
]
Compile = Annotated[
    bool | None,
    execution("--compile/--no-compile", help="Compile networks (default: long runs on a GPU)."),
]
ChannelsLast = Annotated[
    bool | None, execution(help="Channels-last memory format (default: where it is faster).")
]
Resume = Annotated[bool, execution(help="Continue an earlier run, or start over.")]
