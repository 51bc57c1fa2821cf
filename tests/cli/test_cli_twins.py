"""The commands that make and use corpora of twins, and their errors."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from sia_gen.config.recipe import load_corpus_recipe
from sia_gen.config.settings import Twins
from sia_gen.config.strength import Strength
from sia_gen.corpus.manifest import read_manifest
from sia_gen.inspection import calibrate
from sia_gen.twins import masks
from tests.conftest import photograph
from tests.corpus.conftest import save_model

if TYPE_CHECKING:
    from tests.cli.conftest import Refuse, Run

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
    "--twins --edit shift": "edit needs photographs to start from, source: image",
    "--twins --source image --edit shfit": "unknown edit 'shfit' (did you mean 'shift'?)",
    "--twins --invert": "needs photographs to start from",
    "--twins --source image": "does not say where its images are",
    "--twins --source image --data nowhere": "nowhere",
    "--twins --weights nowhere.pth": "nowhere.pth",
    "--twins --only parts_disc_00000005": "has no sample 'parts_disc_00000005'",
    "--start 0.5": "--start applies only to twins. Add --twins.",
    "--invert": "--invert applies only to twins",
    "--region box": "--region applies only to twins",
    "--edit shift": "--edit applies only to twins",
    "--tiles 2": "--tiles applies only to twins",
    "--twins --tiles 2": "tiles needs photographs to start from",
    "--twins --tiles 0": "'synthesis.twins.tiles'",
    "--source image": "--source applies only to twins",
    "--data nowhere": "--data applies only to twins. Add --twins.",
    "--weights nowhere.pth": "--weights applies only to twins",
}


@pytest.fixture
def options(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options of `synthesize`, with a model of every category."""
    monkeypatch.setattr(masks, "IMAGES", 4)
    for seed, category in enumerate(("disc", "plate")):
        save_model(tmp_path / "runs/parts/diffusion" / category, seed, size=16)
    return ["--recipe", str(parts), "--device", "cpu", "--precision", "fp32"]


@pytest.mark.parametrize("wrong", WRONG)
def test_invalid_options_are_one_line(
    refuse: Refuse, options: list[str], tmp_path: Path, wrong: str
) -> None:
    photograph(0).save(tmp_path / "photograph.png")
    (tmp_path / "text.png").write_text("no picture")
    Image.new("L", (16, 8), 255).save(tmp_path / "oblong.png")
    Image.new("L", (16, 16), 0).save(tmp_path / "black.png")
    assert WRONG[wrong] in refuse("synthesize", *options, *wrong.split(), "--out", "out")


def test_twins_are_made_checked_looked_at_and_used(
    run: Run, refuse: Refuse, options: list[str], images: Path, tmp_path: Path
) -> None:
    asked = ["--twins", "--source", "image", "--start", "0.5", "--region", "box"]
    strong = ["--strength", "3", "--steps", "6"]
    made = run("synthesize", *options, *asked, *strong, "--data", images)
    assert made.code == 0
    assert "10 masks: " in made.out
    corpus = tmp_path / "runs/parts/corpus"
    shard = corpus / "data/parts/plate/train-00001-of-00002.tar"
    content = shard.read_bytes()
    shard.unlink()
    assert "train-00001-of-00002.tar: missing" in run("verify", corpus).err
    # The recipe of a corpus says how its twins are made.
    again = ["--recipe", corpus / "recipe.yaml", *options[2:], "--data", images]
    assert run("synthesize", *again).code == 0
    assert shard.read_bytes() == content
    assert "is intact: 10 samples in 4 shards" in run("verify", corpus).out
    alone = run("synthesize", *again, "--only", "parts_disc_00000002").out.splitlines()
    members = {Path(line).name.partition(".")[2] for line in alone}
    assert members == {"image.png", "mask.png", "normal.png", "json"}
    assert json.loads(Path(alone[-1]).read_text())["start"] == 0.5
    assert run("inspect", corpus, "--data", images, "--device", "cpu").code == 0
    assert "parts.disc: twins" in Path("runs/parts/inspection/index.html").read_text()
    use = ["--recipe", corpus / "recipe.yaml", "--data", images, "--corpus", corpus]
    assert "holds twins: it has images" in refuse("compose", *use, "--out", "triplets")
    composed = run("compose", *use, "--format", "folder", "--out", "folders")
    assert composed.out.endswith("The triplets are in folders.\n")
    kept = len(list((tmp_path / "folders").glob("*/normal/synthetic/*.png")))
    left_out = f"{10 - kept} twins were left out: their masks cover less than 0.10 % or more than"
    assert (left_out in composed.out) == (kept < 10)
    fit = ["fit-realnet", *use, *options[2:], "--category", "disc", "--anomalies", "twins"]
    assert run(*fit).code == 0
    other = refuse("synthesize", *options, *strong, "--twins")
    assert "already holds the result of another recipe (synthesis.twins.region" in other
    single = refuse("synthesize", *options, *strong)
    assert "already holds a corpus with another kind (twins, not samples)" in single


