"""Which files are images, and which folders are looked into."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from PIL import Image

from sia_gen.errors import ImageError
from sia_gen.images.files import (
    EXTENSIONS,
    FORMATS,
    folders_below,
    images_below,
    images_matching,
    is_image,
)
from sia_gen.images.opening import read_image
from sia_gen.io.locks import working_on
from tests.images.trees import write_images


def below(root: Path, paths: Iterable[Path]) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in paths)


@pytest.mark.parametrize("extension", sorted(EXTENSIONS))
def test_every_extension_is_one_that_can_be_read(tmp_path: Path, extension: str) -> None:
    form = next(form for form, extensions in FORMATS.items() if extension in extensions)
    path = tmp_path / f"x{extension.upper()}"
    Image.new("1" if extension == ".pbm" else "L", (8, 8), 1).save(path, form)
    assert is_image(path)
    assert read_image(path).size == (8, 8)


@pytest.mark.parametrize("name", ["x.eps", "x.pdf", "x.svg", "x.txt", "x", "._x.png", ".png"])
def test_other_and_hidden_files_are_no_images(name: str) -> None:
    assert not is_image(Path(name))


def test_any_depth_is_searched_but_nothing_hidden(tmp_path: Path) -> None:
    write_images(tmp_path, "a/0.png", "a/b/c/1.png", "a/.ipynb_checkpoints/0.png", "2.png")
    write_images(tmp_path, ".trash/3.png")
    (tmp_path / "a/._0.png").touch()
    assert below(tmp_path, images_below(tmp_path)) == ["2.png", "a/0.png", "a/b/c/1.png"]
    assert below(tmp_path, images_matching(tmp_path, "a/**/*")) == ["a/0.png", "a/b/c/1.png"]
    assert below(tmp_path, images_matching(tmp_path, "*/*")) == ["a/0.png"]
    assert below(tmp_path, images_matching(tmp_path, "**/c/**/*")) == ["a/b/c/1.png"]
    assert below(tmp_path, images_matching(tmp_path, ".trash/*")) == [".trash/3.png"]


def test_root_may_be_hidden(tmp_path: Path) -> None:
    write_images(tmp_path / ".data", "a/0.png")
    assert below(tmp_path, images_matching(tmp_path / ".data", "**/*")) == [".data/a/0.png"]


def test_links_are_followed_but_not_back(tmp_path: Path) -> None:
    write_images(tmp_path, "elsewhere/0.png", "root/good/1.png", "root/bad/2.png")
    good = tmp_path / "root/good"
    (good / "day1").symlink_to(tmp_path / "elsewhere")
    (good / "again").symlink_to(tmp_path / "elsewhere")
    (good / "here").symlink_to(".")
    (good / "up").symlink_to("..")
    (good / "top").symlink_to(tmp_path)
    (good / "lost").symlink_to("nowhere")
    (good / "itself").symlink_to("itself")
    # Of two links to the same folder one is followed.
    assert below(good, images_below(good)) == ["1.png", "day1/0.png"]
    assert len(list(images_matching(tmp_path / "root", "good/**/*"))) == 2


def test_linked_folder_itself_is_searched(tmp_path: Path) -> None:
    write_images(tmp_path, "elsewhere/deep/0.png")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/good").symlink_to(tmp_path / "elsewhere")
    found = images_matching(tmp_path / "root", "good/**/*")
    assert below(tmp_path / "root", found) == ["good/deep/0.png"]


def test_outputs_are_passed_over_unless_given(tmp_path: Path) -> None:
    write_images(tmp_path, "0.png", "runs/x/sheet.png", "heatmaps/0.png", "old/heatmaps/0.png")
    # Whatever sia-gen writes, it locks.
    for folder in (tmp_path, tmp_path / "runs/x", tmp_path / "old"):
        with working_on(folder, "predictions"):
            pass
    assert below(tmp_path, images_below(tmp_path)) == ["0.png"]
    assert below(tmp_path, images_below(tmp_path / "runs/x")) == ["runs/x/sheet.png"]


def test_folder_of_heat_maps_that_is_not_sia_gen_s_is_searched(tmp_path: Path) -> None:
    write_images(tmp_path, "heatmaps/0.png")
    assert len(images_below(tmp_path)) == 1


def test_missing_folder_has_no_images_and_a_closed_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert images_below(tmp_path / "nowhere") == []

    def closed(_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("sia_gen.images.files.os.scandir", closed)
    with pytest.raises(ImageError, match=f"cannot list the folder {tmp_path}: Permission denied"):
        list(folders_below(tmp_path))


def test_names_with_special_characters_stand_for_themselves(tmp_path: Path) -> None:
    write_images(tmp_path, "[a]{b}*/0.png", "a/1.png", "Zähler 猫/2.png")
    found = images_matching(tmp_path, "{category}/**/*", category="[a]{b}*")
    assert below(tmp_path, found) == ["[a]{b}*/0.png"]
    found = images_matching(tmp_path, "Zähler 猫/*")
    assert below(tmp_path, found) == ["Zähler 猫/2.png"]
