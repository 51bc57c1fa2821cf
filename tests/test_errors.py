from __future__ import annotations

import pickle

import pytest

from sia_gen import errors
from sia_gen.errors import UserError

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type)]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if issubclass(kind, UserError)])
def test_errors_reach_other_processes(kind: type[UserError]) -> None:
    error = kind(problem="It is not there.", fix="Look elsewhere.")
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is kind
    assert (found.problem, found.fix) == (error.problem, error.fix)
    assert str(found) == "It is not there. Look elsewhere."
