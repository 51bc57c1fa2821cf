"""Near matches for mistyped names."""

from __future__ import annotations

import pickle

import pytest

from sia_gen import errors
from sia_gen.errors import UserError, did_you_mean

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type)]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if issubclass(kind, UserError)])
def test_errors_reach_other_processes(kind: type[UserError]) -> None:
    error = kind(problem="It is not there.", fix="Look elsewhere.")
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is kind
    assert (found.problem, found.fix) == (error.problem, error.fix)
    assert str(found) == "It is not there. Look elsewhere."


def test_asks_for_the_closest_choice() -> None:
    assert did_you_mean("mnoo", ["poly", "mono"]) == " (did you mean 'mono'?)"


def test_says_nothing_when_nothing_is_close() -> None:
    assert did_you_mean("bottle", ["poly", "mono"]) == ""


def test_accepts_any_iterable_of_choices() -> None:
    assert did_you_mean("tny", iter({"tiny": 1})) == " (did you mean 'tiny'?)"
