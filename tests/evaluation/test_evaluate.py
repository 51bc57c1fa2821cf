from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from sia_gen.config.recipe import Recipe
from sia_gen.errors import ImageError, ModelError
from sia_gen.evaluation.evaluate import evaluate
from sia_gen.images.ground_truth import load_mask
from sia_gen.images.layouts import TestImage
from sia_gen.images.listing import list_test_images
from sia_gen.images.loading import ImageSpec, load_images
from sia_gen.metrics import per_region_overlap
from sia_gen.realnet.inference import load_realnet, predict_images
from sia_gen.runtime.device import Runtime
from tests.evaluation.conftest import THRESHOLD
from tests.images.trees import parts_table

if TYPE_CHECKING:
    from tests.evaluation.conftest import Evaluate

CPU = Runtime("fp32", "cpu")
Evaluated = tuple[dict[str, dict[str, Any]], Path]


@pytest.fixture(scope="module")
def evaluated(
    tmp_path_factory: pytest.TempPathFactory, models: Path, photographs: Path, small: Recipe
) -> Evaluated:
    """What an evaluation returned and its folder, to read only."""
    out = tmp_path_factory.mktemp("evaluated") / "out"
    return evaluate(small, small.categories, photographs, models, out, CPU), out


def scores(out: Path, category: str) -> tuple[list[int], list[float], list[int]]:
    """Labels, scores and verdicts as written."""
    with (out / category / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    return (
        [int(row["label"] == "anomalous") for row in rows],
        [float(row["score"]) for row in rows],
        [int(row["verdict"] == "anomalous") for row in rows],
    )


def test_metrics_are_those_of_the_written_scores(evaluated: Evaluated) -> None:
    summary, out = evaluated
    assert json.loads((out / "metrics.json").read_text()) == summary
    for category, found in summary["categories"].items():
        labels, values, verdicts = scores(out, category)
        assert (found["normal_images"], found["anomalous_images"]) == (4, 4)
        assert found["image_auroc"] == pytest.approx(roc_auc_score(labels, values))
        expected = average_precision_score(labels, values)
        assert found["image_average_precision"] == pytest.approx(expected)
        assert verdicts == [int(value > THRESHOLD) for value in values]
        expected = f1_score(labels, verdicts, zero_division=0)
        assert found["image_f1_at_threshold"] == pytest.approx(expected)
        false = [verdict for label, verdict in zip(labels, verdicts, strict=True) if not label]
        assert found["false_alarm_rate"] == pytest.approx(np.mean(false))
    for name, value in summary["mean"].items():
        values = [found[name] for found in summary["categories"].values()]
        expected = None if name.startswith("pixel") else pytest.approx(np.mean(values))
        assert value == expected


def test_table_gives_metrics_by_category_and_their_mean(evaluated: Evaluated) -> None:
    summary, out = evaluated
    lines = (out / "metrics.md").read_text().splitlines()
    assert lines[0].startswith("| parts | AUROC |")
    auroc, *_, alarms = lines[4].removeprefix("| **mean** | ").removesuffix(" |").split(" | ")
    assert auroc == f"{summary['mean']['image_auroc']:.3f}"
    assert alarms == f"{100 * summary['mean']['false_alarm_rate']:.1f} %"
    assert lines[4].startswith("| **mean** |")
    assert "Weights and threshold were selected on normal images held out" in lines[-1]


def test_heat_maps_are_pictures_named_by_what_they_show(evaluated: Evaluated) -> None:
    _, out = evaluated
    pictures = sorted((out / "disc/heatmaps").iterdir())
    assert len(pictures) == 8
    for path in pictures:
        _, kind, score, _ = path.stem.split("_", 3)
        assert kind in ("normal", "anomalous")
        assert 0 <= float(score) <= 1
        with Image.open(path) as image:
            assert image.size == (128, 64)


def test_categories_without_masks_report_image_metrics_alone(evaluated: Evaluated) -> None:
    summary, out = evaluated
    for values in (summary["mean"], *summary["categories"].values()):
        pixels = [value for name, value in values.items() if name.startswith("pixel")]
        assert pixels == [None] * 5
    assert summary["defects"]["disc"]["scratch"]["pixel_pro"] is None
    assert summary["categories"]["disc"]["masked_images"] == 0
    assert "PRO" not in (out / "metrics.md").read_text()
    assert summary["defects"]["disc"].keys() == {"scratch"}
    assert not (out / ".pixels").exists()


@pytest.fixture
def masked(photographs: Path, tmp_path: Path, recipe: Recipe) -> tuple[Recipe, Path]:
    """The same images with masks, and a second type of defect."""
    root = shutil.copytree(photographs, tmp_path / "masked")
    rng = np.random.default_rng(0)
    for category in ("disc", "plate"):
        scratches = sorted((root / category / "test/scratch").iterdir())
        (root / category / "test/hole").mkdir()
        for path in scratches[2:]:
            path.rename(root / category / "test/hole" / path.name)
        for defect in ("scratch", "hole"):
            folder = root / category / "ground_truth" / defect
            folder.mkdir(parents=True)
            for path in (root / category / "test" / defect).iterdir():
                mask = rng.random((32, 32)) > 0.9
                Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{path.stem}_mask.png")
    pattern = "{category}/ground_truth/{defect}/{stem}_mask.png"
    return recipe.override({"data.images.mask": pattern}), root


def test_pixel_metrics_are_those_of_the_maps(
    run: Evaluate, masked: tuple[Recipe, Path], models: Path
) -> None:
    recipe, root = masked
    summary, out = run(recipe, root)
    model = load_realnet(models / "disc").model
    tests = list_test_images(recipe, root, "disc")
    images = load_images([test.path for test in tests], ImageSpec("L", 64))
    maps = predict_images(model, images, CPU.accelerator()).maps
    masks = np.stack([load_mask(test, ImageSpec("L", 64)) for test in tests])
    assert masks.any()
    assert not masks[:4].any()
    found = summary["categories"]["disc"]
    assert found["pixel_auroc"] == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()))
    assert found["pixel_pro"] == pytest.approx(per_region_overlap(maps, masks))
    assert found["pixel_pro_5"] == pytest.approx(per_region_overlap(maps, masks, 0.05))
    hole = [n for n, test in enumerate(tests) if test.defect in ("good", "hole")]
    by_defect = summary["defects"]["disc"]
    assert by_defect.keys() == {"hole", "scratch"}
    expected = per_region_overlap(maps[hole], masks[hole])
    assert by_defect["hole"]["pixel_pro"] == pytest.approx(expected)
    assert by_defect["hole"]["anomalous_images"] == 2
    assert (
        "| parts | AUROC | AP | F1-max | F1 at threshold | pixel AUROC |"
        in (out / "metrics.md").read_text()
    )


