"""push-to-hub on the command line: errors are one line, and nothing changes."""

from __future__ import annotations

import logging
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sia_gen.config.recipe import Recipe
from tests.corpus.conftest import HandmadeCorpus
from tests.hub.conftest import new_name
from tests.hub.server import Fault, Hub

if TYPE_CHECKING:
    from tests.cli.conftest import Refuse, Run


@pytest.fixture
def corpus(tmp_path: Path, recipe: Recipe) -> HandmadeCorpus:
    corpus = HandmadeCorpus(tmp_path / "corpus")
    (corpus.folder / "recipe.yaml").write_text(recipe.to_yaml())
    return corpus


@pytest.fixture
def name() -> str:
    return new_name()


def test_push_and_read_back(run: Run, hub: Hub, corpus: HandmadeCorpus, name: str) -> None:
    result = run("push-to-hub", "corpus", name, "--private")
    assert result.code == 0
    assert result.out == f"Published: {hub.url}/datasets/{name}\n"
    assert hub.repositories["dataset", name].private
    result = run("verify", f"hf://datasets/{name}")
    assert result.code == 0, result
    assert "is intact: 5 samples in 2 shards" in result.out


def test_dry_run_lists_files(run: Run, hub: Hub, corpus: HandmadeCorpus) -> None:
    result = run("push-to-hub", "corpus", new_name(), "--dry-run")
    assert result.code == 0
    assert "10,240 bytes  data/parts/disc/train-00000-of-00002.tar" in result.out
    assert not hub.repositories


def test_no_token(
    refuse: Refuse, hub: Hub, corpus: HandmadeCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    line = refuse("push-to-hub", "corpus", "ada/x")
    assert line == (
        "error: there is no token for the Hub. Log in with 'hf auth login', or set HF_TOKEN.\n"
    )


def test_wrong_token(
    refuse: Refuse, hub: Hub, corpus: HandmadeCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    line = refuse("push-to-hub", "corpus", "ada/x")
    assert line.startswith("error: the Hub rejects the token. ")
    assert "hf_of_nobody" not in line


def test_malformed_token(
    refuse: Refuse, hub: Hub, corpus: HandmadeCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_adä")
    line = refuse("push-to-hub", "corpus", "ada/x")
    assert line.startswith("error: the Hub rejects the token. ")


@pytest.mark.parametrize("there", [False, True], ids=["to be made", "there"])
def test_no_permission(run: Run, hub: Hub, corpus: HandmadeCorpus, there: bool) -> None:
    bobs = new_name().replace("ada", "bob")
    if there:
        hub.create("dataset", bobs)
    result = run("push-to-hub", "corpus", bobs)
    assert result.code == 2
    assert f"error: the token gives no right to {bobs}." in result.err


def test_private_repository_of_another(run: Run, hub: Hub, corpus: HandmadeCorpus) -> None:
    bobs = new_name().replace("ada", "bob")
    hub.create("dataset", bobs, private=True)
    result = run("push-to-hub", "corpus", bobs)
    assert result.code == 2
    assert f"error: the token gives no right to {bobs}." in result.err


@pytest.mark.parametrize("name", ["a/b/c", "ada/white space", "ada/..", "-ada/x", "ada/x.git"])
def test_invalid_name(refuse: Refuse, hub: Hub, corpus: HandmadeCorpus, name: str) -> None:
    # A dash alone would be an option.
    line = refuse("push-to-hub", "--", "corpus", name)
    assert line.startswith(f"error: '{name}' is not the name of a repository.")


def test_no_network(
    refuse: Refuse, hub: Hub, corpus: HandmadeCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.faults.append(Fault(".*", times=99))
    assert refuse("push-to-hub", "corpus", "ada/x").startswith("error: cannot reach the Hub (")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in refuse("push-to-hub", "corpus", "ada/x")


@pytest.mark.parametrize(
    "headers",
    [(("Retry-After", "99999999"),), (("RateLimit", '"api";r=0;t=99999999'),)],
    ids=["Retry-After", "RateLimit"],
)
@pytest.mark.parametrize("request_", ["POST .*/preupload/", "PUT"])
def test_unreasonably_long_wait(
    run: Run, hub: Hub, corpus: HandmadeCorpus, name: str, request_: str, headers: tuple
) -> None:
    hub.faults.append(Fault(request_, status=429, times=99, headers=headers))
    result = run("push-to-hub", "corpus", name)
    assert result.code == 2
    assert "error: the Hub asks to wait for 27777.8 hours. Then run" in result.err


def test_silent_server(
    refuse: Refuse, corpus: HandmadeCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_ada")
    monkeypatch.setattr("sia_gen.hub.client.SILENCE", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        assert "cannot reach the Hub (timed out)" in refuse("push-to-hub", "corpus", "ada/x")


def test_secret_is_in_no_log(
    run: Run, hub: Hub, corpus: HandmadeCorpus, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    hub.faults.append(Fault("PUT", status=503))
    assert run("push-to-hub", "corpus", name).code == 0
    assert "hf_of_ada" not in caplog.text


def test_repository_of_another_kind(
    refuse: Refuse, hub: Hub, corpus: HandmadeCorpus, name: str
) -> None:
    hub.create("model", name)
    line = refuse("push-to-hub", "corpus", name)
    assert f"{name} is a model repository; this goes to a data set repository." in line


def test_unfinished_corpus(refuse: Refuse, hub: Hub, corpus: HandmadeCorpus, name: str) -> None:
    corpus.forget(1)
    line = refuse("push-to-hub", "corpus", name)
    assert "corpus is not finished: 1 of 2 shards are missing, such as data/parts/disc" in line
    assert not hub.repositories


def test_damaged_corpus(run: Run, hub: Hub, corpus: HandmadeCorpus, name: str) -> None:
    content = bytearray(corpus.path(0).read_bytes())
    content[700] ^= 1
    corpus.path(0).write_bytes(content)
    result = run("push-to-hub", "corpus", name)
    assert result.code == 2
    assert "error: corpus is not intact: data/parts/disc/train-00000-of-00002.tar" in result.err
    assert not hub.repositories


def test_nothing_to_publish(refuse: Refuse, hub: Hub, tmp_path: Path) -> None:
    assert "no corpus, SDAS pipeline or RealNet in nowhere" in refuse("push-to-hub", "nowhere", "x")


def test_corpus_that_is_not_on_the_hub(refuse: Refuse, hub: Hub, parts: Path, images: Path) -> None:
    missing = new_name()
    line = refuse(
        "fit-realnet", "--recipe", parts, "--data", images, "--corpus", f"hf://datasets/{missing}"
    )
    assert f"hf://datasets/{missing} is not a corpus" in line
    assert "hf auth login" in line


def test_corpus_behind_a_login_page(refuse: Refuse, hub: Hub) -> None:
    page = b"<html>Please log in.</html>"
    hub.faults.append(Fault("GET /api/datasets", status=200, times=99, content=page))
    line = refuse("verify", f"hf://datasets/{new_name()}")
    assert "Check the address" in line


def test_hub_that_fails_while_a_corpus_is_read(
    refuse: Refuse, hub: Hub, parts: Path, images: Path
) -> None:
    hub.faults.append(Fault("GET /api/datasets", status=503, times=99))
    missing = new_name()
    line = refuse(
        "fit-realnet", "--recipe", parts, "--data", images, "--corpus", f"hf://datasets/{missing}"
    )
    assert "the Hub fails (status 503)" in line
