"""Starts the Hub of the tests. To be imported before its client, which looks for it but once."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile

from tests.hub.server import Hub

assert "huggingface_hub" not in sys.modules, "the client of the Hub was imported too early"

HUB = Hub()
HOME = tempfile.mkdtemp(prefix="sia-gen-hub-")
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
for variable in ("HF_TOKEN", "HF_HUB_OFFLINE"):
    os.environ.pop(variable, None)
os.environ |= {"HF_ENDPOINT": HUB.url, "HF_HOME": HOME, "HF_HUB_DISABLE_XET": "1"}
