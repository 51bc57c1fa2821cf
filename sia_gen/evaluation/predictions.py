"""The table of predictions, which grows while photographs are scored and survives any end.

`predictions.jsonl` has everything; `predictions.csv` the same lines in brief. Of a line that a kill
cut off nothing is left, and the next run goes on after the last whole one.
"""

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict

from sia_gen.detection.detection import Detection
from sia_gen.detection.regions import Region
from sia_gen.errors import ImageError, OutputError
from sia_gen.evaluation.photos import Photo
from sia_gen.io.files import read_json, sync, write_json, write_text
from sia_gen.io.refusals import reading, writing

JSONL, CSV, ABOUT = "predictions.jsonl", "predictions.csv", "predictions.json"
COLUMNS = ("image", "score", "verdict", "threshold", "doubts")


class Prediction(BaseModel):
    """A line of the table: what was found in a photograph."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str
    """Path of the photograph."""
    score: float | None = None
    """In [0, 1]; None if it could not be read."""
    verdict: Literal["anomalous", "normal", "unreadable"]
    """The score against the threshold."""
    threshold: float
    """Photographs of higher scores are anomalous."""
    doubts: dict[str, str] = {}
    """How it differs from the photographs that the model learnt from, by what differs."""
    name: str
    """Path, in folders of the output, of the files about it; their extensions differ."""
    modified_ns: int
    """When the file was last changed, in nanoseconds since 1970."""
    size: tuple[int, int] | None = None
    """Width and height in pixels."""
    looked_at: tuple[int, int, int, int] | None = None
    """Left, top, width and height of what the model saw."""
    regions: list[Region] | None = None
    """Where it is anomalous, the worst first; None unless boxes were asked for."""

    @classmethod
    def of(
        cls, photo: Photo, found: Detection | ImageError, threshold: float, *, regions: bool
    ) -> Self:
        """Returns the line of a photograph."""
        known: dict[str, Any] = {
            "image": photo.text,
            "name": photo.name,
            "modified_ns": photo.modified_ns,
            "threshold": threshold,
        }
        if isinstance(found, ImageError):
            return cls(verdict="unreadable", **known)
        top, bottom, left, right = found.looked_at
        return cls(
            score=found.score,
            verdict=found.verdict,
            doubts=found.doubts,
            size=found.size,
            looked_at=(left, top, right - left, bottom - top),
            regions=found.regions if regions else None,
            **known,
        )

    @property
    def row(self) -> list[object]:
        """Its values in `COLUMNS`."""
        return [self.image, self.score, self.verdict, self.threshold, " ".join(self.doubts)]


class Done(NamedTuple):
    """What is remembered of a line."""

    name: str
    modified_ns: int
    verdict: str

    @classmethod
    def of(cls, one: Prediction) -> Self:
        """Returns what is remembered of a prediction."""
        return cls(one.name, one.modified_ns, one.verdict)


class Table:
    """The predictions in a folder, which this process alone may be at work on.

    Args:
        out: The folder.
        about: What all its predictions depend on.
        resume: Whether to go on with the predictions there, or to start over.

    Raises:
        OutputError: If those there depend on something else, or are damaged.
    """

    def __init__(self, out: Path, about: Mapping[str, Any], *, resume: bool) -> None:
        self.out = out
        self.done: dict[str, Done] = {}
        if resume and (out / JSONL).is_file():
            _require_same(out, about)
            self._go_on()
            return
        # In this order no kill leaves predictions that depend on something else.
        (out / JSONL).unlink(missing_ok=True)
        write_json(out / ABOUT, dict(about))
        write_text(out / CSV, _csv_of([COLUMNS]))
        write_text(out / JSONL, "")

    def has(self, photo: Photo) -> bool:
        """Whether there is a prediction of a photograph as it is now."""
        known = self.done.get(photo.text)
        return known is not None and known.modified_ns == photo.modified_ns

    def append(self, predictions: Sequence[Prediction]) -> None:
        """Adds lines, and waits until they are on the disk."""
        # Pydantic's own JSON cannot hold file names that are not UTF-8.
        lines = [json.dumps(one.model_dump()) for one in predictions]
        _append(self.out / JSONL, "".join(f"{line}\n" for line in lines))
        _append(self.out / CSV, _csv_of(one.row for one in predictions))
        self.done.update((one.image, Done.of(one)) for one in predictions)

    def lines(self) -> Iterator[Prediction]:
        """Yields the last prediction of each photograph, in the order of the table."""
        for number, line in enumerate(_whole_lines(self.out / JSONL), 1):
            one = self._parse(number, line)
            if self.done.get(one.image) == Done.of(one):
                yield one

    def _go_on(self) -> None:
        whole, rows = 0, [list[object](COLUMNS)]
        for number, line in enumerate(_whole_lines(self.out / JSONL), 1):
            one = self._parse(number, line)
            whole += len(line)
            rows.append(one.row)
            self.done[one.image] = Done.of(one)
        with writing(self.out / JSONL):
            os.truncate(self.out / JSONL, whole)
        write_text(self.out / CSV, _csv_of(rows))

    def _parse(self, number: int, line: bytes) -> Prediction:
        try:
            return Prediction.model_validate(json.loads(line))
        except ValueError as error:
            raise OutputError(
                problem=f"line {number} of {self.out / JSONL} is damaged.",
                fix="Remove it, choose another folder with --out, or start over with --no-resume.",
            ) from error


def _require_same(out: Path, about: Mapping[str, Any]) -> None:
    try:
        earlier = read_json(out / ABOUT)
    except (FileNotFoundError, ValueError):
        earlier = {}
    for name, value in about.items():
        if earlier.get(name) != value:
            raise OutputError(
                problem=f"{out} already holds predictions with another {name} "
                f"({earlier.get(name)}, now {value}).",
                fix="Choose another folder with --out, or start over with --no-resume.",
            )


def _whole_lines(path: Path) -> Iterator[bytes]:
    """Yields the lines of a file, without one that a kill cut off."""
    with reading(path), path.open("rb") as file:
        yield from (line for line in file if line.endswith(b"\n"))


def _append(path: Path, text: str) -> None:
    with writing(path):
        with path.open("a", encoding="utf-8", errors="backslashreplace", newline="") as file:
            file.write(text)
        sync(path)


def _csv_of(rows: Iterable[Iterable[object]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()
