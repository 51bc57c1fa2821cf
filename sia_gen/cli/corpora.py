"""The commands that measure strength, and that check, inspect, compose and publish corpora."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from sia_gen.cli import options
from sia_gen.cli.common import (
    load_inputs,
    next_command,
    run_folder,
    saved_recipe,
    say,
    twin_changes,
    twin_settings,
)

if TYPE_CHECKING:
    pass


def calibrate(
    recipe: options.OptionalRecipe = None,
    data: options.Data = None,
    category: options.Category = None,
    perturbation: options.Perturbation = None,
    twins: Annotated[
        bool, options.about_twins("--twins", help="Measure twins instead of single samples.")
    ] = False,
    source: options.Source = None,
    start: options.Start = None,
    invert: options.Invert = False,
    edit: options.Edit = None,
    region: options.Region = None,
    model: options.Model = None,
    classifier: options.Classifier = None,
    out: Annotated[Path | None, options.out("calibration")] = None,
    precision: options.Precision = None,
    device: options.Device = "auto",
    channels_last: options.ChannelsLast = None,
) -> None:
    """Find the range of strengths that makes useful anomalies, for each perturbation.

    The output folder gets a page of curves, and a recipe for 'synthesize --strength auto'. Twins
    that are perturbed in a region need more strength, so measure them as you will make them.
    Categories already measured with the same model and images are skipped.

    Example: sia-gen calibrate --recipe elpv --category mono
    """
    steps = {"diffusion": model}
    chosen, categories, root = load_inputs(recipe, data, category, steps=steps)
    settings = twin_settings(source, start, invert, edit, region)
    changes = {"synthesis.perturbation": perturbation}
    chosen = chosen.override(changes | twin_changes(chosen, twins, settings))
    folder = out or run_folder(chosen, "calibration")
    from sia_gen.inspection.calibrate import calibrate as measure
    from sia_gen.runtime.device import Runtime
    from sia_gen.twins.strengths import twin_sampler

    strengths = measure(
        chosen,
        categories,
        root,
        model or run_folder(chosen, "diffusion"),
        folder,
        Runtime(precision, device, channels_last=channels_last),
        twins=twin_sampler(chosen, categories, root),
        classifier=classifier or run_folder(chosen, "classifier") / "model",
    )
    for case, strength in strengths.items():
        say(f"{case}: {strength}")
    # The default folder may hold a corpus of other strengths.
    corpus = run_folder(chosen, "calibrated")
    own = chosen.synthesis.twins
    photographs = data if own is not None and own.source == "image" else None
    folders = {"model": model, "classifier": classifier, "data": photographs, "out": corpus}
    command = "synthesize --strength auto"
    say(f"Next: {next_command(command, saved_recipe(folder), category, **folders)}")


def verify(
    corpus: options.CorpusArgument,
    repair: Annotated[
        bool, Option("--repair", help="Delete damaged shards, for synthesize to replace.")
    ] = False,
) -> None:
    """Read every sample of a corpus and compare the shards with the manifest.

    Example: sia-gen verify runs/elpv/corpus
    """
    from sia_gen.corpus.verify import verify as check
    from sia_gen.io.files import location

    say(check(location(corpus), repair=repair))


def inspect(
    corpus: options.CorpusArgument,
    data: options.Data = None,
    category: options.Category = None,
    weights: options.Weights = None,
    out: Annotated[Path | None, options.out("inspection")] = None,
    device: options.Device = "auto",
) -> None:
    """Make a web page about a corpus: samples by strength, distances, near-copies.

    Example: sia-gen inspect runs/elpv/corpus
    """
    from sia_gen.config.outputs import RECIPE
    from sia_gen.config.recipe import load_corpus_recipe
    from sia_gen.corpus.manifest import read_manifest
    from sia_gen.inspection.inspect import inspect_corpus
    from sia_gen.io.files import location
    from sia_gen.runtime.device import Runtime

    place = location(corpus)
    read_manifest(place)
    folder = out or run_folder(load_corpus_recipe(place / RECIPE), "inspection")
    page = inspect_corpus(place, data, category, weights, folder, Runtime("fp32", device))
    say(f"Open {page} in a browser.")


def compose(
    recipe: options.OptionalRecipe = None,
    data: options.Data = None,
    category: options.Category = None,
    corpus: options.Corpus = None,
    images: Annotated[
        int | None, Option(min=1, help="Triplets per category (default: one per sample).")
    ] = None,
    form: Annotated[
        Literal["shards", "folder"],
        Option("--format", help="WebDataset shards, or folders like MVTec AD."),
    ] = "shards",
    out: Annotated[str | None, options.out("triplets")] = None,
    seed: options.Seed = None,
) -> None:
    """Paste pieces of synthetic images into normal ones, for any detector to train on.

    Each triplet is an image, its mask, and the normal image. Twins are triplets already, and are
    only exported: use '--format folder'. Anomalib reads such folders.

    Example: sia-gen compose --recipe elpv --category mono --format folder --out composed
    """
    from sia_gen.composition.compose import compose as paste
    from sia_gen.io.files import location
    from sia_gen.runtime.progress import in_percent

    steps = {"triplets": out, "corpus": corpus, "diffusion": None}
    chosen, categories, root = load_inputs(recipe, data, category, {"seed": seed}, steps)
    samples = location(corpus or run_folder(chosen, "corpus"))
    target = location(out or run_folder(chosen, "triplets"))
    left_out = paste(chosen, categories, root, samples, target, form, images)
    if left_out:
        low, high = chosen.realnet.mask_area
        say(
            f"{left_out} twins were left out: their masks cover less than {in_percent(low, 2)} or "
            f"more than {in_percent(high)} of the image."
        )
    say(f"The triplets are in {target}.")


def push_to_hub(
    folder: Annotated[
        Path, Argument(metavar="FOLDER", help="Corpus, diffusion model, or RealNet.")
    ],
    repository: Annotated[str, Argument(metavar="REPO", help="Repository on the Hub, OWNER/NAME.")],
    private: Annotated[bool, Option("--private", help="Make a new repository private.")] = False,
    revision: Annotated[
        str | None, Option(help="Branch to write to, or pull request (refs/pr/1).")
    ] = None,
    create_pr: Annotated[bool, Option("--create-pr", help="Open a pull request.")] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="List the files; upload nothing.")] = False,
) -> None:
    """Publish a corpus or a model on the Hugging Face Hub, with a card.

    Log in with 'hf auth login', or set HF_TOKEN. A corpus is verified first. If an upload is
    interrupted, run the same command again: it sends only what is missing.

    Example: sia-gen push-to-hub runs/elpv/corpus you/elpv-anomalies
    """
    from sia_gen.hub.client import give_up_in_time
    from sia_gen.hub.push import push_to_hub as push

    give_up_in_time()
    flags = {"private": private, "create_pr": create_pr, "dry_run": dry_run}
    say(push(folder, repository, revision=revision, **flags))
