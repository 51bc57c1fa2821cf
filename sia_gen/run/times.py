"""The time that each step of a run took, with its interruptions, beside what was planned."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, TypeAdapter

from sia_gen.io.files import read_json, write_json

TIMES = "times.json"


class Spent(BaseModel):
    """Seconds of all runs of a step until one of them finished, and whether one did."""

    seconds: float = 0.0
    done: bool = False
    planned: float | None = None


def keep_planned(path: Path, planned: Mapping[str, float]) -> None:
    """Notes what was planned for some steps."""
    steps = read_times(path)
    for name, seconds in planned.items():
        steps[name] = steps.get(name, Spent()).model_copy(update={"planned": round(seconds, 3)})
    _write(path, steps)


@contextmanager
def timed(name: str, path: Path) -> Iterator[None]:
    """Adds the time of a step to that of its earlier, interrupted runs."""
    started, done = time.monotonic(), False
    try:
        yield
        done = True
    finally:
        steps = read_times(path)
        earlier = steps.get(name, Spent())
        if path.parent.is_dir() and not earlier.done:
            seconds = earlier.seconds + time.monotonic() - started
            steps[name] = earlier.model_copy(update={"seconds": seconds, "done": done})
            _write(path, steps)


def read_times(path: Path) -> dict[str, Spent]:
    """Returns the time of each step, as far as it is known."""
    try:
        return TypeAdapter(dict[str, Spent]).validate_python(read_json(path))
    # The times of a missing or damaged file count from zero.
    except (OSError, ValueError):
        return {}


def _write(path: Path, steps: Mapping[str, Spent]) -> None:
    write_json(path, {name: spent.model_dump() for name, spent in steps.items()})
