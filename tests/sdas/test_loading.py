from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sia_gen.config.recipe import Recipe
from sia_gen.errors import ModelError
from sia_gen.networks.classifier import NoisyClassifier
from sia_gen.networks.unet import ADMUNet2DModel
from sia_gen.sdas.loading import HashCache, load_pipeline
from tests.sdas.test_pipeline import make_pipeline

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
CONFIGS = ["unet/config.json", "scheduler/scheduler_config.json"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_pipeline().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def one_line(folder: Path, recipe: Recipe) -> str:
    with pytest.raises(ModelError) as raised:
        load_pipeline(folder, recipe)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_loaded_pipeline_has_the_saved_weights(folder: Path, recipe: Recipe) -> None:
    loaded = load_pipeline(folder, recipe).unet.state_dict()
    expected = make_pipeline().unet.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in expected.items())


@pytest.mark.parametrize("part", [*CONFIGS, WEIGHTS])
def test_missing_part_is_named(folder: Path, recipe: Recipe, part: str) -> None:
    (folder / part).unlink()
    assert f"there is no diffusion model in {folder} (no {part})" in one_line(folder, recipe)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"text"', b"\xff\xfe"])
@pytest.mark.parametrize("part", ["model_index.json", *CONFIGS, WEIGHTS])
def test_damaged_part_is_one_line(folder: Path, recipe: Recipe, part: str, content: bytes) -> None:
    (folder / part).write_bytes(content)
    assert f"cannot load the model in {folder}" in one_line(folder, recipe)


def test_truncated_weights_are_one_line(folder: Path, recipe: Recipe) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[: len(whole) // 2])
    assert f"cannot load the model in {folder}" in one_line(folder, recipe)


def test_weights_of_another_network_are_one_line(folder: Path, recipe: Recipe) -> None:
    config = json.loads((folder / "unet/config.json").read_text())
    config["block_out_channels"] = [16, 16]
    (folder / "unet/config.json").write_text(json.dumps(config))
    assert f"cannot load the model in {folder}" in one_line(folder, recipe)


@pytest.mark.parametrize("names", [5, True, ["disc"], {"1": "disc"}, {"0": 1}])
def test_names_of_categories_that_are_none_are_one_line(
    folder: Path, recipe: Recipe, names: object
) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"id2label": names}))
    assert "its id2label" in one_line(folder, recipe)


def test_model_of_another_mode_is_refused(folder: Path, recipe: Recipe) -> None:
    colour = recipe.override({"mode": "RGB"})
    assert "makes images of 1 channels, but the recipe's mode is 'RGB'" in one_line(folder, colour)


def test_hash_is_that_of_what_decides_the_samples(folder: Path, tmp_path: Path) -> None:
    before = HashCache().model_hash(folder)
    (folder / "recipe.yaml").write_text("name: other")
    assert HashCache().model_hash(shutil.copytree(folder, tmp_path / "copy")) == before
    for part in CONFIGS:
        changed = shutil.copytree(folder, tmp_path / part.replace("/", "_"))
        content = json.loads((changed / part).read_text())
        (changed / part).write_text(json.dumps(content | {"sample_size": 24, "beta_end": 0.01}))
        assert HashCache().model_hash(changed) != before
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1] + b"\x01")
    assert HashCache().model_hash(folder) != before


@pytest.mark.parametrize(
    "network", ["ADMUNet2DModel", pytest.param("UNet2DModel", marks=pytest.mark.slow)]
)
def test_saved_pipeline_opens_where_nothing_else_was_imported(tmp_path: Path, network: str) -> None:
    pipeline = make_pipeline()
    if network == "ADMUNet2DModel":
        config = {key: value for key, value in pipeline.unet.config.items() if key[0] != "_"}
        pipeline.register_modules(unet=ADMUNet2DModel(num_attention_heads=1, **config))
    classifier = NoisyClassifier(
        sample_size=16,
        in_channels=1,
        block_out_channels=(8, 8),
        down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D"),
        attention_head_dim=8,
        norm_num_groups=4,
    )
    pipeline.register_modules(classifier=classifier)
    pipeline.save_pretrained(tmp_path)
    script = "import sys; from sia_gen import SDASPipeline as P; "
    script += "p = P.from_pretrained(sys.argv[1]); print(type(p.unet).__name__, type(p.classifier))"
    opened = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert opened.stdout.startswith(network), opened.stderr
    assert "NoisyClassifier" in opened.stdout
