"""`Detector`: a fitted model with everything around it, from photographs to verdicts."""

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self, overload

import numpy as np
from accelerate import Accelerator
from huggingface_hub import snapshot_download
from numpy.typing import NDArray
from PIL import Image

from sia_gen.config.outputs import RECIPE
from sia_gen.detection.detection import Detection
from sia_gen.detection.doubts import Expectation
from sia_gen.errors import ImageError, ModelError, OptionError
from sia_gen.images.counted import Scope, as_scored
from sia_gen.images.loading import ImageSpec, area_looked_at
from sia_gen.images.opening import open_image, upright_size
from sia_gen.images.photographs import Source, kind_of, name_of, read_photograph
from sia_gen.images.places import photographs_below
from sia_gen.images.strips import Picture, is_large, open_scored, within_area
from sia_gen.realnet.inference import (
    REPORT,
    AnomalyMap,
    Fitted,
    load_realnet,
    recipe_of,
)
from sia_gen.realnet.many import predict_ahead
from sia_gen.realnet.normal import NORMAL, Look, NormalImages
from sia_gen.realnet.selection import threshold_for
from sia_gen.runtime.device import DeviceName, Precision, Runtime

# What a published detector consists of.
FILES = ("config.json", "model.safetensors", REPORT, RECIPE, NORMAL)
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


class Taken(NamedTuple):
    """A photograph as a model takes it, and what it was."""

    pixels: Picture
    scope: Scope  # what counts in it
    size: tuple[int, int]  # width and height of the photograph
    kind: str


class Detector:
    """Tells anomalous photographs from normal ones, and shows where they are anomalous.

    Photographs may be files, their bytes, images of Pillow, or arrays (H, W) and (H, W, 3) of 8 or
    16 bits, red first. All are prepared as those that the model learnt from.

    Example::

        detector = Detector.from_pretrained("runs/elpv/realnet/mono")
        found = detector.predict("photos/cell0001.png")
        found.score, found.verdict, found.anomaly_map, found.regions

    Attributes:
        model: The network.
        threshold: Photographs of higher scores are anomalous, [0, 1].
        spec: The form in which the model takes images.
        expected: What photographs should be like.
    """

    def __init__(
        self,
        fitted: Fitted,
        spec: ImageSpec,
        normal: NormalImages | None,
        accelerator: Accelerator,
    ) -> None:
        self.model, self.threshold, self.selected_on = fitted
        self.spec = spec
        self.expected = Expectation.of(normal)
        self.accelerator = accelerator
        self.model.to(accelerator.device)

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        threshold: float | None = None,
        false_alarm_rate: float | None = None,
        device: DeviceName = "auto",
        precision: Precision | None = None,
    ) -> Self:
        """Loads a detector.

        Args:
            model: Its folder, or its repository on the Hub.
            threshold: A threshold in [0, 1] instead of its own.
            false_alarm_rate: The share of normal photographs, in (0, 1), that may exceed the
                threshold, which then follows from the normal photographs it was fitted with.
            device: What to compute on.
            precision: Type to compute in; bfloat16 by default where the hardware has it.

        Raises:
            ModelError: If it is missing or damaged, or does not keep the scores of normal
                photographs that a rate of false alarms needs.
            OptionError: If a value is not possible.
        """
        folder = Path(model)
        if not folder.is_dir() and REPOSITORY.fullmatch(str(model)):
            folder = Path(snapshot_download(str(model), allow_patterns=list(FILES)))
        runtime = Runtime(precision, device)
        return cls.load(folder, runtime, threshold=threshold, false_alarm_rate=false_alarm_rate)

    @classmethod
    def load(
        cls,
        folder: Path,
        runtime: Runtime,
        *,
        threshold: float | None = None,
        false_alarm_rate: float | None = None,
    ) -> Self:
        """Loads a detector from a folder, to run as `runtime` says; see `from_pretrained`."""
        fitted = load_realnet(folder, channels_last=runtime.detector_channels_last)
        normal = NormalImages.read(folder)
        chosen = choose_threshold(folder, normal, threshold, false_alarm_rate)
        if chosen is not None:
            fitted = fitted._replace(threshold=chosen)
        spec = ImageSpec.of(recipe_of(folder), fitted.model.image_size)
        return cls(fitted, spec, normal, runtime.accelerator())

    @overload
    def predict(self, images: bytes | Image.Image | NDArray[Any]) -> Detection: ...

    @overload
    def predict(self, images: list[Any] | tuple[Any, ...]) -> list[Detection]: ...

    @overload
    def predict(self, images: str | Path) -> Any: ...

    def predict(self, images: Any) -> Any:
        """Returns what is found in a photograph, or a list for several or for those in a folder.

        Raises:
            ImageError: If a photograph cannot be read, or there are none in the folder.
        """
        single = isinstance(images, str | Path | bytes | Image.Image | np.ndarray)
        if isinstance(images, str | Path) and Path(images).is_dir():
            single, folder, images = False, images, photographs_below(Path(images))[0]
            if not images:
                raise ImageError(
                    problem=f"there are no images in {folder}.",
                    fix="Check the path; it may be a file or a folder of images.",
                )
        results = []
        for found in self.stream([images] if single else images):
            if isinstance(found, ImageError):
                raise found
            results.append(found)
        return results[0] if single else results

    def stream(
        self, photographs: Sequence[Source], *, shared: bool = False
    ) -> Iterator[Detection | ImageError]:
        """Yields what is found in each photograph, or why it cannot be read.

        Those to come are loaded while the model scores, so memory does not grow with their number.
        If they are `shared`, all processes of a run give the same ones and score their tiles
        together; the first one yields all, the others none.
        """
        owner = (lambda _: 0) if shared else None
        tile = self.spec.tile
        found = predict_ahead(
            self.model, photographs, self._load, self.accelerator, tile, owner=owner
        )
        for _, taken, score, anomaly_map in found:
            if isinstance(taken, ImageError):
                yield taken
            else:
                yield self._detection(taken, score, anomaly_map)

    def take(self, photograph: Source) -> Taken:
        """Prepares a photograph as the model takes it; `ImageError` if that is not possible."""
        spec = self.spec
        if isinstance(photograph, str | Path) and is_large(Path(photograph), spec):
            path = Path(photograph)
            with open_image(path, "image", large=True) as file:
                kind = kind_of(file)
            return Taken(*open_scored(path, spec), upright_size(path), kind)
        image, kind = read_photograph(photograph, spec.white, large=spec.tile is not None)
        return Taken(*as_scored(image, spec, name_of(photograph)), image.size, kind)

    def _load(self, photograph: Source) -> tuple[Picture, Scope, Taken | ImageError]:
        try:
            taken = self.take(photograph)
        except ImageError as error:
            # A black image takes its place in the batch.
            side = self.spec.size if self.spec.tile is None else self.spec.tile.size
            black = np.zeros((len(self.spec.mode), side, side), np.uint8)
            return black, Scope.of(black), error
        return taken.pixels, taken.scope, taken

    def _detection(self, taken: Taken, score: float, anomaly_map: AnomalyMap) -> Detection:
        picture = within_area(taken.pixels, taken.scope.area)
        look = Look.of(picture, score, anomaly_map)
        return Detection(
            look=look,
            threshold=self.threshold,
            size=taken.size,
            looked_at=area_looked_at(taken.size, self.spec),
            model_map=anomaly_map,
            doubts=self.expected.doubts(look, taken.size, taken.kind),
        )


