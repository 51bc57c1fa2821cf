"""Corpora of twins, from the commands' point of view."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from sia_gen.config.recipe import Recipe, all_categories
from sia_gen.corpus.generate import remake
from sia_gen.corpus.verify import verify
from sia_gen.errors import ImageError, ModelError, OptionError, OutputError, RecipeError
from sia_gen.images.loading import ImageSpec
from sia_gen.sdas.loading import load_pipeline
from sia_gen.twins.maker import TwinMaker, onto_photographs
from sia_gen.twins.regions import region
from tests.corpus.conftest import RUNTIME
from tests.twins.conftest import read

if TYPE_CHECKING:
    from tests.twins.conftest import MakeTwins

KINDS: dict[str, dict[str, Any]] = {
    "noise": {},
    "photographs": {"source": "image", "start": 0.5},
    "inverted photographs": {"source": "image", "start": 1.0, "invert": True},
    "perlin": {"region": "perlin"},
    "box": {"region": "box"},
    "natural": {"region": "natural"},
    "edits": {"source": "image", "edit": ["shift", "mirror", "erase", "swap"]},
}


# Without one, the default.
STARTS = {"photographs": 0.5, "edits": 0.25}


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[pytest.mark.slow] * (kind in ("perlin", "box"))) for kind in KINDS],
)
def test_corpus_is_intact_and_each_sample_can_be_made_again(
    make_twins: MakeTwins, models: Path, photographs: Path, tmp_path: Path, kind: str
) -> None:
    corpus, maker = make_twins("corpus", KINDS[kind])
    assert verify(corpus).startswith(f"{corpus} is intact: 10 samples")
    samples = read(corpus)
    assert list(samples) == [f"parts_{c}_{n:08d}" for c in ("disc", "plate") for n in range(5)]
    for key, sample in samples.items():
        assert sorted(sample) == ["image.png", "json", "mask.png", "normal.png"]
        assert all(sample[name].shape == (16, 16) for name in sample if name != "json")
        assert set(np.unique(sample["mask.png"])) <= {0, 255}
        metadata = sample["json"]
        assert metadata["mask_area"] == (sample["mask.png"] > 0).mean()
        assert metadata["start"] == STARTS.get(kind, 1.0)
        assert metadata["key"] == key
        assert metadata["edit"] in (KINDS[kind].get("edit") or ["none"])
    assert maker.mask_counts.total() == 10
    again = TwinMaker(maker.recipe, all_categories(maker.recipe), photographs)
    key = "parts_disc_00000004"
    paths = remake(maker.recipe, key, models, tmp_path / "again", RUNTIME, maker=again)
    found = read_files(paths)
    assert all(np.array_equal(found[name], samples[key][name]) for name in found)


def read_files(paths: list[Any]) -> dict[str, Any]:
    pictures = [path for path in paths if path.suffix == ".png"]
    assert len(paths) == 4
    return {path.name.partition(".")[2]: np.asarray(Image.open(path)) for path in pictures}


def test_twins_are_the_samples_of_strength_zero(make_twins: MakeTwins, models: Path) -> None:
    corpus, maker = make_twins(categories=["disc"])
    pipeline = load_pipeline(models / "disc", maker.recipe)
    pipeline.set_progress_bar_config(disable=True)
    for sample in read(corpus).values():
        seed, strength = sample["json"]["seed"], sample["json"]["strength"]
        made = pipeline(
            2,
            [strength, 0.0],
            [torch.Generator().manual_seed(seed) for _ in range(2)],
            num_inference_steps=2,
            output_type="pt",
        ).images
        for one, name in zip(made, ("image.png", "normal.png"), strict=True):
            np.testing.assert_allclose(one[0].numpy() * 255, sample[name], atol=0.51)


def test_without_strength_both_are_equal_and_masks_empty(make_twins: MakeTwins) -> None:
    corpus, maker = make_twins(changes={"synthesis.strength": 0})
    for sample in read(corpus).values():
        assert np.array_equal(sample["image.png"], sample["normal.png"])
        assert not sample["mask.png"].any()
    assert maker.mask_counts == Counter(small=10)
    summary = maker.mask_summary()
    assert summary is not None
    assert "10 masks: 10 are empty or nearly so, 0 cover nearly everything" in summary


def test_masks_of_all_processes_are_counted(
    make_twins: MakeTwins, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, maker = make_twins(changes={"synthesis.strength": 0})
    other = Counter(useful=2, small=1, large=2)
    monkeypatch.setattr("sia_gen.twins.maker.gather_object", lambda mine: [*mine, other])
    summary = maker.mask_summary()
    assert summary is not None
    assert "15 masks: 11 are empty or nearly so, 2 cover nearly everything" in summary


@pytest.mark.parametrize("name", ["perlin", "box", "natural"])
def test_outside_of_its_region_nothing_differs(make_twins: MakeTwins, name: str) -> None:
    corpus, _ = make_twins(twins={"region": name}, changes={"synthesis.strength": 50})
    everywhere = np.ones((1, 16, 16), np.uint8)
    changed = 0
    for sample in read(corpus).values():
        given = (sample["json"]["seed"], sample["json"]["perturbation"])
        outside = region(name, *given, ImageSpec("L", 16), everywhere)[0] == 0
        differs = sample["image.png"] != sample["normal.png"]
        assert outside.any()
        assert not differs[outside].any()
        assert not sample["mask.png"][outside].any()
        changed += bool(differs.any())
    # The smallest regions may show white on white.
    assert changed >= 7


def test_defects_have_the_form_of_the_photograph_that_was_stretched(
    make_twins: MakeTwins, tmp_path: Path
) -> None:
    folder = tmp_path / "stretched/disc/train/good"
    folder.mkdir(parents=True)
    for number in range(10):
        pixels = np.random.default_rng(number).integers(60, 200, (50, 20), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    changes = {"data.non_square": "stretch", "synthesis.strength": 50}
    changes["synthesis.perturbation"] = "blobs"
    twins = {"source": "image", "start": 1, "region": "natural"}
    corpus, _ = make_twins(
        twins=twins, changes=changes, categories=["disc"], data=tmp_path / "stretched"
    )
    everywhere, changed, flat = np.ones((1, 16, 16), np.uint8), 0, 0
    for sample in read(corpus).values():
        given = (sample["json"]["seed"], "blobs", ImageSpec("L", 16), everywhere)
        outside = region("natural", *given, 0.4)[0] == 0
        differs = sample["image.png"] != sample["normal.png"]
        assert not differs[outside].any()
        changed += bool(differs.any())
        flat += bool(differs[region("natural", *given)[0] == 0].any())
    # The smallest regions may show white on white.
    assert changed >= 3
    assert flat > 0


def test_edited_photographs_differ_from_their_twins_around_the_edit(
    make_twins: MakeTwins,
) -> None:
    twins = {"source": "image", "start": 0.5, "edit": "erase"}
    changes = {"synthesis.strength": 0, "synthesis.steps": 10}
    corpus, _ = make_twins(twins=twins, changes=changes)
    for sample in read(corpus).values():
        differs = sample["image.png"] != sample["normal.png"]
        assert differs.any()
        rows, columns = (np.flatnonzero(differs.any(axis=axis)) for axis in (1, 0))
        around = np.zeros_like(differs)
        # A pixel of the edit may happen to be what it was.
        around[max(0, rows[0] - 1) : rows[-1] + 2, max(0, columns[0] - 1) : columns[-1] + 2] = True
        assert around.mean() < 0.6
        assert not sample["mask.png"][~around].any()


def test_perturbation_of_a_sample_is_what_its_metadata_says(
    make_twins: MakeTwins, models: Path
) -> None:
    changes = {"synthesis.perturbation": "blobs,streaks,white", "synthesis.images": 9}
    corpus, maker = make_twins(changes=changes, categories=["disc"])
    pipeline = load_pipeline(models / "disc", maker.recipe)
    pipeline.set_progress_bar_config(disable=True)
    kinds = set()
    for sample in read(corpus).values():
        metadata = sample["json"]
        kinds.add(metadata["perturbation"])
        made = pipeline(
            1,
            metadata["strength"],
            [torch.Generator().manual_seed(metadata["seed"])],
            perturbation=metadata["perturbation"],
            num_inference_steps=2,
            output_type="pt",
        ).images
        np.testing.assert_allclose(made[0, 0].numpy() * 255, sample["image.png"], atol=0.51)
    assert kinds == {"blobs", "streaks", "white"}
    assert verify(corpus).startswith(f"{corpus} is intact")


def test_parts_made_apart_are_the_corpus(make_twins: MakeTwins) -> None:
    whole = read(make_twins("whole")[0])
    for part in ("0:1", "1:4"):
        corpus, _ = make_twins("parts", shards=part)
    assert verify(corpus).startswith(f"{corpus} is intact")
    found = read(corpus)
    for key, sample in whole.items():
        assert all(np.array_equal(sample[name], found[key][name]) for name in sample)


def test_twins_of_other_photographs_are_not_mixed_in(
    make_twins: MakeTwins, photographs: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(photographs, tmp_path / "data")
    given: dict[str, Any] = {"twins": {"source": "image"}, "categories": ["disc"], "data": data}
    make_twins("corpus", shards="0:1", **given)
    added = sorted((data / "disc/train/good").iterdir())[0]
    shutil.copy(added, added.with_name("a_new.png"))
    Image.open(added).rotate(90).save(added.with_name("b_new.png"))
    with pytest.raises(OutputError, match="samples of 'disc' by other photographs"):
        make_twins("corpus", **given)
    for new in ("a_new.png", "b_new.png"):
        added.with_name(new).unlink()
    corpus, _ = make_twins("corpus", **given)
    assert verify(corpus).startswith(f"{corpus} is intact")


@pytest.mark.parametrize("region", ["everywhere", "natural"])
def test_twins_of_photographs_are_the_photographs(make_twins: MakeTwins, region: str) -> None:
    twins = {"source": "image", "region": region}
    changes = {"synthesis.steps": 10, "synthesis.strength": 5}
    corpus, maker = make_twins("corpus", twins, changes, categories=["disc"])
    starts = maker.open_starts("parts.disc", 16)
    assert starts is not None
    given = starts.of(range(5)).pixels[:, 0]
    samples = list(read(corpus).values())
    assert all(
        np.array_equal(one["normal.png"], photograph)
        for one, photograph in zip(samples, given, strict=True)
    )
    assert any((one["image.png"] != one["normal.png"]).any() for one in samples)


def test_differences_are_moved_to_photographs() -> None:
    images, twins = torch.tensor([0.5, 0.2, 0.9, 0.1]), torch.tensor([0.25, 0.2, 0.1, 0.9])
    both = torch.stack([images, twins]).view(2, 1, 1, 2, 2)
    found = onto_photographs(both, torch.tensor([0.5, 0.3, 0.75, 0.25]).view(1, 1, 2, 2))
    assert found[0].flatten().tolist() == pytest.approx([0.75, 0.3, 1.0, 0.0])
    assert found[1].flatten().tolist() == [0.5, pytest.approx(0.3), 0.75, 0.25]


def test_another_kind_of_corpus_is_not_mixed_in(make_twins: MakeTwins) -> None:
    make_twins()
    with pytest.raises(OutputError, match=r"synthesis\.twins"):
        make_twins(twins={"region": "box"})


@pytest.mark.parametrize(
    ("twins", "problem"),
    [
        ({"start": 0}, "start"),
        ({"start": 1.5}, "start"),
        ({"start": float("nan")}, "start"),
        ({"source": "photo"}, "source"),
        ({"region": "perlni"}, r"unknown region 'perlni' \(did you mean 'perlin'"),
        ({"region": "foreground"}, "needs photographs"),
        ({"invert": True}, "needs photographs"),
        ({"edit": ["shift"]}, "needs photographs"),
        ({"source": "image", "edit": "shfit"}, r"unknown edit 'shfit' \(did you mean 'shift'"),
        ({"source": "image", "edit": "erase,erase"}, "'erase' is given twice"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    recipe: Recipe, twins: dict[str, Any], problem: str
) -> None:
    with pytest.raises(RecipeError, match=problem):
        recipe.override({"synthesis.twins": twins})


def test_what_is_missing_is_said_before_anything_is_made(recipe: Recipe, tmp_path: Path) -> None:
    changed = recipe.override({"synthesis.twins": {"source": "image"}})
    with pytest.raises(ImageError, match="does not say where its images are"):
        TwinMaker(changed, all_categories(changed))
    changed = recipe.override({"synthesis.twins": {}})
    with pytest.raises(ModelError, match="nowhere"):
        TwinMaker(changed, all_categories(changed), weights=tmp_path / "nowhere.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_recipe_without_twins_is_refused(recipe: Recipe) -> None:
    with pytest.raises(OptionError, match="makes no twins"):
        TwinMaker(recipe, all_categories(recipe))