def test_page_of_a_category_has_everything_to_look_at(
    run: Evaluate, masked: tuple[Recipe, Path]
) -> None:
    _, out = run(*masked)
    for category in ("disc", "plate"):
        page = (out / category / "index.html").read_text()
        for part in ("highest-scoring defects", "by type of defect", "features"):
            assert f"<h2>{category}: {part}</h2>" in page
        assert page.count("<polyline") == 3
        assert "PRO: mean overlap" in page
        assert "Histogram of the scores" in page
        assert "selected on normal images held out" in page


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("size", r"mask .*200_mask\.png is 16 x 16 pixels, its image 32 x 32"),
        ("levels", r"mask .*200_mask\.png is not binary: it has \d+ levels"),
        ("file", r"cannot read the mask .*200_mask\.png"),
    ],
)
def test_mask_that_does_not_fit_is_one_line(
    run: Evaluate, masked: tuple[Recipe, Path], damage: str, message: str
) -> None:
    recipe, root = masked
    first = sorted((root / "disc/test/scratch").iterdir())[0]
    first.rename(first.with_name("200.png"))
    mask = root / "disc/ground_truth/scratch" / f"{first.stem}_mask.png"
    mask = mask.rename(mask.with_name("200_mask.png"))
    if damage == "size":
        Image.new("L", (16, 16)).save(mask)
    elif damage == "levels":
        gradient = np.arange(32 * 32, dtype=np.uint32).reshape(32, 32) % 256
        Image.fromarray(gradient.astype(np.uint8)).save(mask)
    else:
        mask.write_bytes(b"not an image")
    with pytest.raises(ImageError, match=message):
        run(recipe, root)


def test_masks_may_be_of_any_kind_that_tells_two_things_apart(tmp_path: Path) -> None:
    shape = np.zeros((8, 8), np.uint8)
    shape[2:6, 2:6] = 1
    Image.new("L", (8, 8)).save(tmp_path / "image.png")
    palette = Image.fromarray(shape)
    palette.putpalette([0, 0, 0, 0, 0, 0])
    kinds = {
        "255": Image.fromarray(shape * 255),
        "1": Image.fromarray(shape),
        "bit": Image.fromarray(shape * 255).convert("1"),
        "palette": palette,
        "rgb": Image.fromarray(shape * 255).convert("RGB"),
        "rgba": Image.fromarray(shape * 255).convert("RGBA"),
    }
    for name, picture in kinds.items():
        picture.save(tmp_path / f"{name}.png")
        image = TestImage(tmp_path / "image.png", "x", "cut", tmp_path / f"{name}.png")
        assert np.array_equal(load_mask(image, ImageSpec("L", 8)), shape > 0), name
        assert load_mask(image, ImageSpec("L", 16)).sum() == 64


def test_images_in_a_table_are_evaluated_like_those_in_folders(
    run: Evaluate, masked: tuple[Recipe, Path], tmp_path: Path
) -> None:
    recipe, photographs = masked
    listed = parts_table(recipe, photographs, tmp_path / "root", "absolute")
    summary, out = run(listed, tmp_path / "root")
    table = (out / "disc/scores.csv").read_text()
    assert str(photographs) not in table + (out / "disc/index.html").read_text()
    rows = list(csv.DictReader(table.splitlines()))
    assert len({row["image"] for row in rows}) == len(rows) == 8
    assert len(list((out / "disc/heatmaps").iterdir())) == 8
    assert summary["defects"]["disc"]["bad/scratch"]["pixel_auroc"] > 0
    shutil.rmtree(out)
    # Other sums of the same pixels.
    same = {name: pytest.approx(one) for name, one in summary["categories"]["disc"].items()}
    assert run(recipe, photographs)[0]["categories"]["disc"] == same


