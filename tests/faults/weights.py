"""Models of every kind with the commands that read them, and what may be wrong with their files."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from sia_gen import RealNet
from sia_gen.config.recipe import Recipe
from sia_gen.networks.classifier import NoisyClassifier
from tests.corpus.conftest import HandmadeCorpus, save_model
from tests.diffusion.original_adm import small_unet
from tests.hostile import Evil
from tests.realnet.original_realnet import realnet_yaml, save_training

CPU = ["--device", "cpu", "--precision", "fp32"]
PARTS = ["--recipe", "parts.yaml", "--data", "images"]
DISC = [*PARTS, "--category", "disc"]
UNET = "models/disc/unet/diffusion_pytorch_model.safetensors"
CLASSIFIER = "classifier/diffusion_pytorch_model.safetensors"
REALNET = "realnet/disc/model.safetensors"
BACKBONE, ADM = "backbone.safetensors", "adm.safetensors"
ORIGINAL = "original.safetensors"
GUIDED = ["--guidance-scale", "1", "--classifier", "classifier"]
SYNTHESIZE = ["synthesize", "--recipe", "parts.yaml", "--model", "models", *CPU, "--out", "out"]
FIT = ["fit-realnet", *DISC, "--corpus", "corpus", *CPU, "--out", "out"]
# By the file of weights they read: the commands.
COMMANDS = {
    UNET: {
        "train-diffusion": [
            "train-diffusion",
            *DISC,
            *CPU,
            "--init",
            "models/disc",
            "--out",
            "out",
        ],
        "synthesize": [*SYNTHESIZE, "--category", "disc"],
        "calibrate": ["calibrate", *DISC, *CPU, "--model", "models", "--out", "out"],
        "push-to-hub": ["push-to-hub", "models/disc", "ada/evil-model"],
    },
    CLASSIFIER: {"synthesize": [*SYNTHESIZE, *GUIDED]},
    REALNET: {
        "predict": ["predict", "realnet/disc", "images/disc/test", *CPU, "--out", "out"],
        "evaluate": ["evaluate", *DISC, *CPU, "--model", "realnet", "--out", "out"],
        "export": ["export", "realnet/disc", "--out", "out.pt2"],
        "push-to-hub": ["push-to-hub", "realnet/disc", "ada/evil-detector"],
    },
    BACKBONE: {
        "fit-realnet": [*FIT, "--weights", BACKBONE],
        "inspect": ["inspect", "corpus", "--data", "images", "--weights", BACKBONE, "--out", "out"],
        "a recipe": [*FIT, "--recipe", "weights.yaml"],
    },
    ADM: {"import-adm": ["import-adm", ADM, "--image-size", "16", "--out", "out"]},
    ORIGINAL: {
        "import-realnet": ["import-realnet", ORIGINAL, "--config", "realnet.yaml", "--out", "out"]
    },
}


def make_models(folder: Path, photographs: Path, recipe: Recipe) -> None:
    """Fills a folder with a model of every kind, small and untrained."""
    (folder / "parts.yaml").write_text(recipe.to_yaml())
    weights = recipe.override({"realnet.weights": BACKBONE})
    (folder / "weights.yaml").write_text(weights.to_yaml())
    shutil.copytree(photographs, folder / "images")
    corpus = HandmadeCorpus(folder / "corpus", ("disc", "plate"))
    (corpus.folder / "recipe.yaml").write_text(recipe.to_yaml())
    for seed, category in enumerate(recipe.categories):
        save_model(folder / "models" / category, seed)
        describe(folder / "models" / category, recipe, "training.json")
    classifier = NoisyClassifier(
        sample_size=8,
        in_channels=1,
        num_classes=2,
        block_out_channels=(8,),
        layers_per_block=1,
        down_block_types=("ResnetDownsampleBlock2D",),
        attention_head_dim=8,
        norm_num_groups=4,
    )
    classifier.save_pretrained(folder / "classifier")
    describe(folder / "classifier", recipe, "training.json")
    realnet = RealNet(recipe.realnet.backbone, 64, [8, 16], [8, 8], num_max=4, num_mean=4)
    realnet.save_pretrained(folder / "realnet/disc")
    describe(folder / "realnet/disc", recipe, "fit.json")
    backbone = {
        f"{name}": one.clone() for name, one in realnet.backbone.features.state_dict().items()
    }
    save_file(backbone, folder / BACKBONE)
    save_file(small_unet().state_dict(), folder / ADM)
    save_file(save_training(folder, realnet_yaml()).network.state_dict(), folder / ORIGINAL)


def describe(folder: Path, recipe: Recipe, report: str) -> None:
    """What lies beside the weights of a model."""
    known = {"threshold": 0.5, "selected_on": "x", "model_version": 2}
    (folder / report).write_text(json.dumps({"categories": ["disc", "plate"], **known}))
    (folder / "recipe.yaml").write_text(recipe.to_yaml())


def zipped(evil: Evil, path: Path) -> None:
    torch.save({"state_dict": evil}, path)


def legacy(evil: Evil, path: Path) -> None:
    torch.save({"state_dict": evil}, path, _use_new_zipfile_serialization=False)


def plain(evil: Evil, path: Path) -> None:
    path.write_bytes(pickle.dumps(evil))


def change(path: Path, how: Callable[[dict[str, torch.Tensor], str], None]) -> None:
    """Changes the tensors in a file; the name is that of some weights."""
    tensors = load_file(path)
    how(tensors, next(name for name in tensors if name.endswith(".weight")))
    save_file(tensors, path, metadata={"format": "pt"})


def header(length: int) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(length.to_bytes(8, "little") + b"{}")


def fill(value: float) -> Callable[[Path], None]:
    return lambda path: change(path, lambda tensors, name: tensors[name].view(-1)[0:1].fill_(value))


BROKEN: dict[str, Callable[[Path], object]] = {
    "NaN": fill(float("nan")),
    "infinity": fill(float("inf")),
    "a shape": lambda path: change(
        path, lambda one, name: one.update({name: torch.zeros(3, 2, 1)})
    ),
    "integers": lambda path: change(path, lambda one, name: one.update({name: one[name].int()})),
    "a tensor missing": lambda path: change(path, lambda one, name: one.pop(name)),
    "no tensors": lambda path: save_file({}, path),
    "no bytes": lambda path: path.write_bytes(b""),
    "half a header": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "half a file": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "a header of exabytes": header(1 << 62),
    "a header without end": header(1 << 20),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


def add_tensor(path: Path) -> None:
    """A backbone takes of a file what it needs, and an import knows no other tensors to miss."""
    change(path, lambda one, name: one.update({"more": torch.zeros(1)}))


CONTENTS: dict[str, Callable[[Any], str]] = {
    "nothing": lambda _: "",
    "a text": lambda _: '"/etc/passwd"',
    "a list": lambda one: json.dumps([one]),
    "deep JSON": lambda _: '{"a":' * 100_000,
    "another class": lambda one: json.dumps(one | {"_class_name": "Evil", "model_version": 9}),
    "an unknown field": lambda one: json.dumps(
        one | {"auto_map": {"x": "evil.Evil"}, "evil": ["evil", "Evil"], "threshold": "much"}
    ),
    "wrong types": lambda one: json.dumps({name: ["evil", "Evil"] for name in one}),
    "another size": lambda one: json.dumps(
        {name: value * 2 if type(value) is int else None for name, value in one.items()}
    ),
}
