"""The demo, on images so small that it ends in seconds."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from sia_gen.config.recipe import Recipe
from sia_gen.demo.run import STRENGTHS, read_times, run_demo, timed
from sia_gen.diffusion import preview
from sia_gen.errors import UserError
from sia_gen.io.files import shipped
from sia_gen.runtime.device import Runtime

CPU = Runtime("fp32", "cpu")


@pytest.fixture
def small_demo(
    recipe: Recipe, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Recipe:
    """A recipe whose images come with a Python package, as those of the demo do."""
    package = shutil.copytree(photographs, tmp_path / "packages/parts_images")
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    monkeypatch.setattr(preview, "INVERSION_STEPS", 2)
    return recipe.override({"data.package": "parts_images", "categories": ["disc"]})


def test_demo_ends_in_numbers_and_a_page_and_goes_on_where_it_was(
    small_demo: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    run_demo(small_demo, out, CPU)
    first = capsys.readouterr()
    metrics = json.loads((out / "evaluation/metrics.json").read_text())["mean"]
    assert f"image AUROC {metrics['image_auroc']:.3f} on real defects" in first.out
    page = (out / "index.html").read_text()
    assert (out / "twins/manifest.json").is_file()
    for title in (
        "Good cells",
        "Defects that never were",
        "Synthetic cells by strength",
        "Real defects",
        "Step by step",
    ):
        assert f"<h2>{title}</h2>" in page
    assert page.count("strength 0.1</figcaption>") == 3
    assert all(f"strength {strength:g}<" in page for strength in STRENGTHS)
    assert f"{metrics['image_auroc']:.3f}" in page
    assert "sia-gen fit-realnet --recipe parts" in page
    times = json.loads((out / "times.json").read_text())
    assert set(times) == {
        "train-diffusion",
        "synthesize",
        "verify",
        "synthesize --twins",
        "fit-realnet",
        "evaluate",
    }

    weights = out / "diffusion/disc/unet/diffusion_pytorch_model.safetensors"
    shards = sorted((out / "corpus").glob("data/**/*.tar"))
    before = [path.stat().st_mtime_ns for path in (weights, *shards)]
    run_demo(small_demo, out, CPU)
    assert [path.stat().st_mtime_ns for path in (weights, *shards)] == before
    assert "[6/6] evaluate" in capsys.readouterr().err
    assert json.loads((out / "times.json").read_text()) == times


def test_time_of_a_step_is_that_of_its_interrupted_runs_and_the_one_that_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, path = iter(range(0, 100, 10)), tmp_path / "times.json"
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), timed("verify", path):
            raise KeyboardInterrupt
    assert read_times(path) == {"verify": 20}
    for _ in range(2):
        with timed("verify", path):
            pass
        assert read_times(path) == {"verify": 30}


def test_demo_without_resuming_begins_its_times_anew(
    small_demo: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise UserError(problem="It goes no further.", fix="It need not.")

    monkeypatch.setattr("sia_gen.demo.run.train_diffusion", refuse)
    for name in ("verify", "train-diffusion"):
        with timed(name, tmp_path / "times.json"):
            time.sleep(0.01)
    before = read_times(tmp_path / "times.json")
    with pytest.raises(UserError):
        run_demo(small_demo, tmp_path, CPU)
    assert read_times(tmp_path / "times.json") == before
    with pytest.raises(UserError):
        run_demo(small_demo, tmp_path, CPU, resume=False)
    assert read_times(tmp_path / "times.json").keys() == {"train-diffusion"}


@pytest.mark.parametrize("content", ["", "[]", '{"verify": 3.0}', '{"verify": {"seconds": "x"}}'])
def test_damaged_times_are_no_loss(tmp_path: Path, content: str) -> None:
    (tmp_path / "times.json").write_text(content)
    assert read_times(tmp_path / "times.json") == {}


def test_what_stands_at_the_top_of_the_repository_is_found() -> None:
    assert shipped("recipes").exists()
