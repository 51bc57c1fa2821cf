"""What is refused before a corpus is made, and leaves the folder as it was."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from sia_gen.config.outputs import claim_output
from sia_gen.config.recipe import Recipe, all_categories
from sia_gen.corpus.generate import synthesize
from sia_gen.corpus.verify import find_problems
from sia_gen.errors import ModelError, OptionError, OutputError
from sia_gen.runtime.device import Runtime
from sia_gen.sdas.scheduler import PerturbedDDPMScheduler

if TYPE_CHECKING:
    from tests.corpus.conftest import Make, SaveModel

CATEGORIES = ["disc", "plate"]


def contents(folder: Path, pattern: str = "**/*") -> dict[str, bytes]:
    files = [path for path in folder.glob(pattern) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def shards(corpus: Path) -> dict[str, bytes]:
    return contents(corpus, "data/**/*")


@pytest.mark.parametrize(
    "change",
    [
        {"synthesis.strength": "0.1:0.2"},
        {"synthesis.images": 6},
        {"synthesis.steps": 3},
        {"seed": 1},
    ],
)
def test_other_samples_in_the_same_folder_are_refused(make: Make, change: dict[str, Any]) -> None:
    before = contents(make())
    with pytest.raises(OutputError, match="already holds a corpus with another"):
        make(changes=change)
    assert contents(make()) == before


def test_recipe_that_lost_a_category_is_refused(make: Make) -> None:
    before = contents(make())
    with pytest.raises(OutputError, match=r"holds 'parts.plate', which the recipe lacks"):
        make(changes={"categories": ["disc"]}, categories=["disc"])
    assert contents(make()) == before


def test_other_model_in_the_same_folder_is_refused(
    make: Make, save_model: SaveModel, tmp_path: Path
) -> None:
    corpus = make(categories=["disc"])
    before = contents(corpus)
    save_model(tmp_path / "models" / "disc", seed=9)
    other = {"categories": ["disc"], "models": tmp_path / "models"}
    with pytest.raises(OutputError, match="holds samples of 'disc' by another model"):
        make(**other)
    assert contents(corpus) == before

    assert shards(make(**other, resume=False)) != shards(make("old", categories=["disc"]))
    assert find_problems(corpus) == []


def test_parts_of_a_category_are_by_one_model(
    make: Make, save_model: SaveModel, tmp_path: Path
) -> None:
    make(categories=["disc"], shards="0:1")
    save_model(tmp_path / "models" / "disc", seed=9)
    with pytest.raises(OutputError, match="holds samples of 'disc' by another model"):
        make(categories=["disc"], shards="1:2", models=tmp_path / "models")
    make(categories=["disc"])
    other = {"models": tmp_path / "models", "resume": False}
    with pytest.raises(OutputError, match="holds samples of 'disc' by another model"):
        make(categories=["disc"], shards="1:2", **other)
    make(categories=["disc"], **other)


@pytest.mark.parametrize("different", ["channels_last", "model"])
def test_another_corpus_that_is_made_meanwhile_is_refused(
    make: Make,
    recipe: Recipe,
    models: Path,
    save_model: SaveModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    different: str,
) -> None:
    """Between the first look at the folder and the claim on it."""
    for seed, category in enumerate(CATEGORIES, start=0 if different == "channels_last" else 8):
        save_model(tmp_path / "models" / category, seed)
    runtime = Runtime("fp32", "cpu", channels_last=different == "model")
    made = []

    def claim_late(*arguments: Any, **options: Any) -> Any:
        monkeypatch.undo()
        categories, out = all_categories(recipe), tmp_path / "corpus"
        synthesize(recipe, categories, tmp_path / "models", out, runtime)
        made.append(contents(tmp_path / "corpus"))
        return claim_output(*arguments, **options)

    monkeypatch.setattr("sia_gen.corpus.output.claim_output", claim_late)
    with pytest.raises(OutputError, match=f"another {different}"):
        make()
    assert made == [contents(tmp_path / "corpus")]


@pytest.mark.parametrize("missing", ["disc", "plate"])
def test_missing_model_is_refused_before_anything_is_written(
    make: Make, save_model: SaveModel, tmp_path: Path, missing: str
) -> None:
    for category in set(CATEGORIES) - {missing}:
        save_model(tmp_path / "models" / category, seed=0)
    with pytest.raises(ModelError, match=f"no diffusion model in .*{missing}"):
        make(models=tmp_path / "models")
    assert not (tmp_path / "corpus").exists()


@pytest.mark.parametrize("other", [{"channels": 3}, {"size": 16}], ids=str)
@pytest.mark.parametrize("position", [0, 1])
def test_model_that_does_not_fit_is_refused_before_anything_is_written(
    make: Make, save_model: SaveModel, tmp_path: Path, position: int, other: dict[str, int]
) -> None:
    for number, category in enumerate(CATEGORIES):
        save_model(tmp_path / "models" / category, 0, **(other if number == position else {}))
    with pytest.raises(ModelError):
        make(models=tmp_path / "models")
    assert not (tmp_path / "corpus").exists()


def test_memory_that_runs_out_says_which_setting_to_lower(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(PerturbedDDPMScheduler, "step", step)
    with pytest.raises(OptionError, match=r"'synthesis.batch_size' 2\. Lower it, and choose"):
        make()
