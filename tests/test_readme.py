"""Every code block of the README runs, in its order, on small data."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from huggingface_hub import HfApi

from sia_gen.config.recipe import Recipe, load_corpus_recipe
from sia_gen.config.strength import Strength
from sia_gen.diffusion import preview
from sia_gen.inspection import calibrate
from sia_gen.twins import masks
from sia_gen.twins.masks import ChanceLimits
from tests.conftest import photograph, recipe_content
from tests.corpus.conftest import save_model
from tests.diffusion.original_adm import small_unet
from tests.documents import Block, Reader, code_blocks
from tests.hub.server import Hub
from tests.images.trees import write_images
from tests.small_networks import BACKBONE, PRESET, small_networks

TOP = Path(__file__).parents[1]
SMALL: dict[str, dict[str, Any]] = {
    "diffusion": {"preset": PRESET, "image_size": 16, "batch_size": 2, "max_steps": 2},
    "synthesis": {"images": 8, "steps": 4, "batch_size": 4, "shard_size": 4},
    # Of one stride, for the sake of the exporter.
    "realnet": recipe_content()["realnet"]
    | {
        "strides": [16],
        "channels_kept": [16],
        "backbone": BACKBONE,
        "weights": "backbone.safetensors",
    },
}


def small(name: str, **changes: Any) -> dict[str, Any]:
    """A shipped recipe, but for sizes and budgets."""
    content = load_corpus_recipe(name).model_dump(mode="json")
    for section, values in SMALL.items():
        if section in content:
            content[section] = {**content[section], **values}
    return content | changes


def prepare(folder: Path) -> None:
    """Everything the README takes for granted, small: recipes, images, models, a checkpoint."""
    small_networks(folder)
    # A file in the folder goes before the recipe of that name.
    (folder / "elpv").write_text(yaml.safe_dump(small("elpv")))
    square = {"data": load_corpus_recipe("mvtec-ad").model_dump(mode="json")["data"]}
    square["data"]["non_square"] = "crop"
    mvtec = small("mvtec-ad", categories=["bottle"], foreground={}, mode="RGB", **square)
    btad = small("btad", categories=["01"], foreground={})
    (folder / "mvtec-ad").write_text(yaml.safe_dump(mvtec))
    # As many shards as the README asks for.
    everything = small("sia-360k", members=[mvtec, btad])
    everything["synthesis"] |= {"images": 40, "shard_size": 2}
    (folder / "sia-360k").write_text(yaml.safe_dump(everything))
    save_model(folder / "runs/btad/diffusion/01", seed=0, channels=3, size=16)
    good = [f"train/good/{number:03d}.png" for number in range(4)]
    write_images(folder / "DATA/bottle", *good, "test/good/000.png", "test/broken_large/000.png")
    for place, count in (("good", 8), ("test/good", 2), ("test/bad", 2)):
        (folder / "photos" / place).mkdir(parents=True)
        for number in range(count):
            image = photograph(number, defect=place == "test/bad")
            image.save(folder / "photos" / place / f"{number}.png")
    write_images(folder / "dtd/images", *(f"banded/{number}.png" for number in range(3)))
    torch.save(small_unet(out_channels=6).state_dict(), folder / "256x256_diffusion_uncond.pt")


def publish_theirs(hub: Hub) -> None:
    """Somebody else's pipeline, on the Hub."""
    hub.create("model", "google/ddpm-cat-256")
    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    unet = UNet2DModel(sample_size=8, block_out_channels=(8,), norm_num_groups=4, **blocks)
    pipeline = DDPMPipeline(unet, DDPMScheduler())
    hub_folder = Path("theirs")
    pipeline.save_pretrained(hub_folder)
    HfApi(token="hf_of_google").upload_folder(repo_id="google/ddpm-cat-256", folder_path=hub_folder)


def run_make(block: Block) -> None:
    """The targets exist; to run them here would be to run this test within itself."""
    targets = [line.split()[1] for line in block.code.splitlines()]
    subprocess.run(["make", "--dry-run", *targets], cwd=TOP, check=True, capture_output=True)


def check_extras(code: str) -> None:
    """What the README installs can be installed by that name."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    assert "pip install '.[demo]'" in code
    assert "demo" in project["optional-dependencies"]


def save_gears(block: Block) -> None:
    """The recipe of the README is valid as it stands, and runs with a smaller network."""
    content = yaml.safe_load(block.code)
    Recipe.parse(content, where="README")
    content["data"]["non_square"] = None
    content["diffusion"] = SMALL["diffusion"]
    Path("gears.yaml").write_text(yaml.safe_dump(content))


def test_every_block_runs(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photographs: Path, shallow: None
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_you")
    # Strength 0.1 to 0.2 is what `calibrate` finds; no model of two steps has a useful range.
    monkeypatch.setattr(calibrate, "useful_range", lambda curve, name: Strength(0.1, 0.2))
    # Nor does strength do anything to such a model that goes beyond chance.
    monkeypatch.setattr(masks, "IMAGES", 4)
    monkeypatch.setattr(ChanceLimits, "of", lambda maps: ChanceLimits(0.0, 0.0))
    # Previews are to be there, not to be good.
    monkeypatch.setattr(preview, "INVERSION_STEPS", 2)
    reader = Reader(tmp_path, monkeypatch)
    prepare(tmp_path)
    publish_theirs(hub)
    special: dict[str, Callable[[Block], None]] = {
        "make demo": run_make,
        "name: gears": save_gears,
    }
    blocks = code_blocks((TOP / "README.md").read_text())
    assert len(blocks) >= 15
    for block in blocks:
        own = next((run for start, run in special.items() if block.code.startswith(start)), None)
        if own is not None:
            own(block)
        elif "anomalib" not in block.code:
            lines = block.code.splitlines(keepends=True)
            installs = [line for line in lines if line.startswith("pip ")]
            for line in installs:
                check_extras(line)
            reader.run(Block(block.language, "".join(x for x in lines if x not in installs)))
        elif importlib.util.find_spec("anomalib") is not None:
            reader.run(block)
    assert shutil.which("make")
    for made in (
        "runs/elpv/evaluation/index.html",
        "runs/sia-360k/corpus/data/btad/01/train-00000-of-00020.tar",
        "triplets/manifest.json",
        "folders/mono",
        "twins/mono/normal/synthetic",
        "runs/elpv/realnet-twins/mono/model.safetensors",
        "predictions/predictions.csv",
        "mono.onnx",
        "refitted/mono/model.safetensors",
    ):
        assert Path(made).exists(), made
