"""What the README and the guides take for granted, small: images, recipes, a Hub, a checkpoint."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import tomllib
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from accelerate.commands.launch import launch_command_parser
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from huggingface_hub import HfApi
from PIL import Image

from sia_gen.config.recipe import Recipe, load_corpus_recipe
from sia_gen.config.strength import Strength
from sia_gen.deployment import export
from sia_gen.diffusion import preview
from sia_gen.images import listing, recognition
from sia_gen.inspection import calibrate
from sia_gen.run import run, speed
from sia_gen.serving import run as serving
from sia_gen.twins import masks
from sia_gen.twins.masks import ChanceLimits
from tests.conftest import photograph, recipe_content
from tests.corpus.conftest import save_model
from tests.diffusion.original_adm import small_unet
from tests.documents import Reader, code_blocks
from tests.hub.server import Hub
from tests.images.trees import write_images
from tests.realnet.original_realnet import realnet_yaml, save_training
from tests.small_networks import BACKBONE, PRESET, small_networks

TOP = Path(__file__).parents[2]
EXPORT = export.export_realnet
SMALL: dict[str, dict[str, Any]] = {
    "diffusion": {"preset": PRESET, "image_size": 16, "batch_size": 2, "max_steps": 2},
    "classifier": {"preset": PRESET, "batch_size": 2},
    "synthesis": {"images": 8, "steps": 4, "batch_size": 4, "shard_size": 4},
    # With a single stride, which is faster to export.
    "realnet": recipe_content()["realnet"]
    | {
        "strides": [16],
        "channels_kept": [16],
        "backbone": BACKBONE,
        "weights": "backbone.safetensors",
    },
}


class GuideReader(Reader):
    """Runs a document from its first block to its last, in a folder that has what it needs."""

    def read(self, document: str) -> None:
        """Runs all code blocks of a document."""
        for block in code_blocks((TOP / document).read_text()):
            if block.language == "yaml":
                save_recipe(block.code)
            elif "anomalib" not in block.code or importlib.util.find_spec("anomalib") is not None:
                self.run(block)

    def other(self, words: list[str]) -> None:
        if words[:2] == ["accelerate", "launch"]:
            # `tests/end_to_end` starts several processes; a launcher takes seconds to import.
            launched = launch_command_parser().parse_args(words[2:])
            assert (launched.module, launched.training_script) == (True, "sia_gen")
            self.command(["sia-gen", *launched.training_script_args])
        elif words[0] == "make":
            # Running the targets here would run this test within itself.
            subprocess.run(["make", "--dry-run", *words[1:]], cwd=TOP, check=True)
        elif words[:2] == ["pip", "install"]:
            project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
            extra = words[2].removeprefix(".[").removesuffix("]")
            assert extra in project["optional-dependencies"]
        else:
            super().other(words)


def save_recipe(text: str) -> None:
    """Checks that a recipe is valid as it stands, and saves it with a smaller network."""
    content = yaml.safe_load(text)
    Recipe.parse(content, where="the guide")
    content["data"]["non_square"] = None
    content["diffusion"] = SMALL["diffusion"]
    Path(f"{content['name']}.yaml").write_text(json.dumps(content))


def small(name: str, **changes: Any) -> dict[str, Any]:
    """A shipped recipe with small sizes and budgets."""
    content = load_corpus_recipe(name).model_dump(mode="json")
    for section, values in SMALL.items():
        if section in content:
            content[section] = {**content[section], **values}
    return content | changes


def write_recipes(folder: Path) -> None:
    """Writes small recipes; a file in the folder takes precedence over a shipped recipe."""
    (folder / "elpv").write_text(json.dumps(small("elpv")))
    square = {"data": load_corpus_recipe("mvtec-ad").model_dump(mode="json")["data"]}
    square["data"]["non_square"] = "crop"
    mvtec = small("mvtec-ad", categories=["bottle"], foreground={}, mode="RGB", **square)
    btad = small("btad", categories=["01"], foreground={})
    (folder / "mvtec-ad").write_text(json.dumps(mvtec))
    # With as many shards as the guide asks for.
    everything = small("sia-360k", members=[mvtec, btad])
    everything["synthesis"] |= {"images": 40, "shard_size": 2}
    (folder / "sia-360k").write_text(json.dumps(everything))


def write_inputs(folder: Path) -> None:
    """Writes images, models of the data sets of `sia-360k`, and checkpoints of ADM and RealNet."""
    for place in ("btad/diffusion/01", "mvtec-ad/diffusion/bottle"):
        save_model(folder / "runs" / place, seed=0, channels=3, size=16)
    good = [f"train/good/{number:03d}.png" for number in range(4)]
    write_images(folder / "DATA/bottle", *good, "test/good/000.png", "test/broken_large/000.png")
    for first, (place, count) in enumerate({"good": 8, "test/good": 2, "test/bad": 2}.items()):
        (folder / "photos" / place).mkdir(parents=True)
        for number in range(count):
            image = photograph(10 * first + number, defect=place == "test/bad")
            image.save(folder / "photos" / place / f"{number}.png")
    write_images(folder / "pictures", "0.png", "1.png")
    lines = ["file;result", "C:\\pictures\\0.png;ok", "C:\\pictures\\1.png;zerkratzt, groß"]
    (folder / "list.csv").write_text("\r\n".join(lines), encoding="cp1252")
    (folder / "boards").mkdir()
    for number in range(5):
        noise = np.random.default_rng(number).normal(120, 9, (280, 300)).clip(0, 255)
        Image.fromarray(noise.astype(np.uint8)).save(folder / f"boards/{number}.png")
    Image.new("L", (300, 280)).save(folder / "mask.png")
    write_images(folder / "dtd/images", *(f"banded/{number}.png" for number in range(3)))
    torch.save(small_unet(out_channels=6).state_dict(), folder / "256x256_diffusion_uncond.pt")
    save_training(folder, realnet_yaml())


def write_cells(folder: Path, package: Path) -> None:
    """Writes some of ELPV's cells of each category and label, in the layout of the package."""
    lines = (package / "data/labels.csv").read_text().splitlines()
    by_kind = groupby(sorted(lines, key=kind_of), kind_of)
    chosen = [line for _, some in by_kind for line in list(some)[:12]]
    (folder / "data").mkdir(parents=True)
    (folder / "data/labels.csv").write_text("\n".join(chosen))
    (folder / "data/images").symlink_to(package / "data/images")


