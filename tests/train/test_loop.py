"""What every training has in common."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from sia_gen.config.recipe import Recipe
from sia_gen.config.settings import Training
from sia_gen.errors import OptionError, OutputError
from sia_gen.images.learnt import Learnt
from sia_gen.runtime.device import Runtime
from sia_gen.train.loop import model_groups, set_learning_rate, train_models


def test_groups_of_models() -> None:
    recipe = Recipe.load("btad")
    assert model_groups(recipe, ["01", "03"], joint=False) == {"01": ["01"], "03": ["03"]}
    assert model_groups(recipe, recipe.categories, joint=True) == {"_joint": ["01", "02", "03"]}
    with pytest.raises(OptionError, match="a joint model learns all categories of its recipe"):
        model_groups(recipe, ["01"], joint=True)


def test_learning_rate_is_set() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    training = Training(learning_rate=0.5, warmup_steps=1)
    assert set_learning_rate(optimizer, training, 0) == 0.25
    assert [group["lr"] for group in optimizer.param_groups] == [0.25]


class Models:
    """Records what is opened and trained."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.done: list[str] = []

    def run(self, inputs: dict[str, dict[str, int]], *, resume: bool = True) -> list[str]:
        self.done.clear()
        train_models(
            Recipe.load("btad"),
            inputs,
            self.open,
            self.train,
            lambda _: Learnt(fit={}, validation={}),
            sections=["diffusion"],
            out=self.out,
            runtime=Runtime(device="cpu"),
            resume=resume,
        )
        return self.done

    def open(self, name: str) -> str:
        written = " after writing" if self.out.exists() else ""
        self.done.append(f"open {name}{written}")
        return f"images of {name}"

    def train(self, name: str, images: str, accelerator: Accelerator) -> None:
        assert images == f"images of {name}"
        checkpoints = self.out / "checkpoints" / name
        assert (checkpoints / "inputs.json").exists()
        (checkpoints / "step-00000001").mkdir(exist_ok=True)
        self.done.append(f"train {name}")


def test_models_are_trained_one_after_another(tmp_path: Path) -> None:
    models = Models(tmp_path / "out")
    done = models.run({"01": {"images": 1}, "02": {"images": 2}})
    assert done == ["open 01", "train 01", "open 02 after writing", "train 02"]


def test_other_inputs_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    models = Models(tmp_path / "out")
    models.run({"01": {"images": 1}})
    with pytest.raises(OutputError, match="different inputs"):
        models.run({"02": {"images": 2}, "01": {"images": 3}})
    assert not (tmp_path / "out/checkpoints/02").exists()
    assert models.run({"01": {"images": 3}}, resume=False)[-1] == "train 01"
