"""A clock that work moves on by known amounts, however fast the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest


class Clock:
    """Takes the place of the time that runs are measured by.

    Attributes:
        now: Seconds.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.monkeypatch = monkeypatch
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

    def takes(self, owner: Any, name: str, seconds: float | Callable[..., float]) -> None:
        """From now on a function takes so many seconds, or as many as its arguments say."""
        function = getattr(owner, name)

        def timed(*given: Any, **options: Any) -> Any:
            self.now += seconds(*given) if callable(seconds) else seconds
            return function(*given, **options)

        self.monkeypatch.setattr(owner, name, timed)
