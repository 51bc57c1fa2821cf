"""Twins on the Hub: the card runs, and whoever reads them gets what was made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from datasets import Features, Image, Value, load_dataset
from huggingface_hub import DatasetCard
from PIL import Image as PILImage
from safetensors.torch import load_file

from sia_gen.config.recipe import Recipe
from sia_gen.corpus.card import write_card
from sia_gen.corpus.manifest import read_manifest
from sia_gen.corpus.schema import TWINS, json_schema
from sia_gen.hub.corpora import mask_statistics
from sia_gen.hub.push import push_to_hub
from sia_gen.io.files import location
from sia_gen.realnet.fitting import fit_realnet
from tests.corpus.conftest import RUNTIME
from tests.documents import Reader, code_blocks
from tests.hub.conftest import new_name
from tests.hub.test_push import visible_files
from tests.twins.conftest import read

if TYPE_CHECKING:
    from tests.hub.server import Hub
    from tests.twins.conftest import MakeTwins

DTYPES = {str: "string", int: "int64", float: "float64"}
# The untrained model is hardly changed by less.
STRONG = {"synthesis.strength": 3, "synthesis.steps": 6}


@pytest.mark.parametrize(
    "twins",
    [
        pytest.param({"region": "box"}, id="noise", marks=pytest.mark.slow),
        pytest.param(
            {"source": "image", "start": 0.5, "region": "box"},
            id="photographs",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"source": "image", "start": 1.0, "invert": True, "region": "mask.png"}, id="mask"
        ),
    ],
)
def test_blocks_of_the_card_run_and_make_it_again(
    hub: Hub,
    make_twins: MakeTwins,
    models: Path,
    photographs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    twins: dict[str, Any],
) -> None:
    name = new_name()
    reader = Reader(tmp_path / "reader", monkeypatch)
    PILImage.fromarray(np.pad(np.full((8, 8), 255, np.uint8), 4)).save("mask.png")
    Path("IMAGES").symlink_to(photographs)
    Path("MODELS").symlink_to(models)
    corpus, _ = make_twins(twins=twins, changes=STRONG)
    push_to_hub(corpus, name)
    card = DatasetCard.load(name)
    card.validate(repo_type="dataset")
    assert card.data.task_categories == ["image-segmentation"]
    assert card.data.license == "cc0-1.0"
    blocks = code_blocks(card.text)
    assert [block.language for block in blocks] == ["python", "python", "sh", "sh", "bibtex"]
    for block in blocks[:-1]:
        reader.run(block)
    shards = {path: content for path, content in visible_files(corpus).items() if "data" in path}
    again = visible_files(Path("again/corpus"))
    assert {path: again[path] for path in shards} == shards
    assert Path("runs/parts/realnet/disc/model.safetensors").is_file()


def test_blocks_of_a_card_on_the_disk_run(
    make_twins: MakeTwins,
    models: Path,
    photographs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    corpus, _ = make_twins(twins={"region": "box"}, changes=STRONG)
    reader = Reader(tmp_path / "reader", monkeypatch)
    Path("IMAGES").symlink_to(photographs)
    Path("MODELS").symlink_to(models)
    Path("CORPUS").symlink_to(corpus)
    for block in code_blocks((corpus / "README.md").read_text())[:-1]:
        reader.run(block)
    shards = sorted(Path("again/corpus").glob("data/*/*/*.tar"))
    assert len(shards) == 4
    assert all(path.read_bytes() == Path("CORPUS", *path.parts[2:]).read_bytes() for path in shards)


@pytest.mark.parametrize(
    ("twins", "words"),
    [
        ({}, ["from the same noise, and", "| twins start from | noise |", "everywhere"]),
        (
            {"source": "image", "start": 0.3, "region": "foreground"},
            ["photographs, 0.3 of the steps back to noise, by adding noise", "foreground"],
        ),
        ({"source": "image", "invert": True, "region": "perlin"}, ["DDIM inversion", "Perlin"]),
        ({"region": "marks/one.png"}, ["within one mask for all pairs", "`marks/one.png`"]),
    ],
)
def test_card_tells_how_twins_were_made(
    make_twins: MakeTwins, recipe: Recipe, tmp_path: Path, twins: dict[str, Any], words: list[str]
) -> None:
    corpus, _ = make_twins()
    manifest = read_manifest(corpus)
    titled = recipe.override({"synthesis.twins": twins})
    write_card(tmp_path, titled, manifest)
    card = " ".join((tmp_path / "README.md").read_text().split())
    assert "anomalies with their normal twins and masks" in card
    assert "The mask is where the two differ by more than chance." in card
    assert [word for word in words if word not in card] == []


def test_card_tells_the_areas_of_masks(hub: Hub, make_twins: MakeTwins) -> None:
    corpus, _ = make_twins(twins={"region": "box"}, changes=STRONG)
    push_to_hub(corpus, new_name())
    lines = (corpus / "README.md").read_text().splitlines()
    for category in ("disc", "plate"):
        samples = [one for key, one in read(corpus).items() if category in key]
        areas = [(one["mask.png"] > 0).mean() for one in samples]
        *_, mean, _, empty, _ = next(
            [cell.strip() for cell in line.split("|")]
            for line in lines[lines.index("## What was measured") :]
            if f"parts.{category}" in line
        )
        assert mean == f"{100 * np.mean(areas):.1f} %"
        assert empty == str(sum(area == 0 for area in areas))


def test_figures_of_masks() -> None:
    assert mask_statistics([0.0, 0.0, 0.2, 0.4, 0.9]) == {
        "area of masks: mean": "30.0 %",
        "its quartiles": "0.0 %, 20.0 %, 40.0 %",
        "empty masks": "2",
    }


def test_datasets_loads_what_was_made(hub: Hub, make_twins: MakeTwins, tmp_path: Path) -> None:
    corpus, _ = make_twins(changes=STRONG)
    name = new_name()
    push_to_hub(corpus, name)
    made = read(corpus)
    struct = {field: Value(DTYPES[kind]) for field, kind in json_schema(TWINS).items()}
    keys = {"__key__": Value("string"), "__url__": Value("string")}
    images = {f"{member}.png": Image() for member in ("image", "mask", "normal")}
    for streaming in (False, True):
        cache = str(tmp_path / "cache")
        loaded: Any = load_dataset(name, split="train", streaming=streaming, cache_dir=cache)
        assert loaded.features == Features({**images, "json": struct, **keys})
        samples = list(loaded)
        assert len(samples) == len(made) == 10
        for one in samples:
            expected = made[one["json"]["key"]]
            assert one["json"] == expected["json"]
            for member in images:
                pixels = np.asarray(one[member].convert("L"))
                assert np.array_equal(pixels, expected[member])


def test_detector_is_fitted_to_published_twins_as_to_those_on_disk(
    hub: Hub, make_twins: MakeTwins, photographs: Path, tmp_path: Path
) -> None:
    corpus, maker = make_twins(twins={"region": "box"}, changes=STRONG, categories=["disc"])
    name = new_name()
    push_to_hub(corpus, name)
    recipe = maker.recipe.override({"realnet.anomalies": "twins"})
    assert isinstance(recipe, Recipe)
    places = {"there": location(f"hf://datasets/{name}"), "here": corpus}
    for out, place in places.items():
        fit_realnet(recipe, ["disc"], photographs, place, tmp_path / out, RUNTIME)
    weights = [load_file(tmp_path / out / "disc/model.safetensors") for out in places]
    assert all(torch.equal(weights[0][key], value) for key, value in weights[1].items())
