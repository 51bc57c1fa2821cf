"""What commands run under, in the process that is forked for one.

Nothing here imports the tests' Hub, which is started once, by the process that tests.
"""

from __future__ import annotations

import os
import sys


def two_workers() -> None:
    """Images are loaded as on a GPU, in processes of their own."""
    from sia_gen.train import batches

    vars(batches)["loader_workers"] = lambda _: 2


def no_network() -> None:
    """Ends a process that connects to anything."""

    def look(event: str, _: object) -> None:
        if event in ("socket.connect", "socket.getaddrinfo"):
            os._exit(99)

    sys.addaudithook(look)


def latin_terminal() -> None:
    """The terminal knows the letters of western Europe alone."""
    sys.stdout.reconfigure(encoding="latin-1")


def with_xet() -> None:
    """Pushes go by the transport that the Hub's client prefers."""
    from huggingface_hub import constants

    constants.HF_HUB_DISABLE_XET = False


def large_photographs() -> None:
    """Photographs of the tests are large."""
    from sia_gen.images import strips

    strips.LARGE_PIXELS = 1000


def photographs_elsewhere() -> None:
    """The second process sees other files, as if they were moved before it reads them."""
    large_photographs()
    if os.environ["RANK"] == "1":
        os.chdir("elsewhere")
