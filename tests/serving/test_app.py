"""The server answers over HTTP as `Detector` does in Python, and everything else clearly."""

from __future__ import annotations

import base64
import io
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from sia_gen.config.data import Tile
from sia_gen.errors import ImageError, OptionError
from sia_gen.images.loading import ImageSpec
from sia_gen.images.photographs import read_photograph
from sia_gen.serving import run as running
from tests.conftest import photograph
from tests.serving.requests import GOOD, Told, encoded, exchange, request

if TYPE_CHECKING:
    from tests.serving.conftest import Serving

conftest = pytest.importorskip("tests.serving.conftest")


def ask(server: Serving, body: bytes = GOOD, **options: Any) -> Told:
    told = exchange(server.address, request(body, **options))
    assert told is not None
    return told


def test_answer_is_that_of_the_detector(server: Serving) -> None:
    for seed, form in enumerate(["PNG", "BMP", "TIFF"]):
        image = photograph(seed, defect=True).resize((50, 30))
        body = encoded(image, form)
        told = ask(server, body, kind="application/octet-stream")
        found = server.detector.predict(body)
        assert told.status == 200
        assert told.body["score"] == pytest.approx(found.score, abs=1e-6)
        assert told.body["verdict"] == found.verdict
        assert told.body["threshold"] == found.threshold
        assert (told.body["width"], told.body["height"]) == (50, 30)
        assert [one["box"] for one in told.body["boxes"]] == [[*one.box] for one in found.regions]


def test_heat_map_comes_on_request_in_the_size_of_the_photograph(server: Serving) -> None:
    body = encoded(photograph(0, defect=True).resize((50, 30)))
    assert "heatmap" not in ask(server, body).body
    address = ask(server, body, path="/predict?heatmap=true").body["heatmap"]
    picture = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    with Image.open(io.BytesIO(picture)) as image:
        assert (image.size, image.format, image.mode) == ((50, 30), "PNG", "RGB")


@pytest.mark.parametrize("tile", [None, Tile(size=8, overlap=2)])
def test_limit_of_pixels_is_that_of_photographs_in_tiles_too(
    monkeypatch: pytest.MonkeyPatch, tile: Tile | None
) -> None:
    settings, spec = running.Settings(megapixels=0.01), ImageSpec("L", 64, "stretch", tile=tile)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", running.pixel_limit(settings, spec))
    large = tile is not None
    assert read_photograph(encoded(Image.new("L", (99, 100))), large=large).image.height == 100
    with pytest.raises(ImageError, match="exceeds limit of"):
        read_photograph(encoded(Image.new("L", (101, 100))), large=large)


def test_page_model_and_health(server: Serving) -> None:
    page = ask(server, b"", path="/", method="GET")
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "connect-src 'self'" in page.headers["content-security-policy"]
    assert b"http" not in page.body.replace(b"http://www.w3.org/", b"")
    model = ask(server, b"", path="/model", method="GET").body
    assert (model["model"], model["threshold"], model["mode"]) == ("model", 0.5, "L")
    # Nobody outside needs to know where it lies.
    assert not any(str(server.folder.parent) in str(value) for value in model.values())
    health = ask(server, b"", path="/health", method="GET").body
    assert health | {"status": "ok", "waiting": 0, "capacity": 32} == health


@pytest.mark.parametrize(
    ("status", "options", "words"),
    [
        (415, {"kind": "application/json"}, "'application/json', not an image"),
        (400, {"body": b""}, "empty"),
        (422, {"body": b"no image"}, "damaged, or not one of PNG"),
        (413, {"body": bytes(1_000_001)}, "more than 1 MB"),
        (422, {"path": "/predict?heatmap=x"}, "neither true nor false"),
        (405, {"method": "PUT"}, "method not allowed"),
        (404, {"path": "/etc/passwd", "method": "GET"}, "not found"),
        (404, {"path": "/../../etc/passwd", "method": "GET"}, "not found"),
    ],
)
def test_bad_requests_are_told_what_is_wrong(
    server: Serving, status: int, options: dict[str, Any], words: str
) -> None:
    told = ask(server, options.pop("body", GOOD), **options)
    assert told.status == status
    assert words in told.body["error"]
    assert told.body["fix"].endswith(".")


class Slow:
    """Judges once it may."""

    def __init__(self, detector: Any) -> None:
        from sia_gen.serving.answers import Judge

        self.judge = Judge(detector)
        self.may, self.begun = threading.Event(), threading.Event()

    def answer(self, bodies: Sequence[bytes]) -> Any:
        self.begun.set()
        assert self.may.wait(60)
        return self.judge.answer(bodies)


def test_full_queue_says_when_to_come_back_and_loses_nothing(folder: Path) -> None:
    with conftest.serving(folder, Slow, queue=3) as server, ThreadPoolExecutor(8) as pool:
        judge = server.service.worker._make.__self__
        first = pool.submit(ask, server)
        assert judge.begun.wait(60)
        waiting = [pool.submit(ask, server) for _ in range(3)]
        while server.service.worker.waiting < 3:
            time.sleep(0.005)
        refused = [pool.submit(ask, server, bytes(900_000)) for _ in range(4)]
        for told in (one.result(60) for one in refused):
            assert (told.status, told.headers["retry-after"]) == (503, "1")
            assert told.body["error"] == "the server is busy."
        judge.may.set()
        assert [one.result(60).status for one in (first, *waiting)] == [200] * 4
        assert ask(server).status == 200
        assert server.service.answered == 5


def test_slow_body_is_told_so(folder: Path) -> None:
    limits = conftest.Limits(1_000_000, seconds=0.2)
    with conftest.serving(folder, limits=limits) as server:

        def slowly() -> Iterator[bytes]:
            yield from request(GOOD[:10], length=len(GOOD))
            time.sleep(0.6)

        told = exchange(server.address, slowly())
        assert told is not None
        assert (told.status, "within 0.2 seconds" in told.body["error"]) == (408, True)


def test_failure_of_the_model_is_an_answer_too(folder: Path) -> None:
    class Broken:
        def __init__(self, detector: Any) -> None: ...

        def answer(self, bodies: Sequence[bytes]) -> Any:
            raise MemoryError

    with conftest.serving(folder, Broken) as server:
        told = ask(server)
        assert (told.status, told.body["error"]) == (500, "the server failed (MemoryError).")


def test_many_at_once_get_their_own_answers(server: Serving) -> None:
    bodies = [encoded(photograph(seed, defect=bool(seed % 2))) for seed in range(24)]
    with ThreadPoolExecutor(12) as pool:
        found = [told.body["score"] for told in pool.map(lambda one: ask(server, one), bodies)]
    expected = [one.score for one in server.detector.predict(bodies)]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_address_that_is_taken_is_one_line(server: Serving) -> None:
    with pytest.raises(OptionError, match=r"cannot listen on 127.0.0.1:\d+ \(address already"):
        running.listen("127.0.0.1", server.address[1])
    with pytest.raises(OptionError, match=r"--host"):
        running.listen("no.such.host.invalid", 0)


def test_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "find_spec", lambda name: None)
    with pytest.raises(
        OptionError, match=r"needs the package 'fastapi'.*pip install '\.\[serve\]'"
    ):
        running.require_packages()
