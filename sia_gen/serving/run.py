"""Runs the server until Ctrl-C or SIGTERM, then answers what waits and ends."""

import socket
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from sia_gen.config.recipe import Recipe
from sia_gen.detection.detector import Detector
from sia_gen.errors import OptionError
from sia_gen.images.loading import ImageSpec
from sia_gen.images.opening import LARGE
from sia_gen.realnet.inference import recipe_of
from sia_gen.runtime.device import Runtime

PACKAGES = ("fastapi", "uvicorn")


class Settings(NamedTuple):
    """Where a server listens, and what it accepts."""

    host: str = "127.0.0.1"
    port: int = 8000  # 0: any that is free
    batch_size: int = 8
    queue: int = 32
    megabytes: float = 20.0
    megapixels: float = 40.0


def serve(folder: Path, settings: Settings, runtime: Runtime, ready: Callable[[str], None]) -> int:
    """Serves a model, and returns the number of photographs it answered.

    `ready` is called with the address once the server listens.
    """
    require_packages()
    import uvicorn

    from sia_gen.serving.answers import Judge
    from sia_gen.serving.app import Service, make_app
    from sia_gen.serving.bodies import MEGABYTE, Limits

    limits = Limits(int(settings.megabytes * MEGABYTE))
    with listen(settings.host, settings.port) as listening:
        detector, recipe = Detector.load(folder, runtime), recipe_of(folder)
        # The limit of all reading in this process.
        Image.MAX_IMAGE_PIXELS = pixel_limit(settings, detector.spec)
        about = describe(folder, detector, recipe, settings)
        service = Service(Judge(detector), about, limits, settings.queue, settings.batch_size)
        try:
            config = uvicorn.Config(
                make_app(service, f"{recipe.title}: {folder.resolve().name}"),
                access_log=False,
                log_level="error",
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=int(limits.seconds),
            )
            ready(address_of(listening))
            # It raises the signal that ended it anew.
            with suppress(KeyboardInterrupt):
                uvicorn.Server(config).run(sockets=[listening])
        finally:
            service.close()
    return service.answered


def pixel_limit(settings: Settings, spec: ImageSpec) -> int:
    """Returns the limit for Pillow, of which photographs that are cut may have several times."""
    return int(settings.megapixels * 1_000_000 / (1 if spec.tile is None else LARGE))


def address_of(listening: socket.socket) -> str:
    """Returns the URL of a socket that listens."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def require_packages() -> None:
    """Raises `OptionError` if a package of the server is missing."""
    missing = next((name for name in PACKAGES if find_spec(name) is None), None)
    if missing is not None:
        raise OptionError(
            problem=f"the server needs the package '{missing}'.",
            fix="Install it with pip install '.[serve]' from a clone of sia-gen.",
        )


def describe(
    folder: Path, detector: Detector, recipe: Recipe, settings: Settings
) -> dict[str, Any]:
    """Returns what the server says of its model; no path of the host is in it."""
    return {
        "model": folder.resolve().name,
        "title": recipe.title,
        "license": recipe.license,
        "threshold": detector.threshold,
        "selected_on": detector.selected_on,
        "mode": detector.spec.mode,
        "image_size": detector.spec.size,
        "batch_size": settings.batch_size,
        "queue": settings.queue,
        "max_megabytes": settings.megabytes,
        "max_megapixels": settings.megapixels,
    }


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket that listens; `OptionError` if the address is not free or unknown."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address, family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OptionError(
            problem=f"cannot listen on {host}:{port} ({reason.lower()}).",
            fix="Choose another address with --host, or another port with --port.",
        ) from error
