"""Small corpora: samples made by hand, and a model that nothing has trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DModel
from PIL import Image

from sia_gen.config.recipe import Recipe, all_categories, choose_categories
from sia_gen.config.strength import Strength
from sia_gen.corpus.generate import synthesize
from sia_gen.corpus.manifest import (
    Manifest,
    present_records,
    record_path,
    write_manifest,
    write_record,
)
from sia_gen.corpus.parsing import read_members
from sia_gen.corpus.plan import ShardPlan, identify, plan_corpus
from sia_gen.corpus.schema import SampleMetadata
from sia_gen.corpus.shards import encode_sample, write_shard
from sia_gen.runtime.device import Runtime
from sia_gen.sdas.pipeline import SDASPipeline
from sia_gen.sdas.scheduler import PerturbedDDPMScheduler
from tests.conftest import recipe_content

SIZE = 8
MODEL = "0" * 64
Sample = tuple[SampleMetadata, Image.Image]


def make_sample(index: int, category: str = "disc", mode: str = "L", size: int = SIZE) -> Sample:
    identity = identify(0, "parts", category, index, {"white": Strength(0, 0.5)})
    shape = (size, size) if mode == "L" else (size, size, 3)
    pixels = np.random.default_rng(index).integers(0, 256, shape, np.uint8)
    metadata = SampleMetadata(
        **asdict(identity),
        steps=2,
        sampler="PerturbedDDPMScheduler",
        guidance_scale=0.0,
        model=MODEL,
        width=size,
        height=size,
        sia_gen="0.1.0",
    )
    return metadata, Image.fromarray(pixels)


def plan_parts(categories: Sequence[str], images: int = 5, shard_size: int = 3) -> list[ShardPlan]:
    content = recipe_content() | {"categories": list(categories)}
    content["synthesis"] = {"images": images, "shard_size": shard_size, "strength": "0:0.5"}
    recipe = Recipe.parse(content, where="conftest")
    return plan_corpus(all_categories(recipe), recipe.synthesis)


@dataclass
class HandmadeCorpus:
    """Five samples of each category, in shards of three."""

    folder: Path
    categories: tuple[str, ...] = ("disc",)
    image_format: str = "png"
    mode: str = "L"
    plan: list[ShardPlan] = field(init=False)

    def __post_init__(self) -> None:
        self.plan = plan_parts(self.categories)
        for shard in self.plan:
            self.write(shard, self.samples(shard))

    @property
    def manifest(self) -> Manifest:
        """The manifest as it should be, with what is there."""
        records = present_records(self.folder)
        return Manifest(
            sia_gen="0.1.0",
            recipe="1" * 64,
            name="parts",
            seed=0,
            images=5,
            perturbation=["white"],
            strength="0.0:0.5",
            steps=2,
            sampler="PerturbedDDPMScheduler",
            guidance_scale=0.0,
            batch_size=2,
            precision="no",
            compiled=False,
            channels_last=True,
            shard_size=3,
            format=self.image_format,
            mode=self.mode,
            image_size=SIZE,
            versions={"torch": "2.15.0"},
            kind="samples",
            shards=[records.get(shard.path, shard) for shard in self.plan],
        )

    def samples(self, shard: ShardPlan) -> list[Sample]:
        indices = range(shard.first, shard.first + shard.samples)
        return [make_sample(index, shard.category, self.mode) for index in indices]

    def write(self, shard: ShardPlan, samples: Iterable[Sample]) -> None:
        """Writes a shard, whatever is in it, with a checksum that fits."""
        encoded = [
            encode_sample(metadata, {self.image_format: image}) for metadata, image in samples
        ]
        file = write_shard(self.folder / shard.path, encoded)
        write_record(self.folder, shard, file, MODEL)
        write_manifest(self.folder, self.manifest)

    def forget(self, number: int) -> None:
        """Makes a shard one that was never recorded."""
        record_path(self.folder, self.plan[number]).unlink()
        shards = self.manifest.shards
        shards[number] = self.plan[number]
        write_manifest(self.folder, self.manifest.with_shards(shards))

    def path(self, number: int) -> Path:
        return self.folder / self.plan[number].path


def read_shards(paths: Iterable[Path]) -> list[tuple[dict[str, Any], Image.Image]]:
    """The samples of shards as (metadata, decoded image)."""
    found = []
    for path in paths:
        with path.open("rb") as file:
            members = [member[:2] for member in read_members(file, largest=1 << 20)]
        for one, other in zip(members[::2], members[1::2], strict=True):
            (_, image), (_, metadata) = sorted([one, other], key=lambda m: m[0].endswith("json"))
            found.append((json.loads(metadata), Image.open(BytesIO(image))))
    return found


@pytest.fixture
def sample() -> Callable[..., Sample]:
    """Makes a sample: `sample(index, category, mode, size)`."""
    return make_sample


@pytest.fixture
def corpus(tmp_path: Path) -> HandmadeCorpus:
    """An intact corpus."""
    return HandmadeCorpus(tmp_path / "corpus")


@pytest.fixture
def make_corpus(tmp_path: Path) -> Callable[..., HandmadeCorpus]:
    """Makes an intact corpus: `make_corpus(categories=..., image_format=..., mode=...)`."""
    return partial(HandmadeCorpus, tmp_path / "made")


RUNTIME = Runtime("fp32", "cpu")
CATEGORIES = ["disc", "plate"]


def save_model(folder: Path, seed: int, channels: int = 1, size: int = 8) -> None:
    torch.manual_seed(seed)
    unet = UNet2DModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(8,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        layers_per_block=1,
        norm_num_groups=4,
    )
    pipeline = SDASPipeline(unet, PerturbedDDPMScheduler(timestep_spacing="leading"))
    pipeline.save_pretrained(folder)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model per category."""
    folder = tmp_path_factory.mktemp("models")
    for seed, category in enumerate(CATEGORIES):
        save_model(folder / category, seed)
    return folder


Make = Callable[..., Path]
SaveModel = Callable[..., None]


@pytest.fixture
def make(recipe: Recipe, models: Path, tmp_path: Path) -> Make:
    """Makes a corpus of both categories: `make(name, changes, models=, categories=, resume=)`."""

    def run(name: str = "corpus", changes: dict[str, Any] | None = None, **options: Any) -> Path:
        out = tmp_path / name
        chosen = options.pop("categories", CATEGORIES)
        folder = options.pop("models", models)
        changed = recipe.override(changes or {})
        wanted = choose_categories(changed, chosen)
        synthesize(changed, wanted, folder, out, RUNTIME, **options)
        return out

    return run


@pytest.fixture(name="save_model")
def save_model_fixture() -> SaveModel:
    """Saves an untrained model: `save_model(folder, seed, channels, size)`."""
    return save_model
