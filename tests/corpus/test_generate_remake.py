"""One sample, made again."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sia_gen.config.recipe import Recipe, all_categories
from sia_gen.corpus.generate import find_sample, remake
from sia_gen.corpus.plan import plan_corpus
from sia_gen.errors import OptionError
from sia_gen.io.locks import LOCKS
from tests.corpus.conftest import RUNTIME

if TYPE_CHECKING:
    from tests.corpus.conftest import Make


def members(corpus: Path) -> dict[str, bytes]:
    found = {}
    for shard in sorted(corpus.glob("data/**/*.tar")):
        with tarfile.open(shard) as tar:
            found |= {member.name: tar.extractfile(member).read() for member in tar}
    return found


@pytest.mark.parametrize("index", range(5))
@pytest.mark.parametrize("category", ["disc", "plate"])
def test_every_sample_is_made_again_to_the_byte(
    make: Make, models: Path, recipe: Recipe, tmp_path: Path, category: str, index: int
) -> None:
    made = members(make(categories=[category]))
    key = f"parts_{category}_{index:08d}"
    paths = remake(recipe, key, models, tmp_path / "again", RUNTIME)
    assert [path.name for path in paths] == [f"{key}.png", f"{key}.json"]
    for path in paths:
        assert path.read_bytes() == made[path.name]
    found = [path for path in (tmp_path / "again").iterdir() if path.name != LOCKS]
    assert sorted(found) == sorted(paths)


def test_every_planned_sample_is_found_where_it_is(recipe: Recipe) -> None:
    for shard in plan_corpus(all_categories(recipe), recipe.synthesis):
        for index in shard.indices:
            category, found, place = find_sample(recipe, f"parts_{shard.category}_{index:08d}")
            assert (category.category, found, place) == (shard.category, shard, index)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "parts_disc_5",
        "parts_disc_00000005",
        "parts_disc_-0000001",
        "parts_ring_00000000",
        "other_disc_00000000",
        "parts_disc_00000000.png",
        "parts_disc_0000000\u0661",
    ],
)
def test_unknown_key_is_one_line(recipe: Recipe, key: str) -> None:
    with pytest.raises(OptionError, match=r"has no sample .* up to parts_disc_00000004 in its"):
        find_sample(recipe, key)
