"""export on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from sia_gen import RealNet
from sia_gen.config.recipe import Recipe

if TYPE_CHECKING:
    from tests.cli.conftest import Refuse, Run


@pytest.fixture
def realnet(tmp_path: Path, recipe: Recipe) -> Path:
    torch.manual_seed(0)
    folder = tmp_path / "realnet"
    RealNet("resnet18", 64, [16], [8], num_max=4, num_mean=4).save_pretrained(folder)
    (folder / "fit.json").write_text('{"threshold": 0.5, "selected_on": "x", "model_version": 2}')
    (folder / "recipe.yaml").write_text(recipe.to_yaml())
    return folder


@pytest.mark.slow
def test_name_of_the_file_says_what_it_is_and_the_model_is_loaded_once(
    run: Run, realnet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, loaded = RealNet._load_as_safetensor, []

    def counted(*given: Any, **named: Any) -> Any:
        loaded.append(given)
        return load(*given, **named)

    monkeypatch.setattr(RealNet, "_load_as_safetensor", counted)
    result = run("export", "realnet", "--out", "model.pt2")
    assert result.code == 0, result
    assert torch.export.load(tmp_path / "model.pt2")
    assert len(loaded) == 1


def test_other_names_and_no_model_are_one_line(refuse: Refuse, realnet: Path) -> None:
    assert "the suffix of model.bin is not" in refuse("export", "realnet", "--out", "model.bin")
    assert "there is no RealNet in no" in refuse("export", "no", "--out", "model.pt2")
