"""Scores any images with a fitted model, from its folder alone.

OUT/
    predictions.csv             or predictions.jsonl: image, score, verdict, threshold
    heatmaps/                   each image beside what the detector sees in it
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sia_gen.config.outputs import RECIPE
from sia_gen.config.recipe import Recipe
from sia_gen.errors import ImageError
from sia_gen.evaluation.scoring import explained_scoring
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
from sia_gen.realnet.model import forward_flops
from sia_gen.realnet.prediction import BATCH_SIZE, predict_images
from sia_gen.realnet.selection import SELECTED_ON
from sia_gen.report.heatmaps import save_heatmap
from sia_gen.runtime.compilation import NOTICE, compile_network
from sia_gen.runtime.device import Runtime
from sia_gen.runtime.progress import Progress
from sia_gen.train.batches import batches_of


@dataclass(frozen=True)
class Prediction:
    """What the detector says of an image.

    Attributes:
        image: The file.
        score: In [0, 1]; None if the file cannot be read.
        verdict: `anomalous` if the score exceeds the threshold, else `normal`; or `unreadable`.
        threshold: Calibrated when the model was fitted.
    """

    image: str
    score: float | None
    verdict: str
    threshold: float


def predict(
    model_folder: Path,
    sources: Sequence[Path],
    out: Path,
    form: Literal["csv", "jsonl"],
    runtime: Runtime,
) -> list[Prediction]:
    """Scores images and writes what it says of them.

    Args:
        model_folder: Of a RealNet, of one category or of all.
        sources: Images, and folders of images.
        out: Output folder, see above.
        form: Of the predictions.
        runtime: Device and precision.

    Raises:
        ModelError: If the model cannot be read; nothing has been written then.
        ImageError: If images cannot be read; all others have been scored then.
    """
    channels_last = runtime.detector_channels_last
    model, threshold, selected_on = load_realnet(model_folder, channels_last=channels_last)
    if selected_on == SELECTED_ON["test"]:
        print(f"warning: the threshold was selected on {selected_on}.", file=sys.stderr)
    recipe = Recipe.load(model_folder / RECIPE)
    files = image_files(sources)
    accelerator = runtime.accelerator()
    model.to(accelerator.device)
    compiled = runtime.compiles(accelerator.device, lambda: len(files) * forward_flops(model))
    prepare_output(out)
    if compiled:
        compile_network(model, channels_last=channels_last, graphs=True)
        print(NOTICE, file=sys.stderr)
    found: dict[str, Prediction] = {}
    problems: list[ImageError] = []
    names = list(files)
    batches = [[names[place] for place in some] for some in batches_of(len(names), BATCH_SIZE)]
    spec = ImageSpec.of(recipe, model.image_size)

    def load(name: str) -> NDArray[np.uint8]:
        return load_image(files[name], spec)

    with (
        working_on(out, "predictions"),
        Progress("predicting", len(names)) as progress,
        worker_threads() as pool,
        FileGroups(pool) as pictures,
    ):
        for batch, loaded in zip(batches, batches_ahead(pool, load, batches), strict=True):
            images: dict[str, NDArray[np.uint8]] = {}
            for name, future in zip(batch, loaded, strict=True):
                try:
                    images[name] = future.result()
                except ImageError as error:
                    problems.append(error)
                    found[name] = Prediction(str(files[name]), None, "unreadable", threshold)
            if images:
                with explained_scoring(model):
                    predictions = predict_images(model, np.stack([*images.values()]), accelerator)
            for place, (name, image) in enumerate(images.items()):
                score = float(predictions.scores[place])
                verdict = "anomalous" if score > threshold else "normal"
                found[name] = Prediction(str(files[name]), score, verdict, threshold)
                seen = partial(save_heatmap, image=image, anomaly_map=predictions.maps[place])
                pictures.add(out / "heatmaps" / name, seen)
            progress.advance(len(batch))
        # The table comes last: what it names is there.
        pictures.publish()
        table = [found[name] for name in names]
        write_text(out / f"predictions.{form}", as_csv(table) if form == "csv" else as_jsonl(table))
    if problems:
        raise ImageError(
            problem=f"{len(problems)} of {len(names)} images were not scored; the first: "
            f"{problems[0].problem}",
            fix=f"They are marked 'unreadable' in {out / f'predictions.{form}'}.",
        )
    return table


def image_files(sources: Sequence[Path]) -> dict[str, Path]:
    """The images to score, by a name of its own for the heat map of each.

    Raises:
        ImageError: If a file or folder is not there, or a folder has no images.
    """
    files: dict[str, Path] = {}
    alike: Counter[PurePath] = Counter()
    for source, path in dict.fromkeys(images_of(sources)):
        name = path.relative_to(source) if source != path else Path(path.name)
        picture = free = name.with_name(f"{shortened_stem(name.stem)}.png")
        while free.as_posix() in files:
            alike[picture] += 1
            free = picture.with_stem(f"{picture.stem}-{alike[picture] + 1}")
        files[free.as_posix()] = path
    return files


def images_of(sources: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Each source with each of its images."""
    for source in sources:
        inside = [source]
        if source.is_dir():
            everything = sorted(source.rglob("*"))
            inside = [path for path in everything if is_image(path)]
        if not inside or not inside[0].exists():
            raise ImageError(
                problem=f"there are no images at {source}.",
                fix="Check the path; it may be a file or a folder of images.",
            )
        yield from ((source, path) for path in inside)


def as_csv(predictions: Sequence[Prediction]) -> str:
    """The predictions as a table."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, ["image", "score", "verdict", "threshold"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(one) for one in predictions)
    return buffer.getvalue()


def as_jsonl(predictions: Sequence[Prediction]) -> str:
    """The predictions as lines of JSON."""
    return "".join(json.dumps(asdict(one)) + "\n" for one in predictions)
