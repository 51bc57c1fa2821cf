"""How commands end that are broken off."""

from __future__ import annotations

import os

from tests.faults.conftest import ALL
from tests.processes import Told

STOPPED = "error: interrupted. Run the same command again to continue."
# Seconds on cores that nothing else waits for; many short tests start beside the quick ones.
IN_TIME = 2.0 if ALL else 5.0


def in_time() -> float:
    """How many seconds are in time beside everything else that waits for the cores now."""
    return IN_TIME * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def check_line(told: Told) -> None:
    """Whether Ctrl-C ended a command as it should."""
    assert (told.code, told.text.splitlines()[-1:]) == (1, [STOPPED]), told.text
    assert "Traceback" not in told.text, told.text
    assert told.seconds < in_time()
