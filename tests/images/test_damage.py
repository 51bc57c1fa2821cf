"""Image files that cannot be decoded are found, and few of the others are decoded."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sia_gen.errors import ImageError
from sia_gen.images import damage
from sia_gen.images.damage import find_damaged, require_undamaged
from sia_gen.images.opening import read_image
from sia_gen.io import files

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "png": ("PNG", {}),
    "jpg": ("JPEG", {"quality": 90}),
    "progressive.jpg": ("JPEG", {"progressive": True}),
    "gif": ("GIF", {}),
    "bmp": ("BMP", {}),
    "webp": ("WEBP", {}),
    "tif": ("TIFF", {}),
    "lzw.tif": ("TIFF", {"compression": "tiff_lzw"}),
    "pgm": ("PPM", {}),
    "jp2": ("JPEG2000", {}),
}


def encoded(kind: str) -> bytes:
    """A photograph with noise, of a size that the ends of files are a small part of."""
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120), np.uint8)
    name, options = KINDS[kind]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, name, **options)
    return buffer.getvalue()


def is_decoded(path: Path) -> bool:
    try:
        read_image(path)
    except ImageError:
        return False
    return True


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many files that not all are decoded."""
    monkeypatch.setattr(damage, "SMALL", 0)


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("kind", KINDS)
def test_cut_files_are_found_by_their_ends(tmp_path: Path, kind: str) -> None:
    content, paths = encoded(kind), list[Path]()
    for length in np.linspace(0, len(content), 9).astype(int):
        paths.append(tmp_path / f"{length}.{kind}")
        paths[-1].write_bytes(content[:length])
    # Pillow puts the directory of a TIFF file before its pixels, most others put it behind them.
    cannot = [path for path in paths if not is_decoded(path)]
    assert len(cannot) == 8
    found = find_damaged(paths)
    assert [*found] == (cannot if kind != "tif" else paths[:1])
    assert all(str(path) in error.problem for path, error in found.items())


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("behind", [b"a few bytes", bytes(5000)])
def test_what_stands_behind_an_image_is_no_damage(tmp_path: Path, kind: str, behind: bytes) -> None:
    (tmp_path / f"0.{kind}").write_bytes(encoded(kind) + behind)
    assert find_damaged([tmp_path / f"0.{kind}"]) == {}


def test_damage_before_the_end_is_found_if_files_are_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, content = tmp_path / "0.png", bytearray(encoded("png"))
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert [*find_damaged([path])] == [path]
    monkeypatch.setattr(damage, "SMALL", len(content) - 1)
    assert find_damaged([path]) == {}


def test_large_photographs_are_decoded_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for path in paths:
        path.write_bytes(encoded("png"))
    decoding = Lock()

    def alone(*arguments: Any, **options: Any) -> Image.Image:
        assert decoding.acquire(blocking=False)
        time.sleep(0.01)
        found = read_image(*arguments, **options)
        decoding.release()
        return found

    monkeypatch.setattr(damage, "read_image", alone)
    monkeypatch.setattr(files, "THREADS", 4)
    assert find_damaged(paths, large=True) == {}


@pytest.mark.usefixtures("many")
def test_what_is_no_image_is_found(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to("nowhere.png")
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("<html>" * 99)
    (tmp_path / "short.png").write_bytes(b"BM")
    paths = sorted(tmp_path.iterdir())
    assert [*find_damaged(paths)] == paths
    with pytest.raises(ImageError) as caught:
        require_undamaged(paths, "disc")
    assert caught.value.problem.startswith(
        "5 of 5 good images of 'disc' to learn from cannot be read: cannot read the image "
    )
    assert caught.value.problem.endswith("; and 2 more.")
    assert caught.value.fix.startswith("Replace or remove the file")
