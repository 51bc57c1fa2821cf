"""Reads the bodies of requests within limits of size and time."""

import asyncio
from dataclasses import dataclass

from fastapi import Request

from sia_gen.images.files import FORMATS

MEGABYTE = 1_000_000
# Media types that may be images; what they are is decided by the bytes.
ANY_BYTES = "application/octet-stream"


@dataclass(frozen=True)
class Limits:
    """What a request may ask for."""

    bytes: int = 20 * MEGABYTE
    """Size of a body."""
    seconds: float = 30.0
    """Time for a body to arrive."""


class Refusal(Exception):
    """An answer other than a judgement: a status of HTTP, what is wrong, and how to fix it."""

    def __init__(self, status: int, problem: str, fix: str, **headers: str) -> None:
        super().__init__(f"{problem} {fix}")
        self.status = status
        self.problem = problem
        self.fix = fix
        self.headers = headers


def require_image_type(request: Request) -> None:
    """Raises `Refusal` if a request says that its body is no image."""
    given = request.headers.get("content-type", ANY_BYTES).partition(";")[0].strip().lower()
    if given != ANY_BYTES and not given.startswith("image/"):
        raise Refusal(
            415,
            f"the body is '{given[:100]}', not an image.",
            "Send the bytes of an image file with 'Content-Type: image/png', "
            f"'image/jpeg' or '{ANY_BYTES}'.",
        )


async def read_body(request: Request, limits: Limits, *, keep: bool) -> bytes:
    """Reads the body of a request; `Refusal` if it is empty, too large or too slow.

    What is too large, or not to be kept, is read and forgotten, because a client that still sends
    does not hear an answer.
    """
    parts, size = list[bytes](), 0
    try:
        async with asyncio.timeout(limits.seconds):
            async for part in request.stream():
                size += len(part)
                if keep and size <= limits.bytes:
                    parts.append(part)
                else:
                    parts.clear()
    except TimeoutError as error:
        raise Refusal(
            408,
            f"the body did not arrive within {limits.seconds:g} seconds.",
            "Send a smaller one, or over a faster connection.",
            Connection="close",
        ) from error
    if size > limits.bytes:
        raise Refusal(
            413,
            f"the body has more than {limits.bytes / MEGABYTE:g} MB.",
            "Send a smaller image, or start the server with a larger --max-megabytes.",
        )
    if not size:
        raise Refusal(400, "the body is empty.", f"Send an image: {', '.join(FORMATS)}.")
    return b"".join(parts)
