"""The command import-realnet."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from tests.realnet.original_realnet import Trained, realnet_yaml, save_training

if TYPE_CHECKING:
    from tests.cli.conftest import Refuse, Run

IMPORT = ["import-realnet", "ckpt_best.pth.tar", "--config", "realnet.yaml", "--out", "bottle"]
CPU = ["--device", "cpu", "--precision", "fp32"]


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("victim",)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return save_training(tmp_path_factory.mktemp("trained"), realnet_yaml())


@pytest.fixture
def training(trained: Trained, tmp_path: Path) -> Trained:
    for path in (trained.checkpoint, trained.settings):
        shutil.copy(path, tmp_path)
    return trained


def test_checkpoint_becomes_a_detector(run: Run, training: Trained, tmp_path: Path) -> None:
    result = run(*IMPORT)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("Imported into bottle: a RealNet (resnet18, 64 pixels, layer2).")
    assert result.out.count("\n") == 1
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    (tmp_path / "photos").mkdir()
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"photos/{number}.png")
    assert run("predict", "bottle", "photos", *CPU).code == 0
    with (tmp_path / "predictions/predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    maps = training.maps(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255)
    expected = functional.avg_pool2d(maps, 16, stride=1).amax(dim=(1, 2, 3))
    assert [float(row["score"]) for row in rows] == pytest.approx(expected.tolist(), abs=1e-5)


def test_imported_detector_is_not_published(run: Run, refuse: Refuse, training: Trained) -> None:
    run(*IMPORT)
    assert "bottle/fit.json, is missing or damaged, or of an import" in refuse(
        "push-to-hub", "bottle", "ada/bottle"
    )


@pytest.mark.parametrize("left_out", [("--config", "realnet.yaml"), ("--out", "bottle")])
def test_option_must_be_given(refuse: Refuse, left_out: tuple[str, str]) -> None:
    arguments = [one for one in IMPORT if one not in left_out]
    assert f"Missing option '{left_out[0]}'" in refuse(*arguments)


@pytest.mark.parametrize("file", ["ckpt_best.pth.tar", "realnet.yaml"])
def test_missing_file_is_one_line(
    refuse: Refuse, training: Trained, tmp_path: Path, file: str
) -> None:
    (tmp_path / file).unlink()
    assert file in refuse(*IMPORT)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", None])
def test_damaged_file_is_one_line(
    refuse: Refuse, training: Trained, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "ckpt_best.pth.tar"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert "ckpt_best.pth.tar, it is damaged or no checkpoint" in refuse(*IMPORT)


def test_malicious_file_is_one_line_and_not_run(
    refuse: Refuse, training: Trained, tmp_path: Path
) -> None:
    content = {"state_dict": training.network.state_dict(), "arch": Payload()}
    torch.save(content, tmp_path / "ckpt_best.pth.tar")
    line = refuse(*IMPORT)
    assert "ckpt_best.pth.tar is refused: loading it would run 'posix.mkdir'" in line
    assert not (tmp_path / "victim").exists()


def test_checkpoint_of_a_diffusion_model_is_one_line(
    refuse: Refuse, training: Trained, tmp_path: Path
) -> None:
    torch.save({"input_blocks.0.0.weight": torch.zeros(8)}, tmp_path / "ckpt_best.pth.tar")
    assert "ckpt_best.pth.tar: the tensor 'afs.indexes.block1_layer2' is missing" in refuse(*IMPORT)


def test_settings_of_another_kind_are_one_line(
    refuse: Refuse, training: Trained, tmp_path: Path
) -> None:
    (tmp_path / "realnet.yaml").write_text("unet: {image_size: 256}")
    assert "realnet.yaml: 'net' is missing. Give a checkpoint of the RealNet" in refuse(*IMPORT)


def test_occupied_folder_is_one_line(refuse: Refuse, training: Trained, tmp_path: Path) -> None:
    (tmp_path / "bottle").mkdir()
    (tmp_path / "bottle" / "precious").touch()
    assert "bottle already holds something else" in refuse(*IMPORT)
