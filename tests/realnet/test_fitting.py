from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sia_gen.config.recipe import Recipe
from sia_gen.errors import ImageError, OptionError, OutputError
from sia_gen.evaluation.evaluate import evaluate
from sia_gen.realnet import fitting
from sia_gen.realnet.fitting import fit_realnet
from sia_gen.realnet.inference import find_realnet
from sia_gen.realnet.model import RealNetObjective
from sia_gen.runtime.device import Runtime
from tests.clock import Clock
from tests.realnet.conftest import CPU
from tests.waiting import looks_per_step

ROWS = Runtime("fp32", "cpu", channels_last=False)
Fit = Callable[..., Path]
# A detector that is not looked at needs no more.
ONE_LAYER = {"strides": [16], "channels_kept": [16]}
FIGURES = ("reconstruction", "segmentation", "gradient_norm", "learning_rate")


@pytest.fixture
def halfway(whole: Path, tmp_path: Path) -> Path:
    """The same, as if it had been killed after step 2 of 4."""
    out = shutil.copytree(whole, tmp_path / "halfway")
    shutil.rmtree(out / "checkpoints/disc/step-00000004")
    shutil.rmtree(out / "disc")
    return out


@pytest.fixture
def fit(tmp_path: Path, corpus: Path, photographs: Path, recipe: Recipe) -> Fit:
    def call(out: str, **changes: object) -> Path:
        categories, runtime = changes.pop("categories", ["disc"]), changes.pop("runtime", CPU)
        changed = recipe.override({f"realnet.{name}": value for name, value in changes.items()})
        fit_realnet(changed, categories, photographs, corpus, tmp_path / out, runtime)
        return tmp_path / out

    return call


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "disc/model.safetensors")


