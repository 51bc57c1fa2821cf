"""Tables as people and spreadsheets write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sia_gen.config.recipe import Recipe
from sia_gen.errors import ImageError
from sia_gen.images.layouts import TestImage
from sia_gen.images.listing import list_images
from tests.images.test_layouts import changed
from tests.images.trees import write_images

LINES = """\
image,kind,label,mask
good/0.png,bolt,ok,
good/1.png,bolt,ok,
good\\2.png,bolt,ok,
bad/3.png,bolt,scratch,masks/3.png
bad\\4.png,bolt,big dent,masks\\4.png
"""


@pytest.fixture
def bolts(recipe: Recipe, tmp_path: Path) -> Recipe:
    """A recipe of a table that names no anomalous images."""
    write_images(tmp_path, *(f"good/{number}.png" for number in range(3)))
    write_images(tmp_path, "bad/3.png", "bad/4.png", "masks/3.png", "masks/4.png")
    layout: dict[str, Any] = {
        "layout": "table",
        "table": "parts.csv",
        "header": True,
        "columns": ["image", "kind", "label", "mask"],
        **{name: name for name in ("image", "label", "mask")},
        "category": "kind",
        "normal": "ok",
    }
    return changed(recipe.override({"categories": ["bolt"]}), images=layout, fit_fraction=0.9)


def read(bolts: Recipe, root: Path, content: str | bytes) -> list[TestImage]:
    content = content.encode() if isinstance(content, str) else content
    (root / "parts.csv").write_bytes(content)
    images = list_images(bolts, root, "bolt")
    everything = [*images.fit, *images.validation, *images.test_normal]
    assert sorted(path.name for path in everything) == ["0.png", "1.png", "2.png"]
    assert all(path.is_file() for path in everything)
    return images.test_anomalous


def refusal(bolts: Recipe, root: Path, content: str | bytes) -> str:
    with pytest.raises(ImageError) as caught:
        read(bolts, root, content)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_whatever_is_not_normal_is_a_defect_of_that_name(bolts: Recipe, tmp_path: Path) -> None:
    found = read(bolts, tmp_path, LINES)
    assert [(one.defect, one.label) for one in found] == [("scratch", 1), ("big dent", 1)]
    assert [one.path for one in found] == [tmp_path / "bad/3.png", tmp_path / "bad/4.png"]
    assert [one.mask for one in found] == [tmp_path / "masks/3.png", tmp_path / "masks/4.png"]


def test_named_label_alone_is_anomalous(bolts: Recipe, tmp_path: Path) -> None:
    named = bolts.override({"data.images.anomalous": "scratch"})
    assert [one.defect for one in read(named, tmp_path, LINES)] == ["scratch"]


@pytest.mark.parametrize("label", ["i.O.", "good", ""])
def test_label_that_may_be_normal_is_no_defect(bolts: Recipe, tmp_path: Path, label: str) -> None:
    line = refusal(bolts, tmp_path, LINES.replace("scratch", label))
    assert f"an image with the label '{label}', but normal images have 'ok'" in line


@pytest.mark.parametrize("blank", ["\n", "  \n", ",,,\n", "\r\n", ";;;\n"])
def test_blank_lines_are_left_out(bolts: Recipe, tmp_path: Path, blank: str) -> None:
    first, *lines = LINES.splitlines(keepends=True)
    assert len(read(bolts, tmp_path, "".join([blank, first, blank, *lines, blank, blank]))) == 2


def test_wrong_line_is_counted_with_the_blank_ones(bolts: Recipe, tmp_path: Path) -> None:
    line = refusal(bolts, tmp_path, LINES.replace("bad/3.png,bolt", "\n\nbad/3.png"))
    assert "line 7 of " in line
    assert "has 3 values for 4 columns" in line


def test_blanks_around_values_are_left_out(bolts: Recipe, tmp_path: Path) -> None:
    assert len(read(bolts, tmp_path, LINES.replace(",", " , "))) == 2


@pytest.mark.parametrize(("separator", "name"), [(";", "semicolons"), ("\t", "tabs")])
def test_other_separators_are_named(
    bolts: Recipe, tmp_path: Path, separator: str, name: str
) -> None:
    table = LINES.replace(",", separator).replace("good/0", "good/part 0")
    line = refusal(bolts, tmp_path, table)
    assert f"separates its values by {name}. Save the table with commas" in line
    # A number may have a comma in it.
    line = refusal(bolts, tmp_path, table.replace("kind", "0,5"))
    assert f"line 1 of {tmp_path / 'parts.csv'} separates its values by {name}" in line


@pytest.mark.parametrize(
    ("encoding", "problem"),
    [
        ("utf-16", "it is UTF-16"),
        ("utf-16-le", "it is UTF-16"),
        ("latin-1", "its line 6 is not UTF-8, but perhaps Latin-1"),
        ("cp1252", "its line 6 is not UTF-8"),
    ],
)
def test_other_encodings_are_named(
    bolts: Recipe, tmp_path: Path, encoding: str, problem: str
) -> None:
    line = refusal(bolts, tmp_path, LINES.replace("dent", "Öffnung").encode(encoding))
    assert f"cannot read the table of labels {tmp_path / 'parts.csv'}: {problem}" in line
    assert "Save it as UTF-8" in line


def test_value_that_is_too_long_is_one_line(bolts: Recipe, tmp_path: Path) -> None:
    """Some tables have masks as numbers in a column."""
    line = refusal(bolts, tmp_path, LINES.replace("masks/3.png", "17 5 " * 40_000))
    assert f"cannot read line 5 of {tmp_path / 'parts.csv'}: field larger than" in line


@pytest.mark.parametrize(
    ("column", "written"), [("kind", "Bolt"), ("label", "OK"), ("label", "Scratch"), ("at", "Test")]
)
def test_what_only_capitals_tell_apart_is_an_error(
    bolts: Recipe, tmp_path: Path, column: str, written: str
) -> None:
    columns = {"columns": ["image", "kind", "label", "at", "mask"], "split": "at"}
    layout = {**bolts.data.images.model_dump(), **columns, "anomalous": "scratch"}
    lines = "x.png,bolt,ok,train,\ny.png,bolt,ok,test,\nz.png,bolt,scratch,test,\n"
    lines = ",".join(columns["columns"]) + "\n" + lines.replace(written.lower(), written, 1)
    line = refusal(changed(bolts, images=layout), tmp_path, lines)
    assert f"has '{written}' in the column '{column}', but the recipe '{written.lower()}'" in line


def test_spelling_of_other_categories_does_not_matter(bolts: Recipe, tmp_path: Path) -> None:
    assert len(read(bolts, tmp_path, LINES + "good/0.png,nut,OK,\n")) == 2


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_unicode_is_read(bolts: Recipe, tmp_path: Path, encoding: str) -> None:
    found = read(bolts, tmp_path, LINES.replace("dent", "Öffnung 猫").encode(encoding))
    assert found[1].defect == "big Öffnung 猫"
