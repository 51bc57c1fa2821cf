"""From the bytes of a request to an answer."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from sia_gen.detection.detection import Detection
from sia_gen.detection.detector import Detector
from sia_gen.errors import ImageError
from sia_gen.images.photographs import read_photograph
from sia_gen.report.pictures import veil
from sia_gen.serving.bodies import Refusal


@dataclass(frozen=True)
class Answer:
    """What is found in a photograph, and the photograph."""

    body: bytes
    found: Detection
    white: int | None

    def content(self) -> dict[str, Any]:
        """Returns the answer as JSON; boxes are left, top, width and height in pixels."""
        width, height = self.found.size
        return {
            "score": self.found.score,
            "verdict": self.found.verdict,
            "threshold": self.found.threshold,
            "width": width,
            "height": height,
            "boxes": [
                {"box": region.box, "area": region.area, "score": region.score}
                for region in self.found.regions
            ],
            "doubts": self.found.doubts,
        }

    def heatmap(self) -> bytes:
        """Returns the photograph under its heat map in its own size, as PNG."""
        picture = read_photograph(self.body, self.white, large=True).image.convert("RGB")
        area = self.found.looked_at
        size = (area.right - area.left, area.bottom - area.top)
        colours = veil(self.found.model_map).resize(size, Image.Resampling.BILINEAR)
        picture.paste(colours, (area.left, area.top), colours)
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG")
        return buffer.getvalue()


class Judge:
    """Answers requests with a detector, several at a time."""

    def __init__(self, detector: Detector) -> None:
        self.detector = detector

    def answer(self, bodies: Sequence[bytes]) -> list[Answer | Refusal]:
        """Returns the answer to each body; a `Refusal` if it is no image that can be judged."""
        pairs = zip(bodies, self.detector.stream(bodies), strict=True)
        return [
            _refusal(found)
            if isinstance(found, ImageError)
            else Answer(body, found, self.detector.spec.white)
            for body, found in pairs
        ]


def _refusal(error: ImageError) -> Refusal:
    return Refusal(422, error.problem, "Send another image.")
