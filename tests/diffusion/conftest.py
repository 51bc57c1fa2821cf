"""Trainings that run in seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sia_gen.config.recipe import Recipe
from sia_gen.diffusion import preview, training
from sia_gen.runtime.device import Precision, Runtime

Train = Callable[..., Path]


@pytest.fixture(scope="module", autouse=True)
def _short_previews() -> Iterator[None]:
    """Previews are to be looked at, not waited for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preview, "INVERSION_STEPS", 2)
        yield


@pytest.fixture
def train(tmp_path: Path, photographs: Path, recipe: Recipe) -> Train:
    """Trains with some settings of the diffusion model changed; returns the output folder."""

    def call(
        out: str = "out",
        categories: tuple[str, ...] = ("disc",),
        *,
        resume: bool = True,
        precision: Precision = "fp32",
        **changes: object,
    ) -> Path:
        changed = recipe.override({f"diffusion.{name}": value for name, value in changes.items()})
        folder, runtime = tmp_path / out, Runtime(precision, "cpu")
        training.train_diffusion(changed, categories, photographs, folder, runtime, resume=resume)
        return folder

    return call


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
    photographs: Path,
    small: Recipe,
    _short_previews: None,
) -> Path:
    """A training of four steps with a preview after two, to read only."""
    changed = small.override({"diffusion.preview_every": 2})
    out = tmp_path_factory.mktemp("trained") / "first"
    training.train_diffusion(changed, ["disc"], photographs, out, Runtime("fp32", "cpu"))
    return out
