"""The routes of the server.

GET  /          a page to drop photographs on
POST /predict   the bytes of an image; its score, verdict and regions as JSON
GET  /model     what judges: threshold, categories, licence
GET  /health    how much waits

Every other answer is JSON too, with `error` and `fix`. No route opens a file of the host.
"""

import asyncio
import base64
import io
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from sia_gen.serving.bodies import Limits, Refusal, read_body, require_image_type
from sia_gen.serving.judging import Answer, Judge, heatmap_of
from sia_gen.serving.page import POLICY, page_of
from sia_gen.serving.worker import BatchWorker, QueueFullError
from sia_gen.version import __version__

# Seconds after which to ask again if the queue is full.
RETRY_AFTER = 1
# Threads that draw heat maps.
DRAWING = 2


class Server:
    """What the routes share."""

    def __init__(self, judge: Judge, capacity: int, batch_size: int, limits: Limits) -> None:
        self.judge = judge
        self.limits = limits
        self.worker = BatchWorker(judge.answer, capacity, batch_size)
        self.drawing = ThreadPoolExecutor(DRAWING, "drawing")
        self.reading = 0

    async def predict(self, request: Request, heatmap: bool) -> dict[str, Any]:
        """Answers one request; `Refusal` if that is not possible."""
        require_image_type(request)
        answer = await self._judged(await self._admitted(request))
        if isinstance(answer, Refusal):
            raise answer
        content = answer.content()
        if heatmap:
            loop = asyncio.get_running_loop()
            picture = await loop.run_in_executor(self.drawing, heatmap_of, answer)
            content["heatmap"] = "data:image/png;base64," + base64.b64encode(picture).decode()
        return content

    async def _admitted(self, request: Request) -> bytes:
        """Reads a body if there is room for it; bodies that are on their way count too."""
        full = self.reading + self.worker.waiting >= self.worker.capacity
        self.reading += 1
        try:
            limits = self.limits
            if full:
                # Heard only after the body was sent.
                limits = Limits(0, limits.seconds, limits.pixels)
            return await read_body(request, limits)
        finally:
            self.reading -= 1

    async def _judged(self, body: bytes) -> Answer | Refusal:
        try:
            future = self.worker.submit(body)
        except QueueFullError as error:
            raise busy() from error
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Answers what waits, then ends all threads."""
        self.worker.close()
        self.drawing.shutdown()
