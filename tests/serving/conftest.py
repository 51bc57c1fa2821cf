"""A server of a small model, in a thread of this process."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sia_gen.config.recipe import Recipe
from sia_gen.detection.detector import Detector
from sia_gen.runtime.device import Runtime
from tests.deployment.conftest import RETRIEVAL
from tests.serving.requests import Address
from tests.small_networks import save_detector

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("fastapi")

from sia_gen.serving.answers import Judge  # noqa: E402
from sia_gen.serving.app import Service, make_app  # noqa: E402
from sia_gen.serving.bodies import Limits  # noqa: E402
from sia_gen.serving.run import Settings, describe, listen  # noqa: E402


class Serving(NamedTuple):
    """A server at work."""

    address: Address
    service: Service
    detector: Detector
    folder: Path


@contextlib.contextmanager
def serving(
    folder: Path, judge: Any = None, queue: int = 32, limits: Limits | None = None
) -> Iterator[Serving]:
    """Serves a model until the end of the block."""
    detector = Detector.load(folder, Runtime("fp32", "cpu"))
    settings = Settings(queue=queue)
    about = describe(folder, detector, Recipe.load(folder / "recipe.yaml"), settings)
    service = Service(
        judge(detector) if judge else Judge(detector),
        about,
        limits or Limits(1_000_000),
        queue,
        settings.batch_size,
    )
    listening = listen("127.0.0.1", 0)
    app = make_app(service, "Parts")
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        time.sleep(0.005)
    try:
        yield Serving(listening.getsockname()[:2], service, detector, folder)
    finally:
        server.should_exit = True
        thread.join()
        service.close()
        listening.close()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, small: Recipe) -> Path:
    path = tmp_path_factory.mktemp("served") / "model"
    save_detector(path, **RETRIEVAL)
    (path / "recipe.yaml").write_text(small.override({"data.non_square": "pad"}).to_yaml())
    return path


@pytest.fixture
def server(folder: Path) -> Iterator[Serving]:
    with serving(folder) as found:
        yield found
