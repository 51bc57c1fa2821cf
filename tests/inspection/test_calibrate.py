"""Calibration of several categories: what is measured is kept, shown, and not measured again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState

from sia_gen.config.recipe import Recipe, load_corpus_recipe
from sia_gen.config.strength import Strength
from sia_gen.errors import ModelError, OutputError
from sia_gen.inspection import calibrate as calibrating
from sia_gen.inspection import strength_curve
from sia_gen.inspection.calibrate import Case, calibrate
from sia_gen.io.locks import LOCKS
from sia_gen.runtime.device import Runtime
from tests.corpus.conftest import save_model

CPU = Runtime("fp32", "cpu")
RANGES = {"disc": Strength(0.1, 0.2), "plate": Strength(0.3, 0.4)}
FOUND = {Case(category, "white"): strength for category, strength in RANGES.items()}
Calibrate = Callable[..., dict[Case, Strength]]


@pytest.fixture
def models(tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of every category one that nothing has trained; calibration takes few samples."""
    monkeypatch.setattr(strength_curve, "SAMPLES", 2)
    for seed, category in enumerate(recipe.categories):
        save_model(tmp_path / "models" / category, seed)
    return tmp_path / "models"


@pytest.fixture
def run(models: Path, photographs: Path, tmp_path: Path, recipe: Recipe) -> Calibrate:
    """Calibrates into `out`: `run("disc", changes=...)`."""

    def call(
        *categories: str, root: Path = photographs, runtime: Runtime = CPU, **changes: object
    ) -> dict[Case, Strength]:
        changed = recipe.override({f"synthesis.{name}": value for name, value in changes.items()})
        return calibrate(changed, categories, root, models, tmp_path / "out", runtime)

    return call


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The categories that were measured; each is found to have a range, as no such model has."""
    found = []

    def useful_range(_: object, what: str) -> Strength:
        found.append(what.split("'")[1])
        return RANGES[found[-1]]

    monkeypatch.setattr(calibrating, "useful_range", useful_range)
    return found


def count_strengths(out: Path) -> int:
    """The number of strengths at which the white samples of the discs were measured."""
    return len(json.loads((out / "calibration.json").read_text())["disc"]["white"]["strengths"])


def test_recipe_and_page_hold_every_category_measured_so_far(
    run: Calibrate, tmp_path: Path, measured: list[str]
) -> None:
    for category in RANGES:
        run(category)
    written = load_corpus_recipe(tmp_path / "out/recipe.yaml")
    assert written.synthesis.calibrated == {
        "disc": {"white": "0.1:0.2"},
        "plate": {"white": "0.3:0.4"},
    }
    automatic = written.override({"synthesis.strength": "auto"}).synthesis
    assert automatic.strengths_of("plate") == {"white": Strength(0.3, 0.4)}
    page = (tmp_path / "out/index.html").read_text()
    assert "disc, white: 0.1:0.2" in page
    assert "plate, white: 0.3:0.4" in page
    assert page.count("<polyline") == 2
    assert page.count("data:image/png") == 2 * count_strengths(tmp_path / "out")


def test_what_was_measured_is_kept_when_a_later_category_fails(
    run: Calibrate, tmp_path: Path, measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.delitem(RANGES, "plate")
        with pytest.raises(KeyError):
            run("disc", "plate")
    written = load_corpus_recipe(tmp_path / "out/recipe.yaml")
    assert written.synthesis.calibrated == {"disc": {"white": "0.1:0.2"}}
    assert "disc, white: 0.1:0.2" in (tmp_path / "out/index.html").read_text()
    assert run("disc", "plate") == FOUND
    assert measured == ["disc", "plate", "plate"]


def test_every_perturbation_has_a_range_of_its_own(
    run: Calibrate, tmp_path: Path, measured: list[str]
) -> None:
    run("disc")
    found = run("disc", "plate", perturbation="blobs,white")
    assert list(found) == [
        Case(category, kind) for category in RANGES for kind in ("blobs", "white")
    ]
    # What was measured before is not measured again.
    assert measured == ["disc", "disc", "plate", "plate"]
    calibrated = load_corpus_recipe(tmp_path / "out/recipe.yaml").synthesis.calibrated
    assert calibrated == {
        category: {"blobs": str(strength), "white": str(strength)}
        for category, strength in RANGES.items()
    }
    names = sorted(path.name for path in (tmp_path / "out/samples").iterdir())
    assert names == ["disc-blobs.png", "disc-white.png", "plate-blobs.png", "plate-white.png"]


def test_other_samples_are_measured_anew(run: Calibrate, models: Path, measured: list[str]) -> None:
    run("disc")
    run("disc", steps=3)
    save_model(models / "disc", 7)
    run("disc", steps=3)
    run("disc", steps=3)
    assert measured == ["disc"] * 3


def test_other_images_or_another_precision_are_measured_anew(
    run: Calibrate, photographs: Path, tmp_path: Path, measured: list[str]
) -> None:
    run("disc")
    others = tmp_path / "others"
    shutil.copytree(photographs, others)
    run("disc", root=others)
    assert measured == ["disc"]
    (others / "disc/train/good/000.png").unlink()
    run("disc", root=others)
    assert measured == ["disc"] * 2
    AcceleratorState._reset_state(reset_partial_state=True)
    run("disc", root=others, runtime=Runtime("bf16", "cpu"))
    assert measured == ["disc"] * 3


@pytest.mark.parametrize("content", [None, b"", b"no picture"])
def test_row_of_samples_that_is_lost_is_left_out(
    run: Calibrate, tmp_path: Path, measured: list[str], content: bytes | None
) -> None:
    run("disc")
    row = tmp_path / "out/samples/disc-white.png"
    row.unlink()
    if content is not None:
        row.write_bytes(content)
    run("plate")
    page = (tmp_path / "out/index.html").read_text()
    assert page.count("<polyline") == 2
    assert page.count("data:image/png") == count_strengths(tmp_path / "out")
    assert page.count("The row is one sample") == 1


@pytest.mark.parametrize("name", ["samples/disc-white.png", "recipe.yaml", "index.html"])
def test_what_was_lost_is_made_again(
    run: Calibrate, tmp_path: Path, measured: list[str], name: str
) -> None:
    run("disc")
    before = (tmp_path / "out" / name).read_bytes()
    (tmp_path / "out" / name).unlink()
    run("disc")
    assert (tmp_path / "out" / name).read_bytes() == before


def test_network_of_a_category_is_gone_before_the_next_is_loaded(
    recipe: Recipe,
    models: Path,
    photographs: Path,
    tmp_path: Path,
    in_memory: list[int],
    measured: list[str],
) -> None:
    runtime = Runtime("bf16", "cpu")
    calibrate(recipe, recipe.categories, photographs, models, tmp_path / "out", runtime)
    assert in_memory == [0, 0]


def test_classifier_that_guides_is_looked_for_before_anything_is_written(
    recipe: Recipe, models: Path, photographs: Path, tmp_path: Path
) -> None:
    guided, out = recipe.override({"synthesis.guidance_scale": 1.0}), tmp_path / "out"
    place = tmp_path / "classifier"
    with pytest.raises(ModelError, match=f"no classifier in {place}"):
        calibrate(guided, ["disc"], photographs, models, out, CPU, classifier=place)
    assert not out.exists()


def test_untrained_model_has_no_useful_strength(run: Calibrate, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no useful strength for the samples of 'disc'"):
        run("disc")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [LOCKS]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[1]",
        '{"disc": 1}',
        '{"disc": {"white": {}}}',
        '{"disc": {"white": {"strength": "0.1:0.2"}}}',
        '{"disc": {"blob": {}}}',
        "[" * 100_000,
    ],
)
def test_damaged_file_of_earlier_measurements_is_one_line_before_any_is_made(
    run: Calibrate, tmp_path: Path, content: str
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/calibration.json").write_text(content)
    with pytest.raises(
        OutputError, match=r"calibration\.json is damaged, or of another version\. Choose another"
    ):
        run("disc")
