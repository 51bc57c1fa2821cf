"""Scores any photographs with a fitted model, from its folder alone.

OUT/
    predictions.csv             image, score, verdict, threshold, doubts; a line per photograph
    predictions.jsonl           the same and more, see `Prediction`
    predictions.json            what they depend on: model, threshold, outputs
    heatmaps/ ...               what `--save` asks for, see `sia_gen.evaluation.saving`
"""

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from sia_gen.detection.detection import Detection
from sia_gen.detection.detector import Detector
from sia_gen.detection.doubts import DoubtCounts
from sia_gen.errors import ImageError, OptionError
from sia_gen.evaluation.photos import Photo, image_files
from sia_gen.evaluation.predictions import CSV, Prediction, Table
from sia_gen.evaluation.saving import (
    ANNOTATIONS,
    BOXES,
    PAGE,
    Scored,
    add_files,
    choose_outputs,
    coco,
)
from sia_gen.evaluation.threshold_page import write_page
from sia_gen.images.counted import mask_of
from sia_gen.images.learnt import contents_of
from sia_gen.images.loading import ImageSpec
from sia_gen.images.masks import files_of
from sia_gen.images.places import photographs_below
from sia_gen.images.shapes import read_headers, say_shapes
from sia_gen.io.files import FileGroups, prepare_output, sha256, write_json
from sia_gen.io.locks import working_on
from sia_gen.realnet.inference import BATCH_SIZE
from sia_gen.realnet.model import forward_flops
from sia_gen.realnet.selection import SELECTED_ON
from sia_gen.runtime.device import NOTICE, Runtime, compile_network
from sia_gen.runtime.progress import Progress, notice

Shared = TypeVar("Shared")
# Seconds between two looks at folders that are watched.
PAUSE = 1.0


class Counts(NamedTuple):
    """How many photographs were given, and how many of them are anomalous."""

    photographs: int
    anomalous: int


def predict(
    model_folder: Path,
    images: Sequence[Path],
    out: Path,
    runtime: Runtime,
    *,
    threshold: float | None = None,
    false_alarm_rate: float | None = None,
    save: str = "heatmaps",
    watch: bool = False,
    resume: bool = True,
) -> Counts:
    """Scores photographs; lines and files about them appear in `out` as it goes on.

    Several processes share the tiles of each photograph; the first one does the rest.

    Args:
        model_folder: The folder of the model.
        images: Files and folders of photographs.
        out: The folder of the results. A photograph that has a line there is not scored again,
            unless its file has changed.
        runtime: What to run on.
        threshold: See `Detector.from_pretrained`.
        false_alarm_rate: See `Detector.from_pretrained`.
        save: Outputs, separated by commas; see `sia_gen.evaluation.saving`.
        watch: Whether to wait for more photographs, until Ctrl-C.
        resume: Whether to keep what is in `out` already.

    Raises:
        ImageError: If photographs cannot be read, after all others have been scored; or at once if
            a mask of what to ignore in all of them is missing.
        OptionError: If there are several processes, but nothing that they could share.
    """
    outputs = choose_outputs(save)
    found = list(image_files(images, may_be_empty=watch).values())
    masks = [path for one in images if one.is_dir() for path in photographs_below(one)[1]]
    if masks:
        notice(f"{len(masks)} masks of photographs are passed over, the first {masks[0]}.")
    detector = Detector.load(
        model_folder, runtime, threshold=threshold, false_alarm_rate=false_alarm_rate
    )
    if threshold is None is false_alarm_rate and detector.selected_on == SELECTED_ON["test"]:
        notice(f"warning: the threshold was selected on {detector.selected_on}.")
    if detector.spec.tile is None:
        say_shapes(read_headers(found), detector.spec.non_square)
    accelerator = detector.accelerator
    if accelerator.num_processes > 1:
        _require_shareable(detector, watch=watch)
    ignored = _describe_ignored(detector.spec)
    _compile(detector, runtime, len(found))
    if not accelerator.is_main_process:
        return _help(detector)
    prepare_output(out)
    about = {
        "model": sha256(model_folder / "model.safetensors"),
        "threshold": detector.threshold,
        "save": sorted(outputs),
        **ignored,
    }
    with working_on(out, "predictions"):
        work = Work(detector, Table(out, about, resume=resume), outputs)
        if watch:
            with suppress(KeyboardInterrupt):
                work.watch(images)
            # The interrupt may have come between a line and the memory of it.
            work.table = Table(out, about, resume=True)
        else:
            work.score(work.photos(images))
        return shared(work.finish(), accelerator)


def _require_shareable(detector: Detector, *, watch: bool) -> None:
    """Raises `OptionError` if several processes cannot share the work."""
    if watch:
        raise OptionError(
            problem="--watch is for one process.", fix="Run it without 'accelerate launch'."
        )
    if detector.spec.tile is None:
        raise OptionError(
            problem="several processes share the tiles of photographs, but this detector takes "
            "photographs as a whole.",
            fix="Run it without 'accelerate launch', or give each process photographs and an "
            "--out of its own.",
        )


def _describe_ignored(spec: ImageSpec) -> dict[str, Any]:
    """Describes the mask of what to ignore in all photographs, if there is one for all of them."""
    if spec.ignore is None or "{stem}" in spec.ignore:
        return {}
    mask = mask_of("", spec)
    return {"ignore": [] if mask is None else contents_of(files_of(mask))}


