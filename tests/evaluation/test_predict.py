"""Scoring any images with a model folder alone."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from sia_gen import RealNet
from sia_gen.config.recipe import Recipe
from sia_gen.errors import ImageError, ModelError, OptionError
from sia_gen.evaluation.photos import image_files
from sia_gen.evaluation.predict import predict
from sia_gen.images.loading import ImageSpec, load_images
from sia_gen.images.places import photographs_below
from sia_gen.realnet.inference import BATCH_SIZE, predict_images
from sia_gen.runtime.device import Runtime
from tests.images.trees import write_images
from tests.small_networks import save_detector

CPU = Runtime("fp32", "cpu")


@pytest.fixture
def model(tmp_path: Path, recipe: Recipe) -> Path:
    """A model folder, with a threshold in the middle of its scores."""
    folder = tmp_path / "model"
    save_detector(folder, strides=[16])
    (folder / "recipe.yaml").write_text(recipe.to_yaml())
    return folder


def scores_of(model: Path, paths: list[Path]) -> list[float]:
    images = load_images(paths, ImageSpec("L", 64))
    realnet = RealNet.from_pretrained(model).eval()
    return predict_images(realnet, images, CPU.accelerator()).scores.tolist()


def test_folder_and_file_are_scored_by_the_calibrated_threshold(
    model: Path, photographs: Path, tmp_path: Path
) -> None:
    folder = photographs / "disc/test"
    files = sorted(folder.rglob("*.png"))
    expected = scores_of(model, files)
    threshold = sorted(expected)[4]
    (model / "fit.json").write_text(
        json.dumps({"threshold": threshold, "selected_on": "x", "model_version": 2})
    )
    verdicts = ["anomalous" if score > threshold else "normal" for score in expected]
    assert 0 < verdicts.count("anomalous") < len(verdicts)
    counts = predict(model, [folder], tmp_path / "out", CPU)
    assert counts == (len(files), verdicts.count("anomalous"))
    with (tmp_path / "out/predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [str(path) for path in files]
    assert [float(row["score"]) for row in rows] == pytest.approx(expected, abs=1e-6)
    assert [row["verdict"] for row in rows] == verdicts
    for path in files:
        with Image.open(tmp_path / "out/heatmaps" / path.relative_to(folder)) as picture:
            assert picture.size == (32, 32)


def test_many_images_wait_little_for_the_disk(
    model: Path, photographs: Path, tmp_path: Path, synced: list[int]
) -> None:
    (tmp_path / "many").mkdir()
    original = photographs / "disc/test/good/000.png"
    for number in range(64):
        (tmp_path / f"many/{number:02d}.png").symlink_to(original)
    (tmp_path / "many/20.png").unlink()
    (tmp_path / "many/20.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"1 of 64 images were not scored; .*20\.png"):
        predict(model, [tmp_path / "many"], tmp_path / "out", CPU)
    # Every heat map; for every batch the folder and both tables; three files to begin with.
    assert len(synced) <= 63 + 64 // BATCH_SIZE * 3 + 3 * 2
    rows = (tmp_path / "out/predictions.csv").read_text().splitlines()[1:]
    assert [Path(row.split(",")[0]).stem for row in rows] == [f"{one:02d}" for one in range(64)]
    assert ["unreadable" in row for row in rows] == [number == 20 for number in range(64)]
    pictures = [path.read_bytes() for path in sorted((tmp_path / "out/heatmaps").iterdir())]
    assert len(pictures) == 63
    assert len(set(pictures)) == 1


def test_lines_of_json_say_the_same(model: Path, photographs: Path, tmp_path: Path) -> None:
    files = sorted((photographs / "disc/test/good").iterdir())
    path = files[0]
    predict(model, [path], tmp_path / "out", CPU)
    (line,) = (tmp_path / "out/predictions.jsonl").read_text().splitlines()
    content = json.loads(line)
    assert content["image"] == str(path)
    assert content["score"] == pytest.approx(scores_of(model, [path])[0], abs=1e-6)


def test_images_of_one_name_from_two_places_are_kept_apart(
    photographs: Path, tmp_path: Path
) -> None:
    original = sorted((photographs / "disc/test/good").iterdir())[0]
    for name in ("a", "b"):
        (tmp_path / name / "deep").mkdir(parents=True)
        shutil.copy(original, tmp_path / name / "deep" / "x.PNG")
        (tmp_path / name / "readme.txt").write_text("no image")
    (tmp_path / "b/deep/x.bmp").touch()
    (tmp_path / "b/deep/x-2.jpg").touch()
    files = image_files([tmp_path / name for name in ("a", "b", "b", "a/deep/x.PNG")])
    assert files == {
        "deep/x.png": tmp_path / "a/deep/x.PNG",
        "deep/x-2.png": tmp_path / "b/deep/x-2.jpg",
        "deep/x-3.png": tmp_path / "b/deep/x.PNG",
        "deep/x-4.png": tmp_path / "b/deep/x.bmp",
        "x.png": tmp_path / "a/deep/x.PNG",
    }


def test_folders_may_be_called_as_pictures_of_photographs(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    for name in ("a.png/a.png", "a.jpg"):
        (tmp_path / name).touch()
    files = image_files([tmp_path])
    assert files["a.png/a.png"] == tmp_path / "a.png/a.png"
    assert files["a-2.png"] == tmp_path / "a.jpg"


def test_own_output_is_never_scored(model: Path, photographs: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(photographs / "disc/test", tmp_path / "photos")
    for out in (folder / "predictions", folder / "deep/predictions", folder):
        for _ in range(2):
            assert predict(model, [folder], out, CPU).photographs == 8
    assert len(list((folder / "heatmaps").rglob("*.png"))) == 8


def test_hidden_files_are_not_scored(photographs: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(photographs / "disc/test/good", tmp_path / "photos")
    (folder / "._000.png").touch()
    shutil.copytree(folder, folder / ".ipynb_checkpoints")
    assert len(image_files([folder])) == 4


def test_masks_are_not_scored(tmp_path: Path) -> None:
    photographs = ["bad/0.jpg", "bad/1.jpg", "labels/cap.png", "x_mask.png"]
    masks = ["bad/0_mask.png", "ground_truth/bad/1_gt.png", "masks/1.png"]
    write_images(tmp_path, *photographs, *masks)
    found = photographs_below(tmp_path)
    assert found == tuple([tmp_path / name for name in names] for names in (photographs, masks))
    assert [*image_files([tmp_path]).values()] == found[0]


def test_wrong_input_is_refused_before_anything_is_written(
    model: Path, photographs: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for source in (tmp_path / "nowhere.png", tmp_path / "empty"):
        with pytest.raises(ImageError, match=f"there are no images at {source}"):
            predict(model, [source], tmp_path / "out", CPU)
    with pytest.raises(ImageError, match="That is a model: give it first"):
        predict(photographs, [model], tmp_path / "out", CPU)
    with pytest.raises(ModelError, match="there is no RealNet in"):
        predict(tmp_path / "empty", [photographs], tmp_path / "out", CPU)
    assert not (tmp_path / "out").exists()


def test_file_that_is_no_image_is_named(model: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"not an image")
    with pytest.raises(ImageError, match=r"cannot read the image .*broken\.png"):
        predict(model, [tmp_path / "broken.png"], tmp_path / "out", CPU)


@pytest.mark.slow
def test_compiled_model_gives_the_same_scores(
    shallow: None, model: Path, photographs: Path, tmp_path: Path, traced: list[int]
) -> None:
    folder = photographs / "disc/test"
    files = sorted(folder.rglob("*.png"))
    assert len(files) < BATCH_SIZE
    predict(model, [folder], tmp_path / "out", Runtime("fp32", "cpu", compiled=True))
    lines = (tmp_path / "out/predictions.jsonl").read_text().splitlines()
    assert [json.loads(line)["score"] for line in lines] == pytest.approx(
        scores_of(model, files), abs=1e-4
    )
    assert traced == [BATCH_SIZE]


def test_memory_that_runs_out_is_one_line(
    model: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(RealNet, "forward", forward)
    with pytest.raises(OptionError, match=r"scoring 16 images of 64 pixels at a time\. Use"):
        predict(model, [photographs / "disc/test"], tmp_path / "out", CPU)
