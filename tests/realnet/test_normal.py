"""What normal photographs look like to a model is kept with it, as its use measures it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sia_gen.detection.detector import Detector
from sia_gen.errors import ModelError
from sia_gen.images.learnt import Learnt
from sia_gen.realnet.normal import NORMAL, Look, NormalImages
from sia_gen.realnet.selection import threshold_for
from tests.realnet.conftest import CPU


def test_a_fit_keeps_the_photographs_held_out(whole: Path, photographs: Path) -> None:
    normal, learnt = NormalImages.read(whole / "disc"), Learnt.read(whole / "disc")
    assert normal is not None
    assert learnt is not None
    detector = Detector.load(whole / "disc", CPU)
    found = detector.predict([photographs / name for name in learnt.validation])
    assert len(found) == 3
    for values, name in (
        (normal.scores, "score"),
        (normal.medians, "median"),
        (normal.brightness, "brightness"),
    ):
        assert values == pytest.approx([getattr(one.look, name) for one in found], abs=1e-5)
    assert (normal.sizes, normal.kinds) == ([(32, 32)], ["grey"])
    chosen = Detector.load(whole / "disc", CPU, false_alarm_rate=0.3).threshold
    assert chosen == threshold_for(normal.scores, 0.3).threshold


def test_measurements_against_brute_force() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (3, 5, 7), np.uint8)
    anomaly_map = rng.random((5, 7), np.float32)
    look = Look.of(picture, 0.25, anomaly_map)
    assert look.score == 0.25
    assert look.median == sorted(anomaly_map.ravel())[17]
    assert look.brightness == pytest.approx(sum(picture.ravel().tolist()) / 105 / 255)


def test_models_without_it(tmp_path: Path) -> None:
    assert NormalImages.read(tmp_path) is None
    (tmp_path / NORMAL).write_text('{"scores": ["high"]}')
    with pytest.raises(ModelError, match=r"normal\.json is damaged"):
        NormalImages.read(tmp_path)
