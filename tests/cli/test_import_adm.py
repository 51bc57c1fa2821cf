"""The command import-adm."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from sia_gen.sdas.pipeline import SDASPipeline
from tests.diffusion.original_adm import small_unet

if TYPE_CHECKING:
    from tests.cli.conftest import Refuse, Run


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("victim",)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.save(small_unet().state_dict(), tmp_path / "adm.pt")
    return tmp_path / "adm.pt"


def test_checkpoint_becomes_a_pipeline(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    result = run("import-adm", checkpoint, "--out", "adm", "--image-size", 16, "--new-classes", 2)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(
        "Imported into adm: a UNet (16 pixels, 2 classes, learned variance"
    )
    assert result.out.count("\n") == 1
    unet = SDASPipeline.from_pretrained(tmp_path / "adm").unet
    assert (unet.config.sample_size, unet.config.num_class_embeds) == (16, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "so its image size is not known. Give it with --image-size."),
        (["--image-size", "15"], "--image-size 15: this network takes multiples of 2."),
        (["--image-size", "0"], "'--image-size'"),
        (["--image-size", "16", "--new-classes", "0"], "'--new-classes'"),
    ],
)
def test_wrong_option_is_one_line(
    refuse: Refuse, checkpoint: Path, options: list[str], message: str
) -> None:
    assert message in refuse("import-adm", checkpoint, "--out", "adm", *options)


def test_output_folder_must_be_given(refuse: Refuse, checkpoint: Path) -> None:
    assert "Missing option '--out'" in refuse("import-adm", checkpoint)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "adm.pt, it is damaged or no checkpoint"),
        (b"no checkpoint", "adm.pt, it is damaged or no checkpoint"),
        (None, "adm.pt, it is damaged or no checkpoint"),
    ],
)
def test_damaged_file_is_one_line(
    refuse: Refuse, checkpoint: Path, content: bytes | None, message: str
) -> None:
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert message in refuse("import-adm", "adm.pt", "--out", "adm")


def test_missing_file_is_one_line(refuse: Refuse) -> None:
    assert "there is no checkpoint nowhere.pt" in refuse("import-adm", "nowhere.pt", "--out", "adm")


def test_malicious_file_is_one_line_and_not_run(refuse: Refuse, tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1), "evil": Payload()}, tmp_path / "adm.pt")
    line = refuse("import-adm", "adm.pt", "--out", "adm")
    assert "adm.pt is refused: loading it would run 'posix.mkdir'" in line
    assert not (tmp_path / "victim").exists()


def test_occupied_folder_is_one_line(refuse: Refuse, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "adm").mkdir()
    (tmp_path / "adm" / "precious").touch()
    line = refuse("import-adm", checkpoint, "--out", "adm", "--image-size", "16")
    assert "adm already holds something else" in line
