"""The commands that make and use corpora of twins, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from sia_gen.twins import chance
from tests.conftest import photograph
from tests.corpus.conftest import save_model

if TYPE_CHECKING:
    from tests.cli.conftest import Refuse

WRONG = {
    "--twins --source image --start 0": "start",
    "--twins --source image --start 2": "start",
    "--twins --source image --start -0.5": "start",
    "--twins --source image --start nan": "start",
    "--twins --region perlni": "unknown region 'perlni' (did you mean 'perlin'?)",
    "--twins --region missing.png": "cannot read the mask missing.png: No such file or directory",
    "--twins --region photograph.png": "the mask photograph.png is not binary",
    "--twins --region text.png": "cannot read the mask text.png",
    "--twins --region oblong.png": "oblong.png",
    "--twins --region black.png": "the mask black.png marks nothing",
    "--twins --region foreground": "needs photographs to start from",
    "--twins --invert": "needs photographs to start from",
    "--twins --source image": "does not say where its images are",
    "--twins --source image --data nowhere": "nowhere",
    "--twins --weights nowhere.pth": "nowhere.pth",
    "--twins --only parts_disc_00000005": "has no sample 'parts_disc_00000005'",
    "--start 0.5": "--start is about twins, and none are made. Add --twins.",
    "--invert": "--invert is about twins",
    "--region box": "--region is about twins",
    "--source image": "--source is about twins",
}


@pytest.fixture
def options(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of `synthesize`, with a model of every category."""
    monkeypatch.setattr(chance, "IMAGES", 4)
    for seed, category in enumerate(("disc", "plate")):
        save_model(tmp_path / "runs/parts/diffusion" / category, seed, size=16)
    return ["--recipe", str(parts), "--device", "cpu", "--precision", "fp32"]


@pytest.mark.parametrize("wrong", WRONG)
def test_what_makes_no_sense_is_one_line(
    refuse: Refuse, options: list[str], tmp_path: Path, wrong: str
) -> None:
    photograph(0).save(tmp_path / "photograph.png")
    (tmp_path / "text.png").write_text("no picture")
    Image.new("L", (16, 8), 255).save(tmp_path / "oblong.png")
    Image.new("L", (16, 16), 0).save(tmp_path / "black.png")
    assert WRONG[wrong] in refuse("synthesize", *options, *wrong.split(), "--out", "out")