def test_twins_are_calibrated_as_they_will_be_made(
    run: Run,
    refuse: Refuse,
    options: list[str],
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # No strength is useful for an untrained model.
    monkeypatch.setattr(calibrate, "useful_range", lambda *_: Strength(0.25, 0.75))
    calibration = ["calibrate", *options, "--category", "disc", "--data", images]
    assert "--region applies only to twins" in refuse(*calibration, "--region", "box")
    asked = ["--twins", "--source", "image", "--region", "box", "--perturbation", "blobs,pink"]
    done = run(*calibration, *asked)
    assert done.code == 0, done
    *found, command = done.out.splitlines()
    assert found == ["disc, blobs: 0.25:0.75", "disc, pink: 0.25:0.75"]
    assert run(*shlex.split(command.removeprefix("Next: sia-gen ")), *options[2:]).code == 0
    recipe = load_corpus_recipe(tmp_path / "runs/parts/calibrated/recipe.yaml")
    assert recipe.synthesis.twins == Twins(source="image", region="box")
    corpus = read_manifest(tmp_path / "runs/parts/calibrated")
    assert corpus.kind == "twins"
    assert corpus.shards[0].strengths == {"blobs": "0.25:0.75", "pink": "0.25:0.75"}


BAD_CALIBRATION = {
    "--perturbation blob": "unknown perturbation 'blob' (did you mean 'blobs'?)",
    "--region perlni": "unknown region 'perlni' (did you mean 'perlin'?)",
    "--region black.png": "the mask black.png marks nothing",
    "--source image --start nan": "start",
    "--source image --edit shfit": "unknown edit 'shfit' (did you mean 'shift'?)",
    "--edit shift": "edit needs photographs to start from, source: image",
    "--source image --data empty": "empty",
}


@pytest.mark.parametrize("wrong", BAD_CALIBRATION)
def test_twins_that_cannot_be_calibrated_are_one_line(
    refuse: Refuse, options: list[str], images: Path, tmp_path: Path, wrong: str
) -> None:
    (tmp_path / "empty").mkdir()
    Image.new("L", (16, 16), 0).save(tmp_path / "black.png")
    data = [] if "--data" in wrong else ["--data", images]
    error = refuse("calibrate", *options, "--twins", *data, *wrong.split(), "--out", "out")
    assert BAD_CALIBRATION[wrong] in error


def test_plan_of_twins_is_printed_and_nothing_written(
    run: Run, options: list[str], tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    asked = ["--twins", "--source", "image", "--start", "0.5", "--steps", "10", "--plan"]
    result = run("synthesize", *options, *asked)
    assert result.code == 0
    assert "steps          100 (10 per sample)" in result.out
    assert sorted(tmp_path.rglob("*")) == before
