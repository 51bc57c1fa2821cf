"""`Detector`: the same photograph gives the same result, however it comes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sia_gen
from sia_gen.config.recipe import Recipe
from sia_gen.detection.detector import Detector
from sia_gen.errors import ImageError, ModelError, OptionError
from sia_gen.images.counted import Scope
from sia_gen.images.loading import ImageSpec, load_with_area
from sia_gen.realnet.inference import load_realnet, predict_images
from sia_gen.realnet.normal import NORMAL
from sia_gen.realnet.selection import threshold_for
from sia_gen.runtime.device import Runtime
from tests.small_networks import save_detector

CPU = Runtime("fp32", "cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, small: Recipe) -> Path:
    """A model of colour images of 64 pixels that pads them."""
    folder = tmp_path_factory.mktemp("models") / "model"
    save_detector(folder, strides=[16])
    changes = {"data.non_square": "pad", "mode": "RGB"}
    (folder / "recipe.yaml").write_text(small.override(changes).to_yaml())
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three photographs of noise, in colour."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number, shape in enumerate([(48, 96), (64, 64), (200, 150)]):
        pixels = rng.integers(0, 256, (*shape, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"photos/{number}.png")
    return tmp_path / "photos"


@pytest.fixture
def detector(model: Path) -> Detector:
    return Detector.load(model, CPU)


def test_the_package_offers_it(model: Path, photos: Path) -> None:
    found = sia_gen.Detector.from_pretrained(str(model), device="cpu", precision="fp32")
    assert isinstance(found, Detector)
    assert found.predict(photos / "0.png").size == (96, 48)


def test_the_score_is_that_of_the_model(detector: Detector, model: Path, photos: Path) -> None:
    realnet = load_realnet(model).model
    for path in sorted(photos.iterdir()):
        pixels, area = load_with_area(path, ImageSpec("RGB", 64, "pad"))
        expected = predict_images(realnet, pixels[None], CPU.accelerator(), scopes=[Scope(area)])
        found = detector.predict(path)
        assert found.score == pytest.approx(expected.scores[0], abs=1e-6)
        assert found.threshold == 0.5
        assert found.verdict == ("anomalous" if found.score > 0.5 else "normal")
        assert found.model_map == pytest.approx(area.cut(expected.maps[0]), abs=1e-6)


def test_sources_of_one_photograph_agree(detector: Detector, photos: Path) -> None:
    path = photos / "2.png"
    with Image.open(path) as lazy:
        loaded = lazy.copy()
        sources = [path, str(path), path.read_bytes(), lazy, loaded, np.asarray(loaded)]
        first, *others = [detector.predict(source) for source in sources]
    for other in others:
        assert other.score == first.score
        assert np.array_equal(other.anomaly_map, first.anomaly_map)
        assert other.size == first.size == (150, 200)


def test_one_gives_one_and_several_a_list(detector: Detector, photos: Path) -> None:
    paths = sorted(photos.iterdir())
    each = [detector.predict(path).score for path in paths]
    assert [one.score for one in detector.predict(paths)] == pytest.approx(each, abs=1e-6)
    assert [one.score for one in detector.predict(photos)] == pytest.approx(each, abs=1e-6)
    assert detector.predict([]) == []


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(64, 64), (64, 64, 1), (64, 64, 3)])
def test_arrays_are_files(
    detector: Detector, tmp_path: Path, dtype: type, shape: tuple[int, ...]
) -> None:
    most = np.iinfo(dtype).max
    pixels = np.random.default_rng(1).integers(0, most, shape, dtype=dtype, endpoint=True)
    if pixels.ndim == 3 and pixels.shape[-1] == 3 and dtype == np.uint16:
        # Pillow cannot write such a file; it would read the upper byte.
        Image.fromarray((pixels >> 8).astype(np.uint8)).save(tmp_path / "x.png")
    else:
        Image.fromarray(pixels.reshape(shape[:2]) if shape[-1] == 1 else pixels).save(
            tmp_path / "x.png"
        )
    assert detector.predict(pixels).score == detector.predict(tmp_path / "x.png").score


def test_the_source_stays_as_it_is(detector: Detector, photos: Path) -> None:
    turned = Image.open(photos / "0.png").copy()
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.info["exif"] = exif.tobytes()
    assert detector.predict(turned).size == (48, 96)
    assert turned.size == (96, 48)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((4, 4)), "its values are float64, not 8 bits"),
        (np.zeros((3, 8, 8), np.uint8), r"its shape is \(3, 8, 8\), not \(height, width\)"),
        (np.zeros((0, 4), np.uint8), r"its shape is \(0, 4\)"),
        (b"no image", "the image that was given: it is empty, damaged, or not one of"),
        (Image.new("F", (4, 4)), "32-bit floating-point numbers"),
        (Path("nowhere.png"), r"cannot read the image nowhere\.png"),
    ],
)
def test_what_is_no_photograph_is_one_line(
    detector: Detector, source: object, message: str
) -> None:
    with pytest.raises(ImageError, match=message):
        detector.predict(source)  # type: ignore[call-overload]


def test_truncated_bytes_are_one_line(detector: Detector, photos: Path, tmp_path: Path) -> None:
    content = (photos / "2.png").read_bytes()[:-5000]
    with pytest.raises(ImageError, match="cannot read the image that was given"):
        detector.predict(content)
    (tmp_path / "half.png").write_bytes(content)
    with Image.open(tmp_path / "half.png") as lazy, pytest.raises(ImageError, match="cannot read"):
        detector.predict(lazy)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="there are no images in"):
        detector.predict(tmp_path / "empty")


def test_thresholds_that_are_asked_for(model: Path, photos: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model, tmp_path / "model")
    score = Detector.load(folder, CPU).predict(photos / "0.png").score
    assert Detector.load(folder, CPU, threshold=score - 0.01).predict(photos / "0.png").verdict == (
        "anomalous"
    )
    with pytest.raises(ModelError, match="does not keep the scores of normal photographs"):
        Detector.load(folder, CPU, false_alarm_rate=0.1)
    scores = np.random.default_rng(0).uniform(0.1, 0.4, 50).tolist()
    normal = {"scores": scores, "medians": scores, "brightness": scores, "sizes": [], "kinds": []}
    (folder / NORMAL).write_text(json.dumps(normal))
    chosen = Detector.load(folder, CPU, false_alarm_rate=0.1)
    assert chosen.threshold == threshold_for(scores, 0.1).threshold
    for wrong in ({"threshold": 1.5}, {"threshold": float("nan")}, {"false_alarm_rate": 0.0}):
        with pytest.raises(OptionError):
            Detector.load(folder, CPU, **wrong)
    with pytest.raises(OptionError, match="both a threshold and a rate"):
        Detector.load(folder, CPU, threshold=0.5, false_alarm_rate=0.1)
    (folder / NORMAL).write_text("{}")
    with pytest.raises(ModelError, match=r"normal\.json is damaged"):
        Detector.load(folder, CPU)