def kind_of(line: str) -> list[str]:
    """The label and the category of a line of ELPV's table."""
    return line.split()[1:]


def export_quickly(
    model: Path, out: Path, form: str | None = None, *, preprocessing: bool = False
) -> float:
    """Stands for an export, which takes seconds, unless the guide goes on to use it."""
    if preprocessing:
        return EXPORT(model, out, form, preprocessing=preprocessing)
    out.touch()
    return 0.0


def publish_theirs(hub: Hub) -> None:
    """Publishes a pipeline of somebody else."""
    hub.create("model", "google/ddpm-cat-256")
    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    unet = UNet2DModel(sample_size=8, block_out_channels=(8,), norm_num_groups=4, **blocks)
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained("theirs")
    HfApi(token="hf_of_google").upload_folder(repo_id="google/ddpm-cat-256", folder_path="theirs")


@pytest.fixture
def reader(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shallow: None) -> GuideReader:
    monkeypatch.setenv("HF_TOKEN", "hf_of_you")
    # Models of two steps have no range of useful strengths, ...
    monkeypatch.setattr(calibrate, "useful_range", lambda curve, name: Strength(0.1, 0.2))
    # ... and no strength changes their samples by more than chance.
    monkeypatch.setattr(masks, "IMAGES", 4)
    for estimate in ("of", "within"):
        monkeypatch.setattr(ChanceLimits, estimate, lambda _: ChanceLimits(0.0, 0.0))
    monkeypatch.setattr(preview, "INVERSION_STEPS", 2)
    changes = {
        f"{section}.{name}": value for section in SMALL for name, value in SMALL[section].items()
    }
    recipe_for_folder: Callable[[Path], Recipe] = recognition.recipe_for_folder
    monkeypatch.setattr(
        recognition, "recipe_for_folder", lambda root: recipe_for_folder(root).override(changes)
    )
    monkeypatch.setattr(speed, "TURNS", 1)
    # The steps that fit into minutes would take minutes.
    monkeypatch.setattr(run, "fit_into", lambda recipe, *_: recipe)
    monkeypatch.setattr(export, "export_realnet", export_quickly)
    # It would wait for requests.
    monkeypatch.setattr(serving, "serve", lambda *_: 0)
    write_cells(tmp_path / "cells", listing.package_folder("elpv_dataset"))
    monkeypatch.setattr(listing, "package_folder", lambda name: tmp_path / "cells")
    reader = GuideReader(tmp_path, monkeypatch)
    small_networks(tmp_path)
    write_recipes(tmp_path)
    write_inputs(tmp_path)
    publish_theirs(hub)
    return reader
