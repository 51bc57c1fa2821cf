"""serve on the command line; `tests/serving` and `tests/faults/test_server.py` have the rest."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Refuse

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")


def test_no_model_and_a_port_that_is_taken_are_one_line(refuse: Refuse) -> None:
    assert "there is no RealNet in no" in refuse("serve", "no", "--port", "0")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"cannot listen on 127.0.0.1:{port}" in refuse("serve", "no", "--port", port)
