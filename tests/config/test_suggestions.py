"""Near matches for mistyped names."""

from __future__ import annotations

from sia_gen.errors import did_you_mean


def test_asks_for_the_closest_choice() -> None:
    assert did_you_mean("mnoo", ["poly", "mono"]) == " (did you mean 'mono'?)"


def test_says_nothing_when_nothing_is_close() -> None:
    assert did_you_mean("bottle", ["poly", "mono"]) == ""


def test_accepts_any_iterable_of_choices() -> None:
    assert did_you_mean("tny", iter({"tiny": 1})) == " (did you mean 'tiny'?)"
