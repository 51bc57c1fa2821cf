"""Requests as bytes, good and bad, and what the server has to say to them."""

from __future__ import annotations

import functools
import http.client
import io
import json
import socket
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from tests.conftest import photograph
from tests.faults.pictures import bombs

Address = tuple[str, int]


class Told(NamedTuple):
    """An answer; its body is parsed if it is JSON."""

    status: int
    headers: dict[str, str]
    body: Any


class Fault(NamedTuple):
    """A request in parts, and the statuses that are right; None stands for no answer."""

    parts: Iterable[bytes]
    expected: tuple[int | None, ...]
    leaves: bool = False  # whether the client closes without waiting for an answer


def encoded(image: Image.Image, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=form)
    return buffer.getvalue()


_bombs = functools.cache(bombs)
GOOD = encoded(photograph(0))


def request(
    body: bytes | Iterable[bytes] = b"",
    path: str = "/predict",
    method: str = "POST",
    length: int | str | None = None,
    kind: str = "image/png",
) -> list[bytes] | Iterable[bytes]:
    """A request in parts; its body may be shorter than it says."""
    parts = [body] if isinstance(body, bytes) else body
    if length is None:
        length = len(body) if isinstance(body, bytes) else 0
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    )
    yield head.encode()
    yield from parts


def exchange(address: Address, parts: Iterable[bytes], *, leaves: bool = False) -> Told | None:
    """Sends a request, and returns the answer; None if the server closes without one."""
    try:
        with socket.create_connection(address, timeout=60) as connection:
            for part in parts:
                connection.sendall(part)
            if leaves:
                return None
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            body: Any = answer.read()
    except (http.client.BadStatusLine, ConnectionError):
        return None
    headers = {name.lower(): value for name, value in answer.getheaders()}
    if headers.get("content-type") == "application/json":
        body = json.loads(body)
    return Told(answer.status, headers, body)


def _noise(rng: np.random.Generator) -> Fault:
    return Fault(request(rng.bytes(int(rng.integers(1, 5000)))), (422,))


def _wrong_type(rng: np.random.Generator) -> Fault:
    kinds = ["application/json", "text/html", "multipart/form-data; boundary=x", "a" * 3000, "/"]
    return Fault(request(GOOD, kind=str(rng.choice(kinds))), (415,))


def _empty(rng: np.random.Generator) -> Fault:
    return Fault(request(b""), (400,))


def _truncated_image(rng: np.random.Generator) -> Fault:
    form = str(rng.choice(["PNG", "JPEG", "WEBP", "GIF"]))
    whole = encoded(photograph(int(rng.integers(99))), form)
    # Pillow can read some formats without their last bytes.
    return Fault(request(whole[: int(rng.integers(1, len(whole) // 2))], kind="image/x"), (422,))


def _cut_off(rng: np.random.Generator) -> Fault:
    sent = int(rng.integers(0, len(GOOD)))
    return Fault(request(GOOD[:sent], length=len(GOOD)), (None,), leaves=True)


def _cut_off_head(rng: np.random.Generator) -> Fault:
    (head, *_) = request(GOOD)
    return Fault([head[: int(rng.integers(1, len(head)))]], (None,), leaves=True)


def _bomb(rng: np.random.Generator) -> Fault:
    some = [content for name, content in _bombs().items() if len(content) < 1_000_000]
    return Fault(request(some[int(rng.integers(len(some)))]), (422,))


def _too_large(rng: np.random.Generator) -> Fault:
    return Fault(request(b"\0" * 1_100_000), (413,))


def _promises_500_mb(rng: np.random.Generator) -> Fault:
    return Fault(request(GOOD, length=500_000_000), (None,), leaves=True)


def _method(rng: np.random.Generator) -> Fault:
    method = str(rng.choice(["GET", "PUT", "DELETE", "PATCH", "BREW"]))
    return Fault(request(GOOD, method=method), (405,))


def _path(rng: np.random.Generator) -> Fault:
    paths = [
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/predict/x",
        "/docs",
    ]
    return Fault(request(path=str(rng.choice(paths)), method="GET"), (404,))


def _query(rng: np.random.Generator) -> Fault:
    return Fault(request(GOOD, path="/predict?heatmap=perhaps"), (422,))


def _garbage(rng: np.random.Generator) -> Fault:
    kinds = [
        rng.bytes(200) + b"\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 100_000,
    ]
    # A version of HTTP that does not exist is read as 1.1.
    return Fault([kinds[int(rng.integers(len(kinds)))]], (200, 400))


def _odd_image(rng: np.random.Generator) -> Fault:
    sides = [(1, 1), (1, 700), (700, 1), (64, 64)]
    mode = str(rng.choice(["1", "P", "RGBA", "CMYK", "LA"]))
    image = Image.new(mode, sides[int(rng.integers(len(sides)))])
    return Fault(request(encoded(image, "TIFF"), kind="application/octet-stream"), (200, 422))


def _unknown_range(rng: np.random.Generator) -> Fault:
    return Fault(request(encoded(Image.new("F", (9, 9)), "TIFF")), (422,))


KINDS: list[Callable[[np.random.Generator], Fault]] = [
    _noise,
    _wrong_type,
    _empty,
    _truncated_image,
    _cut_off,
    _cut_off_head,
    _bomb,
    _too_large,
    _promises_500_mb,
    _method,
    _path,
    _query,
    _garbage,
    _odd_image,
    _unknown_range,
]


def fault(number: int) -> Fault:
    """The fault of a number: every kind comes in turn."""
    return KINDS[number % len(KINDS)](np.random.default_rng(number))
