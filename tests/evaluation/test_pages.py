from __future__ import annotations

from pathlib import Path

from sia_gen.evaluation.pages import worth_looking_at
from sia_gen.evaluation.results import ScoredImage
from sia_gen.images.layouts import GOOD, TestImage


def test_best_worst_and_borderline_images_are_shown_once() -> None:
    scored = [
        ScoredImage(TestImage(Path(f"{n}"), f"{n}", "cut" if n >= 50 else GOOD), n / 100)
        for n in range(100)
    ]
    groups = worth_looking_at(scored, 0.3, 8)
    shown = [one for chosen in groups.values() for one in chosen]
    assert len(shown) == len({one.image.name for one in shown}) == 32
    best, worst, good, borderline = ({one.score for one in part} for part in groups.values())
    assert (max(best), min(worst), max(good)) == (0.99, 0.50, 0.49)
    assert 0.30 in borderline