def equal(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    return all(torch.equal(second[name], value) for name, value in first.items())


def test_interrupted_fit_ends_with_the_same_weights(fit: Fit, whole: Path, halfway: Path) -> None:
    assert equal(whole, fit(halfway.name))


def test_saved_folder_tells_how_it_was_chosen(whole: Path) -> None:
    report = json.loads((whole / "disc/fit.json").read_text())
    assert report["selected_on"] == "normal images held out, with synthetic anomalies"
    assert report["best_step"] in (2, 4)
    assert report["threshold"] == report["validation"]["threshold"]
    losses = weights(whole)["afs.losses_0"]
    assert losses.isfinite().all()


def test_one_model_learns_all_categories_and_is_found_for_each(
    fit: Fit, photographs: Path, recipe: Recipe, tmp_path: Path
) -> None:
    out = fit("joint", joint=True, categories=["disc", "plate"])
    visible = sorted(path.name for path in out.glob("[!.]*"))
    assert visible == ["_joint", "checkpoints", "logs", "recipe.yaml"]
    report = json.loads((out / "_joint/fit.json").read_text())
    assert report["categories"] == ["disc", "plate"]
    assert find_realnet(out, "disc") == find_realnet(out, "plate") == out / "_joint"
    summary = evaluate(recipe, ["disc", "plate"], photographs, out, tmp_path / "evaluation", CPU)
    assert set(summary["categories"]) == {"disc", "plate"}


def test_joint_model_of_some_categories_is_refused(fit: Fit, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="learns all categories"):
        fit("joint", joint=True, categories=["disc"])
    assert not (tmp_path / "joint").exists()


def test_minutes_end_a_fit_that_goes_on_in_the_next_run(fit: Fit, whole: Path) -> None:
    report = json.loads((fit("short", max_minutes=1e-6) / "disc/fit.json").read_text())
    assert (report["steps"], report["best_step"]) == (1, 1)
    resumed = fit("short")
    assert json.loads((resumed / "disc/fit.json").read_text())["steps"] == 4
    trained = weights(resumed)
    names = [name for name in weights(whole) if name.startswith("reconstruction")]
    assert any(not torch.equal(trained[name], torch.zeros_like(trained[name])) for name in names)


def test_selection_on_test_images_is_marked_everywhere(
    fit: Fit, photographs: Path, recipe: Recipe, tmp_path: Path
) -> None:
    out = fit("test", select_on="test")
    report = json.loads((out / "disc/fit.json").read_text())
    assert report["selected_on"].startswith("THE TEST IMAGES")
    summary = evaluate(recipe, ["disc"], photographs, out, tmp_path / "evaluation", CPU)
    # What chose the weights is what is reported.
    assert summary["categories"]["disc"]["image_auroc"] == pytest.approx(
        report["validation"]["image_auroc"]
    )
    for name in ("metrics.json", "metrics.md", "index.html"):
        assert "THE TEST IMAGES" in (tmp_path / "evaluation" / name).read_text()
    with pytest.raises(OutputError, match=r"realnet\.select_on: test, now validation"):
        fit("test")


def test_textures_alone_need_no_corpus(recipe: Recipe, photographs: Path, tmp_path: Path) -> None:
    folder = photographs / "plate/train/good"
    changed = recipe.override({"realnet.source": "dtd", "realnet.textures": str(folder)})
    fit_realnet(changed, ["disc"], photographs, tmp_path / "nowhere", tmp_path / "out", CPU)
    assert (tmp_path / "out/disc/model.safetensors").is_file()


def test_images_that_do_not_fit_into_memory_give_the_same_weights(
    fit: Fit, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sia_gen.images.store.MEMORY", 0)
    assert equal(whole, fit("streamed"))


def test_images_of_one_model_are_in_memory_at_a_time(
    fit: Fit, shallow: None, images_in_memory: list[int]
) -> None:
    fit("apart", categories=["disc", "plate"], max_steps=1, **ONE_LAYER)
    assert images_in_memory == [0, 9, 0, 9]
    fit("joint", joint=True, categories=["disc", "plate"], max_steps=1, **ONE_LAYER)
    assert images_in_memory[4:] == [0, 9, 12, 21]


def test_missing_images_of_the_last_category_are_told_before_the_first_is_fitted(
    recipe: Recipe, photographs: Path, corpus: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(photographs, tmp_path / "root")
    shutil.rmtree(root / "plate/train")
    with pytest.raises(ImageError, match="has no images of category 'plate'"):
        fit_realnet(recipe, ["disc", "plate"], root, corpus, tmp_path / "out", CPU)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{}, {"architecture": "retrieval", "memory_size": 50, "rrs": "all"}]
)
def test_compiled_fit_learns_the_same(
    fit: Fit, recipe: Recipe, traced: list[int], shallow: None, changes: dict[str, object]
) -> None:
    one_layer = ONE_LAYER | changes
    plain = weights(fit("plain", **one_layer))
    compiled = weights(fit("compiled", runtime=Runtime("fp32", "cpu", compiled=True), **one_layer))
    assert traced == [recipe.realnet.batch_size]
    assert compiled.keys() == plain.keys()
    for name, value in plain.items():
        # Adam makes steps of the whole rate of gradients that are zero but for rounding.
        apart = (compiled[name].double() - value.double()).abs()
        assert apart.sum() <= 0.1 * recipe.realnet.learning_rate * value.numel(), name


@pytest.mark.parametrize(("runtime", "by_channels"), [(ROWS, False), (CPU, True)])
def test_layout_in_memory_is_a_choice_of_every_run(
    fit: Fit, halfway: Path, monkeypatch: pytest.MonkeyPatch, runtime: Runtime, by_channels: bool
) -> None:
    layouts, apart = [], []

    def step(self: torch.optim.Adam, *given: object) -> None:
        for weight, moments in self.state.items():
            # Adam in one pass refuses moments that lie otherwise than their weights.
            apart.append(moments["exp_avg"].stride() != weight.stride())
            if weight.ndim == 4 and min(weight.shape[1:3]) > 1:
                layouts.append(weight.is_contiguous(memory_format=torch.channels_last))
        adam(self, *given)

    adam = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", step)
    report = json.loads((fit(halfway.name, runtime=runtime) / "disc/fit.json").read_text())
    assert report["channels_last"] is by_channels
    assert set(layouts) == {by_channels}
    assert not any(apart)


def test_memory_that_runs_out_says_which_setting_to_lower(
    fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(RealNetObjective, "forward", forward)
    with pytest.raises(OptionError, match=r"'realnet.batch_size' 2 at 64 pixels\. Lower it"):
        fit("out")


def test_steps_do_not_wait_for_the_device(
    fit: Fit, shallow: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"batch_size": 1, "validate_every": 100, "max_minutes": 100, **ONE_LAYER}
    looks = looks_per_step(lambda: fit("out", max_steps=25, **few), monkeypatch)
    assert looks == [int(step % 10 == 0) for step in range(1, 25)]


def test_gradients_are_measured_and_left_as_they_are(
    fit: Fit, shallow: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Infinite is no limit, but to clip at it multiplies all gradients by 1."""

    def clip(*_: object, **__: object) -> None:
        pytest.fail("gradients were clipped")

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clip)
    fit("out", max_steps=1, **ONE_LAYER)


def test_minutes_are_those_until_the_model_is_saved(
    fit: Fit, shallow: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    clock.takes(fitting, "initialise", 20)
    clock.takes(RealNetObjective, "forward", 10)
    clock.takes(fitting, "validate", 20)
    clock.takes(fitting, "save_checkpoint", 5)
    clock.takes(fitting.Fit, "save", 5)
    few = {"batch_size": 1, "max_steps": 100, "validate_every": 100, "max_minutes": 3}
    out = fit("out", **few, **ONE_LAYER)
    assert 0.8 * 180 < clock.now <= 180
    # One validation at half time, to see what it takes, and one at the end.
    report = json.loads((out / "disc/fit.json").read_text())
    assert report["steps"] == (clock.now - 20 - 2 * 25 - 5) / 10


def logged(out: Path) -> list[dict[str, float]]:
    lines = (out / "logs/disc/train.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_log_has_losses_and_validation_figures(whole: Path) -> None:
    training, validation = logged(whole)[::2], logged(whole)[1::2]
    for step, figures in zip((2, 4), training, strict=True):
        assert figures["step"] == step
        assert figures.keys() == {"step", *FIGURES}
        assert all(np.isfinite(value) for value in figures.values())
    report = json.loads((whole / "disc/fit.json").read_text())
    found = {figures.pop("step"): figures for figures in validation}
    chosen = {
        name.removeprefix("validation/"): one for name, one in found[report["best_step"]].items()
    }
    assert chosen == report["validation"]
    assert [*found] == [2, 4]
    assert list((whole / "logs/disc").glob("events.out.*"))


def test_log_of_an_interrupted_fit_is_that_of_one_that_was_not(
    fit: Fit, whole: Path, halfway: Path
) -> None:
    assert logged(halfway)[-1]["step"] == 4
    assert logged(fit(halfway.name)) == logged(whole)
