"""Making a corpus: the same bytes, however often it is interrupted and whoever makes it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from sia_gen.config.strength import Strength
from sia_gen.corpus import sampling
from sia_gen.corpus.manifest import read_manifest
from sia_gen.corpus.plan import identify
from sia_gen.corpus.sampling import SampleMaker
from sia_gen.corpus.verify import find_problems
from sia_gen.sdas.loading import HashCache
from sia_gen.sdas.pipeline import SDASPipeline
from sia_gen.version import __version__
from tests.corpus.conftest import read_shards

if TYPE_CHECKING:
    from tests.corpus.conftest import Make

CATEGORIES = ["disc", "plate"]


def contents(folder: Path, pattern: str = "**/*") -> dict[str, bytes]:
    files = [path for path in folder.glob(pattern) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def shards(corpus: Path) -> dict[str, bytes]:
    return contents(corpus, "data/**/*.tar")


def test_corpus_is_complete_and_verifies(make: Make) -> None:
    corpus = make()
    assert sorted(shards(corpus)) == [
        f"data/parts/{category}/train-{number:05d}-of-00002.tar"
        for category in CATEGORIES
        for number in range(2)
    ]
    assert find_problems(corpus) == []
    assert {"README.md", "manifest.json", "recipe.yaml"} <= set(contents(corpus, "*"))


def test_every_sample_has_its_identity_and_the_full_schema(make: Make, models: Path) -> None:
    corpus = make()
    paths = [corpus / shard.path for shard in read_manifest(corpus).shards]
    read = list(read_shards(paths))
    for place, (metadata, image) in enumerate(read):
        category, index = CATEGORIES[place // 5], place % 5
        identity = identify(0, "parts", category, index, {"white": Strength(0, 0.5)})
        assert metadata == {
            "key": f"parts_{category}_{index:08d}",
            "dataset": "parts",
            "category": category,
            "index": index,
            "perturbation": "white",
            "strength": identity.strength,
            "seed": identity.seed,
            "steps": 2,
            "sampler": "PerturbedDDPMScheduler",
            "guidance_scale": 0.0,
            "model": HashCache().model_hash(models / category),
            "width": 8,
            "height": 8,
            "sia_gen": __version__,
        }
        assert type(metadata["strength"]) is type(metadata["guidance_scale"]) is float
        assert (image.size, image.mode) == ((8, 8), "L")
    assert len({image.tobytes() for _, image in read}) == len(read) == 10


def test_any_sample_can_be_made_again_alone(make: Make, models: Path) -> None:
    corpus = make(categories=["disc"])
    pipeline = SDASPipeline.from_pretrained(models / "disc")
    pipeline.set_progress_bar_config(disable=True)
    metadata, made = list(read_shards(sorted(corpus.glob("data/**/*.tar"))))[4]
    again: Image.Image = pipeline(
        strength=metadata["strength"],
        generator=torch.Generator().manual_seed(metadata["seed"]),
        num_inference_steps=metadata["steps"],
    ).images[0]
    difference = np.asarray(again).astype(int) - np.asarray(made)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("last_index", [0, 1, 3, 4])
def test_interrupted_run_is_resumed_to_the_same_bytes(
    make: Make, monkeypatch: pytest.MonkeyPatch, last_index: int
) -> None:
    def interrupted(seed: int, dataset: str, category: str, index: int, strength: Strength) -> Any:
        if (category, index) == ("plate", last_index):
            raise KeyboardInterrupt
        return identify(seed, dataset, category, index, strength)

    with monkeypatch.context() as patch:
        patch.setattr(sampling, "identify", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make("interrupted")
    whole = make("whole")
    broken = whole.with_name("interrupted")
    finished = 2 + (last_index >= 3)
    states = [shard.state for shard in read_manifest(broken).shards]
    assert states == ["complete"] * finished + ["missing"] * (4 - finished)
    assert sorted(shards(broken)) == sorted(shards(whole))[:finished]

    assert contents(make("interrupted")) == contents(whole)


def test_finished_shards_are_not_made_again(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(make())
    monkeypatch.setattr(SampleMaker, "make", None)
    assert contents(make()) == before


def test_deleted_shard_is_made_again(make: Make) -> None:
    corpus = make()
    before = contents(corpus)
    next(corpus.glob("data/parts/plate/*.tar")).unlink()
    assert contents(make()) == before


def test_two_processes_make_the_bytes_of_one(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = shards(make("whole"))
    halves = []
    for rank in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(Accelerator, "num_processes", 2)
            patch.setattr(Accelerator, "process_index", rank)
            halves.append(shards(make(f"rank-{rank}")))
    assert [len(half) for half in halves] == [2, 2]
    assert halves[0] | halves[1] == whole


def test_categories_join_one_after_another(make: Make) -> None:
    whole = make("whole")
    make("joined", categories=["plate"])
    joined = make("joined", categories=["disc"])
    assert contents(joined) == contents(whole)
