"""How commands end that are broken off."""

from __future__ import annotations

from tests.faults.conftest import ALL
from tests.processes import Told

STOPPED = "error: interrupted. Run the same command again to continue."
# Beside other tests on too few cores, a second takes longer.
IN_TIME = 2.0 if ALL else 5.0


def check_line(told: Told) -> None:
    """Whether Ctrl-C ended a command as it should."""
    assert (told.code, told.text.splitlines()[-1:]) == (1, [STOPPED]), told.text
    assert "Traceback" not in told.text, told.text
    assert told.seconds < IN_TIME
