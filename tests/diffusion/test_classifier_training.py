from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from sia_gen.config.recipe import Recipe
from sia_gen.diffusion.classifier_training import train_classifier
from sia_gen.errors import OptionError, OutputError, RecipeError
from sia_gen.networks.classifier import NoisyClassifier
from sia_gen.runtime.device import Runtime
from sia_gen.train.checkpoints import list_checkpoints
from tests.small_networks import PRESET
from tests.waiting import looks_per_step

WEIGHTS = "model/diffusion_pytorch_model.safetensors"
Train = Callable[..., Path]


@pytest.fixture
def train(tmp_path: Path, photographs: Path, recipe: Recipe) -> Train:
    def call(out: str = "out", root: Path = photographs, **changes: object) -> Path:
        settings = {"preset": PRESET, "batch_size": 4, "max_steps": 4, "checkpoint_every": 2}
        changed = recipe.override(
            {f"classifier.{name}": value for name, value in (settings | changes).items()}
        )
        train_classifier(changed, root, tmp_path / out, Runtime("fp32", "cpu"))
        return tmp_path / out

    return call


def test_saved_classifier_knows_its_categories(train: Train) -> None:
    out = train()
    model = NoisyClassifier.from_pretrained(out / "model")
    assert (model.config.num_classes, model.config.sample_size) == (2, 32)
    report = json.loads((out / "model/training.json").read_text())
    assert report["categories"] == ["disc", "plate"]
    assert set(report["accuracy_at_timestep"]) == {"0", "250", "500", "750"}
    assert len((out / "logs/train.jsonl").read_text().splitlines()) == 4


def test_interrupted_training_ends_with_the_same_weights(train: Train) -> None:
    whole = load_file(train("whole") / WEIGHTS)
    parts = train("parts", learning_rate=3e-4)
    last = list_checkpoints(parts / "checkpoints")[-1]
    # As if the run had been killed after step 2.
    for file in sorted(last.rglob("*")):
        file.unlink()
    last.rmdir()
    resumed = load_file(train("parts") / WEIGHTS)
    assert all(bool((resumed[name] == value).all()) for name, value in whole.items())


def test_images_that_do_not_fit_into_memory_give_the_same_classifier(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = train("inside") / "model"
    monkeypatch.setattr("sia_gen.images.store.MEMORY", 18 * 32 * 32)
    streamed = train("streamed") / "model"
    assert (streamed / "training.json").read_bytes() == (inside / "training.json").read_bytes()
    found = load_file(streamed.parent / WEIGHTS)
    for name, value in load_file(inside.parent / WEIGHTS).items():
        assert bool((found[name] == value).all())


def test_it_learns_to_tell_categories_apart(train: Train, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for category, grey in (("disc", 60), ("plate", 190)):
        for part in ("train", "test"):
            (tmp_path / "data" / category / part / "good").mkdir(parents=True)
            for number in range(8):
                pixels = rng.normal(grey, 5, (32, 32)).clip(0, 255).astype(np.uint8)
                path = tmp_path / "data" / category / part / "good" / f"{number}.png"
                Image.fromarray(pixels).save(path)
    out = train("learned", tmp_path / "data", max_steps=40, batch_size=8, learning_rate=1e-3)
    accuracy = json.loads((out / "model/training.json").read_text())["accuracy_at_timestep"]
    assert accuracy["0"] == 1
    assert accuracy["250"] == 1


def test_single_category_is_refused(tmp_path: Path, photographs: Path, recipe: Recipe) -> None:
    alone = recipe.override({"categories": ["disc"]})
    with pytest.raises(OptionError, match=r"single category.*cannot guide"):
        train_classifier(alone, photographs, tmp_path / "out", Runtime("fp32", "cpu"))
    assert not (tmp_path / "out").exists()


def test_unknown_preset_is_refused(train: Train, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no 'tinny'.*tiny"):
        train(preset="tinny")
    assert not (tmp_path / "out").exists()


def test_another_recipes_folder_is_refused(train: Train) -> None:
    train()
    with pytest.raises(OutputError, match=r"classifier\.batch_size: 4, now 8"):
        train(batch_size=8)


def test_memory_that_runs_out_says_which_setting_to_lower(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(NoisyClassifier, "forward", forward)
    with pytest.raises(OptionError, match=r"'classifier.batch_size' 4 at 32 pixels\. Lower it"):
        train()


def test_steps_do_not_wait_for_the_device(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = looks_per_step(lambda: train(max_steps=25, checkpoint_every=100), monkeypatch)
    assert looks == [int(step % 10 == 0) for step in range(1, 25)]
