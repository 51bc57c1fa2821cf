"""Photographs that differ from those that a model learnt from are told from those that do not."""

from __future__ import annotations

import numpy as np
import pytest

from sia_gen.detection.doubts import DoubtCounts, Expectation
from sia_gen.realnet.normal import Look, NormalImages

RNG = np.random.default_rng(0)


def logistic(values: np.ndarray) -> list[float]:
    return (1 / (1 + np.exp(-values))).tolist()


def normal(count: int = 400) -> NormalImages:
    """Photographs of 640 x 480 in grey, of medians and brightness that are known."""
    return NormalImages(
        scores=logistic(RNG.normal(-2, 0.5, count)),
        medians=logistic(RNG.normal(-3, 0.2, count)),
        brightness=logistic(RNG.normal(0, 0.1, count)),
        sizes=[(640, 480)],
        kinds=["grey"],
    )


def doubts_of(expected: Expectation, median: float = -3, brightness: float = 0) -> dict[str, str]:
    look = Look(0.1, *logistic(np.array([median, brightness])))
    return expected.doubts(look, (640, 480), "grey")


def test_few_normal_photographs_are_doubted() -> None:
    expected = Expectation.of(normal())
    medians, brightness = RNG.normal(-3, 0.2, 4000), RNG.normal(0, 0.1, 4000)
    count = sum(bool(doubts_of(expected, *one)) for one in zip(medians, brightness, strict=True))
    # Three measurements of one in a thousand, and the tail of the normal is thinner.
    assert count < 4000 * 0.006


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"median": -1}, {"look"}),
        ({"median": -9}, set()),
        ({"brightness": 1}, {"brightness"}),
        ({"brightness": -1}, {"brightness"}),
        ({"median": 0, "brightness": 1}, {"look", "brightness"}),
    ],
)
def test_what_is_far_away_is_doubted(change: dict[str, float], what: set[str]) -> None:
    assert doubts_of(Expectation.of(normal()), **change).keys() == what


def test_sizes_and_kinds() -> None:
    expected, look = Expectation.of(normal()), Look(0.1, logistic(np.array(-3)), 0.5)  # type: ignore[arg-type]
    assert expected.doubts(look, (480, 640), "grey") == {}
    found = expected.doubts(look, (1280, 960), "colour")
    assert found == {
        "size": "1280 x 960 pixels instead of 640 x 480",
        "kind": "colour instead of grey",
    }
    several = NormalImages(
        scores=[], medians=[], brightness=[], sizes=[(600, 400), (800, 500)], kinds=[]
    )
    known = Expectation.of(several)
    assert known.doubts(look, (700, 450), "colour") == {}
    text = "700 x 600 pixels instead of 600 x 400 to 800 x 500"
    assert known.doubts(look, (600, 700), "grey")["size"] == text.replace("700 x 600", "600 x 700")


def test_nothing_is_doubted_that_is_not_known() -> None:
    strange = Look(0.9, 0.99, 1.0)
    assert Expectation.of(None).doubts(strange, (1, 1), "colour") == {}
    assert Expectation.of(normal(4)).doubts(strange, (640, 480), "grey") == {}


@pytest.mark.parametrize(("shift", "differ"), [(0.0, False), (0.4, True), (-0.4, False)])
def test_together_photographs_differ_though_each_might_be_normal(
    shift: float, differ: bool
) -> None:
    expected = Expectation.of(normal())
    counts = DoubtCounts(expected)
    for number, median in enumerate(logistic(RNG.normal(-3 + shift, 0.2, 60))):
        counts.add(f"{number}.png", Look(0.1, min(median, expected.median), 0.5), {})
    line = counts.line()
    assert (line is not None) == differ
    if line is not None:
        assert "look unusual, of normal ones 5 % do" in line


def test_a_line_counts_them() -> None:
    counts, look = DoubtCounts(Expectation.of(None)), Look(0.1, 0.1, 0.5)
    assert counts.line() is None
    counts.add("a.png", look, {})
    counts.add("b.png", look, {"size": "3 x 2 pixels instead of 4 x 4", "look": "odd"})
    counts.add("c.png", look, {"size": "5 x 5 pixels instead of 4 x 4"})
    line = counts.line()
    assert line is not None
    assert line.startswith("warning: 2 of 3 photographs differ from those that the model learnt")
    assert "2 in size (the first, b.png: 3 x 2 pixels instead of 4 x 4); 1 in look (" in line
