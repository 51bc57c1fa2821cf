"""Scores any images with a fitted model, from its folder alone.

OUT/
    predictions.csv             or predictions.jsonl: image, score, verdict, threshold
    heatmaps/                   each image beside its heat map
"""

import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import Literal, NamedTuple

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray

from sia_gen.config.outputs import RECIPE
from sia_gen.config.recipe import Recipe
from sia_gen.errors import ImageError
from sia_gen.images.layouts import is_image
from sia_gen.images.loading import ImageSpec, load_image
from sia_gen.io.files import (
    FileGroups,
    batches_ahead,
    prepare_output,
    shortened_stem,
    worker_threads,
    write_text,
)
from sia_gen.io.locks import working_on
from sia_gen.realnet.loading import load_realnet
from sia_gen.realnet.model import RealNet, forward_flops
from sia_gen.realnet.prediction import BATCH_SIZE, explained_scoring, predict_images
from sia_gen.realnet.selection import SELECTED_ON
from sia_gen.report.heatmaps import save_heatmap
from sia_gen.runtime.device import NOTICE, Runtime, compile_network
from sia_gen.runtime.progress import Progress
from sia_gen.train.batches import batches_of


@dataclass(frozen=True)
class Prediction:
    """The score in [0, 1] of an image and the verdict: `anomalous`, `normal` or `unreadable`."""

    image: str
    score: float | None
    verdict: str
    threshold: float


class _Scored(NamedTuple):
    pixels: NDArray[np.uint8]
    score: float
    anomaly_map: NDArray[np.float32]


def predict(
    model_folder: Path,
    images: Sequence[Path],
    out: Path,
    form: Literal["csv", "jsonl"],
    runtime: Runtime,
) -> list[Prediction]:
    """Scores images and images in folders, and writes predictions and heat maps.

    Raises:
        ModelError: If the model cannot be read; nothing has been written then.
        ImageError: If images cannot be read; all others have been scored then.
    """
    channels_last = runtime.detector_channels_last
    model, threshold, selected_on = load_realnet(model_folder, channels_last=channels_last)
    if selected_on == SELECTED_ON["test"]:
        print(f"warning: the threshold was selected on {selected_on}.", file=sys.stderr)
    spec = ImageSpec.of(Recipe.load(model_folder / RECIPE), model.image_size)
    files = image_files(images)
    accelerator = runtime.accelerator()
    model.to(accelerator.device)
    compiled = runtime.compiles(accelerator.device, lambda: len(files) * forward_flops(model))
    prepare_output(out)
    if compiled:
        compile_network(model, channels_last=channels_last, graphs=True)
        print(NOTICE, file=sys.stderr)
    table, problems = list[Prediction](), list[ImageError]()
    with (
        working_on(out, "predictions"),
        Progress("predicting", len(files)) as progress,
        worker_threads() as pool,
        FileGroups(pool) as pictures,
    ):
        for name, scored in _scored_images(model, files, spec, accelerator, pool):
            if isinstance(scored, ImageError):
                problems.append(scored)
                table.append(Prediction(str(files[name]), None, "unreadable", threshold))
            else:
                pixels, score, anomaly_map = scored
                verdict = "anomalous" if score > threshold else "normal"
                table.append(Prediction(str(files[name]), score, verdict, threshold))
                save = partial(save_heatmap, image=pixels, anomaly_map=anomaly_map)
                pictures.add(out / "heatmaps" / name, save)
            progress.advance()
        # The table comes last, so that the heat map of every image in it exists.
        pictures.publish()
        write_text(out / f"predictions.{form}", _as_text(table, form))
    if problems:
        raise ImageError(
            problem=f"{len(problems)} of {len(files)} images were not scored; the first: "
            f"{problems[0].problem}",
            fix=f"They are marked 'unreadable' in {out / f'predictions.{form}'}.",
        )
    return table


def _scored_images(
    model: RealNet,
    files: dict[str, Path],
    spec: ImageSpec,
    accelerator: Accelerator,
    pool: ThreadPoolExecutor,
) -> Iterator[tuple[str, _Scored | ImageError]]:
    """Yields each name with its scored image, or with the error of an image that is unreadable."""
    names = list(files)
    batches = [[names[place] for place in some] for some in batches_of(len(names), BATCH_SIZE)]

    def load(name: str) -> NDArray[np.uint8] | ImageError:
        try:
            return load_image(files[name], spec)
        except ImageError as error:
            return error

    for batch, loaded in zip(batches, batches_ahead(pool, load, batches), strict=True):
        results = dict(zip(batch, (future.result() for future in loaded), strict=True))
        images = {name: one for name, one in results.items() if isinstance(one, np.ndarray)}
        scored: dict[str, _Scored] = {}
        if images:
            with explained_scoring(model):
                found = predict_images(model, np.stack([*images.values()]), accelerator)
            parts = zip(images.values(), found.scores.tolist(), found.maps, strict=True)
            scored = {name: _Scored(*part) for name, part in zip(images, parts, strict=True)}
        for name, result in results.items():
            yield name, result if isinstance(result, ImageError) else scored[name]


def image_files(given: Sequence[Path]) -> dict[str, Path]:
    """Returns the images among files and in folders, by unique names for their heat maps.

    Raises:
        ImageError: If a file or folder does not exist, or a folder has no images.
    """
    files: dict[str, Path] = {}
    alike: Counter[PurePath] = Counter()
    for place, path in dict.fromkeys(_images_at(given)):
        name = path.relative_to(place) if place != path else Path(path.name)
        picture = free = name.with_name(f"{shortened_stem(name.stem)}.png")
        while free.as_posix() in files:
            alike[picture] += 1
            free = picture.with_stem(f"{picture.stem}-{alike[picture] + 1}")
        files[free.as_posix()] = path
    return files


def _images_at(given: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Yields each file or folder with each of its images."""
    for place in given:
        inside = [place]
        if place.is_dir():
            inside = [path for path in sorted(place.rglob("*")) if is_image(path)]
        if not inside or not inside[0].exists():
            raise ImageError(
                problem=f"there are no images at {place}.",
                fix="Check the path; it may be a file or a folder of images.",
            )
        yield from ((place, path) for path in inside)


def _as_text(predictions: Sequence[Prediction], form: Literal["csv", "jsonl"]) -> str:
    rows = [asdict(one) for one in predictions]
    if form == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in rows)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, ["image", "score", "verdict", "threshold"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
