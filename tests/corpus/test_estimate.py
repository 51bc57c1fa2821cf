"""What a corpus will take, against what it took."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from diffusers import UNet2DModel

from sia_gen.config.recipe import Recipe, all_categories, choose_categories
from sia_gen.config.settings import Diffusion
from sia_gen.corpus.estimate import Throughput, duration, estimate, table
from sia_gen.corpus.plan import plan_corpus
from sia_gen.errors import OptionError
from sia_gen.networks.unet import build_unet, forward_flops
from tests.corpus.conftest import RUNTIME, plan_parts

if TYPE_CHECKING:
    from tests.corpus.conftest import Make


def test_plan_is_that_of_the_corpus_and_writes_nothing(
    recipe: Recipe, models: Path, make: Make, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    lines = dict(
        re.split(r"\s{2,}|(?<=here) |(?<=devices) ", line, maxsplit=1)
        for line in estimate(recipe, all_categories(recipe), models, RUNTIME).splitlines()
    )
    assert sorted(tmp_path.rglob("*")) == before
    assert lines["categories"] == "2"
    assert lines["shards"] == "4, of at most 3 samples"
    assert lines["samples"] == "10"
    assert lines["steps"] == "20 (2 per sample)"
    assert {"1 device", "2 devices", "4 devices"} <= set(lines)
    assert "8 devices" not in lines
    assert re.match(r"[\d.e+]+ images/s with 2 at a time, cpu", lines["measured here"])
    size = sum(path.stat().st_size for path in make().glob("data/**/*.tar"))
    number, prefix = re.match(r"([\d.]+) (k?)B \(png\)", lines["size"]).groups()
    # Tar files end with blocks of padding, which count in shards this small.
    assert float(number) * (1000 if prefix else 1) == pytest.approx(size - 4 * 5120, rel=0.5)


def test_part_of_a_plan_counts_its_shards_alone(recipe: Recipe, models: Path) -> None:
    categories = all_categories(recipe)
    text = estimate(recipe, categories, models, RUNTIME, shards="1:3")
    assert "shards         2, of" in text
    assert "samples        5" in text
    with pytest.raises(OptionError, match="--shards 3:9"):
        estimate(recipe, categories, models, RUNTIME, shards="3:9")


@pytest.mark.parametrize("channels", [(8,), (8, 16)])
def test_operations_are_those_of_every_product(channels: tuple[int, ...]) -> None:
    unet = UNet2DModel(
        sample_size=16,
        in_channels=1,
        out_channels=1,
        block_out_channels=channels,
        down_block_types=("DownBlock2D",) * len(channels),
        up_block_types=("UpBlock2D",) * len(channels),
        layers_per_block=1,
        norm_num_groups=4,
        add_attention=False,
    )
    products = 0

    def count(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
        nonlocal products
        weight = module.weight
        per_output = weight[0].numel()
        products += 2 * per_output * output.numel()

    for module in unet.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            module.register_forward_hook(count)
    with torch.no_grad():
        unet(torch.zeros(1, 1, 16, 16), 0)
    assert forward_flops(unet) == products


def test_operations_of_the_papers_network_are_counted_without_memory_for_it() -> None:
    settings = Diffusion(preset="adm-256", variance="learned_range", image_size=256)
    with torch.device("meta"):
        unet = build_unet(settings, channels=3)
    # OpenAI's implementation gives 1120 billion multiply-adds for it.
    assert forward_flops(unet) / 2 == pytest.approx(1.12e12, rel=0.02)


def test_hours_follow_from_the_shards_of_the_busiest_device() -> None:
    shards = plan_parts(["disc", "plate"], images=5, shard_size=2)
    assert duration(shards, 1, 3600) == "10 h"
    assert duration(shards, 4, 3600) == "4 h"
    assert duration(shards, 6, 360) == "12 min"
    assert duration(shards, 6, 1) == "2 s"
    assert duration(shards, 1, 3_599_000) == "417 days"


def test_whole_of_sia_is_planned(recipe: Recipe) -> None:
    many = recipe.override({"synthesis.images": 10_000, "synthesis.shard_size": 2000})
    shards = plan_corpus(choose_categories(many, ["disc"]), many.synthesis)
    text = table(many, shards, Throughput(0.05, 98_000, 16, "a GPU", 10**12))
    assert "size           1 GB (png)" in text.replace("0.995 GB", "1 GB").replace("995 MB", "1 GB")
    assert "10 images/s with 16 at a time, a GPU" in text


@pytest.mark.parametrize(
    ("flops", "text"),
    [(1, "999 FLOP"), (1000, "999 kFLOP"), (10**12, "999 TFLOP"), (10**24, "999,000 ZFLOP")],
)
def test_amounts_have_three_digits_and_a_prefix(recipe: Recipe, flops: int, text: str) -> None:
    shards = plan_parts(["disc"], images=999, shard_size=999)
    estimated = table(
        recipe.override({"synthesis.steps": 1}), shards, Throughput(1, 1, 1, "a GPU", flops)
    )
    assert f"operations     {text}, without guidance\n" in estimated