def test_missing_model_is_refused_before_anything_is_written(
    run: Evaluate, recipe: Recipe, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="there is no RealNet in"):
        run(recipe.override({"categories": ["disc", "ring"]}))
    assert not (tmp_path / "out").exists()


def test_test_without_good_images_is_refused(run: Evaluate, recipe: Recipe, tmp_path: Path) -> None:
    changed = recipe.override({"data.images.test_normal": "{category}/nowhere/*"})
    with pytest.raises(ImageError, match="'disc' has no normal test images"):
        run(changed)
    assert not (tmp_path / "out").exists()


def test_test_of_good_images_alone_measures_false_alarms(
    run: Evaluate, recipe: Recipe, evaluated: Evaluated
) -> None:
    whole, _ = evaluated
    summary, out = run(recipe.override({"data.images.test_anomalous": "{category}/nowhere/*"}))
    # The same fields as ever, null where nothing can be measured.
    assert json.loads((out / "metrics.json").read_text()) == summary
    assert summary.keys() == whole.keys()
    for category, found in summary["categories"].items():
        assert found.keys() == whole["categories"][category].keys()
        labels, values, verdicts = scores(out, category)
        assert labels == [0] * 4
        assert found["false_alarm_rate"] == np.mean([value > THRESHOLD for value in values])
        assert found["false_alarm_rate"] == np.mean(verdicts)
        measured = {name for name, value in found.items() if value is not None}
        counts = {"normal_images", "anomalous_images", "masked_images"}
        assert measured == {"false_alarm_rate", "threshold"} | counts
        page = (out / category / "index.html").read_text()
        assert "0 images with defects and 4 good ones" in page
        assert "<polyline" not in page
    assert summary["mean"].keys() == whole["mean"].keys()
    assert (out / "metrics.md").read_text().startswith("| parts | false alarms |")


def test_pixels_are_measured_where_there_are_masks(
    run: Evaluate,
    masked: tuple[Recipe, Path],
    models: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe, root = masked
    gone = sorted((root / "disc/ground_truth/hole").iterdir())
    gone[0].unlink()
    summary, out = run(recipe, root)
    err = capsys.readouterr().err
    assert "disc: 1 of 4 anomalous images have no mask, the first disc/test/hole/" in err
    assert err.count("have no mask") == 1
    tests = [one for one in list_test_images(recipe, root, "disc") if one.mask or not one.label]
    assert len(tests) == 7
    images = load_images([test.path for test in tests], ImageSpec("L", 64))
    maps = predict_images(load_realnet(models / "disc").model, images, CPU.accelerator()).maps
    masks = np.stack([load_mask(test, ImageSpec("L", 64)) for test in tests])
    found = summary["categories"]["disc"]
    assert found["pixel_auroc"] == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()))
    assert found["pixel_pro"] == pytest.approx(per_region_overlap(maps, masks))
    assert (found["anomalous_images"], found["masked_images"]) == (4, 3)
    assert summary["categories"]["plate"]["masked_images"] == 4
    assert summary["defects"]["disc"]["hole"]["masked_images"] == 1
    assert (
        "The metrics of pixels are those of 3 with a mask" in (out / "disc/index.html").read_text()
    )


def test_all_bad_masks_are_told_before_anything_is_scored(
    run: Evaluate, masked: tuple[Recipe, Path], tmp_path: Path
) -> None:
    recipe, root = masked
    for path in (root / "plate/ground_truth").rglob("*.png"):
        Image.new("L", (16, 16)).save(path)
    with pytest.raises(ImageError, match=r"4 of 4 masks of 'plate' cannot be used: .*; and 1 more"):
        run(recipe, root)
    assert not (tmp_path / "out").exists()


def test_several_masks_of_an_image_are_evaluated_together(
    run: Evaluate, masked: tuple[Recipe, Path]
) -> None:
    recipe, root = masked
    expected = run(recipe, root)[0]
    for path in sorted((root / "disc/ground_truth").rglob("*.png")):
        pixels = np.asarray(Image.open(path))
        folder = path.with_name(path.stem.removesuffix("_mask"))
        folder.mkdir()
        for name, rows in (("000", slice(0, 16)), ("001", slice(16, 32))):
            part = np.zeros_like(pixels)
            part[rows] = pixels[rows]
            Image.fromarray(part).save(folder / f"{name}.png")
        path.unlink()
    pattern = [
        "{category}/ground_truth/{defect}/{stem}_mask.png",
        "{category}/ground_truth/{defect}/{stem}",
    ]
    changed = recipe.override({"data.images.mask": pattern})
    shutil.rmtree(root.parent / "out")
    assert run(changed, root)[0]["categories"] == expected["categories"]
