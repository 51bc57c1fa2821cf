"""What lies beside photographs and may say which have defects is asked about, never ignored."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest

from sia_gen.errors import ImageError
from sia_gen.images.recognition import recipe_for_folder
from tests.images.trees import write_images


def zipped(name: str, content: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


COCO = json.dumps({"info": {}, "images": [{"id": 0}], "annotations": [], "categories": []})
# As labelling tools export them: images, and files with their content.
EXPORTS: dict[str, tuple[list[str], dict[str, str | bytes]]] = {
    "COCO": (
        ["images/default/0.jpg", "images/default/1.jpg"],
        {"annotations/instances_default.json": COCO},
    ),
    "COCO beside": (
        ["train/0.jpg", "train/1.jpg", "valid/2.jpg"],
        {"train/_annotations.coco.json": COCO},
    ),
    "YOLO": (
        ["images/train/0.jpg", "images/train/1.jpg"],
        {"labels/train/0.txt": "", "labels/train/1.txt": "0 .5 .5 .1 .1", "data.yaml": "nc: 1"},
    ),
    "LabelMe": (["0.jpg", "1.jpg"], {"1.json": '{"shapes": []}'}),
    "table": (
        ["images/a1.jpg", "images/a2.jpg"],
        {"train.csv": "\ufeffimage;label\na1.jpg;0\na2.jpg;1\n"},
    ),
    "table without extensions": (
        ["images/a1.jpg", "images/a2.jpg"],
        {"labels.tsv": "id\tdefect\na1\tnone\n"},
    ),
    "Excel": (
        ["Bilder/Prüfling 1.png", "Bilder/Prüfling 2.png"],
        {"Prüfliste.csv": "Datei;Ergebnis\r\nBilder\\Prüfling 1.png;i.O.\r\n".encode("cp1252")},
    ),
    "Unicode text of Excel": (
        ["Prüfling 1.png", "Prüfling 2.png"],
        {"liste.txt": "Datei\tErgebnis\r\nPrüfling 1.png\ti.O.\r\n".encode("utf-16")},
    ),
    "workbook": (
        ["Teil 1.png", "Teil 2.png"],
        {"Liste.xlsx": zipped("xl/sharedStrings.xml", "<si><t>Teil 1.png</t></si>")},
    ),
    "list with folders": (
        ["images/1.png", "images/2.png"],
        {"labels.txt": "images/1.png  0.33  mono\n"},
    ),
    "Pascal VOC": (["JPEGImages/0.jpg", "JPEGImages/1.jpg"], {"Annotations/1.xml": "<a/>"}),
    "Supervisely": (["train/img/0.jpg", "train/img/1.jpg"], {"train/ann/1.jpg.json": "{}"}),
    "JSON by name": (["a1.jpg", "a2.jpg"], {"labels.json": '{"a1.jpg": "ok", "a2.jpg": "ng"}'}),
    "JSON lines": (["train/a1.jpg", "train/a2.jpg"], {"metadata.jsonl": '{"file_name":"a1.jpg"}'}),
    "YAML": (["a1.jpg", "a2.jpg"], {"labels.yml": "a1.jpg: ok\na2.jpg: ng\n"}),
    "old workbook": (["0.jpg", "1.jpg"], {"list.xls": "?"}),
}


def export(root: Path, name: str, below: str = "") -> None:
    images, files = EXPORTS[name]
    write_images(root / below, *images)
    for path, content in files.items():
        (root / below / path).parent.mkdir(parents=True, exist_ok=True)
        encoded = content if isinstance(content, bytes) else content.encode()
        (root / below / path).write_bytes(encoded)


@pytest.mark.parametrize("name", EXPORTS)
def test_exports_of_labelling_tools_are_asked_about(name: str, tmp_path: Path) -> None:
    export(tmp_path, name)
    with pytest.raises(ImageError, match="tables, which are not read, such as") as caught:
        recipe_for_folder(tmp_path)
    assert "Move good parts to 'good' and defects to 'bad'" in caught.value.fix


@pytest.mark.parametrize("name", EXPORTS)
def test_folder_that_says_what_is_good_needs_no_labels(name: str, tmp_path: Path) -> None:
    export(tmp_path, name, "good" if name in ("LabelMe", "COCO beside") else "good/parts")
    assert recipe_for_folder(tmp_path).data.images.normal.startswith("good/")


@pytest.mark.parametrize(
    "files",
    [
        {"readme.txt": "from line 4"},
        {"exposure.csv": "n,seconds\n0,1\n1,1\n"},
        {"settings.json": '{"exposure": 3}'},
        {"0.txt": ""},
        {"list.xml": "<a/>"},
        {"report.xlsx": zipped("xl/sharedStrings.xml", "<si><t>Teil 1</t></si>")},
        {"damaged.xlsx": zipped("content.xml", "from line 4").replace(b"line", b"five")},
        {"Thumbs.db": "x"},
    ],
)
def test_other_files_are_no_labels(files: dict[str, str | bytes], tmp_path: Path) -> None:
    write_images(tmp_path, "0.png", "1.png")
    for name, content in files.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert recipe_for_folder(tmp_path).data.images.normal == "*"


# Names, a photograph beside them or none, and what the error says.
UNREADABLE: dict[str, tuple[list[str], list[str], str]] = {
    "formats": (
        ["a.HEIC", "b.heic", "good/c.dng"],
        [],
        r"2 \.heic, 1 \.dng\. Save them as PNG or JPEG",
    ),
    "formats of good parts": (["good/a.heic"], ["bad/0.jpg"], r"1 \.heic\. Save them as PNG"),
    "archives and films": (
        ["photos.zip", "film.mp4"],
        [],
        r"it has only 1 \.mp4, 1 \.zip\. Unpack archives, and save pictures of films",
    ),
    "names without extensions": (
        ["good/IMG_0", "good/IMG_1"],
        [],
        r"it has only 2 without an extension\. .* images need the extension of their format",
    ),
    "masks": (
        [],
        ["label_0/0.jpg", "depth/1.jpg"],
        r"masks or previews: label_0 \(1\), depth \(1\)",
    ),
    "nothing": ([], [], "Check --data, or describe the folder in a recipe"),
    "folders with a dot": (["v1.0/.keep"], [], "Check --data, or describe the folder in a recipe"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_is_no_photograph_is_named(case: str, tmp_path: Path) -> None:
    names, images, problem = UNREADABLE[case]
    write_images(tmp_path, *images)
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"0")
    with pytest.raises(ImageError, match=problem):
        recipe_for_folder(tmp_path)
