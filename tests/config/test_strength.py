"""Strengths as a user writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sia_gen.config.strength import Strength

values = st.floats(min_value=0, max_value=1e6)
ranges = st.tuples(values, values).map(lambda pair: Strength(min(pair), max(pair)))


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [("0.15", 0.15, 0.15), (0.15, 0.15, 0.15), ("0", 0, 0), ("0.1:0.2", 0.1, 0.2), ("1:1", 1, 1)],
)
def test_a_number_or_a_range_is_read(text: str | float, low: float, high: float) -> None:
    assert Strength.parse(text) == Strength(low, high)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("strong", "'strong' is not a number"),
        ("", "'' is not a number"),
        ("0.1:", "'0.1:' is not a number"),
        ("0.1-0.2", "'0.1-0.2' is not a number"),
        ("0:1:2", "has 3 numbers"),
        ("nan", "is not finite"),
        ("0:nan", "is not finite"),
        ("inf", "is not finite"),
        ("1e999", "is not finite"),
        ("-0.1", "is negative"),
        ("-1:1", "is negative"),
        ("0.2:0.1", "is reversed: 0.2 > 0.1"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match="strength") as caught:
        Strength.parse(text)
    assert problem in str(caught.value)


@given(ranges)
def test_text_and_strength_stand_for_each_other(strength: Strength) -> None:
    assert Strength.parse(str(strength)) == strength


@given(ranges, st.floats(min_value=0, max_value=1, exclude_max=True))
def test_every_fraction_gives_a_strength_in_the_range(strength: Strength, fraction: float) -> None:
    assert strength.low <= strength.at(fraction) <= strength.high


@given(ranges)
def test_a_range_begins_at_its_low_end(strength: Strength) -> None:
    assert strength.at(0) == strength.low
