"""The routes of the server.

GET  /          a page to drop photographs on
POST /predict   the bytes of an image; its score, verdict and boxes as JSON
GET  /model     what judges: threshold, categories, licence, limits
GET  /health    how much waits

Every other answer is JSON too, with `error` and `fix`. No route opens a file of the host.
"""

import asyncio
import base64
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from sia_gen.serving.answers import Answer, Judge
from sia_gen.serving.bodies import MEGABYTE, Limits, Refusal, read_body, require_image_type
from sia_gen.serving.page import POLICY, render_page
from sia_gen.serving.worker import BatchWorker, QueueFullError
from sia_gen.version import __version__

# Seconds after which to ask again if the queue is full.
RETRY_AFTER = 1
# Threads that make answers from what is found.
ANSWERING = 2
ROUTES = {"/", "/predict", "/model", "/health"}


class Service:
    """What the routes share: the queue, its worker, and threads that make answers.

    Args:
        judge: Answers several requests at a time.
        about: What `/model` says.
        limits: What a request may ask for.
        capacity: The largest number of requests that are read or wait.
        batch_size: The largest number of images to score at a time.
    """

    def __init__(
        self, judge: Judge, about: dict[str, Any], limits: Limits, capacity: int, batch_size: int
    ) -> None:
        self.about = about
        self.limits = limits
        self.worker = BatchWorker(judge.answer, capacity, batch_size)
        self.answered = 0
        self._reading = 0
        self._answering = ThreadPoolExecutor(ANSWERING, "answering")

    async def predict(self, request: Request, heatmap: bool) -> dict[str, Any]:
        """Answers a request; `Refusal` if that is not possible."""
        require_image_type(request)
        answer = await self._judge(await self._read(request))
        if isinstance(answer, Refusal):
            raise answer
        loop = asyncio.get_running_loop()
        content = await loop.run_in_executor(self._answering, _content_of, answer, heatmap)
        self.answered += 1
        return content

    async def _read(self, request: Request) -> bytes:
        """Reads a body if there is room for it; what is being read counts as waiting."""
        full = self._reading + self.worker.waiting >= self.worker.capacity
        self._reading += not full
        try:
            body = await read_body(request, self.limits, keep=not full)
        finally:
            self._reading -= not full
        if full:
            raise _busy()
        return body

    async def _judge(self, body: bytes) -> Answer | Refusal:
        try:
            future = self.worker.submit(body)
        except QueueFullError as error:
            raise _busy() from error
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Answers what waits, then ends all threads."""
        self.worker.close()
        self._answering.shutdown()


def make_app(service: Service, title: str) -> FastAPI:
    """Returns the server; whoever runs it closes the service."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.close)

    # The pages of documentation would load scripts from elsewhere.
    app = FastAPI(
        title=title, version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan
    )
    threshold, megabytes = service.about["threshold"], service.limits.bytes / MEGABYTE
    page = render_page(title, threshold, megabytes)

    @app.get("/", response_class=HTMLResponse)
    async def show() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": POLICY})

    @app.post("/predict")
    async def predict(request: Request, heatmap: bool = False) -> JSONResponse:
        return JSONResponse(await service.predict(request, heatmap))

    @app.get("/model")
    async def model() -> dict[str, Any]:
        return service.about

    @app.get("/health")
    async def health() -> dict[str, Any]:
        worker = service.worker
        counts = {"waiting": worker.waiting, "capacity": worker.capacity}
        return {"status": "ok", **counts, "answered": service.answered}

    _explain_errors(app)
    return app


def _explain_errors(app: FastAPI) -> None:
    """Makes every other answer JSON that says what is wrong and what to do about it."""

    async def refuse(_: Request, error: Exception) -> Response:
        return _answer(error if isinstance(error, Refusal) else _refusal_of(error))

    for kind in (Refusal, HTTPException, RequestValidationError, ClientDisconnect, Exception):
        app.add_exception_handler(kind, refuse)


def _answer(refusal: Refusal) -> JSONResponse:
    content = {"error": refusal.problem, "fix": refusal.fix}
    return JSONResponse(content, refusal.status, headers=refusal.headers)


def _refusal_of(error: Exception) -> Refusal:
    if isinstance(error, ClientDisconnect):
        # Nobody hears this.
        return Refusal(400, "the body is not complete.", "Send all of it.")
    if isinstance(error, RequestValidationError):
        return Refusal(422, "'heatmap' is neither true nor false.", "Send ?heatmap=true.")
    if isinstance(error, HTTPException):
        known = ", ".join(sorted(ROUTES))
        return Refusal(
            error.status_code,
            f"{error.detail.lower()}.",
            f"There are {known}; photographs go to POST /predict.",
            **(error.headers or {}),
        )
    return Refusal(500, f"the server failed ({type(error).__name__}).", "Look at its output.")


def _busy() -> Refusal:
    return Refusal(
        503,
        "the server is busy.",
        "Send the image again after the seconds in Retry-After.",
        **{"Retry-After": str(RETRY_AFTER)},
    )


def _content_of(answer: Answer, heatmap: bool) -> dict[str, Any]:
    content = answer.content()
    if heatmap:
        content["heatmap"] = "data:image/png;base64," + base64.b64encode(answer.heatmap()).decode()
    return content
