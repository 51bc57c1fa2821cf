"""Nothing that is sent to the server gets anything but a clear answer."""

from __future__ import annotations

import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from sia_gen.config.recipe import Recipe
from tests.deployment.conftest import RETRIEVAL
from tests.faults.conftest import Tried, times
from tests.processes import Running
from tests.serving.requests import GOOD, KINDS, Address, Told, exchange, fault, request
from tests.small_networks import save_detector

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("uvicorn")
pytest.importorskip("fastapi")
AT_ONCE = 8
HUGE = 500_000_000
PART = bytes(1 << 20)


class Server:
    """The command at work on a small model, and its process."""

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        save_detector(folder / "model", **RETRIEVAL)
        squares = recipe.override({"data.non_square": "pad"})
        (folder / "model/recipe.yaml").write_text(squares.to_yaml())
        options = ["--port", "0", "--max-megabytes", "1", "--device", "cpu"]
        self.running = Running(["serve", "model", *options], folder, folder / "told.txt")
        while "http://" not in (told := self._told()):
            assert not self.running.ends_within(0.02), told
        host, port = told.partition("http://")[2].partition(";")[0].split(":")
        self.address: Address = (host, int(port))

    def _told(self) -> str:
        return self.running.told.read_text() if self.running.told.exists() else ""

    @property
    def resident(self) -> int:
        """Bytes of memory that it takes."""
        return int(psutil.Process(self.running.number).memory_info().rss)

    def ask(self) -> Told:
        """Sends a good photograph, again if the server is busy."""
        while (told := exchange(self.address, request(GOOD))) and told.status == 503:
            time.sleep(0.1)
        assert told is not None
        return told


@pytest.fixture
def server(tmp_path: Path, small: Recipe) -> Iterator[Server]:
    found = Server(tmp_path, small)
    yield found
    found.running.kill()


def test_faulty_requests_get_clear_answers_and_good_ones_theirs(
    server: Server, tried: Tried
) -> None:
    # Who else is in a batch changes the last digits.
    good = server.ask().body
    expected = good | {"score": pytest.approx(good["score"], abs=1e-6)}
    number = times(3 * len(KINDS), 10_000)
    outcomes: Counter[int | None] = Counter()

    def send(place: int) -> None:
        one = fault(place)
        told = exchange(server.address, one.parts, leaves=one.leaves)
        found = None if told is None else told.status
        busy = found == 503 and told is not None and told.headers["retry-after"] == "1"
        assert busy or found in one.expected, (place, KINDS[place % len(KINDS)], told)
        if told is not None and found != 200:
            clear = isinstance(told.body, bytes) or (told.body["error"] and told.body["fix"])
            assert clear, told
        outcomes[found] += 1
        if place % 50 == 0:
            assert server.ask().body == expected

    send(0)
    before = server.resident
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(send, range(number)))
    grown = (server.resident - before) >> 20
    assert grown < 300
    assert server.ask().body == expected
    tried(
        "requests that are cut off, of wrong types, no HTTP, bombs, too large",
        number,
        f"one clear answer each; good ones in between get theirs; memory grows by {grown} MiB",
    )


def test_500_mb_are_refused_and_take_no_memory(server: Server, tried: Tried) -> None:
    number, size = times(1, 20), times(50_000_000, HUGE)
    server.ask()
    before = server.resident
    for _ in range(number):
        parts = [PART] * (size // len(PART))
        told = exchange(server.address, request(parts, length=len(PART) * len(parts)))
        assert told is not None
        assert (told.status, "more than 1 MB" in told.body["error"]) == (413, True)
    assert server.resident - before < 100 << 20
    tried("500 MB sent to the server", number, "one clear answer each; it takes no memory")


def test_ctrl_c_ends_the_server_after_what_waits_is_answered(server: Server, tried: Tried) -> None:
    server.ask()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = [pool.submit(exchange, server.address, request(GOOD)) for _ in range(AT_ONCE)]
        # All are connected.
        asked[0].result()
        server.running.send(signal.SIGINT)
        answers = [one.result() for one in asked]
    told = server.running.end()
    assert told.code == 0, told.text
    judged = 1 + sum(one is not None and one.status == 200 for one in answers)
    assert told.lines[-1] == f"Stopped; {judged} photographs were judged."
    tried("Ctrl-C of the server", 1, "what waits is answered; one line")
