"""Which models an evaluation loads, and which folder it may write to."""

from __future__ import annotations

import gc
import shutil
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from sia_gen import RealNet
from sia_gen.config.recipe import Recipe
from sia_gen.errors import ModelError, OptionError, OutputError
from sia_gen.evaluation import evaluate as evaluation
from sia_gen.evaluation.evaluate import evaluate
from sia_gen.realnet.inference import Fitted, load_realnet
from sia_gen.runtime.device import Runtime

if TYPE_CHECKING:
    from tests.evaluation.conftest import Evaluate

CPU = Runtime("fp32", "cpu")


def test_damaged_model_is_refused_before_another_is_loaded(
    models: Path, tmp_path: Path, photographs: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(models, tmp_path / "models")
    (copy / "plate/config.json").write_text("{")

    def load(folder: Path, **_: object) -> Fitted:
        pytest.fail(f"loaded {folder}")

    monkeypatch.setattr("sia_gen.evaluation.evaluate.load_realnet", load)
    with pytest.raises(ModelError, match=r"cannot load the RealNet in .*plate"):
        evaluate(recipe, ["disc", "plate"], photographs, copy, tmp_path / "out", CPU)
    assert not (tmp_path / "out").exists()


def test_one_model_is_in_memory_at_a_time(run: Evaluate, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[weakref.ref[RealNet]] = []

    def load(folder: Path, **options: Any) -> Fitted:
        gc.collect()
        assert not any(model() for model in loaded)
        fitted = load_realnet(folder, **options)
        loaded.append(weakref.ref(fitted.model))
        return fitted

    monkeypatch.setattr("sia_gen.evaluation.evaluate.load_realnet", load)
    run()
    assert len(loaded) == 2


def test_joint_model_is_loaded_once(
    models: Path, tmp_path: Path, photographs: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(models / "disc", tmp_path / "models/_joint")
    loaded = []

    def load(folder: Path, **options: Any) -> Fitted:
        loaded.append(folder)
        return load_realnet(folder, **options)

    monkeypatch.setattr("sia_gen.evaluation.evaluate.load_realnet", load)
    found = evaluate(
        recipe, ["disc", "plate"], photographs, tmp_path / "models", tmp_path / "out", CPU
    )
    assert found["categories"].keys() == {"disc", "plate"}
    assert loaded == [tmp_path / "models/_joint"]


def test_evaluation_of_other_models_is_not_overwritten(
    models: Path, tmp_path: Path, photographs: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, other = (shutil.copytree(models, tmp_path / name) for name in ("first", "other"))
    out = tmp_path / "out"
    evaluate(recipe, ["disc"], photographs, first, out, CPU)
    before = (out / "metrics.json").read_bytes()
    with pytest.raises(OutputError, match=r"the evaluation of the models in .*first\. .*--out"):
        evaluate(recipe, ["disc"], photographs, other, out, CPU)
    with pytest.raises(OutputError, match=r"the evaluation of the models in .*first\. .*--out"):
        evaluate(recipe, ["plate"], photographs, other, out, CPU)
    assert (out / "metrics.json").read_bytes() == before
    assert not (out / "plate").exists()
    monkeypatch.chdir(tmp_path)
    evaluate(recipe, ["disc"], photographs, Path("first"), Path("out"), CPU)
    assert (out / "metrics.json").read_bytes() == before


def test_evaluation_that_is_made_meanwhile_is_not_overwritten(
    models: Path, tmp_path: Path, photographs: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the first look at the folder and the claim on it."""
    first, other = (shutil.copytree(models, tmp_path / name) for name in ("first", "other"))
    out, claim = tmp_path / "out", evaluation.claim_output

    def claimed_later(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(evaluation, "claim_output", claim)
        evaluate(recipe, ["disc"], photographs, first, out, CPU)
        return claim(*arguments, **options)

    monkeypatch.setattr(evaluation, "claim_output", claimed_later)
    with pytest.raises(OutputError, match=r"the evaluation of the models in .*first\."):
        evaluate(recipe, ["disc"], photographs, other, out, CPU)


def test_memory_that_runs_out_is_one_line(run: Evaluate, monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(RealNet, "forward", forward)
    with pytest.raises(OptionError, match=r"scoring 16 images of 64 pixels at a time\. Use"):
        run()
