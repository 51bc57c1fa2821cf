from __future__ import annotations

import gc
import json
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DModel
from PIL import Image
from safetensors.torch import load_file, save_file

from sia_gen import SDASPipeline
from sia_gen.config.recipe import Recipe
from sia_gen.diffusion import state
from sia_gen.errors import ImageError, ModelError, OptionError, OutputError, TrainingError
from sia_gen.sdas.loading import load_pipeline
from sia_gen.train.checkpoints import list_checkpoints
from tests.waiting import looks_per_step

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
Train = Callable[..., Path]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / WEIGHTS)


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def losses(folder: Path) -> list[float]:
    lines = (folder / "logs/disc/train.jsonl").read_text().splitlines()
    return [entry["loss"] for entry in map(json.loads, lines) if "loss" in entry]


@pytest.fixture
def finished(trained: Path, tmp_path: Path) -> Path:
    """A copy of the finished training, to be changed."""
    return shutil.copytree(trained, tmp_path / "out", symlinks=True)


def test_everything_a_user_looks_for_is_there(trained: Path) -> None:
    out = trained
    assert [path.name for path in list_checkpoints(out / "checkpoints/disc")] == [
        "step-00000002",
        "step-00000004",
    ]
    assert (out / "checkpoints/disc/last").resolve().name == "step-00000004"
    assert sorted(path.name for path in (out / "previews/disc").iterdir()) == [
        "step-00000002.png",
        "step-00000004.png",
    ]
    report = json.loads((out / "disc/training.json").read_text())
    assert (report["steps"], report["images"], report["categories"]) == (4, 9, ["disc"])
    assert report["readiness"]["ready"] is False
    pipeline = SDASPipeline.from_pretrained(out / "disc")
    assert pipeline(num_images=2, num_inference_steps=2).images[0].size == (32, 32)


def test_previews_change_nothing_of_the_training(train: Train, trained: Path) -> None:
    assert equal(weights(trained / "disc"), weights(train(preview_every=100) / "disc"))


def test_finished_training_is_left_alone(train: Train, finished: Path) -> None:
    before = (finished / "disc/training.json").stat().st_mtime_ns
    train(preview_every=2)
    assert (finished / "disc/training.json").stat().st_mtime_ns == before


def test_passes_share_a_batch(train: Train) -> None:
    settings = {"max_steps": 10, "learning_rate": 1e-3}
    whole = train("whole", batch_size=4, **settings)
    passes = train("passes", batch_size=2, gradient_accumulation=2, **settings)
    assert losses(passes) == pytest.approx(losses(whole), rel=1e-3)


def test_loss_falls(train: Train) -> None:
    found = losses(train(max_steps=60, batch_size=4, learning_rate=4e-3, image_size=16))
    assert found[-1] < 0.6 * found[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"variance": "learned_range"},
        {"optimizer": "adafactor", "learning_rate": 1e-2},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_each_setting_trains_and_samples(train: Train, changes: dict[str, object]) -> None:
    out = train(**changes)
    assert all(bool(value.isfinite().all()) for value in weights(out / "disc").values())
    images = SDASPipeline.from_pretrained(out / "disc")(num_inference_steps=2, strength=0.2).images
    assert images[0].mode == "L"


def test_checkpointing_activations_changes_nothing(train: Train, trained: Path) -> None:
    saving = train(gradient_checkpointing=True)
    expected, found = weights(trained / "disc"), weights(saving / "disc")
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-6)


def test_joint_model_knows_all_categories(train: Train, recipe: Recipe) -> None:
    out = train(categories=("disc", "plate"), joint=True)
    pipeline = SDASPipeline.from_pretrained(out / "_joint")
    assert pipeline.unet.config.num_class_embeds == 2
    assert dict(pipeline.config.id2label) == {"0": "disc", "1": "plate"}
    report = json.loads((out / "_joint/training.json").read_text())
    assert (report["categories"], report["images"]) == (["disc", "plate"], 18)


@pytest.mark.parametrize("joint", [False, True])
def test_images_that_do_not_fit_into_memory_give_the_same_losses_and_previews(
    joint: bool, train: Train, images_in_memory: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"categories": ("disc", "plate"), "joint": joint, "preview_every": 1, "max_steps": 2}
    name = "_joint" if joint else "disc"
    inside = train("inside", **settings)
    monkeypatch.setattr("sia_gen.images.store.MEMORY", 0)
    loaded = len(images_in_memory)
    streamed = train("streamed", **settings)
    assert len(images_in_memory) == loaded > 0
    for path in (f"previews/{name}/step-00000002.png", f"{name}/training.json"):
        assert (streamed / path).read_bytes() == (inside / path).read_bytes()
    assert equal(weights(streamed / name), weights(inside / name))


def test_images_of_one_model_are_in_memory_at_a_time(
    train: Train, images_in_memory: list[int]
) -> None:
    train(categories=("disc", "plate"), max_steps=1)
    assert images_in_memory == [0, 9, 0, 9]


