"""The options that commands share, alike everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

RecipeOption = Annotated[
    str, typer.Option("--recipe", help="Name or path of a recipe; 'sia-gen recipes' lists them.")
]
OptionalRecipeOption = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        help="Name or path of a recipe; may be left out if --data is a folder of own images.",
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="Folder of the images; the recipe's own source when left out."),
]
CategoryOption = Annotated[
    list[str] | None,
    typer.Option("--category", help="A category, repeatable; all of the recipe's when left out."),
]
ModelOption = Annotated[
    Path | None,
    typer.Option(
        "--model",
        help="Folder of the diffusion models, one per category; 'runs' for several data sets.",
    ),
]
ClassifierOption = Annotated[
    Path | None, typer.Option("--classifier", help="Folder of the classifier that guides.")
]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="Output folder; runs/RECIPE/STEP when left out.")
]
SeedOption = Annotated[int | None, typer.Option("--seed", min=0, help="Overrides the recipe's.")]
StepsOption = Annotated[
    int | None, typer.Option("--max-steps", min=1, help="Training steps; overrides the recipe's.")
]
MinutesOption = Annotated[
    float | None,
    typer.Option(
        "--max-minutes",
        min=0.0,
        help="Minutes for each model until it is saved, without loading images and compiling; "
        "run again to go on from there.",
    ),
]
WeightsOption = Annotated[
    Path | None,
    typer.Option("--weights", help="Backbone weights, a .safetensors or .pth file."),
]
PrecisionOption = Annotated[
    Literal["fp32", "bf16", "fp16"] | None,
    typer.Option(
        "--precision",
        help="What networks compute in; bf16 where the hardware has it, when left out.",
    ),
]
DeviceOption = Annotated[
    Literal["auto", "cpu", "cuda", "mps"],
    typer.Option("--device", help="What to run on."),
]
CompileOption = Annotated[
    bool | None,
    typer.Option(
        "--compile/--no-compile",
        help="Compile the networks; on a GPU, for work that takes long, when left out.",
    ),
]
ChannelsLastOption = Annotated[
    bool | None,
    typer.Option(
        "--channels-last/--no-channels-last",
        help="Keep the channels of a pixel together in memory; if left out, where it is faster.",
    ),
]
ResumeOption = Annotated[
    bool,
    typer.Option("--resume/--no-resume", help="Go on where an earlier run ended, or start again."),
]
