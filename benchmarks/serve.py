"""A served detector under load: throughput, latency, memory, and what happens beyond its limit.

    python benchmarks/serve.py demo/realnet/mono --recipe demo --category mono

Starts `sia-gen serve`, and sends it test photographs over loopback, from as many connections at a
time as --clients says, each of which waits for its answer. Then sends twice as many per second as
were answered, whether or not there are answers. The clients run on the same cores as the server.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch
from measuring import save, show

from sia_gen.config.recipe import Recipe
from sia_gen.images.listing import data_root, list_test_images

LIMIT = "the detector in one thread, without HTTP"
# Connections that are open at a time beyond the limit.
MOST = 256


class Answer(NamedTuple):
    """An answer: its status (0: none), whether it says when to come back, and its seconds."""

    status: int
    retry: bool
    seconds: float


@contextmanager
def serving(model: Path, options: Sequence[str], threads: int) -> Iterator[tuple[str, int]]:
    """Starts the server; yields its address and the number of its process."""
    command = [sys.executable, "-m", "sia_gen", "serve", str(model), "--port", "0", *options]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split("//")[1].split(";")[0], process.pid
    finally:
        process.terminate()
        process.wait()


def ask(address: str, body: bytes) -> Answer:
    """Sends a photograph."""
    began, status, retry = time.perf_counter(), 0, False
    try:
        connection = http.client.HTTPConnection(address, timeout=120)
        connection.request("POST", "/predict", body, {"Content-Type": "image/png"})
        answer = connection.getresponse()
        content = json.loads(answer.read())
        status, retry = answer.status, answer.getheader("Retry-After") is not None
        assert ("score" in content) == (status == 200)
        connection.close()
    except OSError:
        pass
    return Answer(status, retry, time.perf_counter() - began)


def closed_loop(
    address: str, bodies: Sequence[bytes], clients: int, seconds: float
) -> list[Answer]:
    """Some clients, each of which waits for its answer before it asks again."""
    until = time.perf_counter() + seconds

    def client(number: int) -> list[Answer]:
        answers = []
        while time.perf_counter() < until:
            answers.append(ask(address, bodies[(len(answers) * clients + number) % len(bodies)]))
        return answers

    with ThreadPoolExecutor(clients) as pool:
        return [one for some in pool.map(client, range(clients)) for one in some]


def open_loop(address: str, bodies: Sequence[bytes], rate: float, seconds: float) -> list[Answer]:
    """Asks at a rate, whether or not there are answers."""
    began = time.perf_counter()
    with ThreadPoolExecutor(MOST) as pool:
        futures = []
        for number in range(int(rate * seconds)):
            time.sleep(max(0.0, began + number / rate - time.perf_counter()))
            futures.append(pool.submit(ask, address, bodies[number % len(bodies)]))
        return [one.result() for one in futures]


def with_memory(process: int, run: Callable[[], list[Answer]]) -> tuple[list[Answer], float, int]:
    """Runs a load; returns the answers, the seconds, and the largest memory in bytes."""
    server, highest, done = psutil.Process(process), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            highest[0] = max(highest[0], server.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    try:
        answers = run()
    finally:
        seconds = time.perf_counter() - began
        done.set()
        watcher.join()
    return answers, seconds, highest[0]


def row(name: str, answers: Sequence[Answer], seconds: float, memory: int) -> list[Any]:
    """One line of the table."""
    answered = [one.seconds for one in answers if one.status == 200]
    statuses = Counter(one.status for one in answers)
    refused = [one for one in answers if one.status == 503]
    assert all(one.retry for one in refused)
    milliseconds = [1000 * float(np.quantile(answered, share)) for share in (0.5, 0.99)]
    others = len(answers) - statuses[200] - statuses[503]
    per_second = len(answered) / seconds
    return [name, per_second, *milliseconds, statuses[200], statuses[503], others, memory / 2**20]


def main() -> None:
    """Prints a table, and writes `serve.json` into the current folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--category", required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--serve", nargs=argparse.REMAINDER, default=[], help="options of `serve`")
    options = parser.parse_args()
    recipe = Recipe.load(options.recipe)
    tests = list_test_images(recipe, data_root(recipe, options.data), options.category)
    bodies = [test.path.read_bytes() for test in tests]
    rows, best = list[list[Any]](), 0.0
    with serving(options.model, options.serve, options.threads) as (address, process):
        closed_loop(address, bodies, 1, 2.0)
        for clients in options.clients:
            found = with_memory(
                process,
                lambda clients=clients: closed_loop(address, bodies, clients, options.seconds),
            )
            rows.append(row(f"{clients} clients that wait", *found))
            best = max(best, rows[-1][1])
        found = with_memory(process, lambda: open_loop(address, bodies, 2 * best, options.seconds))
        rows.append(row(f"{2 * best:.1f} a second", *found))
        # Nothing remains of the load.
        assert ask(address, bodies[0]).status == 200
    columns = ["", "answered/s", "p50 ms", "p99 ms", "200", "503", "others", "MiB"]
    show(f"sia-gen serve {' '.join(options.serve)}, {options.threads} threads", columns, rows)
    save("serve", torch.device("cpu"), LIMIT, {"columns": columns, "rows": rows})


if __name__ == "__main__":
    main()