def choose_threshold(
    folder: Path,
    normal: NormalImages | None,
    threshold: float | None,
    false_alarm_rate: float | None,
) -> float | None:
    """Returns the threshold that was asked for; None if none was.

    Raises:
        ModelError: If the model does not keep the scores that a rate of false alarms needs.
        OptionError: If a value is not possible.
    """
    if threshold is not None and false_alarm_rate is not None:
        raise OptionError(
            problem="both a threshold and a rate of false alarms were given.",
            fix="Give one of them: the rate chooses a threshold.",
        )
    if threshold is not None and not 0 <= threshold <= 1:
        raise OptionError(
            problem=f"the threshold is {threshold}.", fix="Scores are in [0, 1]; choose one there."
        )
    if false_alarm_rate is None:
        return threshold
    require_rate(false_alarm_rate)
    if normal is None:
        raise ModelError(
            problem=f"the model in {folder} does not keep the scores of normal photographs, from "
            "which a rate of false alarms follows.",
            fix=f"Run 'sia-gen recalibrate {folder} --good FOLDER' with good photographs, or give "
            "a threshold.",
        )
    return threshold_for(normal.scores, false_alarm_rate).threshold


def require_rate(false_alarm_rate: float) -> None:
    """Raises `OptionError` unless a rate of false alarms is in (0, 1)."""
    if not (math.isfinite(false_alarm_rate) and 0 < false_alarm_rate < 1):
        raise OptionError(
            problem=f"the rate of false alarms is {false_alarm_rate}.",
            fix="Choose a share of normal photographs above 0 and below 1: 0.01 is 1 %.",
        )
