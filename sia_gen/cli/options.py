"""Options and arguments that several commands share."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

execution_option = partial(typer.Option, rich_help_panel="Execution")


def out(step: str) -> Any:
    """Returns the `--out` option of a step that writes to `runs/RECIPE/STEP` by default."""
    return typer.Option(metavar="PATH", help=f"Output folder (default: runs/RECIPE/{step}).")


RecipeName = Annotated[
    str, typer.Option(metavar="NAME", help="Recipe name or YAML file; see 'sia-gen recipes'.")
]
OptionalRecipe = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Recipe name or YAML file. Not needed for your own --data."),
]
Data = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Image folder. Not needed if the recipe names a package."),
]
Category = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Category to use; repeatable (default: all)."),
]
Seed = Annotated[int | None, typer.Option(metavar="N", help="Random seed; overrides the recipe.")]
Model = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER", help="Folder of diffusion models (default: runs/RECIPE/diffusion)."
    ),
]
Classifier = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER", help="Guidance classifier (default: runs/RECIPE/classifier/model)."
    ),
]
Corpus = Annotated[
    str | None,
    typer.Option(metavar="PATH", help="Corpus folder or URL (default: runs/RECIPE/corpus)."),
]
CorpusArgument = Annotated[str, typer.Argument(metavar="CORPUS", help="Corpus folder or URL.")]
Detector = Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a RealNet.")]
Weights = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Backbone weights, a .safetensors or .pth file."),
]
MaxSteps = Annotated[
    int | None, typer.Option(metavar="N", help="Training steps; overrides the recipe.")
]
MaxMinutes = Annotated[
    float | None,
    typer.Option(
        metavar="N",
        help="Time limit per model, without image loading and compilation. Run again to continue.",
    ),
]
Precision = Annotated[
    Literal["fp32", "bf16", "fp16"] | None,
    execution_option(metavar="TYPE", help="fp32, bf16 or fp16 (default: bf16 where supported)."),
]
Device = Annotated[
    Literal["auto", "cpu", "cuda", "mps"],
    execution_option(metavar="NAME", help="auto, cpu, cuda or mps."),
]
Compile = Annotated[
    bool | None,
    execution_option(
        "--compile/--no-compile",
        help="Compile the networks (default: for long runs on a GPU).",
    ),
]
ChannelsLast = Annotated[
    bool | None,
    execution_option(help="Use the channels-last memory format (default: where it is faster)."),
]
Resume = Annotated[bool, execution_option(help="Continue an earlier run, or start over.")]
