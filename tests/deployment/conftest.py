"""What the tests of exported detectors share: folders of small models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sia_gen.config.recipe import Recipe
from tests.small_networks import save_detector

Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path, recipe: Recipe) -> Save:
    """Saves a model whose recipe has some other fields: `save(strides=[16], mode="RGB")`."""

    def call(
        *, mode: str = "L", rule: str | None = None, white: int | None = None, **options: Any
    ) -> Path:
        folder = tmp_path / "model"
        save_detector(folder, **options)
        changes = {"mode": mode, "data.non_square": rule, "data.white": white}
        text = recipe.override({name: one for name, one in changes.items() if one}).to_yaml()
        (folder / "recipe.yaml").write_text(text)
        return folder

    return call


RETRIEVAL: dict[str, Any] = {"architecture": "retrieval", "memory_size": 50, "rrs": "all"}
