"""The commands that fit, evaluate, apply and export RealNet."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Exit, Option

from sia_gen.cli import options
from sia_gen.cli.common import (
    load_inputs,
    next_command,
    run_folder,
    saved_recipe,
    say,
    tile_changes,
)
from sia_gen.cli.interrupts import interrupt_is_the_end

EXIT_ANOMALOUS = 3


def fit_realnet(
    recipe: options.OptionalRecipe = None,
    data: options.Data = None,
    non_square: options.NonSquare = None,
    tile: options.Tile = None,
    scale: options.Scale = None,
    ignore: options.Ignore = None,
    category: options.Category = None,
    corpus: options.Corpus = None,
    joint: Annotated[bool, Option("--joint", help="One detector for all categories.")] = False,
    anomalies: Annotated[
        Literal["perlin", "twins", "mixed"] | None,
        Option(help="Pieces in Perlin masks, twins in their masks, or both."),
    ] = None,
    source: Annotated[
        Literal["sdas", "dtd", "mixed"] | None,
        Option(help="Paste from the corpus, textures such as DTD, or both."),
    ] = None,
    textures: Annotated[str | None, Option(help="Folder of texture images.")] = None,
    weights: options.Weights = None,
    out: Annotated[Path | None, options.out("realnet")] = None,
    max_steps: options.MaxSteps = None,
    max_minutes: options.MaxMinutes = None,
    select_on: Annotated[
        Literal["validation", "test"] | None,
        Option(help="Choose weights and threshold on these data; test labels bias the metrics."),
    ] = None,
    false_alarm_rate: Annotated[
        float | None,
        Option(help="Choose the threshold by this share of normal images: 0.01 is 1 %."),
    ] = None,
    seed: options.Seed = None,
    precision: options.Precision = None,
    device: options.Device = "auto",
    compiled: options.Compile = None,
    channels_last: options.ChannelsLast = None,
    resume: options.Resume = True,
) -> None:
    """Fit the detector to normal images and a corpus of synthetic anomalies.

    Example: sia-gen fit-realnet --recipe elpv --corpus runs/elpv/corpus
    """
    changes = {
        "seed": seed,
        "data.non_square": non_square,
        **tile_changes(tile, scale),
        "data.ignore": ignore,
        "realnet.max_steps": max_steps,
        "realnet.max_minutes": max_minutes,
        "realnet.joint": joint or None,
        "realnet.select_on": select_on,
        "realnet.false_alarm_rate": false_alarm_rate,
        "realnet.anomalies": anomalies,
        "realnet.source": source,
        "realnet.textures": textures,
        "realnet.weights": None if weights is None else str(weights),
    }
    steps = {"realnet": out, "corpus": corpus, "diffusion": None}
    chosen, categories, root = load_inputs(recipe, data, category, changes, steps)
    folder = out or run_folder(chosen, "realnet")
    from sia_gen.io.files import location
    from sia_gen.realnet.fitting import fit_realnet as fit
    from sia_gen.runtime.device import Runtime

    shards = location(corpus or run_folder(chosen, "corpus"))
    runtime = Runtime(precision, device, compiled, channels_last)
    fit(chosen, categories, root, shards, folder, runtime, resume=resume)
    # The default folder may hold the evaluation of other detectors.
    evaluation = None if out is None else out.with_name(f"{out.name}-evaluation")
    folders = {"data": data, "model": out, "out": evaluation}
    command = next_command("evaluate", recipe or saved_recipe(folder), category, **folders)
    say(f"The models are in {folder}. Next: {command}")


def import_realnet(
    checkpoint: Annotated[
        Path, Argument(metavar="CHECKPOINT", help="A .pth.tar, .pth, .pt or .safetensors file.")
    ],
    config: Annotated[Path, Option(help="The realnet.yaml that it was trained with.")],
    out: Annotated[Path, Option(help="Output folder.")],
) -> None:
    """Convert a checkpoint of the RealNet authors' train_realnet.py to a model folder.

    Example: sia-gen import-realnet ckpt_best.pth.tar --config realnet.yaml --out models/bottle
    """
    from sia_gen.realnet.inference import REPORT
    from sia_gen.realnet.original.importing import THRESHOLD
    from sia_gen.realnet.original.importing import import_realnet as convert

    kind = convert(checkpoint, config, out)
    where = out / REPORT
    say(f"Imported into {out}: a {kind}. Its threshold is {THRESHOLD}; choose one in {where}.")


def evaluate(
    recipe: options.OptionalRecipe = None,
    data: options.Data = None,
    category: options.Category = None,
    model: Annotated[
        Path | None, Option(help="Folder of RealNets (default: runs/RECIPE/realnet).")
    ] = None,
    out: Annotated[Path | None, options.out("evaluation")] = None,
    precision: options.Precision = None,
    device: options.Device = "auto",
    channels_last: options.ChannelsLast = None,
) -> None:
    """Evaluate detectors on the test images: metrics, scores and heat maps.

    Results join those of other categories in the output folder.

    Example: sia-gen evaluate --recipe elpv --category mono
    """
    chosen, categories, root = load_inputs(recipe, data, category)
    folder = out or run_folder(chosen, "evaluation")
    from sia_gen.evaluation.evaluate import evaluate as score
    from sia_gen.evaluation.pages import metrics_table
    from sia_gen.runtime.device import Runtime

    models = model or run_folder(chosen, "realnet")
    runtime = Runtime(precision, device, channels_last=channels_last)
    say(metrics_table(score(chosen, categories, root, models, folder, runtime)))
    say(f"Open {folder / 'index.html'} in a browser.")


def predict(
    model: options.Detector,
    images: Annotated[list[Path], Argument(metavar="IMAGES", help="Image files and folders.")],
    threshold: Annotated[
        float | None, Option(help="Threshold of the scores (default: the model's).")
    ] = None,
    false_alarm_rate: Annotated[
        float | None,
        Option(help="Choose the threshold by this share of normal images: 0.01 is 1 %."),
    ] = None,
    save: Annotated[
        str,
        Option(
            metavar="OUTPUT,...",
            help="What to write about each image: heatmaps, masks, boxes (COCO and YOLO), npy and "
            "tiff (anomaly maps), page (with the threshold as a slider), or none.",
        ),
    ] = "heatmaps",
    watch: Annotated[
        bool, Option("--watch", help="Wait for more images in the folders, until Ctrl-C.")
    ] = False,
    exit_code: Annotated[
        bool, Option("--exit-code", help="End with code 3 if an image is anomalous.")
    ] = False,
    out: Annotated[Path, Option(help="Output folder.")] = Path("predictions"),
    precision: options.Precision = None,
    device: options.Device = "auto",
    compiled: options.Compile = None,
    channels_last: options.ChannelsLast = None,
    resume: options.Resume = True,
) -> None:
    """Score any images: anomaly scores, verdicts, heat maps, masks and boxes.

    Lines are added to predictions.csv and predictions.jsonl as images are scored. Images that are
    in there are not scored again.

    Example: sia-gen predict runs/elpv/realnet/mono photos --save heatmaps,boxes
    """
    from sia_gen.evaluation.predict import predict as score
    from sia_gen.runtime.device import Runtime

    runtime = Runtime(precision, device, compiled, channels_last)
    with interrupt_is_the_end() if watch else nullcontext():
        found = score(
            model,
            images,
            out,
            runtime,
            threshold=threshold,
            false_alarm_rate=false_alarm_rate,
            save=save,
            watch=watch,
            resume=resume,
        )
    table = out / "predictions.csv"
    say(f"{found.anomalous} of {found.photographs} images are anomalous; see {table}.")
    if exit_code and found.anomalous:
        raise Exit(EXIT_ANOMALOUS)


def recalibrate(
    model: options.Detector,
    good: Annotated[Path, Option(metavar="FOLDER", help="Photographs of good parts.")],
    false_alarm_rate: Annotated[
        float | None,
        Option(help="Share of them that may exceed the threshold (default: as before)."),
    ] = None,
    precision: options.Precision = None,
    device: options.Device = "auto",
    channels_last: options.ChannelsLast = None,
) -> None:
    """Set the threshold of a detector anew, from photographs of good parts, without fitting it.

    Example: sia-gen recalibrate runs/elpv/realnet/mono --good good --false-alarm-rate 0.01
    """
    from sia_gen.detection.recalibration import recalibrate as choose
    from sia_gen.runtime.device import Runtime
    from sia_gen.runtime.progress import in_percent

    runtime = Runtime(precision, device, channels_last=channels_last)
    before, after = choose(model, good, runtime, false_alarm_rate=false_alarm_rate)
    say(
        f"The threshold was {before:.4f} and is {after.threshold:.4f}, for false alarms of "
        f"{in_percent(after.aim, 2)}. The share of good photographs that exceed it is between "
        f"{in_percent(after.low, 2)} and {in_percent(after.high, 2)} (95 % interval, "
        f"{after.images} photographs)."
    )


def export(
    model: options.Detector,
    out: Annotated[Path, Option(help="Output file: .onnx, .xml for OpenVINO, .pt2 for torch.")],
    form: Annotated[
        Literal["onnx", "openvino", "torch"] | None,
        Option("--format", help="Format (default: by the suffix of --out)."),
    ] = None,
    with_preprocessing: Annotated[
        bool,
        Option(
            "--with-preprocessing",
            help="Take photographs of any size, uint8 (batch, height, width, channels), and give "
            "maps of their size.",
        ),
    ] = False,
) -> None:
    """Export a detector to ONNX, OpenVINO or torch.export, and check that its maps match.

    A JSON file beside it says how to use it: threshold, mode, size, licence and so on.

    Example: sia-gen export runs/elpv/realnet/mono --out mono.onnx --with-preprocessing
    """
    from sia_gen.deployment.export import export_realnet

    difference = export_realnet(model, out, form, preprocessing=with_preprocessing)
    say(
        f"Exported to {out}; its maps and scores differ by at most {difference:.1e}. "
        f"{out.with_suffix('.json')} says how to use it."
    )
