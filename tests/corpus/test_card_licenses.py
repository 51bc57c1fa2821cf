"""The strictest licence wins, and non-commercial stays non-commercial."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sia_gen.corpus.card import CREATIVE_COMMONS, PERMISSIVE, hub_license, strictest

CC = [f"cc-{kind}-4.0" for kind in ("by", "by-sa", "by-nd", "by-nc", "by-nc-sa", "by-nc-nd")]
ALL = [*CC, *PERMISSIVE, "unknown", "other", "Camera Inc. only"]


@pytest.mark.parametrize(
    ("licenses", "result"),
    [
        (["mit"], "mit"),
        (["mit", "apache-2.0"], "mit"),
        (["mit", "cc-by-4.0"], "cc-by-4.0"),
        (["cc-by-4.0", "cc-by-nc-sa-4.0"], "cc-by-nc-sa-4.0"),
        (["cc-by-sa-4.0", "cc-by-nc-4.0"], "cc-by-nc-sa-4.0"),
        (["cc-by-nd-4.0", "cc-by-nc-sa-4.0"], "cc-by-nc-nd-4.0"),
        (["cc-by-sa-3.0", "cc-by-4.0"], "cc-by-sa-4.0"),
        (["unknown"], "unknown"),
        (["mit", "unknown"], "unknown"),
        (["cc-by-sa-4.0", "other"], "other"),
        (["cc-by-nc-sa-4.0", "cc-by-4.0", "unknown", "unknown"], "cc-by-nc-sa-4.0"),
        (["mit", "cc-by-nc-3.0-de"], "cc-by-nc-3.0"),
        (["cc-by-4.0", "CC BY-NC-SA 4.0"], "cc-by-nc-sa-4.0"),
        (["Camera Inc. only", "CC-BY-NC-4.0"], "cc-by-nc-4.0"),
        (["cc-by-nc-sa-3.0-igo"], "cc-by-nc-sa-3.0-igo"),
    ],
)
def test_strictest(licenses: list[str], result: str) -> None:
    for order in itertools.permutations(licenses):
        found = strictest(order)
        assert found == result or (found in licenses and set(licenses) <= set(PERMISSIVE))


@given(st.lists(st.sampled_from(ALL), min_size=1))
def test_nothing_that_is_asked_for_is_lost(licenses: list[str]) -> None:
    result = strictest(licenses).split("-")
    for one in licenses:
        demands = set(one.split("-")) if CREATIVE_COMMONS.fullmatch(one) else set()
        assert "nc" not in demands or "nc" in result
        # Where one is not stated, the result is not stated either, unless it forbids more.
        if one not in PERMISSIVE and not CREATIVE_COMMONS.fullmatch(one):
            assert "nc" in result or strictest(licenses) not in (*PERMISSIVE, *CC)


def test_licences_the_hub_does_not_know_are_named() -> None:
    assert hub_license("mit") == {"license": "mit"}
    assert hub_license("cc-by-nc-4.0") == {"license": "cc-by-nc-4.0"}
    assert hub_license("CC BY-NC 4.0") == {"license": "cc-by-nc-4.0"}
    unnamed = {"license": "other", "license_name": "cc-by-nd-2.5"}
    assert hub_license("cc-by-nd-2.5") == unnamed
    named = {"license": "other", "license_name": "camera-inc.-only"}
    assert hub_license("Camera Inc. only") == named
