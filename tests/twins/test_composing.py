"""Twins as folders that other detectors train on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from sia_gen.composition.compose import compose
from sia_gen.config.recipe import Recipe
from sia_gen.errors import CorpusError, OutputError
from sia_gen.images.listing import list_images
from tests.corpus.conftest import HandmadeCorpus
from tests.twins.conftest import read

if TYPE_CHECKING:
    from tests.twins.conftest import MakeTwins

SIDE = 64


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("made") / "twins"


@pytest.fixture
def twins(make_twins: MakeTwins, made: Path, tmp_path: Path) -> Path:
    if not made.exists():
        changes = {"synthesis.strength": "0:5", "synthesis.steps": 6, "synthesis.images": 8}
        shutil.copytree(make_twins(twins={"region": "box"}, changes=changes)[0], made)
    return shutil.copytree(made, tmp_path / "twins", dirs_exist_ok=True)


@pytest.fixture
def run(recipe: Recipe, photographs: Path, twins: Path, tmp_path: Path) -> Any:
    """Composes: `run(name, images=, form=, changes=)`; the folder and how many were left out."""

    def call(name: str = "out", images: int | None = None, **more: Any) -> tuple[Path, int]:
        changed = recipe.override(more.get("changes", {}))
        form, out = more.get("form", "folder"), tmp_path / name
        left_out = compose(changed, ["disc", "plate"], photographs, twins, out, form, images)
        return out, left_out

    return call


def enlarged(pixels: np.ndarray, resample: Image.Resampling) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), resample))


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_twins_of_use_are_written_with_their_masks_and_normal_images(
    run: Any, twins: Path, recipe: Recipe, photographs: Path
) -> None:
    samples = read(twins)
    # So that some masks are too small.
    low, high = sorted(one["json"]["mask_area"] for one in samples.values())[5], 0.9
    out, left_out = run(changes={"realnet.mask_area": [low, high]})
    useful = {key: one for key, one in samples.items() if low <= one["json"]["mask_area"] <= high}
    assert left_out == len(samples) - len(useful)
    assert 0 < len(useful) < len(samples)
    for category in ("disc", "plate"):
        of_category = {key: one for key, one in useful.items() if category in key}
        for place, ending in (
            ("test/synthetic", ".png"),
            ("normal/synthetic", ".png"),
            ("ground_truth/synthetic", "_mask.png"),
        ):
            names = sorted(path.name for path in (out / category / place).iterdir())
            assert names == [f"{key}{ending}" for key in of_category]
        lines = (out / category / "triplets.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == [one["json"] for one in of_category.values()]
        listed = list_images(recipe, photographs, category)
        assert len(list((out / category / "train/good").iterdir())) == len(listed.fit)
        assert len(list((out / category / "test/good").iterdir())) == len(listed.validation)
    for key, sample in useful.items():
        folder = out / sample["json"]["category"]
        for place, member in (("test", "image.png"), ("normal", "normal.png")):
            written = np.asarray(Image.open(folder / place / "synthetic" / f"{key}.png"))
            assert np.array_equal(written, enlarged(sample[member], Image.Resampling.BICUBIC))
        mask = np.asarray(Image.open(folder / "ground_truth/synthetic" / f"{key}_mask.png"))
        expected = enlarged(sample["mask.png"], Image.Resampling.BILINEAR) > 127
        assert np.array_equal(mask, expected * np.uint8(255))


def test_detectors_that_read_the_folder_train_on_good_images_alone(
    run: Any, recipe: Recipe
) -> None:
    out, _ = run()
    content = recipe.model_dump()
    content["data"]["images"]["mask"] = "{category}/ground_truth/{defect}/{stem}_mask.png"
    listed = list_images(Recipe.parse(content, where="test"), out, "disc")
    normal = [*listed.fit, *listed.validation, *listed.test_normal]
    assert {path.parent.name for path in normal} == {"good"}
    assert all(image.defect == "synthetic" for image in listed.test_anomalous)
    assert all(image.mask is not None and image.mask.is_file() for image in listed.test_anomalous)


def test_no_more_are_taken_than_asked_for_or_there(run: Any, twins: Path) -> None:
    whole, left_out = run("whole")
    more, left_out_of_more = run("more", images=1000)
    assert files(more) == files(whole)
    assert left_out_of_more == left_out
    few, left_out_of_few = run("few", images=4)
    lines = (few / "disc/triplets.jsonl").read_text().splitlines()
    assert all(json.loads(line)["index"] < 4 for line in lines)
    others = (few / "plate/triplets.jsonl").read_text().splitlines()
    assert len(lines) + len(others) + left_out_of_few == 8


def test_folder_that_broke_off_is_completed(run: Any) -> None:
    whole, _ = run("whole")
    broken, _ = run("broken")
    for place in ("test/synthetic", "ground_truth/synthetic", "normal/synthetic"):
        next((broken / "disc" / place).iterdir()).unlink()
    shutil.rmtree(broken / "plate/normal")
    shutil.rmtree(broken / "plate/test")
    assert files(run("broken")[0]) == files(whole)


def test_shards_of_twins_are_what_they_are(run: Any, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="holds twins: it has images, masks and normal images"):
        run(form="shards")
    assert not (tmp_path / "out").exists()


def test_corpus_without_a_mask_of_use_is_refused(run: Any, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"no mask of .* covers 99.00 % to 99 % of its image"):
        run(changes={"realnet.mask_area": [0.99, 0.991]})
    assert not (tmp_path / "out").exists()


def test_twins_and_pasted_pieces_are_not_mixed(
    run: Any, recipe: Recipe, photographs: Path, tmp_path: Path
) -> None:
    samples = HandmadeCorpus(tmp_path / "samples", categories=("disc", "plate")).folder
    both, images = ["disc", "plate"], photographs
    for first, second in (("twins", "pieces"), ("pieces", "twins")):
        out = tmp_path / f"first-{first}"
        if first == "twins":
            run(out.name)
            before = files(out)
            with pytest.raises(OutputError, match="disc already holds twins"):
                compose(recipe, both, images, samples, out, "folder", None)
        else:
            compose(recipe, both, images, samples, out, "folder", None)
            before = files(out)
            with pytest.raises(OutputError, match="disc already holds pasted pieces"):
                run(out.name)
        assert files(out) == before, second