def _help(detector: Detector) -> Counts:
    """Does the share of another process than the first."""
    paths = shared(list[Path](), detector.accelerator)
    for _ in detector.stream(paths, shared=True):
        pass
    return shared(Counts(0, 0), detector.accelerator)


def shared(value: Shared, accelerator: Accelerator) -> Shared:
    """Returns what the first process gives, in all processes."""
    values = [value]
    return broadcast_object_list(values)[0] if accelerator.num_processes > 1 else value


@dataclass
class Work:
    """Scores photographs, and writes lines and files about them."""

    detector: Detector
    table: Table
    outputs: Sequence[str]
    given: dict[str, Photo] = field(default_factory=dict)  # all photographs, by their paths
    problems: list[str] = field(default_factory=list)  # of those that are unreadable now
    doubts: DoubtCounts = field(init=False)

    def __post_init__(self) -> None:
        self.doubts = DoubtCounts(self.detector.expected)

    def photos(self, images: Sequence[Path], *, may_be_empty: bool = False) -> list[Photo]:
        """Returns the photographs among files and in folders, each under its name of before."""
        names = {text: done.name for text, done in self.table.done.items()}
        files = image_files(images, names, may_be_empty=may_be_empty)
        return [Photo.of(path, name) for name, path in files.items()]

    def score(self, photos: Sequence[Photo], *, visible: bool = True) -> None:
        """Scores photographs that the table does not have as they are now."""
        self.given |= {photo.text: photo for photo in photos}
        new = [photo for photo in photos if not self.table.has(photo)]
        waiting = list[tuple[Photo, Detection | ImageError]]()
        accelerator = self.detector.accelerator
        paths = shared([photo.path for photo in new], accelerator)
        found = self.detector.stream(paths, shared=accelerator.num_processes > 1)
        done = len(photos) - len(new)
        # Of photographs that are cut into tiles each is as large as a batch of others.
        together = BATCH_SIZE if self.detector.spec.tile is None else 1
        with (
            Progress("predicting", len(photos), done=done, visible=visible) as progress,
            FileGroups() as files,
        ):
            for photo, detection in zip(new, found, strict=True):
                waiting.append((photo, detection))
                self._add_files(files, photo, detection)
                if len(waiting) == together:
                    self._publish(files, waiting)
                progress.advance()
            self._publish(files, waiting)

    def watch(self, images: Sequence[Path]) -> None:
        """Scores what is in files and folders, and what comes, until it is interrupted.

        A file that has changed since the last look is still being written.
        """
        notice(f"watching {', '.join(map(str, images))}; Ctrl-C ends it.")
        before, warned = set[Photo](), False
        while True:
            photos = self.photos(images, may_be_empty=True)
            self.score([photo for photo in photos if photo in before], visible=False)
            before = set(photos)
            warned = warned or self._warn()
            time.sleep(PAUSE)

    def finish(self) -> Counts:
        """Writes what is about all photographs together, and counts those that were given."""
        if BOXES in self.outputs:
            write_json(self.table.out / ANNOTATIONS, coco(self.table.lines()))
        if PAGE in self.outputs:
            write_page(self.table.out, self.detector.threshold, self.table.lines())
        self._warn()
        # A Ctrl-C may have come before the last were scored.
        done = self.table.done
        verdicts = Counter(done[text].verdict for text in self.given if text in done)
        if count := verdicts["unreadable"]:
            first = [*self.problems, "it was tried before, and has not changed since."][0]
            raise ImageError(
                problem=f"{count} of {verdicts.total()} images were not scored; the first: {first}",
                fix=f"They are marked 'unreadable' in {self.table.out / CSV}.",
            )
        return Counts(verdicts.total(), verdicts["anomalous"])

    def _warn(self) -> bool:
        """Says what is doubted, if anything is."""
        line = self.doubts.line()
        if line is not None:
            notice(line)
        return line is not None

    def _add_files(self, files: FileGroups, photo: Photo, found: Detection | ImageError) -> None:
        if isinstance(found, ImageError):
            self.problems.append(found.problem)
            return
        self.doubts.add(photo.text, found.look, found.doubts)
        scored = Scored(photo.path, self.detector.spec.white, found)
        add_files(files, self.table.out, self.outputs, photo.name, scored)

    def _publish(
        self, files: FileGroups, waiting: list[tuple[Photo, Detection | ImageError]]
    ) -> None:
        """Adds lines to the table, after the files about their photographs are there."""
        if not waiting:
            return
        files.publish()
        threshold, regions = self.detector.threshold, BOXES in self.outputs
        lines = [Prediction.of(*one, threshold, regions=regions) for one in waiting]
        self.table.append(lines)
        waiting.clear()


def _compile(detector: Detector, runtime: Runtime, photographs: int) -> None:
    """Compiles the network if that pays for so many photographs."""
    model, device = detector.model, detector.accelerator.device
    if runtime.compiles(device, lambda: photographs * forward_flops(model)):
        channels_last = runtime.detector_channels_last
        compile_network(model, channels_last=channels_last, graphs=True)
        notice(NOTICE)
