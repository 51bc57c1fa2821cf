"""Sets the threshold of a fitted model anew, from good photographs and without a fit.

The folder of the model keeps its earlier thresholds in `fit.json`.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from sia_gen.detection.detector import Detector, require_rate
from sia_gen.errors import ImageError, OptionError
from sia_gen.images.files import images_below
from sia_gen.images.learnt import Learnt, contents_of
from sia_gen.images.photographs import read_headers
from sia_gen.io.files import read_json, write_json
from sia_gen.io.locks import working_on
from sia_gen.realnet.inference import REPORT
from sia_gen.realnet.normal import NORMAL, Look, NormalImages
from sia_gen.realnet.selection import FalseAlarms, threshold_for
from sia_gen.runtime.device import Runtime
from sia_gen.runtime.progress import Progress, notice

# Thresholds that others have replaced, the oldest first.
EARLIER = "earlier_thresholds"


class Recalibration(NamedTuple):
    """The threshold before and after."""

    before: float
    after: FalseAlarms


def recalibrate(
    folder: Path, good: Path, runtime: Runtime, *, false_alarm_rate: float | None = None
) -> Recalibration:
    """Chooses the threshold of a model by the scores of good photographs, and keeps it with it.

    What photographs should be like is learnt anew from them, too. Those that the model learnt from
    are left out, because it scores them lower than others.

    Args:
        folder: The folder of the model.
        good: A folder of photographs of good parts.
        runtime: What to run on.
        false_alarm_rate: The share of them that may exceed the threshold, in (0, 1); by default
            the rate that the model was fitted or recalibrated for.

    Raises:
        ImageError: If there are no photographs but those that the model learnt from, or one cannot
            be read.
        OptionError: If there is no rate.
    """
    detector = Detector.load(folder, runtime)
    report: dict[str, Any] = read_json(folder / REPORT)
    rate = _rate_of(folder, report) if false_alarm_rate is None else false_alarm_rate
    require_rate(rate)
    paths = _unlearnt(folder, good)
    looks = _look_at(detector, paths)
    after = threshold_for([look.score for look in looks], rate)
    normal = NormalImages.of(looks, read_headers(paths))
    with working_on(folder.parent, folder.name):
        # Any mixture of old and new is a model that works, so no kill does harm.
        write_json(folder / NORMAL, normal.model_dump(mode="json"))
        write_json(folder / REPORT, _with_threshold(report, after))
    return Recalibration(detector.threshold, after)


def _rate_of(folder: Path, report: dict[str, Any]) -> float:
    known = report.get("false_alarms")
    if not isinstance(known, dict) or not isinstance(known.get("aim"), float):
        raise OptionError(
            problem=f"the model in {folder} was fitted for no rate of false alarms.",
            fix="Give --false-alarm-rate with the share of good photographs that may exceed the "
            "threshold, such as 0.01.",
        )
    return float(known["aim"])


def _unlearnt(folder: Path, good: Path) -> list[Path]:
    """Returns the photographs in a folder that the model did not learn from, by their bytes."""
    paths = images_below(good) if good.is_dir() else [good] if good.is_file() else []
    if not paths:
        raise ImageError(
            problem=f"there are no images at {good}.",
            fix="Give a folder of photographs of good parts with --good.",
        )
    learnt = Learnt.read(folder)
    if learnt is None:
        notice("warning: the model does not say from which images it learnt; none is left out.")
        return paths
    known = {*learnt.fit.values()}
    left = [path for path, one in zip(paths, contents_of(paths), strict=True) if one not in known]
    if not left:
        raise ImageError(
            problem=f"the model learnt from all {len(paths)} images in {good}.",
            fix="Give good photographs that it has not seen.",
        )
    if len(left) < len(paths):
        notice(
            f"left out {len(paths) - len(left)} of {len(paths)} images, because the model learnt "
            "from them."
        )
    return left


def _look_at(detector: Detector, paths: Sequence[Path]) -> list[Look]:
    looks = []
    with Progress("recalibrating", len(paths)) as progress:
        for found in detector.stream(paths):
            if isinstance(found, ImageError):
                raise found
            looks.append(found.look)
            progress.advance()
    return looks


def _with_threshold(report: dict[str, Any], after: FalseAlarms) -> dict[str, Any]:
    """Returns the report of a model with another threshold, and what it had before."""
    kept = ("threshold", "false_alarms", "selected_on")
    earlier = {name: report[name] for name in kept if name in report}
    # What the weights were selected on, however often the threshold was.
    weights = report.get(EARLIER, [report])[0]["selected_on"]
    return report | {
        "threshold": after.threshold,
        "false_alarms": asdict(after),
        "selected_on": f"{weights}; the threshold anew on {after.images} good photographs",
        EARLIER: [*report.get(EARLIER, []), earlier],
    }
