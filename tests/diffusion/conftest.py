"""Trainings that run in seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sia_gen.diffusion import preview, training
from sia_gen.recipe import Recipe
from sia_gen.runtime import Precision, Runtime

Train = Callable[..., Path]


@pytest.fixture
def train(
    tmp_path: Path, photographs: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> Train:
    """Trains with some settings of the diffusion model changed; returns the output folder."""
    # Previews are to be looked at, not waited for.
    monkeypatch.setattr(preview, "INVERSION_STEPS", 2)

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
