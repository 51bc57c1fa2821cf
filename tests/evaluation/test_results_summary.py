"""Evaluations of several runs in one folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sia_gen.config.recipe import Recipe
from sia_gen.errors import OutputError
from sia_gen.evaluation.evaluate import evaluate
from sia_gen.evaluation.results import BY_CATEGORY, read_summary
from sia_gen.runtime.device import Runtime
from tests.report.test_page import read

CPU = Runtime("fp32", "cpu")
Score = Callable[..., dict[str, Any]]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def own_models(models: Path, tmp_path: Path) -> Path:
    """Models that a test may change."""
    return shutil.copytree(models, tmp_path / "models")


@pytest.fixture
def score(own_models: Path, out: Path, photographs: Path, recipe: Recipe) -> Score:
    def call(*categories: str, chosen: Recipe = recipe) -> dict[str, Any]:
        return evaluate(chosen, categories, photographs, own_models, out, CPU)

    return call


def contents(folder: Path) -> dict[str, bytes]:
    """All files that tell of an evaluation."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def select_on(model: Path, what: str) -> None:
    """Changes what a model tells of its selection."""
    report = json.loads((model / "fit.json").read_text())
    (model / "fit.json").write_text(json.dumps(report | {"selected_on": what}))


@pytest.mark.parametrize("order", [("disc", "plate"), ("plate", "disc")])
def test_categories_one_by_one_are_as_all_at_once(
    score: Score, out: Path, order: tuple[str, str]
) -> None:
    for category in order:
        found = score(category)
    joined = contents(out)
    shutil.rmtree(out)
    assert score("disc", "plate") == found
    assert contents(out) == joined
    assert json.loads(joined["metrics.json"]) == found
    assert [*found["categories"]] == ["disc", "plate"]


def test_what_was_evaluated_before_stays_as_it_was(score: Score, out: Path) -> None:
    alone = score("disc")
    before = contents(out / "disc")
    found = score("plate")
    assert contents(out / "disc") == before
    for field in BY_CATEGORY:
        assert found[field]["disc"] == alone[field]["disc"]
        assert found[field].keys() == {"disc", "plate"}
    both = [found["categories"][name]["image_auroc"] for name in ("disc", "plate")]
    assert found["mean"]["image_auroc"] == pytest.approx(sum(both) / 2)


def test_overview_leads_to_the_pages_of_all_categories(score: Score, out: Path) -> None:
    score("disc")
    found = score("plate")
    page = read(out / "index.html")
    assert page.links == ["disc/index.html", "plate/index.html"]
    assert read(out / "disc/index.html").links == ["../index.html", "threshold.html"]
    for link in page.links:
        assert (out / link).is_file()
    for values in (*found["categories"].values(), found["mean"]):
        assert f"{values['image_auroc']:.3f}" in page.texts
    assert "Weights and threshold were selected on normal images held out." in page.texts


def test_category_evaluated_again_replaces_what_was_told_of_it(
    score: Score, out: Path, own_models: Path
) -> None:
    select_on(own_models / "plate", "THE TEST IMAGES")
    score("disc", "plate")
    for name in ("index.html", "metrics.md"):
        assert "on normal images held out / THE TEST IMAGES." in (out / name).read_text()
    assert "TEST" not in (out / "disc/index.html").read_text()
    shutil.copytree(own_models / "disc", own_models / "plate", dirs_exist_ok=True)
    found = score("plate")
    assert found["selected_on"] == dict.fromkeys(["disc", "plate"], "normal images held out")
    for name in ("index.html", "metrics.md", "metrics.json", "plate/index.html"):
        assert "THE TEST IMAGES" not in (out / name).read_text()


@pytest.mark.parametrize(
    "damage",
    [
        *[{"mean": {"image_auroc": "1"}}, {"mean": None}, {"categories": {"../disc": {}}}],
        *[{"categories": {"disc": 0.5}}, {"selected_on": "normal images held out"}, {"more": 1}],
    ],
)
def test_damaged_summary_is_not_overwritten(
    score: Score, out: Path, damage: dict[str, Any]
) -> None:
    whole = {field: {} for field in (*BY_CATEGORY, "mean")} | {"recipe": "parts", "models": "x"}
    out.mkdir()
    (out / "metrics.json").write_text(json.dumps(whole))
    assert read_summary(out, "x") == whole
    for text in (json.dumps(whole | damage), json.dumps(whole)[:-9], "[]", ""):
        (out / "metrics.json").write_text(text)
        with pytest.raises(OutputError, match=r"metrics\.json is damaged, or of another .*--out"):
            score("plate")
        assert contents(out) == {"metrics.json": text.encode()}


def test_category_that_an_interrupted_run_left_is_not_told_of(
    score: Score, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    score("disc")
    before = contents(out)
    with monkeypatch.context() as patch:
        patch.setattr("sia_gen.evaluation.evaluate.write_summary", interrupt)
        with pytest.raises(KeyboardInterrupt):
            score("plate")
    assert (out / "plate/scores.csv").is_file()
    assert {name: contents(out)[name] for name in before} == before
    assert [*score("disc")["categories"]] == ["disc"]
    assert [*score("plate")["categories"]] == ["disc", "plate"]


def test_category_whose_folder_was_deleted_is_left_out(score: Score, out: Path) -> None:
    score("disc")
    shutil.rmtree(out / "disc")
    assert [*score("plate")["categories"]] == ["plate"]
    assert read(out / "index.html").links == ["plate/index.html"]


def test_category_that_the_recipe_no_longer_has_comes_last(
    score: Score, out: Path, recipe: Recipe
) -> None:
    score("disc")
    found = score("plate", chosen=recipe.override({"categories": ["plate"]}))
    assert [*found["categories"]] == ["plate", "disc"]


def test_evaluation_of_another_recipe_is_refused(score: Score, out: Path, recipe: Recipe) -> None:
    score("disc")
    before = contents(out)
    with pytest.raises(OutputError, match=r"the result of another recipe \(name: parts, now"):
        score("plate", chosen=recipe.override({"name": "pieces"}))
    assert contents(out) == before
