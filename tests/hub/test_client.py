"""Whatever a server answers is one line, and the token is not in it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import traceback

import pytest

from sia_gen.errors import HubError
from sia_gen.hub.push import push_to_hub
from tests.corpus.conftest import HandmadeCorpus
from tests.hub.server import Fault, Hub

HTML = b"<html>Welcome to our network. Please log in.</html>"
TOKEN = "hf_of_ada"


@pytest.mark.parametrize(
    "request_",
    ["GET .*whoami", "GET .*/tree/", "POST .*/preupload/", "POST .*/batch", "POST .*/commit/"],
)
@pytest.mark.parametrize("content", [HTML, b"", b"7", b'[{"type": "file"}]'])
def test_senseless_answer(
    hub: Hub, corpus: HandmadeCorpus, name: str, request_: str, content: bytes
) -> None:
    hub.faults.append(Fault(request_, status=200, content=content))
    with pytest.raises(HubError, match="the server is not the Hub"):
        push_to_hub(corpus.folder, name)


@pytest.mark.parametrize("content", [b"[1, 2]", b'{"errors": [1]}', b'{"error": {}}', HTML])
def test_senseless_refusal(hub: Hub, corpus: HandmadeCorpus, name: str, content: bytes) -> None:
    hub.faults.append(Fault("POST .*/commit/", status=418, content=content))
    with pytest.raises(HubError):
        push_to_hub(corpus.folder, name)


def test_endless_redirects(hub: Hub, corpus: HandmadeCorpus, name: str) -> None:
    back = (("Location", "/api/whoami-v2"),)
    hub.faults.append(Fault("GET .*whoami", status=302, times=99, headers=back))
    with pytest.raises(HubError, match=r"cannot reach the Hub .*redirects"):
        push_to_hub(corpus.folder, name)


def test_upload_that_is_sent_elsewhere(hub: Hub, corpus: HandmadeCorpus, name: str) -> None:
    back = (("Location", "/lfs/elsewhere"),)
    hub.faults.append(Fault("PUT", status=307, times=99, headers=back))
    with pytest.raises(HubError):
        push_to_hub(corpus.folder, name)


def test_refusal_without_a_word_is_told_without_an_address(
    hub: Hub, corpus: HandmadeCorpus, name: str
) -> None:
    silent = (("X-Error-Message", ""),)
    hub.faults.append(Fault("PUT", 404, times=99, headers=silent, content=b""))
    with pytest.raises(HubError, match=r"the Hub refuses \(404: Not Found\)") as refused:
        push_to_hub(corpus.folder, name)
    assert "/lfs/" not in str(refused.value)


@pytest.mark.parametrize("request_", ["GET .*whoami", "POST .*/commit/", "PUT"])
@pytest.mark.parametrize("status", [400, 418])
def test_token_that_a_server_repeats_is_not_printed(
    hub: Hub, corpus: HandmadeCorpus, name: str, request_: str, status: int
) -> None:
    content = json.dumps({"error": f"the token {TOKEN} is a bad one"}).encode()
    hub.faults.append(Fault(request_, status=status, content=content))
    with pytest.raises(HubError) as refused:
        push_to_hub(corpus.folder, name)
    assert "is a bad one" in str(refused.value)
    assert TOKEN not in "".join(traceback.format_exception(refused.value))


def test_a_home_without_locks_does_not_matter(
    hub: Hub, corpus: HandmadeCorpus, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_to_hub(corpus.folder, name)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert "is complete" in push_to_hub(corpus.folder, name)
