"""Scores any images with a fitted model, from its folder alone.

OUT/
    predictions.csv             or predictions.jsonl: image, score, verdict, threshold
    heatmaps/                   each image beside its heat map
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path, PurePath
from typing import Literal, NamedTuple

from sia_gen.errors import ImageError
from sia_gen.evaluation.results import csv_text
from sia_gen.images.counted import Counted, load_scored
from sia_gen.images.files import HEATMAPS, images_below
from sia_gen.images.loading import ImageSpec, Pixels, black_image
from sia_gen.images.shapes import read_headers, say_shapes
from sia_gen.images.squares import Area
from sia_gen.io.files import FileGroups, prepare_output, shortened_stem, write_text
from sia_gen.io.locks import working_on
from sia_gen.realnet.inference import load_realnet, predict_ahead, recipe_of
from sia_gen.realnet.model import forward_flops
from sia_gen.realnet.selection import SELECTED_ON
from sia_gen.report.pictures import save_heatmap
from sia_gen.runtime.device import NOTICE, Runtime, compile_network
from sia_gen.runtime.progress import Progress


class Prediction(NamedTuple):
    """The score in [0, 1] of an image and the verdict: `anomalous`, `normal` or `unreadable`."""

    image: str
    score: float | None
    verdict: str
    threshold: float


def predict(
    model_folder: Path,
    images: Sequence[Path],
    out: Path,
    form: Literal["csv", "jsonl"],
    runtime: Runtime,
) -> list[Prediction]:
    """Scores images and images in folders, and writes predictions and heat maps.

    If images cannot be read, an `ImageError` says so after all others have been scored.
    """
    channels_last = runtime.detector_channels_last
    model, threshold, selected_on = load_realnet(model_folder, channels_last=channels_last)
    if selected_on == SELECTED_ON["test"]:
        print(f"warning: the threshold was selected on {selected_on}.", file=sys.stderr)
    spec = ImageSpec.of(recipe_of(model_folder), model.image_size)
    files = image_files(images)

    def load(name: str) -> tuple[Pixels, Area | Counted, ImageError | None]:
        try:
            return *load_scored(files[name], spec), None
        except ImageError as error:
            # A black image takes its place in the batch.
            return *black_image(spec), error

    if spec.tile is None:
        say_shapes(read_headers(list(files.values())), spec.non_square)
    accelerator = runtime.accelerator()
    model.to(accelerator.device)
    compiled = runtime.compiles(accelerator.device, lambda: len(files) * forward_flops(model))
    prepare_output(out)
    if compiled:
        compile_network(model, channels_last=channels_last, graphs=True)
        print(NOTICE, file=sys.stderr)
    scored = predict_ahead(model, list(files), load, accelerator, spec.tile)
    table, problems = list[Prediction](), list[ImageError]()
    with (
        working_on(out, "predictions"),
        Progress("predicting", len(files)) as progress,
        FileGroups() as pictures,
    ):
        for name, image, problem, score, anomaly_map in scored:
            if problem is not None:
                problems.append(problem)
                table.append(Prediction(str(files[name]), None, "unreadable", threshold))
            else:
                verdict = "anomalous" if score > threshold else "normal"
                table.append(Prediction(str(files[name]), score, verdict, threshold))
                save = partial(save_heatmap, image=image, anomaly_map=anomaly_map)
                pictures.add(out / HEATMAPS / name, save)
            progress.advance()
        # The table comes last, so that the heat map of every image in it exists.
        pictures.publish()
        text = csv_text([Prediction._fields, *table])
        if form == "jsonl":
            text = "".join(json.dumps(one._asdict()) + "\n" for one in table)
        write_text(out / f"predictions.{form}", text)
    if problems:
        raise ImageError(
            problem=f"{len(problems)} of {len(files)} images were not scored; the first: "
            f"{problems[0].problem}",
            fix=f"They are marked 'unreadable' in {out / f'predictions.{form}'}.",
        )
    return table


def image_files(given: Sequence[Path]) -> dict[str, Path]:
    """Returns the images among files and in folders, by unique names for their heat maps."""
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
            # Its own heat maps from earlier are not among them.
            inside = images_below(place)
        if not inside or not inside[0].exists():
            raise ImageError(
                problem=f"there are no images at {place}.",
                fix="Check the path; it may be a file or a folder of images.",
            )
        yield from ((place, path) for path in inside)
