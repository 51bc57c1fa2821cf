"""The commands that fit and evaluate RealNet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

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
    ChannelsLastOption,
    CompileOption,
    DataOption,
    DeviceOption,
    MinutesOption,
    OptionalRecipeOption,
    OutOption,
    PrecisionOption,
    ResumeOption,
    SeedOption,
    StepsOption,
    WeightsOption,
)


def fit_realnet(
    recipe: OptionalRecipeOption = None,
    data: DataOption = None,
    category: CategoryOption = None,
    corpus: Annotated[
        str | None, typer.Option("--corpus", help="Folder or URL of the synthetic images.")
    ] = None,
    joint: Annotated[bool, typer.Option("--joint", help="One model of all categories.")] = False,
    anomalies: Annotated[
        Literal["perlin", "twins", "mixed"] | None,
        typer.Option(
            "--anomalies",
            help="Pieces pasted through Perlin masks, twins with their own masks, or both.",
        ),
    ] = None,
    source: Annotated[
        Literal["sdas", "dtd", "mixed"] | None,
        typer.Option(
            "--source", help="What is pasted in: the corpus, textures such as DTD's, or both."
        ),
    ] = None,
    textures: Annotated[
        Path | None, typer.Option("--textures", help="Folder of images of textures.")
    ] = None,
    weights: WeightsOption = None,
    out: OutOption = None,
    max_steps: StepsOption = None,
    max_minutes: MinutesOption = None,
    select_on: Annotated[
        Literal["validation", "test"] | None,
        typer.Option(
            "--select-on",
            help="test: choose by test labels, as some published tables did; not a fair measure.",
        ),
    ] = None,
    seed: SeedOption = None,
    precision: PrecisionOption = None,
    device: DeviceOption = "auto",
    compiled: CompileOption = None,
    channels_last: ChannelsLastOption = None,
    resume: ResumeOption = True,
) -> None:
    """Fit the detector to normal images and the shards of a corpus.

    Example: sia-gen fit-realnet --recipe elpv --corpus runs/elpv/corpus
    """
    changes = {
        "seed": seed,
        "realnet.max_steps": max_steps,
        "realnet.max_minutes": max_minutes,
        "realnet.joint": joint or None,
        "realnet.select_on": select_on,
        "realnet.anomalies": anomalies,
        "realnet.source": source,
        "realnet.textures": None if textures is None else str(textures),
        "realnet.weights": None if weights is None else str(weights),
    }
    chosen = load_recipe(recipe, changes, data)
    categories, folder = choose_categories(chosen, category), out or run_folder(chosen, "realnet")
    from sia_gen.images.listing import data_root
    from sia_gen.io.locations import location
    from sia_gen.realnet.fitting import fit_realnet as fit

    root, shards = data_root(chosen, data), location(corpus or run_folder(chosen, "corpus"))
    on = runtime(precision, device, channels_last, compiled=compiled)
    fit(chosen, categories, root, shards, folder, on, resume=resume)
    # The usual folder may hold the evaluation of the usual models.
    apart = None if out is None else out.with_name(f"{out.name}-evaluation")
    places = {"data": data, "model": out, "out": apart}
    then = next_command("evaluate", used(recipe, folder), category, **places)
    say(f"The models are in {folder}. Next: {then}")


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
    channels_last: ChannelsLastOption = None,
) -> None:
    """Score the test images; write metrics, scores and heat maps, beside those of other categories.

    Example: sia-gen evaluate --recipe elpv --category mono
    """
    chosen = load_recipe(recipe, {}, data)
    categories = choose_categories(chosen, category)
    from sia_gen.evaluation.evaluate import evaluate as score
    from sia_gen.evaluation.results import metrics_table
    from sia_gen.images.listing import data_root

    root, folder = data_root(chosen, data), out or run_folder(chosen, "evaluation")
    models = model or run_folder(chosen, "realnet")
    on = runtime(precision, device, channels_last)
    summary = score(chosen, categories, root, models, folder, on)
    say(metrics_table(summary))
    say(f"Open {folder / 'index.html'} in a browser.")


ModelArgument = Annotated[
    Path, typer.Argument(help="Folder of a RealNet: of a category, or of all.")
]


def predict(
    model: ModelArgument,
    images: Annotated[list[Path], typer.Argument(help="Images, and folders of images.")],
    form: Annotated[
        Literal["csv", "jsonl"], typer.Option("--format", help="Of the file of predictions.")
    ] = "csv",
    out: Annotated[Path, typer.Option("--out", help="Output folder.")] = Path("predictions"),
    precision: PrecisionOption = None,
    device: DeviceOption = "auto",
    compiled: CompileOption = None,
    channels_last: ChannelsLastOption = None,
) -> None:
    """Score any images; write scores, verdicts and heat maps.

    Example: sia-gen predict runs/elpv/realnet/mono photos
    """
    from sia_gen.evaluation.predict import predict as score

    on = runtime(precision, device, channels_last, compiled=compiled)
    found = score(model, images, out, form, on)
    anomalous = sum(one.verdict == "anomalous" for one in found)
    say(f"{anomalous} of {len(found)} images are anomalous; see {out / f'predictions.{form}'}.")


def export(
    model: ModelArgument,
    out: Annotated[
        Path, typer.Option("--out", help="Output file: .onnx, or .pt2 for torch.export.")
    ],
) -> None:
    """Export a detector to one file for other runtimes, and check that it sees the same there.

    Example: sia-gen export runs/elpv/realnet/mono --out mono.onnx
    """
    from sia_gen.config.outputs import RECIPE
    from sia_gen.config.recipe import Recipe
    from sia_gen.realnet.export import export_realnet
    from sia_gen.realnet.loading import check_realnet

    check_realnet(model)
    channels = len(Recipe.load(model / RECIPE).mode)
    difference = export_realnet(model, out, channels)
    say(f"Exported to {out}; its maps differ by at most {difference:.1e}.")
