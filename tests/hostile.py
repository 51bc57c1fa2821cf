"""Files that would do harm if they were trusted."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

CALLED = f"{os.mkdir.__module__}.mkdir"


class Evil:
    """Whoever unpickles it makes a folder: the canary."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.canary),)