def test_missing_images_of_the_last_category_are_told_before_the_first_is_trained(
    train: Train, tmp_path: Path
) -> None:
    with pytest.raises(ImageError, match="no images of category 'ring'"):
        train(categories=("disc", "ring"))
    assert not (tmp_path / "out").exists()


def test_joint_model_of_some_categories_is_refused(train: Train, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="learns all categories"):
        train(joint=True)
    assert not (tmp_path / "out").exists()


def test_warm_start_begins_with_the_weights_of_another_model(train: Train, trained: Path) -> None:
    second = train(max_steps=1, init=str(trained / "disc"), learning_rate=1e-12)
    started, origin = weights(second / "disc"), weights(trained / "disc")
    for name, value in started.items():
        torch.testing.assert_close(value, origin[name], rtol=0, atol=1e-6)


def test_warm_start_may_change_the_size_of_the_images(train: Train, trained: Path) -> None:
    second = train(max_steps=1, init=str(trained / "disc"), image_size=16)
    config = UNet2DModel.load_config(second / "disc/unet")
    assert config["sample_size"] == 16


def test_warm_start_of_other_classes_is_refused(
    train: Train, trained: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"knows no classes, this training has 2.*--new-classes"):
        train("second", ("disc", "plate"), joint=True, init=str(trained / "disc"))
    assert not (tmp_path / "second").exists()


def test_warm_start_from_nowhere_is_refused(train: Train, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no diffusion model in"):
        train(init=str(tmp_path / "nowhere"))
    assert not (tmp_path / "out").exists()


def test_nan_stops_and_keeps_the_last_good_checkpoint(train: Train, tmp_path: Path) -> None:
    train(max_steps=2)
    with pytest.raises(TrainingError, match=r"NaN or infinite at step \d+; the checkpoint of step"):
        train(max_steps=60, learning_rate=1e30, checkpoint_every=1)
    last = list_checkpoints(tmp_path / "out/checkpoints/disc")[-1]
    saved = load_file(last / "model.safetensors")
    assert all(bool(value.isfinite().all()) for value in saved.values())
    assert (tmp_path / "out/disc/training.json").is_file()


def test_another_recipes_folder_is_refused(train: Train, finished: Path) -> None:
    with pytest.raises(OutputError, match=r"diffusion\.variance: fixed, now learned_range"):
        train(variance="learned_range")


def test_preview_has_a_row_for_each_thing_it_shows(trained: Path) -> None:
    with Image.open(trained / "previews/disc/step-00000002.png") as sheet:
        # Six rows; three images were held out, so there are three columns.
        assert sheet.size == (110 + 3 * 68 - 4, 6 * 68 - 4)


def test_model_to_start_from_is_loaded_once(
    train: Train, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []

    def load(folder: Path, recipe: Recipe) -> SDASPipeline:
        loaded.append(folder)
        return load_pipeline(folder, recipe)

    monkeypatch.setattr("sia_gen.diffusion.state.load_pipeline", load)
    train(max_steps=1, init=str(trained / "disc"))
    assert loaded == [trained / "disc"]


def test_damaged_model_to_start_from_is_refused_before_anything_is_written(
    train: Train, finished: Path, tmp_path: Path
) -> None:
    path = finished / "disc" / WEIGHTS
    tensors = load_file(path)
    tensors["conv_in.bias"][0] = float("nan")
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"out/disc/unet: its tensor 'conv_in\.bias' has values"):
        train("second", init=str(finished / "disc"))
    assert not (tmp_path / "second").exists()


def test_memory_that_runs_out_says_which_settings_to_change(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loss(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr("sia_gen.diffusion.training.denoising_loss", loss)
    with pytest.raises(OptionError, match=r"'diffusion.batch_size' 2 at 32 pixels\. Set 'gradient"):
        train()
    monkeypatch.undo()
    train(gradient_checkpointing=True)


def test_network_of_a_category_is_gone_before_the_next_is_built(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In mixed precision networks refer to themselves."""
    networks: list[weakref.ref[torch.nn.Module]] = []
    left: list[int] = []

    def watched(*arguments: Any) -> Any:
        left.append(sum(network() is not None for network in networks))
        unet, scheduler = build(*arguments)
        networks.append(weakref.ref(unet))
        return unet, scheduler

    build = state.initial_model
    monkeypatch.setattr(state, "initial_model", watched)
    gc.disable()
    try:
        train(categories=("disc", "plate"), precision="bf16")
    finally:
        gc.enable()
    assert left == [0, 0]


def test_steps_do_not_wait_for_the_device(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {"image_size": 8, "checkpoint_every": 100, "max_minutes": 100}
    looks = looks_per_step(lambda: train(max_steps=25, **few), monkeypatch)
    assert looks == [int(step % 10 == 0) for step in range(1, 25)]


@pytest.mark.parametrize("content", ["[" * 100_000, "[]", "{}", ""])
def test_model_with_a_damaged_report_is_not_finished(tmp_path: Path, content: str) -> None:
    (tmp_path / "training.json").write_text(content)
    assert not state.is_finished(tmp_path, 4)
    (tmp_path / "training.json").write_text('{"steps": 4, "readiness": {"ready": true}}')
    assert state.is_finished(tmp_path, 4)
