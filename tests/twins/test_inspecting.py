"""The page of a corpus of twins."""

from __future__ import annotations

import base64
import html
import re
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from sia_gen.corpus.schema import SampleForm
from sia_gen.inspection.inspect import inspect_corpus
from sia_gen.inspection.page import outlined, twins_sections
from sia_gen.inspection.survey import Survey
from tests.corpus.conftest import RUNTIME
from tests.twins.conftest import read

if TYPE_CHECKING:
    from tests.twins.conftest import MakeTwins

BLACK = Image.new("L", (8, 8))


def survey_of(strengths: list[float], areas: list[float]) -> Survey:
    images = {"image.png": BLACK, "normal.png": BLACK, "mask.png": BLACK}
    return Survey(
        form=SampleForm("twins", "png", "L", 8),
        perturbations=np.array(["white"] * len(strengths)),
        strengths=np.array(strengths),
        areas=np.array(areas),
        duplicates=[],
        examined=[
            (
                {"perturbation": "white", "edit": "none", "strength": strength, "mask_area": area},
                images,
            )
            for strength, area in sorted(zip(strengths, areas, strict=True))
        ],
        pixels=np.zeros((len(strengths), 1, 8, 8), np.uint8),
    )


@pytest.mark.parametrize("image_format", ["png", "webp", "jpg"])
def test_page_shows_twins_with_their_masks(
    make_twins: MakeTwins, photographs: Path, tmp_path: Path, image_format: str
) -> None:
    changes = {"synthesis.strength": "0:5", "synthesis.format": image_format}
    corpus, _ = make_twins(twins={"region": "box"}, changes=changes)
    path = inspect_corpus(corpus, photographs, None, None, tmp_path / "page", RUNTIME)
    page = html.unescape(path.read_text())
    made = read(corpus)
    for category in ("disc", "plate"):
        part = page.split(f"<h2>parts.{category}: twins</h2>")[1].split("<h2>")[0]
        samples = sorted(
            (one for key, one in made.items() if category in key),
            key=lambda one: one["json"]["strength"],
        )
        pictures = re.findall('src="data:image/png;base64,([^"]*)" alt="([^"]*)"', part)
        assert len(pictures) == 3 * len(samples)
        for number, sample in enumerate(samples):
            shown = [np.asarray(decoded(source)) for source, _ in pictures[3 * number :][:3]]
            assert np.array_equal(shown[0], sample[f"normal.{image_format}"])
            assert np.array_equal(shown[1], sample[f"image.{image_format}"])
            captions = [caption for _, caption in pictures[3 * number :][:3]]
            assert captions == [
                "normal",
                f"strength {sample['json']['strength']:.3g}",
                f"mask of {100 * sample['json']['mask_area']:.1f} %",
            ]
    assert "10 samples of 2 categories" in page
    assert "<h2>parts.disc: copies</h2>" in page


def decoded(source: str) -> Image.Image:
    return Image.open(BytesIO(base64.b64decode(source)))


def test_outline_lies_within_the_mask_along_its_border() -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[2:6, 2:7] = 255
    found = np.asarray(outlined(BLACK, Image.fromarray(mask))).any(axis=2)
    expected = mask > 0
    expected[3:5, 3:6] = False
    assert np.array_equal(found, expected)


def test_table_counts_masks_of_no_use() -> None:
    (section,) = twins_sections(
        "x", survey_of([1.0] * 6, [0, 0, 0.0005, 0.2, 0.4, 0.6]), (0.001, 0.5)
    )
    assert section.table == [
        ["masks", "twins", "mean area"],
        ["all", "6", "20.01 %"],
        ["empty", "2", "0.00 %"],
        ["not empty, below 0.10 %", "1", "0.05 %"],
        ["above 50 %", "1", "60.00 %"],
    ]


def test_table_tells_areas_by_strength() -> None:
    strengths = [0.9, 0.1, 0.3, 0.2, 0.5, 0.4, 0.6, 0.7, 0.8, 1.0]
    (section,) = twins_sections(
        "x", survey_of(strengths, [s / 10 for s in strengths]), (0.001, 0.5)
    )
    assert section.table[5:] == [
        ["strength 0.1 to 0.2", "2", "1.50 %"],
        ["strength 0.3 to 0.4", "2", "3.50 %"],
        ["strength 0.5 to 0.6", "2", "5.50 %"],
        ["strength 0.7 to 0.8", "2", "7.50 %"],
        ["strength 0.9 to 1", "2", "9.50 %"],
    ]


def test_twenty_of_many_are_shown_from_the_weakest_to_the_strongest() -> None:
    strengths = [number / 100 for number in range(100)]
    (section,) = twins_sections("x", survey_of(strengths, strengths), (0.001, 0.5))
    assert [len(row) for row in section.figures] == [6] * 10
    captions = [row[place].caption for row in section.figures for place in (1, 4)]
    assert captions[0] == "strength 0"
    assert captions[-1] == "strength 0.99"
    shown = [float(caption.removeprefix("strength ")) for caption in captions]
    assert shown == sorted(shown)


def test_single_pair_is_shown_without_photographs(make_twins: MakeTwins, tmp_path: Path) -> None:
    corpus, _ = make_twins(changes={"synthesis.images": 1}, categories=["disc"])
    page = inspect_corpus(corpus, None, None, None, tmp_path / "page", RUNTIME).read_text()
    assert page.count("<figcaption>normal</figcaption>") == 1
