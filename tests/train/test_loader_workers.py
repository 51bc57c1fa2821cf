"""Every training learns the same with loader processes as without; those of twins are elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sia_gen.config.recipe import Recipe
from sia_gen.diffusion.classifier_training import train_classifier
from sia_gen.diffusion.training import train_diffusion
from sia_gen.errors import CorpusError
from sia_gen.realnet.fitting import fit_realnet
from sia_gen.runtime.device import Runtime
from tests.corpus.conftest import HandmadeCorpus

CPU = Runtime("fp32", "cpu")
Train = Callable[[Recipe, Path, Path], Path]


def diffusion(recipe: Recipe, photographs: Path, out: Path) -> Path:
    train_diffusion(recipe, ["disc"], photographs, out, CPU)
    return out / "disc/unet/diffusion_pytorch_model.safetensors"


def classifier(recipe: Recipe, photographs: Path, out: Path) -> Path:
    train_classifier(recipe.override({"classifier.max_steps": 3}), photographs, out, CPU)
    return out / "model/diffusion_pytorch_model.safetensors"


def realnet(recipe: Recipe, photographs: Path, out: Path) -> Path:
    corpus = HandmadeCorpus(out.with_name(f"{out.name}-corpus")).folder
    fit_realnet(recipe, ["disc"], photographs, corpus, out, CPU)
    return out / "disc/model.safetensors"


@pytest.mark.parametrize("train", [diffusion, classifier, realnet])
def test_training_with_two_workers_is_the_same(
    train: Train, recipe: Recipe, photographs: Path, tmp_path: Path, workers: Callable[[int], None]
) -> None:
    alone = load_file(train(recipe, photographs, tmp_path / "alone"))
    workers(2)
    helped = load_file(train(recipe, photographs, tmp_path / "helped"))
    assert alone.keys() == helped.keys()
    assert all(torch.equal(helped[name], value) for name, value in alone.items())


def test_damaged_sample_is_one_line_from_a_worker_too(
    recipe: Recipe, photographs: Path, tmp_path: Path, workers: Callable[[int], None]
) -> None:
    corpus = HandmadeCorpus(tmp_path / "corpus")
    content = corpus.path(0).read_bytes()
    corpus.path(0).write_bytes(content.replace(b"IDAT", b"XDAT", 1))
    workers(2)
    with pytest.raises(CorpusError, match=r"train-00000-of-00002\.tar is damaged"):
        fit_realnet(recipe, ["disc"], photographs, corpus.folder, tmp_path / "out", CPU)
